"""Other processes: how they start, and waiting for what they do."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def wait_for(condition: Callable[[], Result], seconds: float = 120) -> Result:
    """Wait until a condition holds, and return what it gave.

    Raises:
        TimeoutError: It takes too long.
    """
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError("it took too long")
        time.sleep(0.05)
    return result


def foreground() -> None:
    """Handle signals as in a terminal: what runs in the background may ignore these."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
