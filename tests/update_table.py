"""Write into builds.yml what the live indexes have: PyPI, and PyTorch's own where it can be reached.

    uvx nox -s builds -- --write

Nothing is taken out of the table, and nothing is guessed: what no index says (drivers, GPUs, what loads beside a build) is
left out, with `# open: …` in the line of its key. What PyTorch's index alone knows is open too where it cannot be reached.
"""

from __future__ import annotations

import datetime
import re
from functools import cache
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tests import downloads, live
from tests.replica import pypi
from tests.table import FILE, PLATFORMS, TABLE, open_facts
from tests.yaml_edit import block, insert, put, remove, value

OLDEST = list(TABLE["releases"])[-1]
KEYS = [
    "source",
    "python",
    "python_on",
    "macos",
    "patches",
    "below",
    "triton",
    "sdk",
    "gpus",
    "plain",
    "left_out",
    "pypi",
    "download",
    "builds",
]
BACKEND = re.compile(r"(?P<kind>cu|rocm|xpu|cpu)(?P<version>[\d.]*)")
GPU = re.compile(r"rocm-sdk-device-(gfx\w+)")


def update(text: str, packages: str, index: str | None) -> str:
    """Return the text of builds.yml with what PyPI has and, unless it is out of reach, PyTorch's index."""
    before = text
    for release in releases(packages):  # a new one goes on top of those before it
        text = write_release(text, release, packages, index)
    text = write_torchcodec(text, packages, index)
    for release in yaml.safe_load(text)["releases"]:
        text = write_below(text, release)
    return put(text, ("as_of",), datetime.datetime.now(datetime.UTC).date()) if text != before else text


# What PyPI has


def releases(packages: str) -> list[str]:
    """Return the releases that PyPI has, oldest first and none that is older than the table."""
    return list(dict.fromkeys(minor(version) for version in uploaded(packages, "torch")))


def minor(version: str) -> str:
    return version.rsplit(".", 1)[0]


@cache
def uploaded(packages: str, package: str) -> dict[str, str]:
    """Return the versions of a package since the oldest release of the table, oldest first, and when each came."""
    times = pypi.upload_times(packages, package)
    start = min(
        time for name, time in pypi.upload_times(packages, "torch").items() if name.startswith(f"torch-{OLDEST}.0-")
    )
    found: dict[str, str] = {}
    for name, time in times.items():
        if (match := live.WHEEL.fullmatch(name)) and time >= start:
            found[match["version"]] = min(time, found.get(match["version"], time))
    return dict(sorted(found.items(), key=lambda item: Version(item[0])))


def patches(release: str, packages: str) -> dict[str, dict[str, str]]:
    """Return the patches of a release, each with the torchvision and torchaudio that were published for it."""
    return {
        patch: {package: published_for(patch, package, packages) for package in ("torchvision", "torchaudio")}
        for patch in uploaded(packages, "torch")
        if minor(patch) == release
    }


def published_for(patch: str, package: str, packages: str) -> str:
    """Return the newest version of a companion that came before the next patch of torch and allows this one.

    Where several do, the build has to be the same: torchvision 0.29.2 and torchaudio 2.11.1 allow torch 2.14, but are for 2.15.
    """
    torch = uploaded(packages, "torch")
    end = min((time for time in torch.values() if time > torch[patch]), default="9999")
    first, *others = (
        version
        for version, time in reversed(uploaded(packages, package).items())
        if time < end and allows(package, version, patch, packages)
    )
    if not others:
        return first
    built = build("torch", patch, packages)
    return next((version for version in (first, *others) if build(package, version, packages) == built), first)


def build(package: str, version: str, packages: str) -> str:
    """Return the build of a version that PyPI carries for Linux."""
    found = live.wheels(packages, package)
    return live.build_of(
        package, next(url for wheel, on, url in found if wheel["version"] == version and on == "linux-x86_64")
    )


def allows(package: str, version: str, patch: str, packages: str) -> bool:
    required = map(Requirement, metadata(packages, package, version).get_all("Requires-Dist", []))
    return all(patch in requirement.specifier for requirement in required if requirement.name == "torch")


def metadata(index: str, package: str, version: str) -> Any:
    """Return the core metadata of a version; it is the same text on every platform."""
    return pypi.metadata(next(url for wheel, _, url in live.wheels(index, package) if wheel["version"] == version))


