"""Sharding a network across the processes: how it is built, and how its rows are saved.

FSDP2 of torch gives each process some rows of each tensor, and all-gathers a block of the network
only while that computes. The blocks are in the attribute `blocks` of the network, if it has one;
everything outside of them is one more block. Each process writes its part of a checkpoint to a file
of the same format.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import getweakrefcount

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from . import UserError, checkpoint, first_line
from .dist import Process, is_sharded

PART_LIMIT = 60.0  # seconds for the main process to see the parts of the others
# Errors of a network that uses the values of its weights before they have memory
FAILURES = (AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)


def sharded(build: Callable[[], nn.Module], dtype: torch.dtype, process: Process) -> nn.Module:
    """Return a network, sharded, with the same initial weights as without sharding.

    Args:
        build: Returns the same network each time.
        dtype: Number format to compute in; weights, gradient reduction and outputs stay in fp32.

    Raises:
        UserError: torch cannot shard it.
    """
    if not is_available(process.device):
        needed = "--shard needs torch 2.6 or newer, and on a CPU newer than 2.6"
        raise UserError(f"{needed}: this is {torch.__version__}")
    fsdp: Any = importlib.import_module("torch.distributed.fsdp")
    model = without_memory(build, process)
    blocks, lists = getattr(model, "blocks", ()), (list, tuple, nn.ModuleList, nn.Sequential)
    if not (isinstance(blocks, lists) and all(isinstance(block, nn.Module) for block in blocks)):
        raise UserError("--shard needs a ModuleList as the attribute `blocks` of the network")
    if any(map(is_lazy, model.parameters())):
        return model  # which Process.wrap refuses
    half = dtype != torch.float32
    formats = {"param_dtype": dtype, "reduce_dtype": torch.float32} if half else {}
    try:
        with torch.random.fork_rng(devices=[]):
            mesh = init_device_mesh(process.device.type, (process.world_size,))
            for block in (*blocks, model):
                if half and block is model:
                    formats["output_dtype"] = torch.float32
                _give_memory(block)
                fsdp.fully_shard(block, mesh=mesh, mp_policy=fsdp.MixedPrecisionPolicy(**formats))
    except (ValueError, RuntimeError) as error:
        raise UserError(f"torch cannot shard this network: {first_line(error)}") from error
    return model


def is_available(device: torch.device) -> bool:
    """Return whether this torch has FSDP2 for a device; support for CPUs came later."""
    fsdp = importlib.import_module("torch.distributed.fsdp")  # here, since the import is slow
    complete = device.type != "cpu" or hasattr(torch.cpu.Stream, "record_event")
    return complete and hasattr(fsdp, "fully_shard")


def without_memory(build: Callable[[], nn.Module], process: Process) -> nn.Module:
    """Return a network, if possible with weights that have no memory yet."""
    mode: Any = Deferred  # torch has no types for it
    try:
        with mode():
            model = build()
        if any(map(getweakrefcount, (*model.parameters(), *model.buffers()))):
            raise NotImplementedError("a layer refers to its weights, as an RNN does")
        return model
    except FAILURES as error:
        why = first_line(error)
        process.print(f"each process builds the whole network before it is sharded ({why})")
        return build()


def _has_no_memory(cls: type, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
    raise NotImplementedError(f"{func} of a weight that has no memory yet")


class Later(Tensor):
    """A tensor that has no memory yet, and records the operations that write to it.

    Attributes:
        twin: The same tensor on the meta device.
        whole: The tensor on the meta device that `twin` is a view of, or `twin` itself.
        writes: The recorded writes to `whole`.
    """

    twin: Tensor
    whole: Tensor
    writes: list[Any]
    __torch_function__: Any = torch._C._disabled_torch_function_impl
    __torch_dispatch__: Any = classmethod(_has_no_memory)

    @staticmethod
    def __new__(cls: Any, twin: Tensor, whole: Tensor, writes: list[Any]) -> Any:
        place = {"strides": twin.stride(), "storage_offset": twin.storage_offset()}
        tensor: Any = Tensor  # torch 2.4 has no types for this
        made = tensor._make_wrapper_subclass(cls, twin.shape, dtype=twin.dtype, **place)
        made.twin, made.whole, made.writes = twin, whole, writes
        return made

    @property
    def data(self) -> Tensor:
        """The tensor itself, without a gradient."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if value is not self:  # Module.to may assign a tensor to itself
            raise NotImplementedError("a weight that has no memory yet gets another's")

    def write(self, func: Any, *args: Any, **kwargs: Any) -> Later:
        """Record a write, and draw the random numbers that it draws."""
        if self.dtype != self.whole.dtype:
            raise NotImplementedError(f"{func} of the bits of a weight")
        args, kwargs = tree_map_only(Tensor, Tensor.clone, (args, kwargs))
        place, generator = _place(self.twin), kwargs.get("generator") or torch.default_generator
        self.writes.append((func, place, args, kwargs, generator.get_state()))
        if torch.Tag.nondeterministic_seeded in func.tags:
            func(torch.empty_strided(*place[:2], dtype=self.dtype), *args, **kwargs)
        return self

    def read(self) -> Tensor:
        """Return a tensor in memory: replay the writes, with the same random numbers."""
        whole = torch.empty_strided(self.whole.shape, self.whole.stride(), dtype=self.whole.dtype)
        with torch.random.fork_rng(devices=[]):
            for func, place, args, kwargs, state in self.writes:
                (kwargs.get("generator") or torch.default_generator).set_state(state)
                func(whole.as_strided(*place), *args, **kwargs)
        return whole.as_strided(*_place(self.twin))


