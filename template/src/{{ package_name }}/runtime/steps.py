"""Gradients over all processes and micro-batches of a step, and metrics of the last steps."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel

from . import Stopped, UserError, checkpoint
from .dist import Process, is_sharded


class Interval:
    """Sums over the steps since the last log, on the device, so that no step waits for it."""

    def __init__(self, zero: Tensor) -> None:
        self.losses = self.norms = zero
        self.count: Any = 0  # a tensor, if the task returns one or processes add theirs
        self.steps, self.begin = 0, time.perf_counter()

    def add(self, loss: Tensor, count: Any, norm: Tensor) -> None:
        """Add a step: its loss in this process, its count in all of them, and its gradient norm."""
        self.losses, self.count = self.losses + loss, self.count + count
        self.norms, self.steps = self.norms + norm, self.steps + 1

    def means(self, process: Process) -> dict[str, float]:
        """Return the mean loss and norm, as soon as the device has computed them."""
        loss = process.sum(self.losses) / (self.count + (self.count == 0))
        norm = self.norms / self.steps
        return {"loss": loss.item(), "norm": same_everywhere(norm.item(), process)}


def check_finite(figures: dict[str, float], scaler: GradScaler, step: int, folder: Path) -> None:
    """Refuse to continue when the run has diverged.

    Raises:
        UserError: A metric is not finite, or fp16 gradients overflow at every loss scale.
    """
    if not math.isfinite(sum(figures.values())) or scaler.get_scale() < 1e-3:
        found = checkpoint.newest_first(folder)
        newest = f"; the newest checkpoint is {found[0]}" if found else ""
        problem = f"loss or gradient is not finite at step {step}"
        raise UserError(f"{problem}: use a lower --lr{newest}")


def step_batches(samples: Iterator[Any], model: nn.Module, parts: int) -> Iterator[Any]:
    """Yield the micro-batches of a step; only the last one averages gradients over processes.

    If a signal comes between two of them, buffers such as running statistics are restored.

    Raises:
        UserError: After the last, a parameter has no gradient.
    """
    before = [(buffer, buffer.clone()) for buffer in model.buffers()] if parts > 1 else []
    try:
        for part in range(parts):
            batch = next(samples)
            sync_gradients(model, part == parts - 1)
            yield batch
    except Stopped:
        for buffer, value in before:
            buffer.copy_(value)
        raise
    check_gradients(model)


def sync_gradients(model: nn.Module, sync: bool) -> None:
    """Set whether the next backward pass of a wrapped model averages gradients over processes."""
    if isinstance(model, DistributedDataParallel):
        model.require_backward_grad_sync = sync


def check_gradients(parallel: nn.Module) -> None:
    """Refuse parameters without a gradient: DDP would wait for it in vain.

    Raises:
        UserError: A parameter has none.
    """
    if isinstance(parallel, DistributedDataParallel) and not parallel.find_unused_parameters:
        for name, parameter in parallel.module.named_parameters():
            if parameter.requires_grad and parameter.grad is None:
                way = "freeze it, or wrap(model, find_unused_parameters=True)"
                raise UserError(f"the loss does not depend on {name}: {way}")


def same_everywhere(norm: float, process: Process) -> float:
    """Return the norm of the gradient, which is the same in all processes.

    Raises:
        UserError: It differs, so the gradients were not averaged.
    """
    norms = process.gather(norm)
    if max(norms) > 1.01 * min(norms):
        way = "in training_loss, call the model itself, not one of its methods"
        raise UserError(f"the gradients of the processes differ: {way}")
    return norm


def scale_gradients(optimizer: torch.optim.Optimizer, factor: Any, clip: float) -> Tensor:
    """Multiply the gradients by a factor, then clip their norm to `clip`, unless that is 0.

    Returns:
        The norm before clipping, a tensor without dimensions.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    sharded = any(map(is_sharded, gradients))
    if sharded:
        gradients = [gradient.to_local() for gradient in gradients]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if sharded:  # each process has the norm of its rows
        dist.all_reduce(norm.square_())
        norm = norm.sqrt()
    norm = norm * factor
    if clip:
        factor = factor * (clip / (norm + 1e-6)).clamp(max=1)
    torch._foreach_mul_(gradients, factor)
    return norm
