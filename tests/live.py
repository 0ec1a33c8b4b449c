"""Compare builds.yml with the live indexes: PyPI, and PyTorch's own where it can be reached.

The replica and the template share builds.yml, so a wrong fact in it would agree with itself. This is where it would not.

    python -m tests.live
"""

from __future__ import annotations

import io
import re
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.replica import pypi
from tests.table import (
    BACKENDS,
    COMPANIONS,
    PLATFORMS,
    RELEASES,
    TABLE,
    builds,
    home,
    on_pypi,
    plain,
    pythons,
    versions,
    words,
)

WHEEL = re.compile(
    r"(?P<package>\w+)-(?P<version>[\d.]+)(\+(?P<local>[\w.]+))?-(?P<python>cp\d+|py3)-(?P<abi>\w+)-(?P<tag>\S+)\.whl"
)
TAGS = {
    "linux-x86_64": r"(manylinux\w*|linux)_x86_64",
    "linux-aarch64": r"(manylinux\w*|linux)_aarch64",
    "macos-arm64": r"macosx_(?P<macos>\d+_\d+)_arm64",
    "windows-x86_64": r"win_amd64",
}


def wheels(index: str, package: str) -> list[tuple[re.Match[str], str, str]]:
    """Return the wheels for Pythons with a GIL that an index has of a package: the parts of the name, the platform, the URL."""
    return [
        (match, platform, url)
        for name, url in pypi.links(index, package).items()
        if (match := WHEEL.fullmatch(name)) and not match["abi"].endswith("t")
        for platform, tag in TAGS.items()
        if re.search(tag, match["tag"])
    ]


def minor(version: str) -> int:
    """Return the minor of torch 2, or -1 for an older torch."""
    major, minor, *_ = version.split(".")
    return int(minor) if major == "2" else -1


def compare_pypi(index: str = pypi.PYPI) -> Iterator[str]:
    """Yield each difference between PyPI and the table."""
    torch = wheels(index, "torch")
    oldest = minor(list(RELEASES)[-1])
    live = {wheel["version"] for wheel, _, _ in torch if minor(wheel["version"]) >= oldest}
    known = {patch for release in RELEASES for patch in versions(release, "torch")}
    yield from (f"torch {version} is on PyPI, but not in builds.yml" for version in sorted(live - known))
    yield from (f"torch {version} is in builds.yml, but not on PyPI" for version in sorted(known - live))

    for release in RELEASES:
        last = versions(release, "torch")[-1]
        of_last = [(wheel, platform) for wheel, platform, _ in torch if wheel["version"] == last]
        for platform in PLATFORMS:
            found = {f"3.{wheel['python'][3:]}" for wheel, where in of_last if where == platform}
            if found != set(pythons(release, platform)):
                yield f"torch {last} has wheels for Python {sorted(found)} on {platform}, not {pythons(release, platform)}"
        macos = [match["macos"] for wheel, _ in of_last if (match := re.search(TAGS["macos-arm64"], wheel["tag"]))]
        newest = max(macos, key=lambda tag: int(tag.split("_")[0])).replace("_", ".")
        if newest != RELEASES[release]["macos"]:
            yield f"torch {last} needs macOS {newest}, not {RELEASES[release]['macos']}"

    questions = [
        (index, package, release, platform)
        for release in RELEASES
        for package in ("torch", *COMPANIONS)
        for platform in PLATFORMS
    ]
    with ThreadPoolExecutor(8) as pool:
        for differences in pool.map(lambda question: list(compare_build(*question)), questions):
            yield from differences


def compare_build(index: str, package: str, release: str, platform: str) -> Iterator[str]:
    """Yield the difference, if any, between the build that PyPI carries for a platform and the one of the table."""
    version = versions(release, package)[-1]
    urls = [url for wheel, where, url in wheels(index, package) if (wheel["version"], where) == (version, platform)]
    if not urls:
        yield f"{package} {version} has no wheel for {platform} on PyPI"
        return
    with zipfile.ZipFile(io.BufferedReader(pypi.RangeFile(urls[0]), 1 << 16)) as archive:
        text = archive.read(f"{package}/version.py").decode()
    local = re.search(r"^__version__\b.*'[\d.]+\+?(.*)'", text, re.MULTILINE)
    assert local, f"no version in {urls[0]}"
    build = local[1] or "cpu"
    if build != (expected := on_pypi(home(release, package), platform)):
        yield f"PyPI's {package} {version} for {platform} is the {build} build, not {expected}"


def compare_index(index: str = TABLE["index"]) -> Iterator[str]:
    """Yield each difference between PyTorch's index and the table.

    Raises:
        OSError: The index cannot be reached.
    """
    pypi.links(f"{index}/cpu", "torch")  # a backend that is gone is a difference; an index that is gone is an error
    for backend in BACKENDS:
        try:
            found = wheels(f"{index}/{backend}", "torch")
        except OSError as error:
            yield f"{backend} is gone from the index: {error}"
            continue
        live = {(wheel["version"].rsplit(".", 1)[0], platform, wheel["local"] or "") for wheel, platform, _ in found}
        for release in RELEASES:
            for platform in PLATFORMS:
                local = "" if "torch" in plain(release, platform) else backend
                there, known = (release, platform, local) in live, backend in builds(release, platform)
                if there and not known and backend not in words(RELEASES[release].get("left_out", "")):
                    yield f"torch {release} has a {backend} build for {platform}, which is new"
                elif known and not there:
                    yield f"torch {release} has no {backend} build for {platform}: it is missing, or gone"
        for release in sorted({release for release, _, _ in live if minor(release) > minor(next(iter(RELEASES)))}):
            yield f"torch {release} has a {backend} build, which is new"


def main() -> int:
    """Print the differences and return 1 if there are any."""
    differences = list(compare_pypi())
    print(f"PyPI: {len(differences)} differences")
    try:
        more = list(compare_index())
    except OSError as error:
        print(f"SKIPPED {TABLE['index']}: it cannot be reached ({error}), so its builds were not compared")
    else:
        print(f"{TABLE['index']}: {len(more)} differences")
        differences += more
    for difference in differences:
        print(difference)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
