"""Sequences of variable length: for each token, the one before it is to be named."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .config import TrainConfig
from .runtime.loader import Data


@dataclass
class Batch:
    """Sequences, padded by 0, their lengths and targets.

    Shapes:
        tokens, targets: (batch, longest), int64.
        lengths: (batch,), int64.
    """

    tokens: Tensor
    targets: Tensor
    lengths: Tensor
    source: str = "a generator"


def collate(sequences: list[Tensor]) -> Batch:
    """Pad sequences to the longest of them."""
    tokens = pad_sequence(sequences, batch_first=True)
    targets = torch.cat([torch.zeros_like(tokens[:, :1]), tokens[:, :-1]], dim=1)
    targets[tokens == 0] = 0
    return Batch(tokens, targets, torch.tensor([len(sequence) for sequence in sequences]))


def load_data(config: TrainConfig) -> Data:
    """Return random sequences of 3 to 20 tokens."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 21, (400,), generator=generator).tolist()
    sequences = [
        torch.randint(1, config.vocabulary, (length,), generator=generator) for length in lengths
    ]
    return Data(sequences[:300], sequences[300:350], sequences[350:], collate)
