"""Compare builds.yml with the live indexes: PyPI, and PyTorch's own where it can be reached.

The replica and the template share builds.yml, so a wrong fact in it would agree with itself. This is where it would not.

    uvx nox -s builds
"""

from __future__ import annotations

import io
import re
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from packaging.version import Version

from tests import downloads
from tests.replica import pypi
from tests.replica.wheels import triton_versions
from tests.table import (
    BACKENDS,
    COMPANIONS,
    PLATFORMS,
    RELEASES,
    TABLE,
    builds,
    companions,
    home,
    on_pypi,
    open_facts,
    plain,
    pythons,
    triton,
    versions,
)

PACKAGES = ("torch", *COMPANIONS)
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


def compare_pypi(index: str = pypi.PYPI) -> Iterator[str]:
    """Yield each difference between PyPI and the table."""
    for package in PACKAGES:
        live = {wheel["version"] for wheel, _, _ in wheels(index, package)}
        known = {version for release in RELEASES for version in versions(release, package)}
        new = sorted(version for version in live - known if is_missing(package, version, known))
        yield from (f"{package} {version} is on PyPI, but not in builds.yml" for version in new)
        yield from (f"{package} {version} is in builds.yml, but not on PyPI" for version in sorted(known - live))
    with ThreadPoolExecutor(8) as pool:
        for differences in pool.map(lambda pair: list(compare_release(index, *pair)), homes()):
            yield from differences


def is_missing(package: str, version: str, known: set[str]) -> bool:
    """Say whether the table should have a version. Of torchcodec, and of each minor of a companion, it may have the best alone."""
    minor, _, _ = version.rpartition(".")
    same = {name for name in known if package != "torch" and name.startswith(f"{minor}.")}
    oldest = (max if package == "torchcodec" else min)(map(Version, known))
    return Version(version) > max([oldest, *map(Version, same)])


def homes() -> list[tuple[str, str]]:
    """Return each release with each of the packages that were built with it."""
    return [
        (release, package)
        for release in RELEASES
        for package in ("torch", *companions(release))
        if home(release, package) == release
    ]


def compare_release(index: str, release: str, package: str) -> Iterator[str]:
    """Yield each difference between PyPI and the table in the last version of a package that belongs to a release."""
    version = versions(release, package)[-1]
    found = [(wheel, platform, url) for wheel, platform, url in wheels(index, package) if wheel["version"] == version]
    if not found:
        return  # a version that is not there is a difference already
    for platform in PLATFORMS:
        urls = {wheel["python"]: url for wheel, where, url in found if where == platform}
        known = pythons(release, platform, package) if on_pypi(release, platform, package) else []
        live = [python for python in known if "py3" in urls] or [f"3.{tag[3:]}" for tag in urls]
        if set(live) != set(known):
            listed = " ".join(["Python", *sorted(live, key=Version)]) if live else "no Python"
            yield f"{package} {version} has wheels for {listed} on {platform}, not {' '.join(known) or 'for any'}"
        for url in list(urls.values())[:1]:
            build, known_build = build_of(package, url), on_pypi(release, platform, package)
            if known and build != known_build:
                yield f"PyPI's {package} {version} for {platform} is the {build} build, not {known_build}"
    macos = [match["macos"] for wheel, _, _ in found if (match := re.search(TAGS["macos-arm64"], wheel["tag"]))]
    newest = max((tag.replace("_", ".") for tag in macos), key=Version, default="")
    if package == "torch" and newest != RELEASES[release]["macos"]:
        yield f"torch {version} needs macOS {newest}, not {RELEASES[release]['macos']}"


def compare_downloads(index: str = pypi.PYPI) -> Iterator[str]:
    """Yield where torch takes another size on PyPI than in the table, in the last version of each release."""
    there = {wheel["version"] for wheel, _, _ in wheels(index, "torch")}
    for release, row in RELEASES.items():
        version = versions(release, "torch")[-1]
        if version in there:  # otherwise that is a difference already
            found = downloads.of_version(index, version, row["python"][0], row["macos"])
            for platform, size in found.items():
                if downloads.differ(known := row.get("download", {}).get(platform, 0), size):
                    yield f"torch {version} takes {size} MB on {platform}, not {known}"


