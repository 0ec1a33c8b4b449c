"""The rendezvous of the processes of a run, and errors that only one of them reports."""

from __future__ import annotations

import gc
import os
import re
import socket
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from . import ReportedError, Stopped, UserError, first_line
from .device import choose_device
from .dist import Process, Stop, stop_signals
from .heartbeat import Heartbeat
from .launch import launched, name_of_start, ranks

JOIN_LIMIT = 600.0  # seconds to wait for a process that has not joined
# For a hang that no heartbeat detects: all processes wait in the same collective operation
COLLECTIVE_LIMIT = timedelta(minutes=30)


@contextmanager
def join_processes(device_name: str, quiet: bool = False) -> Iterator[Process]:
    """Join the other processes of a launcher, if there is one, while the context lasts.

    Unless quiet, it prints the device of the main process first.

    Raises:
        UserError: The device cannot be used, or the other processes cannot be reached.
        Stopped: A signal came before all had joined.
    """
    os.environ.update(launched())
    rank, world_size, local_rank = ranks()
    with stop_signals(alone=world_size == 1) as stop:
        if local_rank is None:
            process = Process(*choose_device(device_name), stop)
            if not quiet:
                process.print_device()
            yield process
            return
        device, reason, failure = _choose(device_name, local_rank)
        store = _meet(rank, world_size, stop, failure)
        heartbeat: Heartbeat | None = None
        try:
            _agree(store, failure)
            process = Process(device, reason, stop, rank, world_size)
            heartbeat = Heartbeat(_connect(), rank, world_size, process.turns)
            _init_process_group(process, store)
            heartbeat.start()
            if not quiet:
                process.print_device()
            yield process
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)  # its frames hold the model
            _report_once(error, store, heartbeat)
            raise
        finally:
            if heartbeat:
                heartbeat.stop()
            gc.collect()  # gloo aborts if a DDP model, which is in a reference cycle, outlives it
            time.sleep(0.01)  # lets gloo free its last tensor: torch 2.4 deadlocks otherwise
            if dist.is_initialized():
                dist.destroy_process_group()


def _choose(name: str, local_rank: int) -> tuple[torch.device, str, UserError | None]:
    """Return the device of this process and the reason for it, or why there is none."""
    try:
        return (*choose_device(name, local_rank), None)
    except UserError as error:
        return torch.device("cpu"), "", error


def _agree(store: dist.Store, failure: UserError | None) -> None:
    """Raise an error in all processes if one of them has no device."""
    if failure:
        time.sleep(0.5)  # until the others know, since this process may serve the store
        raise failure
    if store.add("failed", 0):
        raise ReportedError("another process has no device")


def _meet(rank: int, world_size: int, stop: Stop, failure: UserError | None) -> dist.Store:
    """Return the key-value store that all processes share, once all have joined.

    Args:
        failure: Why this process cannot continue, to be reported to the others.

    Raises:
        UserError: Some have not joined in time, or too many have.
        Stopped: A signal came before all had joined.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    serves = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    store: dist.Store | None = None
    begin = said = time.monotonic()
    while True:
        missing = f"{host}:{port}"
        try:
            if not store:
                if not serves:
                    socket.create_connection((host, port), timeout=5).close()
                store = _connect(serves)
                store.add("failed", 1 if failure else 0)
                store.add("joined", 1)
            joined = store.add("joined", 0)
            if joined > world_size:
                raise UserError(f"{joined} processes, not {world_size}, are at {missing}")
            if joined == world_size:
                return store
            missing = f"{world_size - joined} of {world_size} processes at {missing}"
        except OSError as error:
            missing += f" ({error.strerror})"
        except RuntimeError as error:
            problem = "lost contact with" if store else "cannot listen at"
            raise UserError(f"{problem} {missing}: {first_line(error)}") from error
        if stop.number:
            raise Stopped(stop.number)
        now = time.monotonic()
        if now - begin > JOIN_LIMIT:
            raise UserError(f"waited {JOIN_LIMIT:.0f} s for {missing}")
        if now - said > 5:
            print(f"waiting for {missing}", flush=True)
            said = now
        time.sleep(0.05)


def _connect(serves: bool = False) -> dist.Store:
    """Return a client of the store of this start of the run; with `serves`, its server too."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(host, port, None, serves, wait_for_workers=False)
    return dist.PrefixStore(name_of_start(), store)


def _init_process_group(process: Process, store: dist.Store) -> None:
    kind = process.device.type
    try:
        dist.init_process_group(
            {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl", "xpu": "cpu:gloo,xpu:xccl"}[kind],
            timeout=COLLECTIVE_LIMIT,
            world_size=process.world_size,
            rank=process.rank,
            store=store,
            device_id=None if kind == "cpu" else process.device,
        )
    except RuntimeError as error:
        raise UserError(f"cannot connect the processes: {first_line(error)}") from error


def _report_once(error: BaseException, store: dist.Store, heartbeat: Heartbeat | None) -> None:
    """Replace an error by a ReportedError if another process reports it, or its cause.

    Raises:
        ReportedError: Another process reports it.
        UserError: No other does, and contact was lost or the user can fix the error.
    """
    if isinstance(error, ReportedError) or not isinstance(error, Exception):
        return
    text = str(error)
    lost = isinstance(error, dist.DistError) or "gloo" in first_line(error)
    try:
        errors = store.add("errors", 0 if lost else 1)
        known = store.add("lost" if lost else text, 1) > 1 or (lost and errors > 0)
    except RuntimeError:  # the process that serves the store is gone
        known = False
    if lost:
        names = heartbeat.missing() if heartbeat and not known else ""
        reason = re.sub(r"^\[.*?\] ", "", first_line(error))  # without the source location in C++
        text = f"lost contact with {names or 'the other processes'}: {reason}"
    if lost or isinstance(error, UserError):
        raise (ReportedError if known else UserError)(text) from error
