"""This process among those of a run, and the signals that ask the run to stop."""

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
    """The signal that asked the run to stop, if one came.

    Attributes:
        number: Number of the signal, or 0.
        alone: Whether the run has no other process, which might wait for this one.
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
        """Handle a signal: the first one waits for the end of a step, a second one does not.

        Unless it follows within a second: uv and torchrun pass on a signal that their processes
        may have got already.
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
    if threading.current_thread() is threading.main_thread():  # no other may handle signals
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup does with SIGHUP
                handlers[number] = signal.signal(number, stop.note)
    try:
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def is_sharded(tensor: object) -> bool:
    """Return whether this process has only some rows of a tensor, which is a DTensor then."""
    return hasattr(tensor, "to_local")  # to import that type takes a while


def ignore_signals() -> None:
    """Ignore what would end a process that is about to end, and has its exit code."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class Turns:
    """Counts what a process has begun of what all do together: who has begun less is waited for."""

    count = 0

    def take(self, *_: object) -> None:
        """Begin the next one."""
        self.count += 1


@dataclass(frozen=True)
class Process:
    """This process among those of the run.

    Attributes:
        device: What this process computes on, and `reason` why.
        stop: The signals that came.
        rank: Number of this process, from 0.
        world_size: Number of processes.
        turns: What this process has begun of what all do together.
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
        """Print a line in the main process; if nobody reads it any more, the run stops."""
        if self.is_main:
            try:
                print(line, end=end, flush=True)
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                self.stop.number = self.stop.number or 13  # SIGPIPE

    def print_device(self) -> None:
        """Say in the main process what it computes on, and why."""
        self.print(f"device {self.device}: {self.reason}")

    def wrap(self, model: nn.Module, **options: Any) -> nn.Module:
        """Return the model, on the device, with gradients that are the mean over all processes.

        Args:
            options: For DistributedDataParallel, such as find_unused_parameters.

        Raises:
            UserError: There is nothing to train, or not yet.
        """
        if any(is_lazy(parameter) for parameter in model.parameters()):
            raise UserError("the model has lazy layers: build it with their sizes")
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise UserError("no parameter of the model is trainable")
        if not any(module.training for module in model.modules()):
            self.print("warning: the model is in evaluation mode: is model.train() missing?")
        if any(map(is_sharded, model.parameters())):
            model.register_forward_pre_hook(self.turns.take, prepend=True)  # then it waits
            return model
        model.to(self.device)
        if self.world_size == 1:
            return model
        device_ids = None if self.device.type == "cpu" else [self.device]
        self.turns.take()
        parallel = DistributedDataParallel(model, device_ids, **options)
        parallel.register_forward_pre_hook(self.turns.take)  # it has a batch
        parallel.register_forward_hook(self.turns.take)  # on its way back, it waits for the others
        return parallel

    def sum(self, value: Any) -> Any:
        """Return the sum of a number, or of a tensor on the device, over all processes."""
        self.turns.take()
        if self.world_size > 1:
            value = torch.zeros((), device=self.device) + value  # a tensor, and not the given one
            dist.all_reduce(value)
        return value

    def signal(self) -> int:
        """Return the number of a signal that some process got, or 0."""
        numbers: list[int] = self.gather(self.stop.number)
        return max(numbers)

    def end_if_asked(self) -> None:
        """End the run if some process got a signal.

        Raises:
            Stopped: It did.
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
        """Call a function in the main process; in all, return its result or raise its error.

        Only the main process needs the disk.
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
        """Call a function in all processes, and return its result; if it fails in one, raise in all."""
        results, problem = [], ""
        try:
            results = [function(*arguments)]
        except (UserError, OSError) as error:
            problem = str(error)
        for found in filter(None, self.gather(problem)):
            raise (UserError if self.is_main else ReportedError)(found)
        return results[0]

    def share_buffers(self, model: nn.Module) -> None:
        """Give all processes the buffers of the main one, such as running statistics."""
        self.turns.take()
        for buffer in model.buffers() if self.world_size > 1 else ():
            dist.broadcast(buffer, src=0)
