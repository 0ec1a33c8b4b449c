"""The tables of docs/builds.md and docs/backends.md, made from builds.yml.

uv run --group tests python -m tests.supported
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

from tests.table import BACKENDS, PLATFORMS, RELEASES, ROOT, TABLE, builds, on_pypi, pythons

SYSTEMS = {"linux": "Linux", "windows": "Windows"}
JETSON_ORIN = "8.7"  # which runs no kernels of other GPUs


def by_backend() -> str:
    """Return a table of the releases that have each backend, in bold where PyPI carries the build: **2.7**, 2.8 to 2.14."""
    rows = [[name, *(having(name, platform) for platform in PLATFORMS)] for name in BACKENDS]
    return markdown(["backend", *PLATFORMS], rows)


def having(backend: str, platform: str) -> str:
    spans = []
    kinds = groupby(
        reversed(RELEASES),
        lambda release: (backend in builds(release, platform), backend == on_pypi(release, platform)),
    )
    for (there, bold), releases in kinds:
        text = span(list(releases))
        if there:
            spans.append(f"**{text}**" if bold else text)
    return ", ".join(spans)


def by_release() -> str:
    """Return a table of what each release runs on."""
    rows = [
        [release, span(everywhere(release)), entry["macos"].removesuffix(".0")] for release, entry in RELEASES.items()
    ]
    return markdown(["torch", "Python", "oldest macOS"], rows)


def everywhere(release: str) -> list[str]:
    """Return the Pythons that have wheels on every platform."""
    return [python for python in RELEASES[release]["python"] if all(python in pythons(release, p) for p in PLATFORMS)]


def by_driver() -> str:
    """Return a table of the CUDA builds that an NVIDIA driver runs."""
    rows = [
        [*(f"{drivers[system]} or newer" for system in SYSTEMS), ", ".join(name for name, _ in backends)]
        for drivers, backends in groupby(
            ((name, entry) for name, entry in BACKENDS.items() if "driver" in entry), lambda one: one[1]["driver"]
        )
    ]
    return markdown([f"driver on {name}" for name in SYSTEMS.values()] + ["builds that it runs"], rows)


def nvidia_cards() -> str:
    """Return a table of NVIDIA's GPUs in x86_64 machines: the newest build on each system, and all of them on Linux."""
    rows = [
        [
            named,
            target,
            newest(target, "linux-x86_64"),
            newest(target, "windows-x86_64"),
            computing(target, "linux-x86_64"),
        ]
        for target, named in cards("desktop", "server")
        if not target.startswith("gfx")
    ]
    return markdown(["GPU", "capability", "newest on Linux", "newest on Windows", "all builds on Linux"], rows)


def nvidia_modules() -> str:
    """Return the same of NVIDIA's GPUs in aarch64 machines."""
    platform = "linux-aarch64"
    rows = [
        [named, target, newest(target, platform), computing(target, platform)] for target, named in cards("aarch64")
    ]
    return markdown(["GPU", "capability", "newest", "all builds"], rows)


def amd_cards() -> str:
    """Return the same of AMD's GPUs."""
    platform = "linux-x86_64"
    rows = [
        [named, target, newest(target, platform), computing(target, platform)]
        for target, named in cards("desktop", "server")
        if target.startswith("gfx")
    ]
    return markdown(["GPU", "target", "newest", "all builds"], rows)


def cards(*kinds: str) -> Iterator[tuple[str, str]]:
    """Yield a compute capability or a gfx target, and the GPUs of these kinds that have it.

    Where builds.yml has a GPU in several rows, the last is its own, and the others are what it runs too.
    """
    rows = {target: [name for kind in kinds for name in card.get(kind, [])] for target, card in TABLE["cards"].items()}
    own = {name: target for target, names in rows.items() for name in names}
    for target, names in rows.items():
        if named := [name for name in names if own[name] == target]:
            yield target, ", ".join(named)


def newest(target: str, platform: str) -> str:
    """Return the newest release with a build that computes on a GPU, and that build."""
    for release in RELEASES:
        for backend in builds(release, platform):
            if computes(release, backend, platform, target):
                return f"torch {release}, {backend}"
    return "none"


def computing(target: str, platform: str) -> str:
    """Return the builds that compute on a GPU, with their releases: cu132 (2.12 to 2.15), cu130 (2.9 to 2.14)."""
    found = {name: [one for one in reversed(RELEASES) if computes(one, name, platform, target)] for name in BACKENDS}
    return ", ".join(f"{name} ({span(releases)})" for name, releases in found.items() if releases)


def computes(release: str, backend: str, platform: str, target: str) -> bool:
    """Tell whether a build has documented kernels for a GPU: of its major capability, and of no higher minor one."""
    known = RELEASES[release].get("gpus", {}).get(backend, BACKENDS[backend].get("gpus", {}))
    kernels = known.get(platform.partition("-")[2], []) if backend in builds(release, platform) else []
    if target == JETSON_ORIN:
        return False
    major, _, minor = target.partition(".")
    return any(one == target or (minor and one.split(".")[0] == major and one <= target) for one in kernels)


def span(row: list[str]) -> str:
    """Return the ends of a row: 3.9 to 3.13."""
    return " to ".join(dict.fromkeys((row[0], row[-1])))


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """Return a table whose columns are as wide in the text."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "".join(f"| {' | '.join(map(str.ljust, line, widths))} |\n" for line in lines)


TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "builds.md": {"backends": by_backend, "releases": by_release},
    "backends.md": {
        "drivers": by_driver,
        "nvidia": nvidia_cards,
        "modules": nvidia_modules,
        "amd": amd_cards,
    },
}


def current(page: str) -> str:
    """Return the text of a page with its tables as builds.yml has them."""
    text = path(page).read_text(encoding="utf-8")
    for name, table in TABLES[page].items():
        between = rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)"
        text, count = re.subn(between, lambda _, table=table: table(), text, flags=re.DOTALL)  # type: ignore[misc]
        assert count == 1, (page, name)
    return text


def path(page: str) -> Path:
    return ROOT / "docs" / page


def main() -> None:
    """Write the tables into the pages."""
    for page in TABLES:
        path(page).write_text(current(page), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
