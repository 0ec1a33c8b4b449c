"""Images with a bright rectangle, and masks of it; augmented sample by sample."""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .config import TrainConfig
from .runtime.loader import Data

SIZE = 16


class Sample(NamedTuple):
    """An image of shape (1, height, width), and a mask of the same shape, 0 or 1."""

    image: Tensor
    mask: Tensor


class Rectangles(Dataset[Sample]):
    """Noise, in which a rectangle is brighter; what is for training is flipped, moved and dimmed."""

    def __init__(self, count: int, seed: int, augment: bool) -> None:
        self.count, self.seed, self.augment = count, seed, augment

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        corners = torch.randint(1, SIZE // 2, (4,), generator=generator).tolist()
        mask = torch.zeros(1, SIZE, SIZE)
        mask[
            :, corners[0] : corners[0] + corners[1] + 2, corners[2] : corners[2] + corners[3] + 2
        ] = 1
        image = 0.5 * torch.rand(1, SIZE, SIZE, generator=generator) + 0.6 * mask
        if not self.augment:
            return Sample(image, mask)
        if torch.rand(()) < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        move = random.randint(-2, 2)
        image, mask = image.roll(move, -2), mask.roll(move, -2)
        return Sample(image * float(np.random.uniform(0.8, 1.2)), mask)


def load_data(config: TrainConfig) -> Data:
    """Return the rectangles."""
    return Data(
        Rectangles(256, 1, augment=True),
        Rectangles(50, 2, augment=False),
        Rectangles(50, 3, augment=False),
    )