def published(package: str, version: str, packages: str, known: dict[str, str]) -> dict[str, Any]:
    """Return what the wheels of a version on PyPI say: their Pythons, the macOS of torch, and the builds not yet known."""
    found = [
        (wheel, platform, url) for wheel, platform, url in live.wheels(packages, package) if wheel["version"] == version
    ]
    on = {platform: url for _, platform, url in reversed(found)}
    there: dict[str, list[str]] = {}
    for wheel, platform, _ in found:
        there.setdefault(f"3.{wheel['python'][3:]}", []).append(platform)
    pythons = sorted(there, key=Version)
    partly = {python: in_order(there[python]) for python in pythons if set(there[python]) != set(on)}
    row: dict[str, Any] = {"python": pythons, "python_on": partly}
    if package == "torch":
        tags = (re.search(live.TAGS["macos-arm64"], wheel["tag"]) for wheel, _, _ in found)
        row["macos"] = max((tag["macos"].replace("_", ".") for tag in tags if tag), key=Version)
    row["pypi"] = {name: known.get(name) or live.build_of(package, on[name]) for name in PLATFORMS if name in on}
    return {key: entry for key, entry in row.items() if entry}


def download(version: str, row: dict[str, Any], packages: str, known: dict[str, int]) -> dict[str, int]:
    """Return what a version of torch takes on each platform; what is roughly known stays as it is."""
    found = downloads.of_version(packages, version, row["python"][0], row["macos"])
    return {
        name: known[name] if name in known and not downloads.differ(known[name], mb) else mb
        for name, mb in found.items()
    }


def in_order(platforms: list[str]) -> list[str]:
    return [name for name in PLATFORMS if name in platforms]


# What PyTorch's index has


def builds(package: str, version: str, index: str, names: list[str]) -> dict[str, list[str]]:
    """Return the builds of a version on PyTorch's index; on macOS, and on aarch64 before 2.6, nothing names the CPU build."""
    found: dict[str, list[str]] = {}
    for name in names:
        try:
            listed = live.wheels(f"{index}/{name}", package)
        except OSError:
            continue
        on = [
            platform
            for wheel, platform, _ in listed
            if wheel["version"] == version and (wheel["local"] or "cpu") == name
        ]
        if on:
            found[name] = in_order(on)
    return found


def backends(text: str, index: str | None) -> list[str]:
    """Return the backends of the table and those that the index has besides, in the order in which they are offered."""
    known = list(value(text, ("backends",)))
    listed = [wheel for wheel, _, _ in live.wheels(index, "torch")] if index else []
    found = {wheel["local"] for wheel in listed if wheel["local"] and Version(wheel["version"]) >= Version(OLDEST)}
    return sorted({*known, *filter(BACKEND.fullmatch, found)}, key=place)


def place(backend: str) -> tuple[int, list[int]]:
    """Return where a backend is offered: CUDA, ROCm, XPU, CPU, each with the newest version first."""
    match = BACKEND.fullmatch(backend)
    assert match, backend
    numbers = f"{match['version'][:-1]}.{match['version'][-1:]}" if match["kind"] == "cu" else match["version"]
    return ["cu", "rocm", "xpu", "cpu"].index(match["kind"]), [*(-int(n) for n in re.findall(r"\d+", numbers)), 0]


def required(package: str, version: str, backend: str, index: str) -> list[Requirement]:
    """Return what a build on PyTorch's index requires."""
    url = next(
        url
        for wheel, _, url in live.wheels(f"{index}/{backend}", package)
        if (wheel["version"], wheel["local"]) == (version, backend)
    )
    return [Requirement(line) for line in pypi.metadata(url).get_all("Requires-Dist", [])]


def gpus(backend: str, index: str) -> list[str]:
    """Return the GPUs that AMD's SDK has a package for on the index of a backend."""
    try:
        names = " ".join(pypi.packages(f"{index}/{backend}"))
    except OSError:
        return []
    return sorted(set(GPU.findall(names)), key=lambda name: (len(name), name))


# What is written


