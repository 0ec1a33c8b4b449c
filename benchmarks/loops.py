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
from demo import train
from demo.config import TrainConfig
from demo.data import load_data, step_indices
from demo.device import choose_device, choose_precision
from demo.model import Net
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

DEVICE, _ = choose_device()


@dataclass(frozen=True)
class Case:
    """What to train. The first half of the steps is the warm-up, and each half ends with a line of the log."""

    network: Callable[[], nn.Module]
    data: tuple[TensorDataset, TensorDataset]
    config: TrainConfig

    @classmethod
    def of(
        cls, network: Callable[[], nn.Module], data: tuple[TensorDataset, TensorDataset], half: int, **settings: object
    ) -> Case:
        never = 2**31
        settings = {"steps": 2 * half, "log_every": half, "eval_every": never, "save_every": never, **settings}
        return cls(network, data, TrainConfig(**settings))

    def optimizer(self, model: nn.Module) -> torch.optim.AdamW:
        return torch.optim.AdamW(
            model.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay, fused=True
        )

    def schedule(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
        """Give the project's learning rates in the way of the frameworks."""
        rate = partial(train.learning_rate, config=self.config)
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step + 1) / self.config.lr)

    def batches(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Give the project's loader, which reads a batch at once: faster than the usual one, sample by sample."""
        indices = step_indices(len(self.data[0]), self.config.batch_size, self.config.seed)
        return DataLoader(self.data[0], sampler=indices, batch_size=None)


class Clock:
    """Times the second half of the steps, and says when the first half is over."""

    def __init__(self, case: Case) -> None:
        self.half, self.steps = case.config.log_every, case.config.steps
        self.seconds = 0.0

    def tick(self, step: int, loss: Tensor) -> None:
        if step in (self.half, self.steps):
            loss.item()  # so that the device is done
            self.seconds = time.perf_counter() - self.seconds
        if step == self.half:
            print(f"step {step}", flush=True)

    @property
    def per_step(self) -> float:
        return self.seconds / (self.steps - self.half)


def bare(case: Case) -> float:
    """Train by hand, with nothing that can be left out."""
    config, clock, data = case.config, Clock(case), case.data[0]
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
            for group in optimizer.param_groups:
                group["lr"] = train.learning_rate(step, config)
            nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()
            optimizer.zero_grad()
            clock.tick(step, loss)
            if step == config.steps:
                return clock.per_step


def project(case: Case) -> float:
    """Train by the project's own code, with its log, an evaluation and a checkpoint; it times itself."""
    train.network, train.load_data = lambda _: case.network(), lambda *_: case.data
    with tempfile.TemporaryDirectory() as name:
        train.train(replace(case.config, out=Path(name)))
        records = map(json.loads, (Path(name) / "metrics.jsonl").read_text().splitlines())
        return [1 / record["steps_per_second"] for record in records if "steps_per_second" in record][-1]


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

    clock = Clock(case)
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

    clock, accelerator = Clock(case), Accelerator(cpu=DEVICE.type == "cpu")
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


def digits(half: int = 10) -> Case:
    """Give what a rendered project trains by default, in fp32 everywhere."""
    return Case.of(Net, load_data(), half, precision="fp32")


def small() -> Case:
    """Give a network so small that the loop's own cost shows."""
    return Case.of(partial(Net, width=4), load_data(), half=100, precision="fp32", batch_size=16)


def main() -> None:
    warnings.simplefilter("ignore")
    if sys.argv[1] == "first":  # a run of one loop, which says when its first step is done
        LOOPS[sys.argv[2]](digits(half=1))
    else:
        case = {"digits": digits, "small": small}[sys.argv[1]]()
        print(json.dumps(interleaved(case, list(LOOPS))))


if __name__ == "__main__":
    main()
