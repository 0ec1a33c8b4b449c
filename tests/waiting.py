"""Waiting for what other processes do."""

from __future__ import annotations

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
