"""Evaluation of a network, and what can be done with a trained one: evaluate and export it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import nn

from . import UserError, checkpoint
from .device import autocast, choose_precision, seed_all
from .dist import Process, Stop, is_sharded
from .loader import Data, batches
from .order import Samples, eval_parts, length_of, mix
from .rendezvous import join_processes
from .settings import restored
from .shard import sharded
from .weights import export_weights, load_saved, opened

ALONE = Process(torch.device("cpu"), "", Stop())


class Task(NamedTuple):
    """The task of a project, as functions of its settings.

    Attributes:
        settings: The type of the settings: a dataclass with at least the fields `batch_size`,
            `eval_batch_size`, `precision`, `seed`, `shard` and `workers`.
        load_data: Returns the data.
        build_model: Returns the network, on the CPU.
        measure: Returns a sum and a count by name, given a network, a batch and the settings.
    """

    settings: type
    load_data: Callable[[Any], Data]
    build_model: Callable[[Any], nn.Module]
    measure: Callable[[nn.Module, Any, Any], Mapping[str, tuple[Any, Any]]]

    def load(self, settings: Any, process: Process) -> tuple[Data, nn.Module]:
        """Return the data and the network for the settings, the same in every process."""
        if settings.shard and not dist.is_initialized():
            process.print("--shard has no effect: a single process has the whole network")
        seed_all(mix(settings.seed, 4), process.device)
        data = self.load_data(settings)
        return data, self.build(settings, process)

    def build(self, settings: Any, process: Process) -> nn.Module:
        """Return the network on the CPU or, with `shard`, sharded across the processes."""

        def build() -> nn.Module:
            seed_all(mix(settings.seed), process.device)
            return self.build_model(settings)

        if not (settings.shard and dist.is_initialized()):
            return build()
        return sharded(build, choose_precision(settings.precision, process.device), process)

    def load_trained(self, path: Path, process: Process = ALONE) -> tuple[Any, Any, int]:
        """Return the network of a checkpoint, its settings and its step."""
        saved = load_best(path, process)
        settings = restored(self.settings, saved["settings"])
        model = self.build(settings, process)
        load_saved(model, saved)
        return model.to(process.device), settings, saved["step"]

    def evaluate(self, config: Any) -> dict[str, float]:
        """Evaluate a checkpoint on the test set, with its own settings, and return the metrics.

        Args:
            config: A dataclass with the fields `checkpoint` and `device`.
        """
        with join_processes(config.device) as process:
            saved = load_best(config.checkpoint, process)
            settings = restored(self.settings, saved["settings"])
            data, model = self.load(settings, process)
            model.to(process.device)
            return Evaluation(self, data, model, settings, process).test(saved)

    def export(self, config: Any) -> None:
        """Write the weights of a checkpoint as safetensors.

        Args:
            config: A dataclass with the fields `checkpoint` and `to`.
        """
        model, _, step = self.load_trained(config.checkpoint)
        folder = config.checkpoint if config.checkpoint.is_dir() else config.checkpoint.parent
        path = Path(config.to or folder / "model.safetensors").expanduser()
        export_weights(model, path, step)
        print(f"the weights of step {step} are in {path}")


def load_best(path: Path, process: Process) -> Mapping[str, Any]:
    """Read a checkpoint, or the best of a run, in all processes.

    Its parts are opened right away, because a run that is still training may replace them.
    """
    return process.in_all(opened, process.main_only(checkpoint.load_best, path))


@dataclass(frozen=True)
class Evaluation:
    """A network, and the data that it is evaluated on."""

    task: Task
    data: Data
    model: nn.Module
    settings: Any
    process: Process

    def on(self, samples: Samples) -> dict[str, float]:
        """Return the metrics on one of the data sets, over all processes."""
        settings, process = self.settings, self.process
        size = settings.eval_batch_size or settings.batch_size
        rounds = 0
        if any(map(is_sharded, self.model.parameters())):
            length = length_of(samples)
            if length < process.world_size:
                problem = f"a data set has {length} samples"
                raise UserError(f"{problem}: use at most as many processes with --shard")
            rounds = math.ceil(length / size)
        indices = eval_parts(samples, process, settings.seed, size)
        loaded = batches(samples, indices, self.data, process, settings.workers)
        dtype = choose_precision(settings.precision, process.device)

        def measure(model: nn.Module, batch: Any) -> Mapping[str, tuple[Any, Any]]:
            return self.task.measure(model, batch, settings)

        return average(measure, self.model, loaded, process, dtype, rounds)

    def test(self, saved: Mapping[str, Any]) -> dict[str, float]:
        """Return and print the metrics of a checkpoint on the test set."""
        load_saved(self.model, saved)
        figures = self.on(self.data.test)
        text = ", ".join(f"{name} {figure:.4g}" for name, figure in figures.items())
        self.process.print(f"test set, with the weights of step {saved['step']}: {text}")
        return figures


def _at_least(rounds: int, batches: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    """Yield (batch, True) for each, then (last batch, False) up to this many rounds."""
    left, batch = rounds, None
    for batch in batches:
        left -= 1
        yield batch, True
    for _ in range(left):
        yield batch, False


@torch.no_grad()
def average(
    measure: Callable[[nn.Module, Any], Mapping[str, tuple[Any, Any]]],
    model: nn.Module,
    batches: Iterable[Any],
    process: Process,
    dtype: torch.dtype,
    rounds: int = 0,
) -> dict[str, float]:
    """Return the metrics over the batches of all processes: each sum, divided by its count.

    Afterwards, each module is in the mode that it was in, training or evaluation.

    Args:
        measure: Returns a sum and a count by name, given the network and a batch.
        rounds: Largest number of batches of any process, if all have to compute together.
    """
    modes = {module: module.training for module in model.modules()}
    process.share_buffers(model)
    model.eval()
    measured: dict[str, list[tuple[Any, Any]]] = {}
    try:
        for number, (batch, new) in enumerate(_at_least(rounds, batches)):
            seed_all(mix(process.rank, number), process.device)
            with autocast(process.device, dtype):
                found = measure(model, batch)
                for name, ratio in found.items() if new else ():
                    if not isinstance(ratio, tuple):
                        raise UserError(f"measure gives {name!r} without a count: use (sum, count)")
                    measured.setdefault(name, []).append(ratio)
    finally:
        for module, training in modes.items():
            module.training = training

    def sums(ratios: list[tuple[Any, Any]]) -> list[float]:
        return [math.fsum(float(ratio[part]) for ratio in ratios) for part in (0, 1)]

    # The only wait for the device
    mine = {name: sums(ratios) for name, ratios in measured.items()}
    every = [found for found in process.gather(mine) if found]
    names = {name: None for found in every for name in found}  # not every batch has each
    totals = {name: sums([found[name] for found in every if name in found]) for name in names}
    return {name: total / (count or math.nan) for name, (total, count) in totals.items()}
