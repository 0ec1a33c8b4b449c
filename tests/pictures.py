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
    "default": INK,
}


def drawn(screen: pyte.Screen, command: str, home: Path) -> str:
    """Return what is on a screen as SVG, below a bar with the command. A path in `home` begins with ~."""
    rows = [row(screen, number) for number in range(screen.lines)]
    while rows and not any(text.strip() for _, text, _ in rows[-1]):
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
    for number, runs in enumerate(rows):
        y = BAR + 10 + (number + 1) * HEIGHT - 5
        lines += [text_element(run, y) for run in shortened(runs, str(home))]
    return "\n".join([*lines, "</svg>\n"])


Run = tuple[int, str, tuple[str, bool, bool]]


def row(screen: pyte.Screen, number: int) -> list[Run]:
    """Return the pieces of a row that look alike: their column, text, and color, boldness and inversion."""
    characters = [(column, screen.buffer[number][column]) for column in range(screen.columns)]
    pieces = groupby(characters, lambda one: (one[1].fg, one[1].bold, one[1].reverse))
    return [(cells[0][0], "".join(c.data for _, c in cells), look) for look, cells in ((k, list(g)) for k, g in pieces)]


def shortened(runs: list[Run], home: str) -> list[Run]:
    return [(column, text.replace(home, "~").rstrip(), look) for column, text, look in runs if text.strip()]


def text_element(run: Run, y: int) -> str:
    """Return a piece as an element that is as wide as its columns, whatever font there is."""
    column, text, (color, bold, inverted) = run
    indent = len(text) - len(text.lstrip())
    wide = sum(2 if ord(character) > 0x1F000 else 1 for character in text[indent:])
    x, length = 16 + (column + indent) * WIDTH, wide * WIDTH
    fill = COLORS.get(color, f"#{color}" if len(color) == 6 else INK)
    style = ' font-weight="bold"' if bold else ""
    element = f'<text x="{x:.1f}" y="{y}" textLength="{length:.1f}" fill="{fill}"{style}>{escape(text.lstrip())}</text>'
    if not inverted:
        return element
    box = f'<rect x="{x:.1f}" y="{y - 14}" width="{length:.1f}" height="{HEIGHT}" fill="{fill}"/>'
    return box + element.replace(f'fill="{fill}"', f'fill="{PAPER}"', 1)


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
