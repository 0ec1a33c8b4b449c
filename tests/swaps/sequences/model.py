"""Sequences: a recurrent network that names the token before, with a loss of tokens."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import TrainConfig
from .data import Batch

MONITOR = "token_accuracy"
MODE: Literal["max", "min"] = "max"
UNIT = "tokens"


class Tagger(nn.Module):
    """An embedding, a recurrent layer and a head.

    Shapes:
        tokens: (batch, length), int64.
        returns: (batch, length, vocabulary), unnormalised log-probabilities.
    """

    def __init__(self, vocabulary: int, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, hidden)
        self.recur = nn.GRU(hidden, hidden, batch_first=True)
        self.head = nn.Linear(hidden, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.recur(self.embed(tokens))[0])
        return logits


def build_model(config: TrainConfig) -> nn.Module:
    """Return the network."""
    return Tagger(config.vocabulary, config.hidden)


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimizer."""
    return torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)


def training_loss(model: nn.Module, batch: Batch, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Return the sum of the losses of all tokens that have one before, and their number."""
    logits = model(batch.tokens)
    loss = F.cross_entropy(
        logits.flatten(0, 1), batch.targets.flatten(), ignore_index=0, reduction="sum"
    )
    return loss, (batch.targets != 0).sum()


def measure(
    model: nn.Module, batch: Batch, config: TrainConfig
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return loss and accuracy, each of a token."""
    counted = batch.targets != 0
    right = (model(batch.tokens).argmax(-1) == batch.targets) & counted
    return {
        "loss": training_loss(model, batch, config),
        "token_accuracy": (right.sum(), counted.sum()),
    }
