"""Regression: a network with one hidden layer, chosen by its squared error."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import TrainConfig

MONITOR = "squared_error"
MODE: Literal["max", "min"] = "min"
UNIT = "samples"


def build_model(config: TrainConfig) -> nn.Module:
    """Return a network from two features to one number."""
    return nn.Sequential(nn.Linear(2, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 1))


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimizer."""
    return torch.optim.SGD(model.parameters(), lr=config.lr, momentum=0.9)


def training_loss(
    model: nn.Module, batch: dict[str, Tensor], config: TrainConfig
) -> tuple[Tensor, int]:
    """Return the sum of the squared errors, and of how many."""
    error = F.mse_loss(model(batch["features"]), batch["target"], reduction="sum")
    return error, batch["target"].numel()


def measure(
    model: nn.Module, batch: dict[str, Tensor], config: TrainConfig
) -> dict[str, tuple[Tensor, int]]:
    """Return the squared error."""
    return {"squared_error": training_loss(model, batch, config)}
