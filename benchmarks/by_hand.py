"""Train the digits for two steps by hand, in a script as one writes it, and say when the first one is done."""

from __future__ import annotations

import csv
import gzip
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

LR, WARMUP, CLIP = 3e-3, 50, 1.0


def main() -> None:
    with gzip.open(Path(sys.argv[1]), "rt") as file:
        rows = torch.tensor([list(map(float, row)) for row in csv.reader(file)])
    images, labels = rows[:, :-1].reshape(-1, 1, 8, 8) / 16, rows[:, -1].long()
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(256, 10),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.05, fused=True)
    for step, indices in enumerate(torch.randperm(len(labels)).split(128)[:2], start=1):
        loss = F.cross_entropy(model(images[indices]), labels[indices])
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = LR * step / WARMUP
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step}: {loss.item():.3f}", flush=True)


if __name__ == "__main__":
    main()
