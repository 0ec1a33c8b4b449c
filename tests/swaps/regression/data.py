"""A table: two features and a number that follows from them, as dictionaries."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset, random_split

from .config import TrainConfig
from .runtime.loader import Data


class Table(Dataset[dict[str, Tensor]]):
    """Rows of a table, each a dictionary of its features and its target."""

    def __init__(self, rows: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.features = torch.rand(rows, 2, generator=generator)
        self.target = (3 * self.features[:, 0] - self.features[:, 1] ** 2).unsqueeze(1)

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"features": self.features[index], "target": self.target[index]}


def load_data(config: TrainConfig) -> Data:
    """Return a random eighth of the rows for validation, one for the test, and the rest."""
    eighth = config.rows // 8
    sizes = [config.rows - 2 * eighth, eighth, eighth]
    generator = torch.Generator().manual_seed(0)
    train, validation, test = random_split(Table(config.rows), sizes, generator=generator)
    return Data(train, validation, test)
