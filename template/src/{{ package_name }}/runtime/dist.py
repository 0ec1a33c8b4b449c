"""The processes of a run, and the signals that ask it to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy

from . import ReportedError, Stopped, UserError

Result = TypeVar("Result")
NAMES = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")
SIGNALS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]


class Stop:
    """The signal that asked the run to stop, if any.

    Attributes:
        number: Number of the signal, or 0.
        alone: Whether this is the only process of the run, so that no other may be waiting for it.
    """

    def __init__(self, alone: bool = True) -> None:
        self.number, self.alone = 0, alone
        self._noted, self._waiting = 0.0, False

    def wait_for(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Call a function that may never return, such as one that reads data.

        Raises:
            Stopped: A signal came, and the run has no other process.
        """
        self._waiting = self.alone
        try:
            self.check()
            return function(*arguments)
        finally:
            self._waiting = False

    def check(self) -> None:
        """End the run if it was asked to stop, unless another process might wait for this one.

        Raises:
            Stopped: A signal came, and the run has no other process.
        """
        if self.number and self.alone:
            raise Stopped(self.number)

    def note(self, number: int, _: FrameType | None) -> None:
        """Handle a signal: the first stops the run after the current step, a second one at once.

        A second one within a second is ignored, because uv and torchrun forward signals that their
        child processes may already have received.
        """
        if self.number and time.monotonic() - self._noted > 1:
            raise KeyboardInterrupt(number)
        if not self.number:
            self.number, self._noted = number, time.monotonic()
        if self._waiting:
            raise Stopped(self.number)


@contextmanager
def stop_signals(alone: bool) -> Iterator[Stop]:
    """Note the signals that ask the run to stop, while the context lasts."""
    stop, handlers = Stop(alone), {}
    if threading.current_thread() is threading.main_thread():  # others cannot set handlers
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
                handlers[number] = signal.signal(number, stop.note)
    try:
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def is_sharded(tensor: object) -> bool:
    """Return whether a tensor is a DTensor, of which this process has only some rows."""
    return hasattr(tensor, "to_local")  # importing DTensor is slow


def ignore_signals() -> None:
    """Ignore further signals, so that a process that is about to exit keeps its exit code."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class Turns:
    """Counts the collective operations that a process has begun.

    The others wait for a process whose count is lower than theirs.
    """

    count = 0

    def take(self, *_: object) -> None:
        """Count one more."""
        self.count += 1


@dataclass(frozen=True)
class Process:
    """This process among those of the run.

    Attributes:
        device, reason: The device that this process computes on, and why it was chosen.
        stop: The signal that asked the run to stop, if any.
        rank: Number of this process, from 0.
        world_size: Number of processes.
        turns: Count of the collective operations that this process has begun.
    """

    device: torch.device
    reason: str
    stop: Stop
    rank: int = 0
    world_size: int = 1
    turns: Turns = field(default_factory=Turns)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that reads, writes and prints."""
        return self.rank == 0

    def print(self, line: str, end: str = "\n") -> None:
        """Print a line in the main process. If it goes to a closed pipe, the run stops."""
        if self.is_main:
            try:
                print(line, end=end, flush=True)
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                self.stop.number = self.stop.number or 13  # SIGPIPE

    def print_device(self) -> None:
        """Print, in the main process, the device and why it was chosen."""
        self.print(f"device {self.device}: {self.reason}")

    def wrap(self, model: nn.Module, **options: Any) -> nn.Module:
        """Return the model on the device, with gradients averaged over all processes.

        Args:
            options: For DistributedDataParallel, such as find_unused_parameters.

        Raises:
            UserError: No parameter is trainable, or a lazy layer has none yet.
        """
        if any(is_lazy(parameter) for parameter in model.parameters()):
            raise UserError("the model has lazy layers: build it with their sizes")
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise UserError("no parameter of the model is trainable")
        if not any(module.training for module in model.modules()):
            self.print("warning: the model is in evaluation mode: is model.train() missing?")
        if any(map(is_sharded, model.parameters())):
            model.register_forward_pre_hook(self.turns.take, prepend=True)  # before FSDP gathers
            return model
        model.to(self.device)
        if self.world_size == 1:
            return model
        device_ids = None if self.device.type == "cpu" else [self.device]
        self.turns.take()
        parallel = DistributedDataParallel(model, device_ids, **options)
        parallel.register_forward_pre_hook(self.turns.take)  # once it has a batch
        parallel.register_forward_hook(self.turns.take)  # the backward pass waits for the others
        return parallel

    def sum(self, value: Any) -> Any:
        """Return the sum of a number, or of a tensor on the device, over all processes."""
        self.turns.take()
        if self.world_size > 1:
            value = torch.zeros((), device=self.device) + value  # a copy: all_reduce is in place
            dist.all_reduce(value)
        return value

    def signal(self) -> int:
        """Return the number of a signal that any process received, or 0."""
        numbers: list[int] = self.gather(self.stop.number)
        return max(numbers)

    def end_if_asked(self) -> None:
        """End the run if any process received a signal.

        Raises:
            Stopped: One did.
        """
        if number := self.signal():
            raise Stopped(number)

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, by rank, without waiting for the device."""
        self.turns.take()
        values = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(values, value)
        return values

    def main_only(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Call a function in the main process, and return its result or raise its error in all.

        This way, only the main process needs access to the disk.
        """
        self.turns.take()
        outcome: list[Any] = [None]
        if self.is_main:
            try:
                outcome = [function(*arguments)]
            except (UserError, OSError) as error:
                outcome = [error]
        if self.world_size > 1:
            dist.broadcast_object_list(outcome)
        if isinstance(outcome[0], Exception):
            raise (UserError if self.is_main else ReportedError)(str(outcome[0]))
        result: Result = outcome[0]
        return result

    def in_all(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Call a function in all processes, and return its result; if one fails, raise in all."""
        results, problem = [], ""
        try:
            results = [function(*arguments)]
        except (UserError, OSError) as error:
            problem = str(error)
        for found in filter(None, self.gather(problem)):
            raise (UserError if self.is_main else ReportedError)(found)
        return results[0]

    def share_buffers(self, model: nn.Module) -> None:
        """Broadcast the buffers of the main process, such as running statistics, to all."""
        self.turns.take()
        for buffer in model.buffers() if self.world_size > 1 else ():
            dist.broadcast(buffer, src=0)
