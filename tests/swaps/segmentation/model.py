"""Segmentation: a small convolutional network, chosen by intersection over union."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import TrainConfig
from .data import Sample

MONITOR = "intersection_over_union"
MODE: Literal["max", "min"] = "max"
UNIT = "pixels"


def build_model(config: TrainConfig) -> nn.Module:
    """Return a network from images to logits of the same shape."""
    return nn.Sequential(
        nn.Conv2d(1, config.width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(config.width, config.width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(config.width, 1, 3, padding=1),
    )


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimizer."""
    return torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)


def training_loss(model: nn.Module, batch: Sample, config: TrainConfig) -> tuple[Tensor, int]:
    """Return the sum of the losses of all pixels, and their number."""
    logits = model(batch.image)
    loss = F.binary_cross_entropy_with_logits(logits, batch.mask, reduction="sum")
    return loss, batch.mask.numel()


def measure(
    model: nn.Module, batch: Sample, config: TrainConfig
) -> dict[str, tuple[Tensor, int | Tensor]]:
    """Return the loss of a pixel, and the intersection over the union of all masks."""
    found, mask = model(batch.image) > 0, batch.mask > 0
    return {
        "loss": training_loss(model, batch, config),
        "intersection_over_union": ((found & mask).sum(), (found | mask).sum()),
    }
