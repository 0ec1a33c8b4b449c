"""Signs of life: a process that hangs, or a host that goes, ends the run in a line that names it.

Each process tells, once in a period, how many signs of life it has given, which a thread counts,
and how many turns it has taken, which the loop counts: what it has begun of what all do together.
Without signs it has frozen, or its host is gone. With fewer turns than the others it is stuck, and
they wait for it; to compile, evaluate or save for long is neither. Counts are compared, and never
clocks, which differ between hosts.
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

PERIOD = 1.0  # seconds from one sign of life to the next
# Seconds after which a process is given up that gives no sign of life, or that the others wait for
SILENCE_LIMIT, WAIT_LIMIT = 300.0, 600.0
LEFT, ENDED = -1, -2  # what the signs are of a process that has left the run, or ends it


class Life(NamedTuple):
    """What a process tells of itself."""

    signs: int
    turns: int
    host: str


class Watch:
    """How long the counts of processes have stood still, in periods of the one that watches."""

    def __init__(self) -> None:
        self.periods = 0
        self._changed: dict[str, tuple[object, int]] = {}

    def problem(self, lives: Mapping[int, Life]) -> str:
        """Return what is wrong with these processes, or nothing. Call it once in a period."""
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
        """Return whether a count, by this name, has stood still for longer than a limit."""
        if self._changed.get(name, (None, 0))[0] != count:
            self._changed[name] = count, self.periods
        return (self.periods - self._changed[name][1]) * PERIOD > limit


def named(ranks: Iterable[int], lives: Mapping[int, Life]) -> str:
    """Return these processes and their hosts: of a host that goes, they can be many."""
    names = [f"rank {rank} on {lives[rank].host}" for rank in sorted(ranks)]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


class Heartbeat:
    """The signs of life of this process, and what follows from those of the others.

    The main process watches all, itself included, and they watch it.

    Args:
        store: What all processes write to and read from, by a client of its own.
    """

    def __init__(self, store: Any, rank: int, world_size: int, turns: Turns) -> None:
        self.store = store  # no Store: in the types of torch 2.4, that lacks multi_get
        self.rank, self.world_size, self.turns = rank, world_size, turns
        self._signs, self._left = 0, threading.Event()
        works = (self._exchange, self._guard)
        self._threads = [threading.Thread(target=work, daemon=True) for work in works]
        self._tell(0)

    def start(self) -> None:
        """Begin, once all processes are there."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Leave the run. The end of Python would abort the process if a thread were still in C++."""
        self._left.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=10)

    def missing(self) -> str:
        """Return the processes that give no sign of life now, or nothing."""
        with suppress(RuntimeError):  # there is no store any more
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
        """Tell and ask, in a thread."""
        watch, count = Watch(), 1 if self.rank else self.world_size
        with suppress(RuntimeError):  # the store is closed: then collective operations fail
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
        """Watch the other thread: if the host of the store goes silently, it waits for ever."""
        host, before, periods = os.environ["MASTER_ADDR"], -1, 0
        while not self._left.wait(PERIOD):
            periods = periods + 1 if self._signs == before else 0
            before = self._signs
            if periods * PERIOD > SILENCE_LIMIT:
                if os.environ["LOCAL_RANK"] == "0":  # each host for itself: it reaches no other
                    _say(f"no sign of life from {host} for {SILENCE_LIMIT:.0f} s")
                os._exit(2)

    def _end(self, problem: str) -> None:
        """End the run, and say why, unless another process does."""
        if self.store.add("lost", 1) == 1:
            _say(problem)
        self._tell(ENDED)
        time.sleep(2 * PERIOD)  # until the others know, for this process may have the store
        os._exit(2)


def _say(problem: str) -> None:
    print(f"error: {problem}", file=sys.stderr, flush=True)
