"""The processes of a run: one, or those that torchrun started. The only module that knows them."""

from __future__ import annotations

import gc
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .config import UserError
from .device import choose_device

Result = TypeVar("Result")
SIGNALS = [
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
]


@dataclass(frozen=True)
class World:
    """This process among those of the run.

    Attributes:
        device: What this process computes on, and `reason` why.
        rank: Its number, from 0.
        size: How many there are.
    """

    device: torch.device
    reason: str
    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that reads, writes and prints."""
        return self.rank == 0

    def say(self, line: str) -> None:
        """Print a line, once."""
        if self.is_main:
            print(line, flush=True)

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model, with gradients that are the mean over all processes."""
        if self.size == 1:
            return model
        return DistributedDataParallel(
            model, device_ids=None if self.device.type == "cpu" else [self.device]
        )

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor on the device over all processes."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, by rank, without waiting for the device."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def on_main(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Call a function in the main process; all get what it returns, or what went wrong.

        Only that process needs to have the disk.
        """
        outcome: list[Any] = [None]
        if self.is_main:
            try:
                outcome = [function(*arguments)]
            except (UserError, OSError) as error:
                outcome = [error]
        if self.size > 1:
            dist.broadcast_object_list(outcome)
        if isinstance(outcome[0], Exception):
            failure = UserError(str(outcome[0]))
            failure.said = not self.is_main
            raise failure
        result: Result = outcome[0]
        return result


def sync_gradients(model: nn.Module, sync: bool) -> None:
    """Say whether the next backward pass of a wrapped model sums gradients over the processes."""
    if isinstance(model, DistributedDataParallel):
        model.require_backward_grad_sync = sync


@contextmanager
def world(device_name: str) -> Iterator[World]:
    """Join the processes that torchrun started, if it did, as long as the context lasts.

    Raises:
        UserError: This process cannot have the device.
    """
    if not {"RANK", "LOCAL_RANK"} <= os.environ.keys():
        yield World(*choose_device(device_name))
        return
    device, reason = choose_device(device_name, local_rank=int(os.environ["LOCAL_RANK"]))
    if device.type == "cpu":
        dist.init_process_group("gloo")
    else:
        backend = {"cuda": "nccl", "xpu": "xccl"}[device.type]
        dist.init_process_group(f"cpu:gloo,{device.type}:{backend}", device_id=device)
    try:
        yield World(device, reason, dist.get_rank(), dist.get_world_size())
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)  # for they hold the model
        raise
    finally:
        gc.collect()  # gloo aborts if a DDP model, which is in a reference cycle, outlives it
        time.sleep(0.01)  # lets gloo's thread free its last tensor: torch 2.4 deadlocks else
        dist.destroy_process_group()


@dataclass
class Stop:
    """The signal that asked the run to end, or 0."""

    number: int = 0


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Note SIGTERM, SIGINT and SIGUSR1, so that the run can end at a step.

    A second signal does not wait for the step. torchrun passes on what its processes may have
    got already, so one that comes within a second is not a second one.
    """
    stop, since = Stop(), 0.0

    def note(number: int, _: FrameType | None) -> None:
        nonlocal since
        if stop.number and time.monotonic() - since > 1:
            raise KeyboardInterrupt
        if not stop.number:
            stop.number, since = number, time.monotonic()

    handlers = [(number, signal.signal(number, note)) for number in SIGNALS]
    try:
        yield stop
    finally:
        for number, handler in handlers:
            signal.signal(number, handler)


def ignore_signals(_: int) -> None:
    """Leave the signals to the process that trains; for the workers that load its data."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
