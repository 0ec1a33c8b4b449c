"""A language model: a small causal transformer with tied weights, and a loss of tokens."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import TrainConfig

MONITOR = "loss"
MODE: Literal["max", "min"] = "min"
UNIT = "tokens"


class Transformer(nn.Module):
    """Two layers of attention.

    Shapes:
        tokens: (batch, length), int64.
        returns: (batch, length, vocabulary), unnormalised log-probabilities.
    """

    def __init__(self, vocabulary: int, context: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.place = nn.Embedding(context, width)
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embed.weight
        nn.init.normal_(self.embed.weight, std=0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=tokens.device)
        places = torch.arange(length, device=tokens.device)
        hidden = self.layers(self.embed(tokens) + self.place(places), mask=mask, is_causal=True)
        logits: Tensor = self.head(hidden)
        return logits


def build_model(config: TrainConfig) -> nn.Module:
    """Return the network."""
    return Transformer(config.vocabulary, config.context, config.width)


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return an optimizer that decays matrices alone."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr)


def training_loss(model: nn.Module, batch: Tensor, config: TrainConfig) -> tuple[Tensor, int]:
    """Return the sum of the losses of all tokens, and their number."""
    targets = batch[:, 1:].flatten()
    logits = model(batch[:, :-1]).flatten(0, 1)
    return F.cross_entropy(logits, targets, reduction="sum"), len(targets)


def measure(model: nn.Module, batch: Tensor, config: TrainConfig) -> dict[str, tuple[Tensor, int]]:
    """Return the loss of a token."""
    return {"loss": training_loss(model, batch, config)}
