"""Tokens from a file that is mapped into memory, a window for each sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .config import TrainConfig
from .runtime import UserError
from .runtime.loader import Data


class Windows(Dataset[Tensor]):
    """Windows of a file: what the network sees, and the token after that."""

    def __init__(self, path: Path, first: int, last: int, context: int) -> None:
        self.path, self.first, self.context = path, first, context
        self.count = (last - first - 1) // context

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        begin = self.first + index * self.context
        # Mapped here, and not once: each process that reads has its own
        tokens = np.memmap(self.path, dtype=np.uint16, mode="r")[begin : begin + self.context + 1]
        return torch.from_numpy(tokens.astype(np.int64))


def load_data(config: TrainConfig) -> Data:
    """Return windows of the first 80 % of the tokens, the next 10 % and the last."""
    if not config.tokens.exists():
        raise UserError(f"there are no tokens in {config.tokens}: give a file as --tokens")
    length = config.tokens.stat().st_size // 2
    ends = [0, length * 8 // 10, length * 9 // 10, length]
    train, validation, test = (
        Windows(config.tokens, ends[n], ends[n + 1], config.context) for n in range(3)
    )
    return Data(train, validation, test)
