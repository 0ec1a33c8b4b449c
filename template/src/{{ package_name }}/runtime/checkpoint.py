"""Checkpoints: written atomically, verified when read, loaded without running any code in them."""

from __future__ import annotations

import errno
import math
import os
import pickle
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from . import UserError, first_line
from .dist import Process
from .order import ORDER

FORMAT = 1  # version of the format of a checkpoint
BEST = "best.pt"
LOCK_LIMIT = 60.0  # seconds: a requeued job may start before its previous run has ended


class DamagedCheckpoint(UserError):
    """A checkpoint is incomplete, or its content has changed since it was written."""


def path_of(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint of a step."""
    return folder / f"step-{step:010d}.pt"


def newest_first(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, without the best."""
    return sorted(folder.glob("step-" + 10 * "[0-9]" + ".pt"), reverse=True)


def prune(folder: Path, step: int, keep: int) -> None:
    """Delete all but the newest checkpoints up to a step. Later ones, which are damaged, stay."""
    paths = [path for path in newest_first(folder) if path <= path_of(folder, step)]
    for path in paths[keep:]:
        path.unlink()
        delete_parts(path)


def delete_parts(path: Path, kept: Collection[str] = ()) -> None:
    """Delete the parts of a checkpoint, except those to keep."""
    for folder in path.parent.glob(f"{path.stem}.*.parts"):
        if folder.name not in {Path(part).parent.name for part in kept}:
            shutil.rmtree(folder, ignore_errors=True)


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that a crash, at any moment, leaves the whole file or none.

    Raises:
        UserError: It cannot be written, or holds something that could not be loaded again.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save({**state, "format": FORMAT, "order": ORDER}, file)
            file.flush()
            os.fsync(file.fileno())
        torch.load(str(temporary), map_location="cpu", weights_only=True, mmap=True)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        # torch's writer hides why a write failed behind an error of its own
        why = error if isinstance(error, OSError) else error.__context__ or error
        raise UserError(f"cannot write {path}: {getattr(why, 'strerror', why)}") from error
    except (pickle.PickleError, AttributeError, TypeError) as error:
        raise UserError(f"a checkpoint cannot hold this state: {_reason(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    # The rest of torch's message is advice, including how to load unsafe files
    pattern = r"(?:WeightsUnpickler error: |Trying to load )(.*?)(?:\. |\.?$)"
    found = re.search(pattern, str(error), re.MULTILINE)
    return found[1] if found else first_line(error)


def _check(file: Path | str) -> None:
    # torch.load does not verify the checksums of the archive
    try:
        with zipfile.ZipFile(file) as archive:
            corrupt = archive.testzip()
    except (RuntimeError, zlib.error) as error:  # corrupt flags: encrypted, compressed
        raise zipfile.BadZipFile(str(error)) from error
    if corrupt:
        raise zipfile.BadZipFile(f"{corrupt} in {Path(file).name} has changed")


def load(path: Path, mapped: bool = False) -> dict[str, Any]:
    """Read a checkpoint, with its tensors on the CPU and the paths of its parts.

    Args:
        mapped: Leave the tensors on disk until they are used. Checksums are not verified.

    Raises:
        DamagedCheckpoint: It is incomplete or corrupt.
        UserError: It cannot be read, or is from another program or a later version of this one.
    """
    try:
        if not mapped:
            _check(path)
        state: Any = torch.load(str(path), map_location="cpu", weights_only=True, mmap=mapped)
        found: dict[str, Any] = state if isinstance(state, dict) and "format" in state else {}
        # The parts are next to the file, not next to a symbolic link to it
        found["parts"] = [str(path.resolve().parent / part) for part in found.get("parts", [])]
        with ThreadPoolExecutor() as pool:
            list(pool.map(_check, found["parts"]))
    except FileNotFoundError as error:
        if path.exists():
            raise DamagedCheckpoint(f"{path} is incomplete: no {error.filename}") from error
        raise UserError(f"there is no checkpoint {path}") from error
    except (OSError, MemoryError) as error:
        why = getattr(error, "strerror", None) or "not enough memory"
        raise UserError(f"cannot read {path}: {why}") from error
    except (zipfile.BadZipFile, EOFError, NotImplementedError, struct.error, ValueError) as error:
        raise DamagedCheckpoint(f"{path} is incomplete or corrupt: {first_line(error)}") from error
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} is not a checkpoint of this program: {_reason(error)}") from error
    if "format" not in found:
        raise UserError(f"{path} is not a checkpoint of this program")
    if (found["format"], found["order"]) != (FORMAT, ORDER):
        raise UserError(f"{path} was written by another version of this program: use that one")
    if "part" in found and not mapped:
        raise UserError(f"{path} is a part: use the .pt file next to its folder")
    return found


def load_newest(folder: Path) -> dict[str, Any] | None:
    """Read the newest checkpoint of a run that is not damaged, or return None if it has none.

    The best checkpoint is the last resort, since it may be older.

    Raises:
        UserError: One cannot be read, or all are damaged.
    """
    for leftover in folder.glob("*.pt.tmp"):
        leftover.unlink()
    for path in {folder / f"{parts.name.split('.')[0]}.pt" for parts in folder.glob("*.parts")}:
        with suppress(UserError):  # an unreadable checkpoint keeps its parts, which may be intact
            delete_parts(path, kept=load(path, mapped=True)["parts"] if path.exists() else ())
    paths = [path for path in (*newest_first(folder), folder / BEST) if path.exists()]
    for path in paths:
        try:
            return load(path)
        except DamagedCheckpoint as error:
            print(f"skipping {error}", flush=True)
    if paths:
        raise UserError(f"all checkpoints in {folder} are damaged: use another --out")
    return None


def best_step(folder: Path) -> float:
    """Return the step of the best checkpoint of a run, or infinity if none can be read."""
    with suppress(OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError):
        path = str(folder / BEST)
        best = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return float(best["step"])
    return math.inf


def load_best(path: Path) -> dict[str, Any]:
    """Read a checkpoint or, from the folder of a run, the best (if damaged, the newest) one.

    Raises:
        UserError: There is none, or it cannot be read.
    """
    if not path.is_dir():
        return load(path)
    why: object = f"{path / BEST} does not exist"
    if (path / BEST).exists():
        try:
            return load(path / BEST)
        except DamagedCheckpoint as error:
            why = error
    for newest in newest_first(path):
        print(f"using {newest}: {why}", flush=True)
        return load(newest)
    raise UserError(f"there is no checkpoint in {path}: {why}")


@contextmanager
def exclusive(folder: Path, process: Process) -> Iterator[None]:
    """Lock the folder of a run against other runs while the context lasts.

    The operating system releases the lock when the process ends, even if it is killed.

    Raises:
        UserError: Another run keeps the lock, or the folder cannot be written to.
    """
    lock = FileLock(folder / "run.lock")

    def acquire() -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                print(f"waiting for another run to leave {folder}", flush=True)
                process.stop.wait_for(lock.acquire, LOCK_LIMIT)
        except Timeout as error:
            raise UserError(f"another run is using {folder}: use another --out") from error
        except (OSError, NotImplementedError) as error:
            lacks_locks = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
            if isinstance(error, OSError) and error.errno not in lacks_locks:
                raise UserError(f"cannot write to {folder}: {error.strerror}") from error
            print(f"warning: no file locks in {folder}: do not start a second run", flush=True)

    process.main_only(acquire)
    try:
        yield
    finally:
        lock.release()