def write_release(text: str, release: str, packages: str, index: str | None) -> str:
    """Return the text with a release as the indexes have it."""
    old = value(text, ("releases", release)) or {}
    codec = torchcodec(text, release, packages)
    rows = {patch: row | ({"torchcodec": codec} if codec else {}) for patch, row in patches(release, packages).items()}
    version = list(rows)[-1]
    row = published("torch", version, packages, old["pypi"] if version in old.get("patches", {}) else {})
    row["download"] = download(version, row, packages, old.get("download", {}))
    row["builds"] = merged(
        old.get("builds", {}),
        {} if old else by_build(row["pypi"]),
        builds("torch", version, index, backends(text, index)) if index else {},
        left_out=old.get("left_out", []),
    )
    added = [name for name in row["builds"] if name not in old.get("builds", {})]
    for name in added:
        text = write_backend(text, name, index)
    row |= {"patches": rows, **on_the_index_alone(version, added, index)}
    return change_release(text, release, row) if old else add_release(text, release, row, index)


def by_build(platforms: dict[str, str]) -> dict[str, list[str]]:
    """Return the platforms of each build, from the build of each platform."""
    return {name: in_order([key for key, build in platforms.items() if build == name]) for name in platforms.values()}


def merged(*tables: dict[str, list[str]], left_out: list[str]) -> dict[str, list[str]]:
    """Return builds with all their platforms, in the order of the backends; the first table has what is left out elsewhere."""
    found: dict[str, list[str]] = {name: list(on) for name, on in tables[0].items()}
    for table in tables[1:]:
        for name in (name for name in table if name not in left_out):
            found[name] = in_order([*found.get(name, []), *table[name]])
    return {name: found[name] for name in sorted(found, key=place)}


def on_the_index_alone(version: str, added: list[str], index: str | None) -> dict[str, dict[str, str]]:
    """Return the names of triton and the requirement of the SDK, which the metadata of new ROCm and XPU builds have."""
    found: dict[str, dict[str, str]] = {"triton": {}, "sdk": {}}
    for name in added if index else []:
        for requirement in required("torch", version, name, str(index)) if name.startswith(("rocm", "xpu")) else []:
            if "triton" in requirement.name:
                found["triton"]["xpu" if name == "xpu" else "rocm"] = requirement.name
            elif requirement.name == "rocm":
                extras = ",".join(sorted(requirement.extras))
                found["sdk"][name] = f"rocm[{extras}]{requirement.specifier}"
    return {key: entry for key, entry in found.items() if entry}


def change_release(text: str, release: str, row: dict[str, Any]) -> str:
    """Return the text with what is new in a release that the table has."""
    path, old = ("releases", release), value(text, ("releases", release))
    for key, entry in row.items():
        more = {**old.get(key, {}), **entry} if key in ("triton", "sdk") else entry
        text = put(text, (*path, key), more, KEYS)
    return text if "python_on" in row or "python_on" not in old else remove(text, (*path, "python_on"))


def add_release(text: str, release: str, row: dict[str, Any], index: str | None) -> str:
    """Return the text with a new release on top of the others, and what is open about it."""
    unknown = [] if index else ["builds and triton of PyTorch's index"]
    if codec := next(iter(row["patches"].values())).get("torchcodec"):
        beside = value(text, ("torchcodec", codec, "beside")) or {}
        unknown += [
            f"torchcodec beside {name}" for name in row["builds"] if name.startswith("cu") and name not in beside
        ]
    else:
        unknown.append("torchcodec")
    row = {"source": "PyPI; index" if index else "PyPI"} | row
    lines = block(release, {key: row[key] for key in KEYS if key in row}, 2, (release, "patches", "builds"))
    return insert(text, ("releases",), "\n".join([*marked(lines, unknown), "", ""]), value(text, ("releases",)))


def marked(lines: list[str], unknown: list[str]) -> list[str]:
    """Return the lines of a key with what is open about it in the first one."""
    return [f"{lines[0]} # open: {', '.join(unknown)}", *lines[1:]] if unknown else lines


def write_backend(text: str, backend: str, index: str | None) -> str:
    """Return the text with a backend; its driver and its GPUs are open, of AMD's SDK the packages for GPUs are known."""
    known = list(value(text, ("backends",)))
    if backend in known:
        return text
    row: dict[str, Any] = {"name": name_of(backend)}
    if index and (found := gpus(backend, index)):
        row["devices"] = found
    unknown = [*(["driver"] if backend.startswith("cu") else []), "gpus"]
    lines = marked(block(backend, row, 2, (backend,)), unknown)
    return insert(
        text, ("backends",), "\n".join([*lines, ""]), [name for name in known if place(name) > place(backend)]
    )