@cache
def build_of(package: str, url: str) -> str:
    """Return the backend of a wheel, which PyPI's do not have in their names."""
    with zipfile.ZipFile(io.BufferedReader(pypi.RangeFile(url), 1 << 16)) as archive:
        text = archive.read(f"{package}/version.py").decode()
    local = re.search(r"^__version__\b.*'[\d.]+\+?(.*)'", text, re.MULTILINE)
    assert local, f"no version in {url}"
    return local[1] or "cpu"


def compare_index(index: str = TABLE["index"]) -> Iterator[str]:
    """Yield each difference between PyTorch's index and the table.

    Raises:
        OSError: The index cannot be reached.
    """
    pypi.links(f"{index}/cpu", "torch")  # a backend that is gone is a difference; an index that is gone is an error
    yield from new_builds(index)
    for backend in BACKENDS:
        tritons = dict.fromkeys(filter(None, (triton(release, backend) for release in RELEASES)))
        for package in (*PACKAGES, *tritons):
            yield from compare_backend(index, backend, package)


def new_builds(index: str) -> Iterator[str]:
    """Yield each release and each backend that the table does not have, from the list of all the wheels of torch."""
    try:
        found = wheels(index, "torch")
    except OSError as error:
        yield f"{index}/torch/ cannot be read ({error}), so nothing says whether there are new backends"
        return
    newest, *_, oldest = map(Version, RELEASES)
    listed = {(Version(wheel["version"].rsplit(".", 1)[0]), wheel["local"] or "cpu") for wheel, _, _ in found}
    for release, backend in sorted(listed):
        known = backend in BACKENDS or backend in left_out(str(release)) or not re.fullmatch(r"[a-z]+[\d.]*", backend)
        if release > newest or (release >= oldest and not known):
            yield f"torch {release} has a {backend} build, which is new"


def left_out(release: str) -> list[str]:
    """Return the backends that a release has, but the table leaves out."""
    names: list[str] = RELEASES.get(release, {}).get("left_out", [])
    return names


def compare_backend(index: str, backend: str, package: str) -> Iterator[str]:
    """Yield each difference between the index of one backend and the table, in the last version for each release."""
    ours = package in PACKAGES
    rows = [
        (release, platform)
        for release in RELEASES
        for platform in PLATFORMS
        if (package in ("torch", *companions(release)) and home(release, package) == release)
        or package == triton(release, backend)
    ]
    try:
        found = wheels(f"{index}/{backend}", package)
    except OSError as error:
        if any(backend in builds(*row, *([package] if ours else [])) for row in rows):
            yield f"{package} is gone from the index of {backend}: {error}"
        return
    live = {(wheel["version"], platform, wheel["local"] or "") for wheel, platform, _ in found}
    for release, platform in rows:
        version = (versions(release, package) if ours else triton_versions(release))[-1]
        local = backend if ours and package not in plain(release, platform) else ""
        there = (version, platform, local) in live
        known = backend in builds(release, platform, package if ours else "torch")
        if known and not there:
            yield f"{package} {version} has no {backend} build for {platform}: it is missing, or gone"
        elif there and not known and ours and backend not in left_out(release):  # a triton may be another release's
            yield f"{package} {version} has a {backend} build for {platform}, which is new"


def differences() -> tuple[list[str], bool]:
    """Return the differences from all indexes, and whether PyTorch's can be reached; print how many there are."""
    found = [*compare_pypi(), *compare_downloads()]
    print(f"PyPI: {len(found)} differences")
    try:
        more = list(compare_index())
    except OSError as error:
        print(f"SKIPPED {TABLE['index']}: it cannot be reached ({error}), so its builds were not compared")
        return found, False
    print(f"{TABLE['index']}: {len(more)} differences")
    return found + more, True


def main() -> int:
    """Print the differences, and what is open in the table, and return 1 if there are differences."""
    found, _ = differences()
    for line in (*found, *open_facts()):
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
