"""The order of the data, what is drawn at random for it, and the processes that load it.

Which samples a step has, and what is drawn at random for each, follows from the seed, the step and
the position in the batch: not from the number of processes and workers, nor from where a run was
resumed. So there is no state to store.
"""

from __future__ import annotations

import atexit
import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from . import Stopped, UserError, first_line
from .device import ASYNCHRONOUS, seed_all, to_device
from .dist import SIGNALS, Process

ORDER = 1  # the version of the order, which a checkpoint holds
MASK = (1 << 64) - 1
CPU, END = torch.device("cpu"), object()


class Samples(Protocol):
    """What has a length and is read by index: a data set of torch or of Hugging Face, or a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class Data(NamedTuple):
    """The data of a run.

    Attributes:
        train, validation, test: The best checkpoint is chosen on the second; the third is read
            after that.
        collate: What makes a batch of a list of samples. None is for data sets that can read a
            whole batch, as `dataset[indices]` with a tensor of int64; what they draw at random
            depends on the number of processes, too.
    """

    train: Samples
    validation: Samples
    test: Samples
    collate: Callable[[list[Any]], Any] | None = default_collate


class Part(NamedTuple):
    """What one process reads at once: positions in a batch, the indices there, and a seed."""

    key: int
    positions: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int64]


def mix(*numbers: int) -> int:
    """Return 64 bits that depend on all bits of these integers (splitmix64)."""
    key = 0
    for number in numbers:
        key = (key + number + 0x9E3779B97F4A7C15) & MASK
        key = (key ^ key >> 30) * 0xBF58476D1CE4E5B9 & MASK
        key = (key ^ key >> 27) * 0x94D049BB133111EB & MASK
        key ^= key >> 31
    return key


def train_parts(
    samples: Samples, process: Process, step: int, seed: int, batch_size: int, parts: int = 1
) -> Iterator[Part]:
    """Yield what one process reads from a step on, part by part and without end.

    However many processes and parts share a step, together they read the same samples. An epoch
    leaves out the samples at its end that do not fill a batch.

    Args:
        batch_size: Samples in a step, over all processes.
        parts: Parts of this process's share of a step.

    Raises:
        UserError: The batch cannot be shared equally, or is larger than the data set.
    """
    length, size = length_of(samples), process.world_size
    if batch_size > length:
        raise UserError(f"batch_size is {batch_size}, but the training set has {length} samples")
    if batch_size % (size * parts):
        shares = f"a multiple of {size * parts} (processes x parts)"
        raise UserError(f"batch_size is {batch_size}: use {shares}")
    positions = np.split(np.arange(process.rank, batch_size, size), parts)
    while True:
        epoch, begin = divmod(step, length // batch_size)
        # NumPy has promised never to change what RandomState draws
        random = np.random.RandomState(mix(seed, epoch) & 0xFFFFFFFF)
        try:
            order = random.permutation(length)
        except MemoryError as error:
            reason = f"the order of {length:,} samples does not fit into memory"
            raise UserError(f"{reason}: use fewer of them, or larger ones") from error
        for first in range(begin * batch_size, length - batch_size + 1, batch_size):
            for part in positions:
                yield Part(mix(seed, 1, step), part, order[first + part])
            step += 1


def eval_parts(samples: Samples, process: Process, seed: int, batch_size: int) -> Iterator[Part]:
    """Yield what one process reads of a whole data set: all together, each sample once.

    Raises:
        UserError: It is empty.
    """
    length = length_of(samples)
    if not length:
        raise UserError("the data set to evaluate on is empty")
    mine = np.arange(process.rank, length, process.world_size)
    for part in np.array_split(mine, math.ceil(length / batch_size)):
        if len(part):
            yield Part(mix(seed, 2), part, part)


def length_of(samples: Samples) -> int:
    """Return the number of samples.

    Raises:
        UserError: It is a stream, such as an IterableDataset.
    """
    try:
        return len(samples)
    except TypeError as error:
        kind = type(samples).__name__
        raise UserError(f"{kind} has no length: use a data set that is read by index") from error


class Reader(Dataset[Any]):
    """Reads the batch of a part, each sample with random numbers of its own."""

    def __init__(self, dataset: Samples, collate: Callable[[list[Any]], Any] | None) -> None:
        self.dataset, self.collate = dataset, collate

    def __getitem__(self, part: Part) -> Any:
        try:
            if self.collate is None:
                seed_all(mix(part.key, int(part.positions[0])), CPU)
                return self.dataset[torch.from_numpy(part.indices)]
            samples = []
            for position, index in np.column_stack((part.positions, part.indices)).tolist():
                seed_all(mix(part.key, position), CPU)
                samples.append(self.dataset[index])
            return self.collate(samples)
        except StopIteration as error:  # which would pass for the end of the data
            raise RuntimeError("the data set raised StopIteration") from error


def batches(
    samples: Samples, parts: Iterable[Part], data: Data, process: Process, workers: int = 0
) -> Iterator[Any]:
    """Yield the batches of these parts of a data set, on the device.

    Raises:
        UserError: A worker cannot be started, died, or sends nothing.
        Stopped: A signal came while there was no data.
    """
    reader = Reader(samples, data.collate)
    items: Iterator[Any] = map(reader.__getitem__, parts)
    if workers:
        items = _from_workers(reader, parts, workers, process.device.type in ASYNCHRONOUS)
    try:
        while (batch := process.stop.wait_for(next, items, END)) is not END:
            yield batch if process.device == CPU else to_device(batch, process.device)
    except (Exception, Stopped) as error:
        _kill_workers()  # who may take long to read what they began
        known = isinstance(error, (RuntimeError, OSError, EOFError))
        if not workers or not known or str(error).startswith("Caught "):  # from the data set
            raise
        why = first_line(error).rstrip(".")
        way = "use fewer --workers, or enlarge /dev/shm"
        raise UserError(f"no data from the workers ({why}): {way}") from error


def _from_workers(reader: Reader, parts: Iterable[Part], workers: int, pin: bool) -> Iterator[Any]:
    """Return the batches that workers read, who leave signals to this process and end with it."""
    loader = DataLoader(
        reader,
        sampler=parts,
        batch_size=None,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_begin_worker,
    )
    # At exit, multiprocessing would wait for them to end by SIGTERM: so they are killed before
    atexit.unregister(_kill_workers)
    atexit.register(_kill_workers)
    try:
        if sys.platform == "win32":
            return iter(loader)
        # A worker, and the server that forks it, inherits which signals are blocked
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        handler = signal.getsignal(signal.SIGCHLD)
        try:
            return iter(loader)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            if threading.current_thread() is threading.main_thread():
                # Not torch's, which raises wherever this process is: whatever waits for data raises
                signal.signal(signal.SIGCHLD, handler)
    except OSError as error:
        _kill_workers()
        raise UserError(f"cannot start {workers} workers ({error}): use fewer --workers") from error


def _begin_worker(_: int) -> None:
    def end_with_parent() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    def cannot_send(error: Exception, _: object) -> None:  # the trainer would wait for the batch
        print(f"a worker cannot send a batch: {first_line(error)}", file=sys.stderr, flush=True)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(cannot_send)  # type: ignore[attr-defined]
    sys.excepthook = lambda *_: None  # of the thread that shares memory, when the trainer ends


def _kill_workers() -> None:
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()
            child.join()
