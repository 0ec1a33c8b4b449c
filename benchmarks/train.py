"""Training a rendered project, beside the same training by hand, by Lightning and by Accelerate.

It runs in the environment of an installed project named demo that has the other two besides, on one thread, so that
what else runs on the machine disturbs less. Prints a table of ratios to the loop by hand: medians, and between what
the middle half of them lies.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import demo
from paired import compare, seconds

HERE = Path(__file__).parent
NAMES = {"bare": "by hand", "project": "the project", "lightning": "Lightning", "accelerate": "Accelerate"}
IMPORTS = {"bare": "torch", "project": "demo.train", "lightning": "torch, lightning", "accelerate": "torch, accelerate"}
DIGITS = Path(demo.__file__).with_name("digits.csv.gz")
DEMO = [sys.executable, "-m", "demo"]
PROCESSES = 9  # that are counted, of each kind

Times = dict[str, list[float]]


def result(*command: str) -> dict[str, Any]:
    """Run a script of this folder, and return the JSON that it prints."""
    done = subprocess.run([sys.executable, *command], cwd=HERE, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def first_step(name: str, folder: Path) -> tuple[float, float]:
    """Return the seconds from the command to the end of its first step, and its peak memory in MB."""
    command = [sys.executable, str(HERE / "loops.py"), "first", name]
    if name == "bare":
        command = [sys.executable, str(HERE / "by_hand.py"), str(DIGITS)]
    if name == "project":
        out = tempfile.mkdtemp(dir=folder)
        command = [*DEMO, "train", "--steps=2", "--log-every=1", "--precision=fp32", f"--out={out}"]
    start = time.perf_counter()
    running = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert running.stdout
    taken = next(time.perf_counter() - start for line in running.stdout if line.startswith(b"step 1"))
    running.stdout.read()
    _, status, usage = os.wait4(running.pid, 0)
    assert status == 0
    return taken, usage.ru_maxrss / 1024


def ratio(times: list[float], base: list[float]) -> str:
    """Give the median of the ratios of each round, and their quartiles."""
    low, middle, high = statistics.quantiles(a / b for a, b in zip(times, base, strict=True))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def row(title: str, times: Times, unit: str, scale: float = 1) -> None:
    """Print a row of the table."""
    base = times["bare"]
    cells = [f"1 ({statistics.median(base) * scale:.3g} {unit})"]
    cells += [ratio(times[name], base) if name in times else "" for name in list(NAMES)[1:]]
    print(f"| {title} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    print(f"| | {' | '.join(NAMES.values())} |\n|---|{'---|' * len(NAMES)}")
    row("a step of the digits network", result("loops.py", "digits"), "ms", 1000)
    row("a step of a network that hardly computes", result("loops.py", "small"), "ms", 1000)
    for workers in ("0", "2"):
        row(
            f"samples read one by one, {workers} workers, compared with DataLoader",
            result("loader.py", workers),
            "ms",
            1000,
        )
    first: Times = {name: [] for name in NAMES}
    memory: Times = {name: [] for name in NAMES}
    imports: Times = {name: [] for name in NAMES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for _ in range(PROCESSES + 1):
            for loop in NAMES:
                taken, peak = first_step(loop, folder)
                first[loop].append(taken)
                memory[loop].append(peak)
                imports[loop].append(seconds([sys.executable, "-c", f"import {IMPORTS[loop]}"], folder))
        for title, times, unit in (
            ("from the command to the first step", first, "s"),
            ("peak memory", memory, "MB"),
            ("import", imports, "s"),
        ):
            row(title, {loop: values[1:] for loop, values in times.items()}, unit)
        compare(
            "--help, compared with python -c pass",
            lambda: seconds([*DEMO, "--help"], folder),
            lambda: seconds([sys.executable, "-c", "pass"], folder),
        )
    transformer()


def transformer() -> None:
    """Print the speed of a transformer on the accelerator, and its share of what the device can do."""
    found = result("transformer.py", *sys.argv[1:])
    if not found:
        return
    share = found["operations"] / statistics.median(found["project"]) / found["peak"]
    print(
        f"a step of a transformer in bf16, compiled: {ratio(found['project'], found['bare'])} x by hand,"
        f" {share:.0%} of the speed of large matrix products"
    )


if __name__ == "__main__":
    main()
