"""The order of the data: which samples are in a step, and which of them each process reads.

The order, and the random numbers of a sample, depend on the seed, the step and the position in the
batch, but not on the number of processes or workers, nor on where a run was resumed. So there is no
state to save. The permutation of an epoch is a function rather than a list: it takes the memory of
one block, and a run over a billion samples resumes at any step immediately.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from . import UserError
from .dist import Process

# Version of the order, saved in each checkpoint. If you change the order, raise it, keep the old
# functions for runs that began with them, and choose by the version in the checkpoint
ORDER = 2
BLOCK = 1 << 14  # places computed at once: in smaller blocks, each costs more
MASK = (1 << 64) - 1


class Samples(Protocol):
    """Anything with a length and an index: a torch or Hugging Face data set, or a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class Part(NamedTuple):
    """What one process reads at once: positions in a batch, the samples there, and a seed."""

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
    """Yield the parts (micro-batches) that one process reads from a step on, without end.

    However many processes and parts share a step, together they read the same samples. Each epoch
    drops the last samples if they do not fill a batch.

    Args:
        batch_size: Samples in a step, over all processes.
        parts: Micro-batches per step in each process.

    Raises:
        UserError: The batch cannot be shared equally, or is larger than the data set.
    """
    length, size = length_of(samples), process.world_size
    if batch_size > length:
        raise UserError(f"batch_size is {batch_size}, but the training set has {length} samples")
    if batch_size % (size * parts):
        shares = f"a multiple of {size * parts} (processes x parts)"
        raise UserError(f"batch_size is {batch_size}: use {shares}")
    positions = np.split(np.arange(process.rank, batch_size, size, dtype=np.int64), parts)
    epoch_steps = length // batch_size
    while True:
        epoch, first = divmod(step, epoch_steps)
        last = min(first + math.ceil(BLOCK / batch_size), epoch_steps)
        places = range(first * batch_size, last * batch_size)
        for batch in permuted(places, length, mix(seed, epoch)).reshape(-1, batch_size):
            for part in positions:
                yield Part(mix(seed, 1, step), part, batch[part])
            step += 1


def eval_parts(samples: Samples, process: Process, seed: int, batch_size: int) -> Iterator[Part]:
    """Yield what one process reads of a data set; all processes together read each sample once.

    Raises:
        UserError: It is empty.
    """
    length = length_of(samples)
    if not length:
        raise UserError("the data set to evaluate on is empty")
    mine = range(process.rank, length, process.world_size)
    parts = math.ceil(length / batch_size)
    for number in range(parts):
        share = mine[len(mine) * number // parts : len(mine) * (number + 1) // parts]
        if share:
            part = np.arange(share.start, share.stop, share.step, dtype=np.int64)
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


def permuted(places: range, count: int, key: int) -> npt.NDArray[np.int64]:
    """Return the numbers at these places in a random permutation of 0 to count - 1.

    A Feistel network on pairs of a high and a low number, for any count below 2**63: method 3 of
    Black and Rogaway, "Ciphers with Arbitrary Finite Domains" (2002). Three rounds are visibly not
    random; more than four are no better. Integers only: every release of NumPy gives the same.
    """
    low_base = math.isqrt(count - 1) + 1
    high_base = -(-count // low_base)

    def permute(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        high, low = np.divmod(numbers, np.uint64(low_base))
        for number in range(4):
            base = low_base if number % 2 else high_base
            drawn = scrambled(low, mix(key, number), base)
            drawn += high
            # Modulo the base: a difference below 0 wraps to a large number
            high, low = low, np.minimum(drawn, drawn - np.uint64(base))
        return high * np.uint64(low_base) + low

    found = permute(np.arange(places.start, places.stop, dtype=np.uint64))
    # There are a few more pairs than numbers: permute those again that are too large
    while len(beyond := np.flatnonzero(found >= count)):
        found[beyond] = permute(found[beyond])
    return found.view(np.int64)


def scrambled(numbers: npt.NDArray[np.uint64], key: int, base: int) -> npt.NDArray[np.uint64]:
    """Return a pseudorandom number below the base for each number (splitmix64)."""
    drawn = numbers + np.uint64(key)
    drawn ^= drawn >> np.uint64(30)
    drawn *= np.uint64(0xBF58476D1CE4E5B9)
    drawn ^= drawn >> np.uint64(27)
    drawn *= np.uint64(0x94D049BB133111EB)
    drawn >>= np.uint64(32)
    drawn *= np.uint64(base)
    drawn >>= np.uint64(32)
    return drawn
