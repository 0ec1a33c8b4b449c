"""The README says what is so."""

from __future__ import annotations

import re

from tests import supported
from tests.table import PLATFORMS, RELEASES, builds, on_pypi
from tests.test_questions import ASKED

README = supported.README.read_text(encoding="utf-8")


def test_the_table_of_what_is_supported_is_current() -> None:
    match = supported.BETWEEN.search(README)
    assert match
    assert match[0] == supported.table(), "write it anew: uv run --group tests python -m tests.supported"


def test_the_table_has_every_build_and_no_other() -> None:
    listed = set()
    for row in re.findall(r"^\| ((?:cu|rocm|xpu|cpu).+?) *\|$", supported.table(), re.MULTILINE):
        backend, *cells = (cell.strip() for cell in row.split("|"))
        for platform, cell in zip(PLATFORMS, cells, strict=True):
            for bold, first, last in re.findall(r"(\*\*)?2\.(\d+)(?: to 2\.(\d+))?", cell):
                span = range(int(first), int(last or first) + 1)
                listed |= {(f"2.{minor}", platform, backend, bool(bold)) for minor in span}
    assert listed == {
        (release, platform, backend, backend == on_pypi(release, platform))
        for release in RELEASES
        for platform in PLATFORMS
        for backend in builds(release, platform)
    }


def test_the_questions_are_those_that_are_asked() -> None:
    rows = re.findall(r"^\| (`.+?) \|", README, re.MULTILINE)
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row)] == ASKED
