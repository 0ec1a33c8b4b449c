"""The README's tables of what is supported, made from builds.yml.

uv run --group tests python -m tests.supported
"""

from __future__ import annotations

import re
from itertools import groupby

from tests.table import BACKENDS, PLATFORMS, RELEASES, ROOT, builds, on_pypi, pythons

README = ROOT / "README.md"
BETWEEN = re.compile(r"(?<=<!-- supported -->\n).*?(?=<!-- /supported -->)", re.DOTALL)


def table() -> str:
    """Return two tables in Markdown: of each backend the releases that have it, and of each release what it runs on."""
    backends = [[name, *(having(name, platform) for platform in PLATFORMS)] for name in BACKENDS]
    releases = [
        [release, span(everywhere(release)), entry["macos"].removesuffix(".0")] for release, entry in RELEASES.items()
    ]
    return markdown(["backend", *PLATFORMS], backends) + "\n" + markdown(["torch", "Python", "oldest macOS"], releases)


def having(backend: str, platform: str) -> str:
    """Return the releases that have a build, in bold where PyPI carries it: 2.6, **2.7**, 2.8 to 2.14."""
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


def everywhere(release: str) -> list[str]:
    """Return the Pythons that have wheels on every platform."""
    return [python for python in RELEASES[release]["python"] if all(python in pythons(release, p) for p in PLATFORMS)]


def span(row: list[str]) -> str:
    """Return the ends of a row: 3.9 to 3.13."""
    return " to ".join(dict.fromkeys((row[0], row[-1])))


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """Return a table whose columns are as wide in the text."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "".join(f"| {' | '.join(map(str.ljust, line, widths))} |\n" for line in lines)


def main() -> None:
    """Write the tables into the README."""
    README.write_text(
        BETWEEN.sub(lambda _: table(), README.read_text(encoding="utf-8")), encoding="utf-8", newline="\n"
    )


if __name__ == "__main__":
    main()
