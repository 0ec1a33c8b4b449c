"""A program in a terminal, as a person sees it: what it writes is drawn on a screen of rows and columns."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pexpect
import pyte

from tests.waiting import foreground

KEYS = {"down": "\x1b[B", "space": " ", "enter": "\r"}


class Terminal:
    """Runs a program in a pseudo-terminal, of 80 columns and 24 rows if nothing else is said."""

    def __init__(
        self, *command: str | Path, cwd: Path, columns: int = 80, rows: int = 24, env: dict[str, str] | None = None
    ) -> None:
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        program, *arguments = map(str, command)
        # It does not answer where its cursor is, for which a prompt would wait a second
        env = {**(os.environ if env is None else env), "PROMPT_TOOLKIT_NO_CPR": "1"}
        options: dict[str, Any] = {"cwd": str(cwd), "env": env, "dimensions": (rows, columns), "preexec_fn": foreground}
        self.child: Any = pexpect.spawn(program, arguments, **options)
        self.child.delaybeforesend = None

    @property
    def lines(self) -> list[str]:
        """What is on the screen, row by row."""
        return [line.rstrip() for line in self.screen.display]

    def read(self, seconds: float = 0.02) -> bool:
        """Draw what the program writes until it pauses, and tell whether it still runs."""
        try:
            while True:
                self.stream.feed(self.child.read_nonblocking(1 << 16, seconds))
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False

    def wait_for(self, text: str) -> None:
        """Wait until a text is on the screen.

        Raises:
            AssertionError: It does not come within a minute.
        """
        end, running = time.monotonic() + 60, True
        while not any(text in line for line in self.lines):
            assert running, (text, self.lines)
            assert time.monotonic() < end, (text, self.lines)
            running = self.read()

    def press(self, key: str) -> None:
        """Press a key, and wait until the screen has changed."""
        before = self.lines
        self.child.send(KEYS[key])
        end = time.monotonic() + 60
        while self.lines == before and self.read():
            assert time.monotonic() < end, (key, self.lines)

    def exit_code(self) -> int:
        """Wait for the end of the program, and return its exit code."""
        while self.read():
            pass
        self.child.close()
        assert self.child.exitstatus is not None
        return int(self.child.exitstatus)
