"""Reading samples one by one: by a rendered project, and by torch's DataLoader with the same seeding.

It runs in the environment of an installed project named demo; train.py calls it, and prints what comes out.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from demo.runtime.device import seed_all
from demo.runtime.dist import Process, Stop
from demo.runtime.loader import CPU, Data, batches
from demo.runtime.order import mix, train_parts
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

BATCH, STEPS = 64, 60
ALONE = Process(CPU, "", Stop())


class Images(Dataset[tuple[Tensor, int]]):
    """Images, each of which is flipped and shifted at random."""

    def __init__(self, seeded: bool) -> None:
        self.images, self.seeded = torch.rand(4096, 3, 32, 32), seeded

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.seeded:
            seed_all(mix(index), CPU)
        image = self.images[index]
        if torch.rand(()) < 0.5:
            image = image.flip(-1)
        return image.roll(int(torch.randint(-2, 3, ())), -1), index % 10


def project(workers: int) -> Iterator[Any]:
    samples = Images(seeded=False)
    data = Data(samples, samples, samples)
    return batches(samples, train_parts(samples, ALONE, 0, 0, BATCH), data, ALONE, workers)


def torchs(workers: int) -> Iterator[Any]:
    return iter(DataLoader(Images(seeded=True), BATCH, shuffle=True, num_workers=workers, drop_last=True))


def seconds(loaded: Iterator[Any]) -> float:
    """Time the batches after the first, which starts the workers."""
    next(loaded)
    start = time.perf_counter()
    for _ in islice(loaded, STEPS):
        pass
    return (time.perf_counter() - start) / STEPS


def main() -> None:
    workers = int(sys.argv[1])
    times: dict[str, list[float]] = {"bare": [], "project": []}
    for _ in range(16):
        times["bare"].append(seconds(torchs(workers)))
        times["project"].append(seconds(project(workers)))
    print(json.dumps({name: found[1:] for name, found in times.items()}))


if __name__ == "__main__":
    main()
