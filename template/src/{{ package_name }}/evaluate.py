"""What a model reaches on a data set, and its weights for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from . import model as task
from .config import EvaluateConfig, ExportConfig, TrainConfig
from .data import load_data
from .runtime import checkpoint
from .runtime.device import choose_precision, seed_all
from .runtime.dist import Process
from .runtime.loader import Data, Samples, batches, eval_parts, mix
from .runtime.rendezvous import join_processes
from .runtime.settings import restored
from .runtime.steps import average
from .runtime.weights import export_weights, load_weights


@dataclass(frozen=True)
class Evaluation:
    """A model, and the data that it is evaluated on."""

    model: nn.Module
    data: Data
    config: TrainConfig
    process: Process

    def on(self, samples: Samples) -> dict[str, float]:
        """Return what is measured on one of the sets of the data, over all processes."""
        config, process = self.config, self.process
        size = config.eval_batch_size or config.batch_size
        indices = eval_parts(samples, process, config.seed, size)
        loaded = batches(samples, indices, self.data, process, config.workers)
        dtype = choose_precision(config.precision, process.device)
        return average(partial(task.measure, config=config), self.model, loaded, process, dtype)

    def test(self, saved: dict[str, Any]) -> dict[str, float]:
        """Return and print what the weights of a checkpoint reach on the test set."""
        load_weights(self.model, saved["model"], f"the checkpoint of step {saved['step']}")
        figures = self.on(self.data.test)
        text = ", ".join(f"{name} {figure:.4g}" for name, figure in figures.items())
        self.process.print(f"test set, with the weights of step {saved['step']}: {text}")
        return figures


def load_task(config: TrainConfig, process: Process) -> tuple[Data, nn.Module]:
    """Return the data and the network, on the CPU: the same in every process, for the settings."""
    seed_all(mix(config.seed, 4), process.device)
    data = load_data(config)
    seed_all(mix(config.seed), process.device)
    return data, task.build_model(config)


def evaluate(config: EvaluateConfig) -> dict[str, float]:
    """Return what is measured on the test set, with the weights and settings of a checkpoint."""
    with join_processes(config.device) as process:
        process.print(f"device {process.device}: {process.reason}")
        saved = process.main_only(checkpoint.load_best, config.checkpoint)
        settings: TrainConfig = restored(TrainConfig, saved["settings"])
        data, model = load_task(settings, process)
        return Evaluation(model.to(process.device), data, settings, process).test(saved)


def export(config: ExportConfig) -> None:
    """Write the weights of a checkpoint as safetensors."""
    saved = checkpoint.load_best(config.checkpoint)
    model = task.build_model(restored(TrainConfig, saved["settings"]))
    load_weights(model, saved["model"], f"the checkpoint of step {saved['step']}")
    folder = config.checkpoint if config.checkpoint.is_dir() else config.checkpoint.parent
    path = Path(config.to or folder / "model.safetensors").expanduser()
    export_weights(model, path, saved["step"])
    print(f"the weights of step {saved['step']} are in {path}")
