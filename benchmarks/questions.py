"""From an answer to the next question, in a terminal: how long a person who presses Enter waits at each question."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.project import template
from tests.terminal import KEYS, Terminal
from tests.test_questions import ASKED, questions


def waits(folder: Path) -> list[float]:
    """Accept each default, and return the seconds until the next question, or the last message, is on the screen."""
    terminal = Terminal(sys.executable, "-m", "copier", "copy", template(), folder.name, cwd=folder.parent)
    texts = [questions()[name]["help"].split("{")[0].split(". ")[0] for name in ASKED]
    terminal.wait_for(texts[0])
    found = []
    for text in texts[1:]:
        start = time.perf_counter()
        terminal.child.send(KEYS["enter"])
        while not any(text in line for line in terminal.lines):
            if not terminal.read(0.001):
                raise RuntimeError(f"{text} is not asked: {terminal.lines}")
        found.append(time.perf_counter() - start)
    terminal.child.send(KEYS["enter"])
    terminal.exit_code()
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        rounds = [waits(Path(name) / str(number)) for number in range(6)][1:]
    middle = {question: statistics.median(column) for question, *column in zip(ASKED[1:], *rounds, strict=True)}
    slowest = max(middle, key=lambda question: middle[question])
    print(
        f"from an answer to the next question: {statistics.median(middle.values()):.2f} s,"
        f" at most {middle[slowest]:.2f} s ({slowest})"
    )


if __name__ == "__main__":
    main()
