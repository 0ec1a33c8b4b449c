"""The same training by hand, by a rendered project, by Lightning and by Accelerate.

It runs in the environment of an installed project named demo; train.py calls it, and prints what comes out.
All take the same network, the same samples, fused AdamW, the clipping and the learning rates of the project.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from demo import model as task
from demo import train
from demo.config import TrainConfig
from demo.data import load_data
from demo.model import Net
from demo.runtime.device import choose_device, choose_precision
from demo.runtime.dist import Process, Stop
from demo.runtime.evaluation import Task
from demo.runtime.loader import Data
from demo.runtime.order import train_parts
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

DEVICE, _ = choose_device()
ALONE = Process(DEVICE, "", Stop())


@dataclass(frozen=True)
class Case:
    """What to train. The first half of the steps is the warm-up; the one that is left at the end is not timed."""

    network: Callable[[], nn.Module]
    data: TensorDataset
    config: TrainConfig

    @classmethod
    def of(cls, network: Callable[[], nn.Module], data: TensorDataset, half: int, **settings: object) -> Case:
        never = 2**31
        settings = {"steps": 2 * half + 1, "log_every": half, "eval_every": never, "save_every": never, **settings}
        return cls(network, data, TrainConfig(**settings))

    def optimizer(self, model: nn.Module) -> torch.optim.AdamW:
        return torch.optim.AdamW(
            model.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay, fused=True
        )

    def schedule(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
        """Give the project's learning rates in the way of the frameworks."""
        rate = partial(train.learning_rate, config=self.config)
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step + 1))

    def batches(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Give the project's loader, which reads a batch at once: faster than the usual one, sample by sample."""
        parts = train_parts(self.data, ALONE, 0, self.config.seed, self.config.batch_size)
        indices = (torch.from_numpy(part.indices) for part in parts)
        return DataLoader(self.data, sampler=indices, batch_size=None)


class Clock:
    """Times the second half of the steps, and says when the first half is over."""

    def __init__(self, config: TrainConfig) -> None:
        self.half, self.seconds = config.log_every, 0.0

    def tick(self, step: int, loss: Tensor) -> None:
        if step in (self.half, 2 * self.half):
            loss.item()  # so that the device is done
            self.seconds = time.perf_counter() - self.seconds
        if step == self.half:
            print(f"step {step}", flush=True)

    @property
    def per_step(self) -> float:
        return self.seconds / self.half


def bare(case: Case) -> float:
    """Train by hand, with nothing that can be left out."""
    config, clock, data = case.config, Clock(case.config), case.data
    dtype = choose_precision(config.precision, DEVICE)
    model = case.network().to(DEVICE)
    if config.compile:
        model.compile()
    optimizer = case.optimizer(model)
    step = 0
    while True:
        for indices in torch.randperm(len(data)).split(config.batch_size)[: len(data) // config.batch_size]:
            images, labels = (tensor.to(DEVICE) for tensor in data[indices])
            with torch.autocast(DEVICE.type, dtype, enabled=dtype != torch.float32):
                loss = F.cross_entropy(model(images), labels)
            loss.backward()
            step += 1
            learn(model, optimizer, config, step)
            clock.tick(step, loss)
            if step == config.steps:
                return clock.per_step


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, config: TrainConfig, step: int) -> None:
    """Take a step with the gradients, and do nothing more."""
    for group in optimizer.param_groups:
        group["lr"] = config.lr * train.learning_rate(step, config)
    nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    optimizer.step()
    optimizer.zero_grad()


def project(case: Case) -> float:
    """Train by the project's own code, with its log, an evaluation and a checkpoint; it times itself."""
    few = TensorDataset(*case.data[:64])
    data = Data(case.data, few, few, collate=None)
    train.TASK = Task(TrainConfig, lambda _: data, lambda _: case.network(), measure)
    task.training_loss = loss_of
    return trained(case.config)


def trained(config: TrainConfig) -> float:
    """Train by the project, and return the seconds of a step between its first two logs: the last evaluates too."""
    with tempfile.TemporaryDirectory() as name:
        train.train(replace(config, out=Path(name) / "run"))
        lines = (Path(name) / "run" / "metrics.jsonl").read_text().splitlines()
    half, whole, _ = map(json.loads, lines)
    return float((whole["time"] - half["time"]) / (whole["step"] - half["step"]))


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor], _: TrainConfig) -> tuple[Tensor, int]:
    """Give the project the loss of the other loops, of a class for each sample or each token of a sequence."""
    inputs, labels = batch
    return F.cross_entropy(model(inputs), labels, reduction="sum"), labels.numel()


def measure(model: nn.Module, batch: tuple[Tensor, Tensor], config: TrainConfig) -> dict[str, tuple[Tensor, int]]:
    return {"accuracy": loss_of(model, batch, config)}


def lightning(case: Case) -> float:
    """Train by Lightning's Trainer, without its log, bars, summaries and checkpoints."""
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = case.network()

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            images, labels = batch
            return F.cross_entropy(self.model(images), labels)

        def configure_optimizers(self) -> dict[str, object]:
            optimizer = case.optimizer(self)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": case.schedule(optimizer), "interval": "step"},
            }

        def on_train_batch_end(self, outputs: dict[str, Tensor], *_: object) -> None:
            clock.tick(self.global_step, outputs["loss"])

    clock = Clock(case.config)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    trainer = lightning.Trainer(
        accelerator=DEVICE.type,
        devices=1,
        max_steps=case.config.steps,
        gradient_clip_val=case.config.clip,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), case.batches())
    return clock.per_step


def accelerate(case: Case) -> float:
    """Train by a loop of Accelerate, as its guide has it, but for the loader: it takes none that reads whole batches."""
    from accelerate import Accelerator

    clock, accelerator = Clock(case.config), Accelerator(cpu=DEVICE.type == "cpu")
    model = case.network()
    optimizer = case.optimizer(model)
    model, optimizer, schedule = accelerator.prepare(model, optimizer, case.schedule(optimizer))
    for step, batch in enumerate(case.batches(), start=1):
        images, labels = (tensor.to(DEVICE) for tensor in batch)
        loss = F.cross_entropy(model(images), labels)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), case.config.clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        clock.tick(step, loss.detach())
        if step == case.config.steps:
            break
    return clock.per_step


LOOPS = {"bare": bare, "project": project, "lightning": lightning, "accelerate": accelerate}


def interleaved(case: Case, loops: list[str], rounds: int = 61) -> dict[str, list[float]]:
    """Give the seconds of a step, of each loop in turn; the first round is for warming up."""
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds + 1):
        for name in loops:
            with contextlib.redirect_stdout(io.StringIO()):
                times[name].append(LOOPS[name](case))
    return {name: seconds[1:] for name, seconds in times.items()}


def digits_set() -> TensorDataset:
    train_set = load_data(TrainConfig()).train
    assert isinstance(train_set, TensorDataset)
    return train_set


def digits(half: int = 10) -> Case:
    """Give what a rendered project trains by default, in fp32 everywhere."""
    return Case.of(Net, digits_set(), half, precision="fp32")


def small() -> Case:
    """Give a network so small that the loop's own cost shows."""
    return Case.of(partial(Net, width=4), digits_set(), half=100, precision="fp32", batch_size=16)


def main() -> None:
    warnings.simplefilter("ignore")
    if sys.argv[1] == "first":  # a run of one loop, which says when its first step is done
        LOOPS[sys.argv[2]](digits(half=1))
    else:
        case = {"digits": digits, "small": small}[sys.argv[1]]()
        print(json.dumps(interleaved(case, list(LOOPS))))


if __name__ == "__main__":
    main()
