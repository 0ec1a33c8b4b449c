"""The progress of a run: a line in a log, or a bar at the bottom of a terminal."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping


def duration(seconds: float) -> str:
    """Return a time as people write it: 0:07, 12:30, 5:04:10 or 2d 5:04:10."""
    minutes, second = divmod(max(0, int(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    if not hours:
        return f"{minute}:{second:02d}"
    days, hour = divmod(hours, 24)
    return f"{f'{days}d ' if days else ''}{hour}:{minute:02d}:{second:02d}"


def shown(name: str, value: float) -> str:
    """Return a metric as text for a person."""
    unit, _, per = name.rpartition("_per_")
    if per == "second":
        return f"{value:,.0f} {unit}/s" if value >= 100 else f"{value:.3g} {unit}/s"
    if name == "share_of_peak":
        return f"{value:.0%} of peak"
    return f"{name} {value:.4g}"


class Progress:
    """The progress of a run, and its newest metrics.

    Attributes:
        step: The last step that was taken.
        newest: The newest value of each metric, by name.
    """

    def __init__(self, step: int, steps: int, monitor: str) -> None:
        self.step, self.steps = step, steps
        self.newest: dict[str, float] = {}
        self._figures = ["loss", f"validation_{monitor}"]
        self._begin, self._begin_step = time.monotonic(), step

    def left(self) -> str:
        """Return the time left, estimated from the steps so far, or at the end, the time taken."""
        elapsed, taken = time.monotonic() - self._begin, self.step - self._begin_step
        if self.step >= self.steps:
            return f"{duration(elapsed)} in all"
        if not taken:
            return f"{duration(elapsed)} so far"
        return f"{duration(elapsed / taken * (self.steps - self.step))} left"

    def percent(self) -> int:
        """Return the completed share, in percent."""
        return 100 * self.step // self.steps

    def line(self, metrics: Mapping[str, float]) -> str:
        """Return a line for a log."""
        head = f"step {self.step}/{self.steps}  {self.percent()}%"
        figures = (shown(name, value) for name, value in metrics.items())
        return "  ".join([head, f"{time.strftime('%H:%M:%S')}, {self.left()}", *figures])

    def bar(self, width: int) -> str:
        """Return a line of this width for a terminal, with a bar if there is room for one."""
        share = self.step / self.steps
        figures = [shown(name, self.newest[name]) for name in self._figures if name in self.newest]
        text = "  ".join([f"{self.step}/{self.steps}", self.left(), *figures])
        room = min(40, width - len(text) - len("100% []  "))
        done = int(room * share)
        bar = f"[{'#' * done}{'-' * (room - done)}]  " if room >= 5 else ""
        return f"{self.percent():3}% {bar}{text}"[:width].ljust(width)


class Bar:
    """The last line of a terminal, drawn four times a second by a thread of its own.

    The cursor waits at the start of the line, so that ^C, or what a library prints, is not
    appended to it.
    """

    def __init__(self, draw: Callable[[int], str]) -> None:
        self._draw, self._closed = draw, threading.Event()
        self._thread = threading.Thread(target=self._keep_drawing, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Draw the line for the last time, and move to the next."""
        self._closed.set()
        self._thread.join()
        self._write("\n")

    def _keep_drawing(self) -> None:
        self._write("\r")
        while not self._closed.wait(0.25):
            self._write("\r")

    def _write(self, end: str) -> None:
        try:
            width = os.get_terminal_size(sys.stdout.fileno()).columns or 80
            line = f"\r{self._draw(width - 1)}{end}"  # the last column would wrap
            # Bypass sys.stdout: a worker that is forked right now would inherit its held lock
            os.write(sys.stdout.fileno(), line.encode(errors="replace"))
        except OSError:  # the terminal is gone
            self._closed.set()
