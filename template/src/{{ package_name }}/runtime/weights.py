"""Weights by name: loaded, checked against the model, and written for other programs."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import UserError, checkpoint, first_line
from .dist import Process, is_sharded
from .shard import map_nested


@dataclass(frozen=True)
class Rows:
    """A tensor whose rows are in the parts of a checkpoint, mapped from the disk."""

    parts: list[Tensor]

    @property
    def shape(self) -> torch.Size:
        """The shape of the whole tensor."""
        return torch.Size([sum(map(len, self.parts)), *self.parts[0].shape[1:]])

    def read(self, begin: int, end: int) -> Tensor:
        """Return some rows, read from the disk."""
        found = []
        for part in self.parts:
            found.append(part[max(0, begin) : max(0, end)])
            begin, end = begin - len(part), end - len(part)
        return torch.cat(found)


def opened(saved: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a checkpoint with the rows of its parts, which stay on the disk.

    Raises:
        UserError: A part cannot be read.
    """
    parts = [_rows(Path(part)) for part in saved.get("parts", [])]

    def find(name: str, value: Any) -> Any:
        has_rows = isinstance(value, Tensor) and value.is_meta
        return Rows([part[name] for part in parts]) if has_rows else value

    return {**map_nested(find, dict(saved)), "parts": []} if parts else saved


def _rows(path: Path) -> Any:
    part = checkpoint.load(path, mapped=True)
    if part["part"] != f"{path.parent.name}/{path.name}":
        raise UserError(f"{path} is {part['part']} of another checkpoint: restore the right file")
    return part["rows"]


def fitted(value: Any, like: Any) -> Any:
    """Return the saved value of a tensor: whole or, if it is sharded, this process's rows.

    Args:
        value: A saved tensor, or a dictionary of an optimizer's state for one.
    """
    if isinstance(value, dict):
        return {key: fitted(each, like) for key, each in value.items()}
    if is_sharded(like) and isinstance(value, Tensor) and value.shape == like.shape:
        value = Rows([value])
    if not isinstance(value, Rows):
        return value
    shape = value.shape
    if not is_sharded(like):
        return value.read(0, shape[0])
    mesh = like.device_mesh
    size = -(-shape[0] // mesh.size())  # of most processes; the last may have fewer, or none
    begin = min(size * mesh.get_local_rank(), shape[0])
    mine = value.read(begin, min(begin + size, shape[0])).to(like.device)
    stride = torch.empty(shape, device="meta").stride()
    make = importlib.import_module("torch.distributed.tensor").DTensor.from_local
    return make(mine, mesh, like.placements, run_check=False, shape=shape, stride=stride)


def load_weights(
    model: nn.Module, weights: Mapping[str, Any], source: str, hint: str = "", partly: bool = False
) -> list[str]:
    """Load weights by name, and return the names of those that were left out.

    Args:
        source: Where the weights are from, for the error.
        hint: What to do if one does not match, for the error.
        partly: Whether to leave out those that do not match.

    Raises:
        UserError: One does not match or, with `partly`, none does.
    """
    mine = model.state_dict()
    shapes = {n: (_shape(weights.get(n)), _shape(mine.get(n))) for n in {**mine, **weights}}
    differing = [name for name, (theirs, ours) in shapes.items() if theirs != ours]
    if differing and not (partly and mine.keys() - differing):
        theirs, ours = shapes[differing[0]]
        problem = f"{differing[0]} is {theirs} there and {ours} here"
        raise UserError(f"{source} does not match this model: {problem}{hint}")
    fitting = {n: fitted(w, mine[n]) for n, w in weights.items() if n not in differing}
    model.load_state_dict(fitting, strict=not partly)
    return differing


def load_saved(model: nn.Module, saved: Mapping[str, Any], hint: str = "") -> None:
    """Load the weights of a checkpoint.

    Raises:
        UserError: They do not match.
    """
    load_weights(model, opened(saved)["model"], f"the checkpoint of step {saved['step']}", hint)


def _shape(value: Any) -> str:
    if isinstance(value, (Tensor, Rows)):
        return " x ".join(map(str, value.shape)) or "a number"
    return "missing" if value is None else "not a tensor"


def start_from(settings: Any, model: nn.Module, process: Process) -> None:
    """Load the weights of another run, if the settings say so.

    Args:
        settings: A dataclass with the fields `init_from`, a checkpoint, the folder of a run or a
            safetensors file, and `init_partly`, whether to leave out, and print, the names of
            weights that do not match.

    Raises:
        UserError: They cannot be read, or do not match.
    """
    source, partly = settings.init_from, settings.init_partly
    if not source:
        if partly:
            raise UserError("--init-partly is for weights of --init-from, which is not given")
        return
    path, saved = Path(source).expanduser(), None
    if path.suffix == ".safetensors" and any(map(is_sharded, model.parameters())):
        saved = process.in_all(_read, path)  # mapped from the disk, for the rows of each process
    saved = saved or process.main_only(_read, path)
    hint = "" if partly else ": use --init-partly to leave out what does not match"
    left_out = load_weights(model, opened(saved)["model"], source, hint, partly)
    for line in (f"weights from {source}", *(f"left out: {name}" for name in left_out)):
        process.print(line)


def _read(path: Path) -> dict[str, Any]:
    if path.suffix != ".safetensors":
        return checkpoint.load_best(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {"model": load_file(path)}
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot read {path}: {first_line(error)}") from error


def export_weights(model: nn.Module, path: Path, step: int) -> None:
    """Write the weights of a model as safetensors; one that two layers share is written twice.

    Raises:
        UserError: The file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {n: v for n, v in model.state_dict().items() if isinstance(v, Tensor)}
    weights = {name: value.contiguous().clone() for name, value in tensors.items()}
    if path.exists() and not path.is_file():  # root could replace /dev/null
        raise UserError(f"cannot write {path}: it is not a file")
    temporary = Path(f"{path}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # from the umask; safetensors would set 0600
        save_file(weights, temporary, metadata={"format": "pt", "step": str(step)})
        temporary.chmod(mode)
        temporary.replace(path)
    except (SafetensorError, OSError) as error:
        why = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"cannot write {path}: {why}") from error
    finally:
        temporary.unlink(missing_ok=True)