def name_of(backend: str) -> str:
    """Return what a person calls a backend: CUDA 13.4, ROCm 8.0."""
    kind = backend.rstrip("0123456789.")
    version = backend.removeprefix(kind)
    return (
        f"CUDA {version[:-1]}.{version[-1]}" if kind == "cu" else f"ROCm {version}" if kind == "rocm" else kind.upper()
    )


def write_below(text: str, release: str) -> str:
    """Return the text with where the minor of a companion continues in a later release."""
    table: dict[str, Any] = value(text, ("releases",))
    newer = list(table)[: list(table).index(release)]
    for package in ("torchvision", "torchaudio"):
        own = [patch[package] for patch in table[release]["patches"].values()]
        later = [patch[package] for name in newer for patch in table[name]["patches"].values()]
        rest = [version for version in later if minor(version) == minor(own[-1]) and version not in own]
        if rest:
            below = value(text, ("releases", release, "below")) or {}
            text = put(text, ("releases", release, "below"), {**below, package: min(rest, key=Version)}, KEYS)
    return text


# torchcodec, which has builds of its own


def torchcodec(text: str, release: str, packages: str) -> str | None:
    """Return the torchcodec of a release: of one that is new, or that has the newest of the table, PyPI's newest."""
    table = value(text, ("releases",))
    if release in table:
        known: str | None = list(table[release]["patches"].values())[-1].get("torchcodec")
        if known != next(iter(value(text, ("torchcodec",)))):
            return known
    versions = list(uploaded(packages, "torchcodec"))
    readme = metadata(packages, "torchcodec", versions[-1]).get_payload()
    return next((version for version in reversed(versions) if documented(readme, version, release)), None)


def documented(readme: str, version: str, release: str) -> bool:
    """Say whether torchcodec's README has a version for a release. The newest may have no row yet: that of the last one holds."""
    rows = {row[1]: row[2] for row in re.finditer(r"^\|\s*`([\d.]+)`\s*\|\s*`([^`]+)`", readme, re.MULTILINE)}
    names = [name for name in rows if Version(name) <= Version(version)]
    allowed = rows[max(names, key=Version)] if names else "==0"
    return f"{release}.0" in SpecifierSet(allowed if allowed[0] in "<>=" else f"=={allowed}.*")


def write_torchcodec(text: str, packages: str, index: str | None) -> str:
    """Return the text with the wheels of each torchcodec that a release has."""
    used = [patch.get("torchcodec") for row in value(text, ("releases",)).values() for patch in row["patches"].values()]
    for version in sorted({*filter(None, used)}, key=Version):
        old = value(text, ("torchcodec", version)) or {}
        row = published("torchcodec", version, packages, old.get("pypi", {}))
        on_index = builds("torchcodec", version, index, list(value(text, ("backends",)))) if index else {}
        row["builds"] = merged(old.get("builds", {}), by_build(row["pypi"]), on_index, left_out=[])
        text = change_torchcodec(text, version, row) if old else add_torchcodec(text, version, row)
    for version in value(text, ("torchcodec",)):
        if version not in used:
            text = remove(text, ("torchcodec", version))
    return text


def change_torchcodec(text: str, version: str, row: dict[str, Any]) -> str:
    for key, entry in row.items():
        text = put(text, ("torchcodec", version, key), entry, ["python", "python_on", "pypi", "builds", "beside"])
    return text


def add_torchcodec(text: str, version: str, row: dict[str, Any]) -> str:
    """Return the text with a torchcodec on top of the others; what loads beside a build is that of the one before, and open."""
    known = value(text, ("torchcodec",))
    before = next(iter(known))
    row["beside"] = known[before]["beside"]
    lines = marked(block(version, row, 2, (version, "builds")), [f"beside, which is that of {before}"])
    return insert(text, ("torchcodec",), "\n".join([*lines, ""]), known)


def main() -> None:
    """Print the differences, write them into builds.yml, and print what is open."""
    differences, reached = live.differences()
    text = update(FILE.read_text(encoding="utf-8"), pypi.PYPI, TABLE["index"] if reached else None)
    FILE.write_text(text, encoding="utf-8", newline="\n")
    for line in (*differences, *open_facts(text)):
        print(line)


if __name__ == "__main__":
    main()
