"""Other processes: how they start, and waiting for what they do."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")


def wait_for(condition: Callable[[], Result], seconds: float = 120, every: float = 0.05) -> Result:
    """Wait until a condition holds, and return what it gave.

    Raises:
        TimeoutError: It takes too long.
    """
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError("it took too long")
        time.sleep(every)
    return result


def foreground() -> None:
    """Handle signals as in a terminal: what runs in the background may ignore these."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process that ends when this one does."""
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL, **options)


def children(process: subprocess.Popen[bytes]) -> list[str]:
    """Return the numbers of the processes that a process has started."""
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process: the first one in its namespaces, if there is one, that all others end with."""
    if process.poll() is not None:
        return
    for pid in children(process) or [str(process.pid)]:
        os.kill(int(pid), signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
