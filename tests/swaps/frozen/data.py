"""Points around the corners of a square, and which corner it is."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from .config import TrainConfig
from .runtime.loader import Data


def load_data(config: TrainConfig) -> Data:
    """Return the points, half of them far away and half near."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    halves = []
    for spread in (0.05, 0.1):
        labels = torch.randint(4, (200,), generator=generator)
        noise = spread * torch.randn(200, 2, generator=generator)
        halves.append(TensorDataset(corners[labels] + noise, labels % config.classes))
    points: ConcatDataset[tuple[Tensor, ...]] = ConcatDataset(halves)
    order = torch.randperm(len(points), generator=generator).tolist()
    return Data(
        Subset(points, order[:280]), Subset(points, order[280:340]), Subset(points, order[340:])
    )
