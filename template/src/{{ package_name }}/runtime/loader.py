"""The data of a run: read sample by sample, each with random numbers of its own, and by workers."""

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
    try:
        if workers:
            items = _from_workers(reader, parts, workers, process.device.type in ASYNCHRONOUS)
        while (batch := process.stop.wait_for(next, items, END)) is not END:
            yield batch if process.device == CPU else to_device(batch, process.device)
    except (Exception, Stopped) as error:
        _kill_workers()  # who may take long to read what they began
        process.stop.check()  # a signal to all processes may have ended one that workers need
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
        if multiprocessing.get_start_method() != "fork":
            resource_tracker.ensure_running()  # now, since to start it unblocks signals
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
