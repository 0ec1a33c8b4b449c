"""Loading data: sample by sample, each with its own random seed, and with worker processes."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import resource_tracker
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from . import Stopped, UserError, first_line
from .device import ASYNCHRONOUS, seed_all, to_device
from .dist import SIGNALS, Process
from .order import Part, Samples, mix

CPU, END = torch.device("cpu"), object()


class Data(NamedTuple):
    """The data of a run.

    Attributes:
        train, validation, test: The data sets. The best checkpoint is chosen on the validation
            set; the test set is read only after that.
        collate: Makes a batch of a list of samples. None is for data sets that can read a whole
            batch, as `dataset[indices]` with a tensor of int64; the random numbers that they draw
            also depend on the number of processes.
    """

    train: Samples
    validation: Samples
    test: Samples
    collate: Callable[[list[Any]], Any] | None = default_collate


class Reader(Dataset[Any]):
    """Reads the batch of a part, and seeds the random numbers of each sample."""

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
        except StopIteration as error:  # otherwise the data would seem to end here
            raise RuntimeError("the data set raised StopIteration") from error


def batches(
    samples: Samples, parts: Iterable[Part], data: Data, process: Process, workers: int = 0
) -> Iterator[Any]:
    """Yield the batches of these parts of a data set, on the device.

    Raises:
        UserError: A worker cannot start, has died, or cannot send its data.
        Stopped: A signal came while this waited for data.
    """
    reader = Reader(samples, data.collate)
    items: Iterator[Any] = map(reader.__getitem__, parts)
    try:
        if workers:
            items = _from_workers(reader, parts, workers, process.device.type in ASYNCHRONOUS)
        while (batch := process.stop.wait_for(next, items, END)) is not END:
            yield batch if process.device == CPU else to_device(batch, process.device)
    except (Exception, Stopped) as error:
        _kill_workers()  # they may be in a long read
        process.stop.check()  # the signal may have ended a process that workers need
        known = isinstance(error, (RuntimeError, OSError, EOFError))
        if not workers or not known or str(error).startswith("Caught "):  # raised by the data set
            raise
        why = first_line(error).rstrip(".")
        way = "use fewer --workers, or enlarge /dev/shm"
        raise UserError(f"no data from the workers ({why}): {way}") from error


def _from_workers(reader: Reader, parts: Iterable[Part], workers: int, pin: bool) -> Iterator[Any]:
    """Return the batches of workers, which leave signals to this process and end when it does."""
    loader = DataLoader(
        reader,
        sampler=parts,
        batch_size=None,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_begin_worker,
    )
    # Kill workers at exit: multiprocessing would send SIGTERM, which they block, and wait for ever
    atexit.unregister(_kill_workers)
    atexit.register(_kill_workers)
    try:
        if sys.platform == "win32":
            return iter(loader)
        if multiprocessing.get_start_method() != "fork":
            resource_tracker.ensure_running()  # now, since starting it unblocks signals
        # Workers, and the server that forks them, inherit the blocked signals
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        handler = signal.getsignal(signal.SIGCHLD)
        try:
            return iter(loader)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            if threading.current_thread() is threading.main_thread():
                # Undo torch's handler, which raises anywhere: waiting for data raises anyway
                signal.signal(signal.SIGCHLD, handler)
    except OSError as error:
        raise UserError(f"cannot start {workers} workers ({error}): use fewer --workers") from error


def _begin_worker(_: int) -> None:
    def end_with_parent() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    def cannot_send(error: Exception, _: object) -> None:  # the trainer would wait for ever
        print(f"a worker cannot send a batch: {first_line(error)}", file=sys.stderr, flush=True)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(cannot_send)  # type: ignore[attr-defined]
    sys.excepthook = lambda *_: None  # silences the thread that shares memory when the trainer ends


def _kill_workers() -> None:
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()
            child.join()
