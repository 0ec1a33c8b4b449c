"""Checkpoints: whole or absent, and loaded without running code from the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .config import ExportConfig, UserError, first_line

KEYS = {"model", "optimizer", "scaler", "step", "best", "config", "random"}

BEST = "best.pt"


def path_of(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies."""
    return folder / f"step-{step:010d}.pt"


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that a crash, at any moment, leaves the whole file or none.

    Raises:
        UserError: It cannot be written.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {first_line(error)}") from error


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint, or the best of a run if this is its folder, its tensors on the CPU.

    Raises:
        UserError: There is none, it is not whole, or it is of another program.
    """
    path = path / BEST if path.is_dir() else path
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint {path}") from error
    except Exception as error:  # torch raises whatever the bytes lead it to
        raise UserError(f"{path} is no whole checkpoint ({type(error).__name__})") from error
    if not isinstance(state, dict) or not state.keys() >= KEYS:
        raise UserError(f"{path} is no checkpoint of this program")
    return state


def newest_first(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, without the best."""
    return sorted(folder.glob("step-" + 10 * "[0-9]" + ".pt"), reverse=True)


def load_newest(folder: Path) -> dict[str, Any] | None:
    """Read the newest checkpoint of a run that is whole, or return None if it has none at all.

    The best is the last resort: it may be older, but then it is all there is.

    Raises:
        UserError: It has some, and none is whole; or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}") from error
    paths = [path for path in (*newest_first(folder), folder / BEST) if path.exists()]
    for path in paths:
        try:
            return load(path)
        except UserError as error:
            print(f"passed over: {error}", flush=True)
    if paths:
        raise UserError(f"no checkpoint in {folder} can be read: take another --out, or delete it")
    return None


def prune(folder: Path, step: int, keep: int) -> None:
    """Delete all but the newest checkpoints up to a step; one beyond it could not be read."""
    paths = [path for path in newest_first(folder) if path <= path_of(folder, step)]
    for path in paths[keep:]:
        path.unlink()


def restore(model: nn.Module, saved: dict[str, Any]) -> None:
    """Load the weights of a checkpoint.

    Raises:
        UserError: They are of another network.
    """
    try:
        model.load_state_dict(saved["model"])
    except RuntimeError as error:
        raise UserError(f"the checkpoint of step {saved['step']} is of another network") from error


def export(config: ExportConfig) -> None:
    """Write the weights of a checkpoint as safetensors."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    saved = load(config.checkpoint)
    # Weights that two layers share are written twice
    weights = {name: weight.contiguous().clone() for name, weight in saved["model"].items()}
    try:
        save_file(weights, config.to, metadata={"step": str(saved["step"])})
    except SafetensorError as error:
        raise UserError(f"cannot write {config.to}: {error}") from error
    print(f"step {saved['step']} is in {config.to}")
