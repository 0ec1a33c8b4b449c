"""The pictures of README and docs: what programs show on a terminal, drawn as SVG, the curves of a run, and the page.

`nox -s pictures` renders and installs the project that PROJECT names.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from html import escape
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pyte

from tests.browser import take_pictures
from tests.installed import PROJECT
from tests.project import template, without_uv
from tests.table import ROOT
from tests.terminal import Terminal
from tests.test_questions import questions

FOLDER = ROOT / "docs" / "pictures"
WIDTH, HEIGHT, BAR = 8.4, 19, 36  # of a character, and of the bar with the command
INK, PAPER = "#d6deeb", "#10151f"
COLORS = {
    "black": "#5c6773",
    "red": "#ff7b72",
    "green": "#7ee787",
    "brown": "#e3b341",
    "blue": "#79c0ff",
    "magenta": "#d2a8ff",
    "cyan": "#76e3ea",
    "white": INK,
    "default": INK,
}
BOLD = ' font-weight="bold"'


class Run(NamedTuple):
    """Characters of a row that look alike."""

    column: int
    text: str
    color: str
    bold: bool
    inverted: bool


def drawn(screen: pyte.Screen, command: str, home: Path) -> str:
    """Return what is on a screen as SVG, below a bar with the command. A path in `home` begins with ~."""
    rows = [runs(screen, number) for number in range(screen.lines)]
    while rows and not rows[-1]:
        rows.pop()
    width, height = round(screen.columns * WIDTH) + 32, len(rows) * HEIGHT + BAR + 24
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(command)}</title>",
        "<style>text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;white-space:pre}</style>",
        f'<rect width="{width}" height="{height}" rx="8" fill="{PAPER}"/>',
        f'<path d="M0 {BAR}H{width}" stroke="#2d3748"/>',
        f'<text x="16" y="23" fill="#8b98a9">$ {escape(command)}</text>',
    ]
    for number, row in enumerate(rows, start=1):
        y = BAR + 5 + number * HEIGHT
        lines += [element(run._replace(text=run.text.replace(str(home), "~")), y) for run in row]
    return "\n".join([*lines, "</svg>\n"])


def runs(screen: pyte.Screen, number: int) -> list[Run]:
    """Return the runs of a row, without those of spaces."""
    found, column = [], 0
    cells = [screen.buffer[number][column] for column in range(screen.columns)]
    for look, alike in groupby(cells, lambda cell: (cell.fg, cell.bold, cell.reverse)):
        characters = [cell.data for cell in alike]
        text = "".join(characters)
        indent = len(text) - len(text.lstrip())
        if text.strip():
            found.append(Run(column + indent, text.strip(), *look))
        column += len(characters)
    return found


def element(run: Run, y: int) -> str:
    """Return a run as text that is as wide as its columns in any font."""
    columns = sum(2 if ord(character) > 0x1F000 else 1 for character in run.text)
    x, width = 16 + run.column * WIDTH, columns * WIDTH
    color = COLORS.get(run.color, f"#{run.color}")
    box = (
        f'<rect x="{x:.1f}" y="{y - 14}" width="{width:.1f}" height="{HEIGHT}" fill="{color}"/>' if run.inverted else ""
    )
    style = f'fill="{PAPER if run.inverted else color}"{BOLD if run.bold else ""}'
    return f'{box}<text x="{x:.1f}" y="{y}" textLength="{width:.1f}" {style}>{escape(run.text)}</text>'


def questionnaire() -> None:
    """Draw the question about the backend, with what was answered before it."""
    with tempfile.TemporaryDirectory() as folder:
        terminal = Terminal(sys.executable, "-m", "copier", "copy", template(), "myproj", cwd=Path(folder))
        for name in ("project_name", "package_name", "description", "user_name", "user_email", "license", "platforms"):
            terminal.wait_for(questions()[name]["help"])
            terminal.press("enter")
        terminal.wait_for(questions()["backend"]["help"])
        write("questions", terminal, "uvx copier copy gh:org/torch-uv-template myproj")
        terminal.child.close(force=True)


def program(name: str, *command: str, rows: int) -> None:
    """Draw what a command of the project prints."""
    environ = {**without_uv(), "OMP_WAIT_POLICY": "PASSIVE"}  # threads that wait leave the processors to others
    terminal = Terminal("uv", "run", *command, cwd=PROJECT, rows=rows, env=environ)
    terminal.exit_code()
    write(name, terminal, f"uv run {' '.join(command)}")


def write(name: str, terminal: Terminal, command: str) -> None:
    (FOLDER / f"{name}.svg").write_text(drawn(terminal.screen, command, PROJECT.parent), encoding="utf-8")


def page() -> None:
    """Keep some of the pictures of the page."""
    with tempfile.TemporaryDirectory() as folder:
        take_pictures(Path(folder))
        for name in ("page-desktop-light", "page-desktop-dark"):
            keep(Path(folder) / f"{name}.png")


def keep(picture: Path) -> None:
    """Keep a picture with 48 colors, by the Pillow that matplotlib brings into the project."""
    code = "from PIL import Image; import sys; Image.open(sys.argv[1]).convert('RGB').quantize(48).save(sys.argv[2])"
    subprocess.run([PROJECT / ".venv/bin/python", "-c", code, picture, FOLDER / picture.name], check=True)


def main() -> None:
    """Draw all of them."""
    FOLDER.mkdir(exist_ok=True)
    questionnaire()
    program("training", PROJECT.name, "train", rows=30)
    keep(PROJECT / "runs/default/curves.png")
    program("doctor", "tools/doctor.py", rows=40)
    page()


if __name__ == "__main__":
    main()
