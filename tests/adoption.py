"""Projects as they are, in tests/shapes, and what docs/adopt.md shows of them.

uv run --group tests python -m tests.adoption
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

import adopt
from tests import quick
from tests.project import resolving, template
from tests.replica import replica
from tests.table import ROOT, TABLE, loads, on_pypi

PAGE = ROOT / "docs" / "adopt.md"
PLATFORMS = ["linux-x86_64", "linux-aarch64", "macos-arm64"]
SHAPES: dict[str, dict[str, Any]] = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "tests/shapes").iterdir())
}
SHOWN = "03-uv-single-index"


def between(name: str) -> re.Pattern[str]:
    """Return what finds a part of the page that is made."""
    return re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)


def clone(folder: Path, url: str) -> Path:
    """Copy the template, with a replica in the place of PyTorch's index."""
    shutil.copytree(template(), folder)
    table = folder / "builds.yml"
    table.write_text(table.read_text(encoding="utf-8").replace(TABLE["index"], url), encoding="utf-8")
    return folder


def write(folder: Path, shape: dict[str, Any], house: str = "https://pkgs.example.org/simple") -> None:
    """Write the files of a shape, with an index in the place of the one that is nowhere."""
    for name, text in shape["files"].items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = text.replace("https://pkgs.example.org/simple", house)
        path.write_text(content, encoding="utf-8", newline="\r\n" if shape.get("ends") == "crlf" else "\n")


def options(answers: dict[str, Any]) -> list[str]:
    texts = {name: f"[{','.join(value)}]" if isinstance(value, list) else value for name, value in answers.items()}
    return [f"--data={name}={text}" for name, text in texts.items()]


def table() -> str:
    """Return a row for each shape: what it was, what was asked, what changed by its name, what the lock gives."""
    rows = []
    for shape in SHAPES.values():
        asked = ", ".join(
            f"{name}={'+'.join(value) if isinstance(value, list) else value}" for name, value in shape["asked"].items()
        )
        changed, lock = f"refused: {shape['refused']}" if "refused" in shape else "", ""
        if not changed:
            changed = "<br>".join(f"`{note}`" for note in notes(shape))
            lock = gives({"platforms": PLATFORMS, "other_backends": [], **shape["asked"]})
        rows.append([shape["was"], asked, changed, lock])
    head = ["the project has", "asked", "what changes", "what uv.lock gives"]
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(head), *rows])


RENDER = adopt.render


@cache
def rendered(arguments: str) -> adopt.Wanted:
    return RENDER(*json.loads(arguments))


@contextlib.contextmanager
def renders() -> Iterator[None]:
    """Render quickly, and with the same arguments once, while the context lasts."""
    with quick.renders(), mock.patch.object(adopt, "render", lambda *arguments: rendered(json.dumps(arguments))):
        yield


def planned(folder: Path, answers: dict[str, Any]) -> adopt.Plan:
    """Return what the command would do in a folder, without writing and locking."""
    found, source = adopt.documents(folder), str(template())
    texts = dict(option.removeprefix("--data=").split("=", 1) for option in options(answers))
    with renders():
        table = adopt.render(source, None, {}, {}, True)
        return adopt.Plan(found, adopt.render(source, None, texts, adopt.recorded(found, table), True))


def notes(shape: dict[str, Any]) -> list[str]:
    """Return what the command says of a shape."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve() / "lab"
        write(folder, shape)
        plan = planned(folder, {"platforms": PLATFORMS, **shape["asked"]})
        left = ", ".join(adopt.others(folder, plan.documents))
        return [*plan.notes, *([f"left as it is: {left}"] if left else [])]


def gives(answers: dict[str, Any]) -> str:
    """Return where each platform gets which build from, by the table."""
    found: dict[str, list[str]] = {}
    for backend in [answers["backend"], *answers["other_backends"]]:
        for platform in answers["platforms"]:
            build = loads(answers["torch"], backend, platform)
            index = "PyPI" if build == on_pypi(answers["torch"], platform) else "PyTorch's index"
            group = f"group {backend}: " if answers["other_backends"] else ""
            found.setdefault(f"{group}{build} from {index}", []).append(platform)
    return "<br>".join(f"{source} on {', '.join(row)}" for source, row in found.items())


def example(url: str) -> str:
    """Return a shape before, the command, and what it prints; it locks with a replica."""
    shape = SHAPES[SHOWN]
    given = options({"platforms": PLATFORMS, **shape["asked"]})
    output = io.StringIO()
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name), renders():
        source = clone(Path(name) / "template", url)
        write(Path(name) / "lab", shape)
        os.chdir("lab")
        with mock.patch.dict(os.environ, resolving(), clear=True), contextlib.redirect_stdout(output):
            adopt.main(["--template", str(source), "--defaults", "--yes", *given])
    command = "uv run ../torch-uv-template/adopt.py --defaults " + " ".join(
        f'"{option}"' if "[" in option else option for option in given
    ).replace("--data=", "--data ")
    before, after = shape["files"]["pyproject.toml"], output.getvalue().replace(url, TABLE["index"])
    return f"```toml\n{before}```\n\n```sh\n{command}\n```\n\n```diff\n{after}```\n"


def main() -> None:
    """Write both parts into the page."""
    text = PAGE.read_text(encoding="utf-8")
    with replica() as url:
        for name, content in {"shapes": table(), "example": example(url)}.items():
            text = between(name).sub(lambda _, content=content: content, text)  # type: ignore[misc]
    PAGE.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
