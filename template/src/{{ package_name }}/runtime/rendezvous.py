"""How the processes of a run meet, watch each other, and report an error once."""

from __future__ import annotations

import gc
import os
import re
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist

from . import ReportedError, Stopped, UserError, first_line
from .device import choose_device
from .dist import Process, Stop, stop_signals
from .launch import launched, ranks

# Seconds to wait for a process that has not joined, and for a sign of life of one that has
JOIN_LIMIT, SILENCE_LIMIT = 600.0, 300.0
# A process that is alive may still not take part: then a collective operation fails
COLLECTIVE_LIMIT = timedelta(minutes=30)
LEFT = 1 << 40  # more signs of life than any process gives


@contextmanager
def join_processes(device_name: str) -> Iterator[Process]:
    """Join the processes that a launcher started, if one did, while the context lasts.

    The first line that is printed says on which device the main process computes.

    Raises:
        UserError: This process cannot have the device, or cannot meet the others.
    """
    os.environ.update(launched())
    rank, world_size, local_rank = ranks()
    with stop_signals(alone=world_size == 1) as stop:
        if local_rank is None:
            process = Process(*choose_device(device_name), stop)
            process.print_device()
            yield process
            return
        store, left = _meet(rank, world_size, stop), threading.Event()
        watcher: threading.Thread | None = None
        try:
            device, reason = choose_device(device_name, local_rank)
            process = Process(device, reason, stop, rank, world_size)
            _init_process_group(process, store)
            watcher = threading.Thread(target=_watch, args=(process, left), daemon=True)
            watcher.start()
            process.print_device()
            yield process
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)  # for they hold the model
            _report_once(error, store)
            raise
        finally:
            left.set()
            if watcher:  # the end of Python aborts the process if a thread is still in C++
                watcher.join(timeout=10)
            gc.collect()  # gloo aborts if a DDP model, which is in a reference cycle, outlives it
            time.sleep(0.01)  # lets gloo free its last tensor: torch 2.4 deadlocks otherwise
            if dist.is_initialized():
                dist.destroy_process_group()


def _meet(rank: int, world_size: int, stop: Stop) -> dist.Store:
    """Return what all processes write to and read from, once all are there.

    Raises:
        UserError: They are not there in time.
        Stopped: A signal came before.
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
                server = dist.TCPStore(host, port, None, serves, wait_for_workers=False)
                store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), server)
                store.add("joined", 1)
            joined = store.add("joined", 0)
            if joined == world_size:
                return store
            missing = f"{world_size - joined} of {world_size} processes at {missing}"
        except OSError as error:
            missing += f" ({error.strerror})"
        except RuntimeError as error:
            raise UserError(f"cannot listen at {missing}: {first_line(error)}") from error
        if stop.number:
            raise Stopped(stop.number)
        now = time.monotonic()
        if now - begin > JOIN_LIMIT:
            raise UserError(f"waited {JOIN_LIMIT:.0f} s for {missing}")
        if now - said > 5:
            print(f"waiting for {missing}", flush=True)
            said = now
        time.sleep(0.05)


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


def _watch(process: Process, left: threading.Event) -> None:
    """Give signs of life, and end this process if another one has given none for a while.

    The main process watches the others, and they watch it. To compile, evaluate or save for long
    does not stop this thread; a host that hangs does.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    heard: dict[int, tuple[int, float]] = {}
    try:
        store = dist.TCPStore(host, port, wait_for_workers=False)
        while not left.wait(1.0):
            store.add(f"signs of {process.rank}", 1)
            for other in range(1, process.world_size) if process.is_main else range(1):
                signs, now = store.add(f"signs of {other}", 0), time.monotonic()
                if other not in heard or heard[other][0] != signs:
                    heard[other] = signs, now
                elif signs < LEFT and now - heard[other][1] > SILENCE_LIMIT:
                    silent = f"rank {other} has not responded for {SILENCE_LIMIT:.0f} s"
                    print(f"error: {silent}", file=sys.stderr, flush=True)
                    os._exit(1)
        store.add(f"signs of {process.rank}", LEFT)
    except RuntimeError:
        return  # the process that has the store is gone, and collective operations fail


def _report_once(error: BaseException, store: dist.Store) -> None:
    """Replace an error that another process reports, or whose cause another one reports.

    Raises:
        ReportedError: It is such an error.
        UserError: Another process is gone, and none has said why.
    """
    if isinstance(error, ReportedError) or not isinstance(error, Exception):
        return
    text, key = str(error), str(error)
    lost = isinstance(error, dist.DistError) or "gloo" in first_line(error)
    if lost:
        reason = re.sub(r"^\[.*?\] ", "", first_line(error))  # without a line number in C++
        text, key = f"lost contact with the other processes: {reason}", "lost"
    try:
        errors = store.add("errors", 0 if lost else 1)
        known = store.add(key, 1) > 1 or (lost and errors > 0)
    except RuntimeError:  # the process that has the store is gone
        known = False
    if lost or isinstance(error, UserError):
        raise (ReportedError if known else UserError)(text) from error