class Deferred(TorchDispatchMode):
    """A context in which tensors of torch.empty, which all layers of torch use, have no memory.

    Random numbers are drawn and dropped, so that each write gets the same ones as without sharding.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten.empty.memory_format:
            twin = func(*args, **{**kwargs, "device": "meta"})
            return Later(twin, twin, [])
        first, (values, options) = args[:1], tree_map_only(Later, Later.read, (args[1:], kwargs))
        if first and isinstance(first[0], Later):
            target: Later = first[0]
            if func._schema.is_mutable:
                return target.write(func, *values, **options)
            if func._schema.returns[0].alias_info:  # a view
                found = func(target.twin, *values, **options)
                return tree_map_only(Tensor, lambda t: Later(t, target.whole, target.writes), found)
        elif func._schema.is_mutable and Later in map(type, tree_leaves((first, kwargs))):
            raise NotImplementedError(f"{func} writes to several weights")
        return func(*tree_map_only(Later, Later.read, first), *values, **options)


@torch.no_grad()
def _give_memory(module: nn.Module) -> None:
    for tensor in (*module.parameters(), *module.buffers()):
        if isinstance(tensor, Later):
            found = tensor.read()
            if isinstance(tensor, nn.Parameter):
                found = nn.Parameter(found, tensor.requires_grad)
            torch.utils.swap_tensors(tensor, found)  # layers may share it


def _place(tensor: Tensor) -> tuple[Any, Any, int]:
    return tensor.shape, tensor.stride(), int(tensor.storage_offset())


def write_part(path: Path, state: dict[str, Any], start: str, process: Process) -> dict[str, Any]:
    """Write this process's rows of a state, and return the state without rows.

    Args:
        path: Path of the checkpoint.
        start: Name of this start of the run, so that parts of an earlier one are not overwritten.

    Raises:
        UserError: They cannot be written.
    """
    rows: dict[str, Tensor] = {}

    def take(name: str, value: Any) -> Any:
        if not is_sharded(value):
            return value
        rows[name] = value.to_local()
        return torch.empty(value.shape, dtype=value.dtype, device="meta")

    left: dict[str, Any] = map_nested(take, state)
    if not rows:
        return state
    folder = f"{path.stem}.{start}-{state['step']}.parts"
    parts = [f"{folder}/{rank}.pt" for rank in range(process.world_size)]
    mine = parts[process.rank]
    checkpoint.save(path.parent / mine, {"part": mine, "rows": rows})
    return {**left, "parts": parts}


def complete(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint once all of its parts exist, and delete the parts that it had before.

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


def map_nested(function: Callable[[str, Any], Any], value: Any, name: str = "") -> Any:
    """Return nested dictionaries with a function applied to each value and its name."""
    if not isinstance(value, dict):
        return function(name, value)
    return {key: map_nested(function, each, f"{name}/{key}") for key, each in value.items()}
