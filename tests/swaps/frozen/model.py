"""Fine-tuning: batch normalization that stays as it is, and two groups of parameters."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import TrainConfig

MONITOR = "error"
MODE: Literal["max", "min"] = "min"
UNIT = "samples"


class Classifier(nn.Module):
    """A body with batch normalization, whose statistics are frozen, and a head.

    Shapes:
        points: (batch, 2).
        returns: (batch, classes), unnormalised log-probabilities.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.body[1].eval()
        self.head = nn.Linear(16, classes)

    def forward(self, points: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(points))
        return logits


def build_model(config: TrainConfig) -> nn.Module:
    """Return the network."""
    return Classifier(config.classes)


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return an optimizer with weight decay for the body alone, and a rate for the head."""
    body = [p for name, p in model.named_parameters() if name.startswith("body")]
    head = [p for name, p in model.named_parameters() if name.startswith("head")]
    return torch.optim.AdamW(
        [
            {"params": body, "weight_decay": config.weight_decay},
            {"params": head, "weight_decay": 0.0, "lr": config.head_lr},
        ],
        lr=config.lr,
    )


def training_loss(
    model: nn.Module, batch: tuple[Tensor, Tensor], config: TrainConfig
) -> tuple[Tensor, int]:
    """Return the sum of the losses of a batch, and of how many samples it is."""
    points, labels = batch
    return F.cross_entropy(model(points), labels, reduction="sum"), len(labels)


def measure(
    model: nn.Module, batch: tuple[Tensor, Tensor], config: TrainConfig
) -> dict[str, tuple[Tensor, int]]:
    """Return the share of points that are taken for another corner."""
    points, labels = batch
    return {"error": ((model(points).argmax(1) != labels).sum(), len(labels))}
