"""A network that is sharded across the processes: how it is built, and how its rows are saved.

FSDP2 of torch gives each process some rows of each tensor, and gathers a block of the network only
while it computes. The blocks are in the attribute `blocks` of the network, if it has one; whatever
is outside of them is one more. A checkpoint has a part for each process, a file like any other.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from . import UserError, checkpoint, first_line
from .dist import Process, is_sharded

PART_LIMIT = 60.0  # seconds until the main process sees what the others wrote
# What a network raises that computes with the values of its weights while they have none
FAILURES = (AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)


def sharded(build: Callable[[], nn.Module], dtype: torch.dtype, process: Process) -> nn.Module:
    """Return the network that a function builds, sharded, with the weights that it would have had.

    Args:
        build: Returns the same network each time.
        dtype: Number format to compute in; weights, sums of gradients and outputs stay in fp32.

    Raises:
        UserError: torch cannot shard it.
    """
    fsdp: Any = importlib.import_module("torch.distributed.fsdp")  # here, since it takes a while
    if not hasattr(fsdp, "fully_shard"):
        raise UserError(f"--shard needs torch 2.6 or newer: this is {torch.__version__}")
    model, deferred = _without_memory(build, process)
    if any(map(is_lazy, model.parameters())):
        return model  # which is refused
    mesh = init_device_mesh(process.device.type, (process.world_size,))
    half = dtype != torch.float32
    formats = {"param_dtype": dtype, "reduce_dtype": torch.float32} if half else {}
    try:
        for block in getattr(model, "blocks", ()):
            deferred.give_memory(block)
            fsdp.fully_shard(block, mesh=mesh, mp_policy=fsdp.MixedPrecisionPolicy(**formats))
        deferred.give_memory(model)
        formats |= {"output_dtype": torch.float32} if half else {}
        fsdp.fully_shard(model, mesh=mesh, mp_policy=fsdp.MixedPrecisionPolicy(**formats))
    except (ValueError, RuntimeError) as error:
        raise UserError(f"torch cannot shard this network: {first_line(error)}") from error
    return model


def _without_memory(build: Callable[[], nn.Module], process: Process) -> tuple[nn.Module, Deferred]:
    deferred = Deferred()
    try:
        with deferred:
            model = build()
        if deferred.covers(model):
            return model, deferred
        why = "a weight is computed from others"
    except UserError:
        raise
    except FAILURES as error:
        why = first_line(error)
    process.print(f"each process builds the whole network before it is sharded ({why})")
    return build(), Deferred()


class Deferred(TorchDispatchMode):
    """A context in which a network is built without memory, and what is written to it is noted.

    It knows what is made by torch.empty and then written to in place, as all layers of torch.nn do.
    Random numbers are drawn in it too, and dropped: so each write has those that it would have had.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._made: dict[int, tuple[Tensor, list[Any]]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten.empty.memory_format:
            made = func(*args, **{**kwargs, "device": "meta"})
            self._made[made.untyped_storage()._cdata] = made, []
            return made
        if func._schema.is_mutable and any(map(_is_meta, tree_leaves((args, kwargs)))):
            self._note(func, *args, **kwargs)
        return func(*args, **kwargs)

    def _note(self, func: Any, target: Tensor, *args: Any, **kwargs: Any) -> None:
        if not target.is_meta or any(map(_is_meta, tree_leaves((args, kwargs)))):
            raise NotImplementedError(f"{func} reads a weight")
        generator = kwargs.get("generator") or torch.default_generator
        place, state = _place(target), generator.get_state()
        self._made[target.untyped_storage()._cdata][1].append(
            (func, place, args, kwargs, generator, state)
        )
        if torch.Tag.nondeterministic_seeded in func.tags:
            func(torch.empty_strided(*place[:2], dtype=target.dtype), *args, **kwargs)

    def covers(self, model: nn.Module) -> bool:
        """Return whether all that a network lacks can be given to it."""
        tensors = filter(_is_meta, (*model.parameters(), *model.buffers()))
        return all(tensor.untyped_storage()._cdata in self._made for tensor in tensors)

    @torch.no_grad()
    def give_memory(self, module: nn.Module) -> None:
        """Give a module what was written to it, on the CPU."""
        with torch.random.fork_rng(devices=[]):
            for tensor in filter(_is_meta, (*module.parameters(), *module.buffers())):
                made, writes = self._made[tensor.untyped_storage()._cdata]
                whole = torch.empty_strided(made.shape, made.stride(), dtype=made.dtype)
                for func, place, args, kwargs, generator, state in writes:
                    generator.set_state(state)
                    func(whole.as_strided(*place), *args, **kwargs)
                found = whole.as_strided(*_place(tensor))
                if isinstance(tensor, nn.Parameter):
                    found = nn.Parameter(found, tensor.requires_grad)
                torch.utils.swap_tensors(tensor, found)  # layers may share it


def _is_meta(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_meta


def _place(tensor: Tensor) -> tuple[Any, Any, int]:
    return tensor.shape, tensor.stride(), int(tensor.storage_offset())


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


def write_part(path: Path, state: dict[str, Any], start: str, process: Process) -> dict[str, Any]:
    """Write the rows that this process has of a state, and return what is left of it.

    Args:
        path: The checkpoint that it will be.
        start: A name of this start of the run: what an earlier one wrote is not overwritten.

    Raises:
        UserError: They cannot be written.
    """
    rows: dict[str, Tensor] = {}

    def take(name: str, value: Any) -> Any:
        if not is_sharded(value):
            return value
        rows[name] = value.to_local()
        return torch.empty(value.shape, dtype=value.dtype, device="meta")

    left: dict[str, Any] = _map(take, state)
    if not rows:
        return state
    folder = f"{path.stem}.{start}-{state['step']}.parts"
    checkpoint.save(path.parent / folder / f"{process.rank}.pt", {"rows": rows})
    return {**left, "parts": [f"{folder}/{rank}.pt" for rank in range(process.world_size)]}


def complete(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, once all of its parts are there, and delete those of the one before it.

    Raises:
        UserError: A part is missing, or it cannot be written.
    """
    parts, begin = state.get("parts", []), time.monotonic()
    for part in parts:
        while not (path.parent / part).exists():
            if time.monotonic() - begin > PART_LIMIT:
                raise UserError(f"cannot write {path}: no {part}: do all hosts share the folder?")
            time.sleep(0.02)
    checkpoint.save(path, state)
    checkpoint.delete_parts(path, kept=parts)


def opened(saved: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a checkpoint with the rows that are in its parts.

    Raises:
        UserError: A part cannot be read.
    """
    parts = [checkpoint.load(Path(part), mapped=True)["rows"] for part in saved.get("parts", [])]

    def find(name: str, value: Any) -> Any:
        return Rows([part[name] for part in parts]) if _is_meta(value) else value

    found: Mapping[str, Any] = _map(find, saved) if parts else saved
    return found


def fitted(value: Any, like: Any) -> Any:
    """Return what was saved of a tensor: whole, or if that is sharded, the rows of this process."""
    rows = Rows([value]) if isinstance(value, Tensor) else value
    if not isinstance(rows, Rows):
        return value
    if not is_sharded(like) or (rows is not value and value.shape != like.shape):
        return value if rows is not value else rows.read(0, rows.shape[0])
    length, mesh = rows.shape[0], like.device_mesh
    size = -(-length // mesh.size())
    begin = min(size * mesh.get_local_rank(), length)
    mine = rows.read(begin, min(begin + size, length)).to(like.device)
    stride = torch.empty(rows.shape, device="meta").stride()
    make = importlib.import_module("torch.distributed.tensor").DTensor.from_local
    return make(mine, mesh, like.placements, run_check=False, shape=rows.shape, stride=stride)


def _map(function: Callable[[str, Any], Any], value: Any, name: str = "") -> Any:
    """Return nested dictionaries with what a function makes of each name and value."""
    if not isinstance(value, dict):
        return function(name, value)
    return {key: _map(function, each, f"{name}/{key}") for key, each in value.items()}
