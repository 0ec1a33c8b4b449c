"""Change values in the text of a YAML file and leave every other character as it is: quotes, comments, line breaks.

A dump of the whole file would lay out anew what nobody changed. Here the parser says where a value is, and that is replaced.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import yaml

Path = tuple[str, ...]
WIDTH = 120


def value(text: str, path: Path) -> Any:
    """Return the value at a path of keys, or nothing."""
    found = load(text)
    for key in path:
        found = (found or {}).get(key)
    return found


load = lru_cache(4)(yaml.safe_load)
compose = lru_cache(4)(yaml.compose)


def put(text: str, path: Path, new: Any, order: Iterable[str] = ()) -> str:
    """Return the text with a value at a path, where it is or, if it is new, before the first key that is after it in the order.

    A block mapping keeps what it has besides.
    """
    if value(text, path) == new:
        return text
    *above, key = path
    mapping, node = find(text, tuple(above)), find(text, path)
    assert mapping, f"no {'.'.join(above)}"
    if mapping.flow_style:
        return put(text, tuple(above), {**value(text, tuple(above)), key: new})
    if isinstance(node, yaml.MappingNode) and not node.flow_style:
        for name, entry in new.items():
            text = put(text, (*path, name), entry, new)
        return text
    indent = mapping.value[0][0].start_mark.column
    lines = "\n".join(block(key, new, indent))
    if node:
        start = next(name for name, entry in mapping.value if entry is node).start_mark.index
        return text[:start] + lines[indent:] + text[node.end_mark.index :]
    return insert(text, tuple(above), f"{lines}\n", after(key, order))


def after(key: str, order: Iterable[str]) -> list[str]:
    """Return the keys that are after one in an order."""
    names = list(order)
    return names[names.index(key) + 1 :] if key in names else []


def insert(text: str, path: Path, lines: str, before: Iterable[str] = ()) -> str:
    """Return the text with whole lines in a block mapping: before the first of these keys that it has, or else at its end."""
    mapping = find(text, path)
    assert mapping, f"no {'.'.join(path)}"
    for key, _ in mapping.value:
        if key.value in before:
            start = text.rindex("\n", 0, key.start_mark.index) + 1
            return text[:start] + lines + text[start:]
    end = end_of(text, mapping)
    return text[:end] + lines + text[end:]


def remove(text: str, path: Path) -> str:
    """Return the text without the lines of a key in a block mapping and of its value."""
    node = find(text, path)
    start = text.rindex(
        "\n", 0, next(key for key, entry in find(text, path[:-1]).value if entry is node).start_mark.index
    )
    return text[:start] + text[end_of(text, node) - 1 :]


def end_of(text: str, node: Any) -> int:
    """Return where the line ends that a node ends in."""
    while isinstance(node, yaml.MappingNode) and not node.flow_style:
        node = node.value[-1][1]
    return text.index("\n", node.end_mark.index) + 1


def find(text: str, path: Path) -> Any:
    """Return the node at a path of keys, or nothing."""
    node: Any = compose(text)
    for key in path:
        node = next((node for name, node in node.value if name.value == key), None)
        if node is None:
            return None
    return node


def block(key: str, new: Any, indent: int = 0, blocks: Iterable[str] = ()) -> list[str]:
    """Return the lines of a key and its value: of a mapping among `blocks`, an entry a line; of a long list, wrapped."""
    margin = " " * indent
    head = f"{margin}{flow(key)}:"
    if key in blocks:
        return [head, *(line for name, entry in new.items() for line in block(name, entry, indent + 2, blocks))]
    if len(line := f"{head} {flow(new)}") <= WIDTH:
        return [line]
    if isinstance(new, dict):
        return [head, *(line for name, entry in new.items() for line in block(name, entry, indent + 2))]
    wrapped = textwrap.TextWrapper(WIDTH, f"{margin}  ", f"{margin}   ", break_long_words=False, break_on_hyphens=False)
    return [head, *wrapped.wrap(flow(new))]


def flow(new: Any) -> str:
    """Return a value in one line."""
    if isinstance(new, dict):
        return f"{{{', '.join(f'{flow(key)}: {flow(entry)}' for key, entry in new.items())}}}"
    if isinstance(new, list):
        return f"[{', '.join(map(flow, new))}]"
    plain = str(new)
    try:
        same = yaml.safe_load(f"[{plain}]") == [new]
    except yaml.YAMLError:
        same = False
    return plain if same else "'{}'".format(plain.replace("'", "''"))
