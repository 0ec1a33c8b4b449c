"""An edit of a YAML file changes one value, and no other character."""

from __future__ import annotations

import pytest
import yaml

from tests.yaml_edit import Path, block, flow, insert, put, remove

TEXT = """\
# head
a: '1.0' # why
rows: # of two
  2.0.0: {x: 1.2.3, y: [p, q]}
  1.0.0: {x: 1.2.2}

  long:
    [aaa, bbb,
     ccc]
last: >-
  folded
  text
"""


@pytest.mark.parametrize(
    ("path", "new", "old_line", "new_line"),
    [
        (("a",), "2.0", "a: '1.0' # why", "a: '2.0' # why"),
        (("rows", "2.0.0", "x"), "1.2.4", "  2.0.0: {x: 1.2.3, y: [p, q]}", "  2.0.0: {x: 1.2.4, y: [p, q]}"),
        (("rows", "1.0.0", "y"), ["p"], "  1.0.0: {x: 1.2.2}", "  1.0.0: {x: 1.2.2, y: [p]}"),
        (("rows", "long"), ["aaa"], "  long:\n    [aaa, bbb,\n     ccc]", "  long: [aaa]"),
        (("rows",), {"1.0.0": {"x": "2"}}, "  1.0.0: {x: 1.2.2}", "  1.0.0: {x: '2'}"),
        (("a",), ["b" * 50] * 3, "a: '1.0'", f"a:\n  [{'b' * 50}, {'b' * 50},\n   {'b' * 50}]"),
    ],
)
def test_a_value_is_replaced_where_it_is(path: Path, new: object, old_line: str, new_line: str) -> None:
    assert put(TEXT, path, new) == TEXT.replace(old_line, new_line)


def test_what_is_there_already_changes_nothing() -> None:
    assert put(TEXT, ("rows", "long"), ["aaa", "bbb", "ccc"]) == TEXT


def test_a_new_key_is_before_those_that_come_after_it() -> None:
    assert put(TEXT, ("b",), ["3.1"], ["a", "b", "rows", "last"]) == TEXT.replace("rows:", "b: ['3.1']\nrows:")
    assert put(TEXT, ("rows", "0.1.0"), {"x": "1"}) == TEXT.replace("last:", "  0.1.0: {x: '1'}\nlast:")


def test_lines_go_before_a_key() -> None:
    assert insert(TEXT, ("rows",), "  3.0.0: {}\n", ["1.0.0"]) == TEXT.replace("  1.0.0", "  3.0.0: {}\n  1.0.0")


def test_a_key_goes_with_its_lines() -> None:
    assert remove(TEXT, ("rows", "long")) == TEXT.replace("  long:\n    [aaa, bbb,\n     ccc]\n", "")
    assert remove(TEXT, ("rows",)) == TEXT[: TEXT.index("rows")] + TEXT[TEXT.index("last") :]


@pytest.mark.parametrize(
    "text", ["3.10", "2.15.0", "580", "rocm[device-all,libraries]==7.14.*", "it's: so", "null", ""]
)
def test_a_text_stays_a_text(text: str) -> None:
    assert yaml.safe_load(f"{{k: {flow(text)}}}") == {"k": text}
    assert yaml.safe_load(flow([text, {text: [text]}])) == [text, {text: [text]}]


def test_a_block_has_an_entry_a_line_where_it_should_and_short_lines() -> None:
    names = [f"gfx{number}" for number in range(1000, 1030)]
    lines = block(
        "row", {"name": "x", "builds": {"cpu": ["a"], "xpu": ["b"]}, "gpus": {"x86_64": names}}, 2, ("row", "builds")
    )
    assert lines[:5] == ["  row:", "    name: x", "    builds:", "      cpu: [a]", "      xpu: [b]"]
    assert max(map(len, lines)) <= 120
    assert yaml.safe_load("\n".join(lines))["row"]["gpus"]["x86_64"] == names
