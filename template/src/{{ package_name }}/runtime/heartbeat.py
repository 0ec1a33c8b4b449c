"""Heartbeats: if a process hangs or a host is lost, the run ends with an error that names it.

Once in a period, each process reports two counts. A thread counts signs of life: if they stop, the
process has frozen or its host is gone. The training loop counts turns, the collective operations
that it has begun: a process with fewer turns than the others is stuck, and they are waiting for it.
Compiling, evaluating or saving for a long time is neither. Only counts are compared, never clocks,
which differ between hosts.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from .dist import Turns

PERIOD = 1.0  # seconds between signs of life
# Seconds after which a process counts as lost if it is silent, or if the others wait for it
SILENCE_LIMIT, WAIT_LIMIT = 300.0, 600.0
LEFT, ENDED = -1, -2  # values of `signs`: the process has left the run, or ends it


class Life(NamedTuple):
    """What a process reports about itself."""

    signs: int
    turns: int
    host: str


class Watch:
    """Measures how long counts have not changed, in periods of the process that watches them."""

    def __init__(self) -> None:
        self.periods = 0
        self._changed: dict[str, tuple[object, int]] = {}

    def problem(self, lives: Mapping[int, Life]) -> str:
        """Return what is wrong with these processes, or an empty string. Call it every period."""
        self.periods += 1
        there = {rank: life for rank, life in lives.items() if life.signs != LEFT}
        silent = {r for r in there if self.stood(f"{r} signs", there[r].signs, SILENCE_LIMIT)}
        if silent:
            return f"no sign of life from {named(silent, lives)} for {SILENCE_LIMIT:.0f} s"
        turns = [life.turns for life in there.values()]
        late = set()
        for rank, life in there.items():
            behind = life.turns < max(turns)  # from now on, the others may be waiting for it
            stuck = self.stood(f"{rank} turns", (life.turns, behind), WAIT_LIMIT)
            if stuck and behind and life.turns == min(turns):
                late.add(rank)
        return f"the others waited {WAIT_LIMIT:.0f} s for {named(late, lives)}" if late else ""

    def stood(self, name: str, count: object, limit: float) -> bool:
        """Return whether the count of this name has not changed for longer than a limit."""
        if self._changed.get(name, (None, 0))[0] != count:
            self._changed[name] = count, self.periods
        return (self.periods - self._changed[name][1]) * PERIOD > limit


def named(ranks: Iterable[int], lives: Mapping[int, Life]) -> str:
    """Return the ranks and hosts of these processes, or of the first three if there are more."""
    names = [f"rank {rank} on {lives[rank].host}" for rank in sorted(ranks)]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


class Heartbeat:
    """Reports the signs of life of this process, and ends the run if those of another one stop.

    The main process watches all processes, including itself; the others watch the main process.

    Args:
        store: A client of the key-value store of the run, which only the heartbeat uses.
    """

    def __init__(self, store: Any, rank: int, world_size: int, turns: Turns) -> None:
        self.store = store  # Any, since in the types of torch 2.4, Store lacks multi_get
        self.rank, self.world_size, self.turns = rank, world_size, turns
        self._signs, self._left = 0, threading.Event()
        works = (self._exchange, self._guard)
        self._threads = [threading.Thread(target=work, daemon=True) for work in works]
        self._tell(0)

    def start(self) -> None:
        """Start the threads, once all processes have joined."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Leave the run. At exit, Python would abort if a thread were still in C++."""
        self._left.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=10)

    def missing(self) -> str:
        """Return the processes that give no sign of life now, or an empty string."""
        with suppress(RuntimeError):  # the store is gone
            before = self._ask(self.world_size)
            time.sleep(3 * PERIOD)
            after = self._ask(self.world_size)
            return named([r for r in after if before[r].signs == after[r].signs != LEFT], after)
        return ""

    def _tell(self, signs: int) -> None:
        self.store.set(f"life {self.rank}", f"{signs} {self.turns.count} {socket.gethostname()}")

    def _ask(self, count: int) -> dict[int, Life]:
        texts = self.store.multi_get([f"life {rank}" for rank in range(count)])
        rows = [text.decode().split(" ", 2) for text in texts]
        return {rank: Life(int(row[0]), int(row[1]), row[2]) for rank, row in enumerate(rows)}

    def _exchange(self) -> None:
        """Report the counts of this process and read those of others, in a thread."""
        watch, count = Watch(), 1 if self.rank else self.world_size
        with suppress(RuntimeError):  # the store is closed: collective operations fail too
            while not self._left.wait(PERIOD):
                self._signs += 1
                self._tell(self._signs)
                lives = self._ask(count)
                if lives[0].signs == ENDED:
                    os._exit(2)
                if problem := watch.problem(lives):
                    self._end(problem)
            self._tell(LEFT)
        self._left.set()

    def _guard(self) -> None:
        """Watch the other thread, which hangs if the host of the store is lost without a trace."""
        host, before, periods = os.environ["MASTER_ADDR"], -1, 0
        while not self._left.wait(PERIOD):
            periods = periods + 1 if self._signs == before else 0
            before = self._signs
            if periods * PERIOD > SILENCE_LIMIT:
                if os.environ["LOCAL_RANK"] == "0":  # one line per host: they share no store now
                    _say(f"no sign of life from {host} for {SILENCE_LIMIT:.0f} s")
                os._exit(2)

    def _end(self, problem: str) -> None:
        """End the run, and print the reason unless another process has."""
        if self.store.add("lost", 1) == 1:
            _say(problem)
        self._tell(ENDED)
        time.sleep(2 * PERIOD)  # until the others know, since this process may serve the store
        os._exit(2)


def _say(problem: str) -> None:
    print(f"error: {problem}", file=sys.stderr, flush=True)
