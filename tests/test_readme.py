"""The README says what is so."""

from __future__ import annotations

import re

from tests import supported
from tests.test_questions import ASKED

README = supported.README.read_text(encoding="utf-8")


def test_the_table_of_what_is_supported_is_current() -> None:
    match = supported.BETWEEN.search(README)
    assert match
    assert match[0] == supported.table(), "write it anew: python -m tests.supported"


def test_the_questions_are_those_that_are_asked() -> None:
    rows = re.findall(r"^\| (`.+?) \|", README, re.MULTILINE)
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row)] == ASKED
