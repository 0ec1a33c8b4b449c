"""The order of the data: what a sample costs, compared with torch.randperm, and how a run over a billion samples resumes.

It runs in the environment of an installed project named demo, on one thread.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from demo.runtime.evaluation import ALONE
from demo.runtime.order import BLOCK, permuted, train_parts

BILLION, BATCH = 10**9, 128


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def per_sample(function: Callable[[], object], samples: int) -> float:
    """Return the median of several calls, in nanoseconds for a sample."""
    return statistics.median(seconds(function) for _ in range(5)) / samples * 1e9


def main() -> None:
    torch.set_num_threads(1)
    for step in (0, BILLION // BATCH - 1, 10**9):
        parts = train_parts(range(BILLION), ALONE, step, 0, BATCH)
        taken = seconds(parts.__next__)
        print(f"a billion samples, the first batch from step {step:,}: {taken * 1000:.1f} ms")
    times = [seconds(parts.__next__) for _ in range(20_000)]
    print(f"a batch of {BATCH}: {statistics.fmean(times) * 1e6:.1f} us in the mean, {max(times) * 1e6:.0f} us at most")
    print(f"peak memory, torch included: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    print("| samples | the project | torch.randperm |\n|---|---|---|")
    for count in (1437, 10**5, 10**6, 10**7, 10**8, BILLION):
        block = min(count, BLOCK)
        ours = per_sample(partial(permuted, range(block), count, 0), block)
        drawn = count < BILLION and per_sample(partial(torch.randperm, count), count)
        print(f"| {count:,} | {ours:.0f} ns | {f'{drawn:.0f} ns' if drawn else '(8 GB)'} |", flush=True)


if __name__ == "__main__":
    main()
