"""Time two commands in turn, as whole processes, and print the ratio of each pair's times."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


def seconds(command: list[str], folder: Path) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


def compare(title: str, ours: Callable[[], float], theirs: Callable[[], float], pairs: int = 9) -> None:
    """Run both once to warm up, then in turn; print the medians in seconds and the median ratio of the pairs."""
    ours(), theirs()
    times = [(ours(), theirs()) for _ in range(pairs)]
    ratios = sorted(a / b for a, b in times)
    a, b = (statistics.median(column) for column in zip(*times, strict=True))
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    print(f"{title}: {a:.2f} s compared with {b:.2f} s, {statistics.median(ratios):.2f} x ({spread})")
