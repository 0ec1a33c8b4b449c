"""The training loop. Its state is the step; all else follows from that or is in a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from . import model as task
from .config import TrainConfig
from .data import load_data
from .runtime import Stopped, checkpoint
from .runtime.device import autocast, choose_precision, compile_model, seed_all
from .runtime.dist import Process
from .runtime.evaluation import Evaluation, Task
from .runtime.loader import batches
from .runtime.order import mix, train_parts
from .runtime.performance import Speed
from .runtime.rendezvous import join_processes
from .runtime.report import Report, introduce, reporting
from .runtime.state import Checkpoints, TrainingState
from .runtime.steps import Interval, check_finite, scale_gradients, step_batches
from .runtime.weights import start_from

# Used by training, evaluation and export
TASK = Task(TrainConfig, load_data, task.build_model, task.measure)


def train(config: TrainConfig) -> dict[str, float]:
    """Train the network, and return the metrics of its best checkpoint on the test set.

    Raises:
        UserError: A setting is not possible, or the loss is no longer finite.
        Stopped: A signal ended the run early, after a checkpoint.
    """
    with join_processes(config.device) as process, checkpoint.exclusive(config.out, process):
        run = Run(config, process)
        introduce(config, run.model, run.dtype, process)
        step = run.checkpoints.resume(lambda step: learning_rate(step, config))
        if not step:
            start_from(config, run.model, process)
        with reporting(config, step, process, task.MONITOR) as report:
            run.train(step, report)
        best = process.main_only(checkpoint.load_best, config.out)
        figures = run.evaluation.test(best)
        report.finish(best)
        return figures


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the factor of the learning rate at a step: linear warm-up, then cosine decay.

    Steps count from 1. The warm-up takes at most half of them.
    """
    warmup = min(config.warmup, config.steps // 2)
    if step < warmup:
        return step / warmup
    progress = (step - warmup) / max(1, config.steps - warmup)
    return config.lr_floor + (1 - config.lr_floor) * (1 + math.cos(math.pi * progress)) / 2


class Run:
    """A model in training: settings, data, model, loop."""

    def __init__(self, config: TrainConfig, process: Process) -> None:
        self.config, self.process = config, process
        self.dtype = choose_precision(config.precision, process.device)
        self.data, self.model = TASK.load(config, process)
        if config.compile:
            compile_model(self.model)
        self.parallel = process.wrap(self.model)
        self.optimizer = task.build_optimizer(self.model, config)
        self.scaler = GradScaler(process.device.type, enabled=self.dtype == torch.float16)
        self.zero = torch.zeros((), device=process.device)
        self.speed = Speed(process, self.dtype, task.UNIT)
        state = TrainingState(self.model, self.optimizer, self.scaler)
        self.checkpoints = Checkpoints(config, state, process)
        self.evaluation = Evaluation(TASK, self.data, self.model, config, process)
        # The weight of a sample in the mean of a batch: the processes average their gradients
        self.weight = torch.tensor(process.world_size / config.batch_size, device=process.device)

    def train(self, step: int, report: Report) -> None:
        """Take the remaining steps."""
        config, process = self.config, self.process
        train_set, parts = self.data.train, config.accumulate
        indices = train_parts(train_set, process, step, config.seed, config.batch_size, parts)
        samples = batches(train_set, indices, self.data, process, config.workers)
        with self.checkpoints.saved_on_stop(report):
            if self.is_due(step, config.eval_every) and self.checkpoints.evaluated < step:
                report.log(step, self.validate(step))  # a signal had postponed this
            interval = Interval(self.zero)
            while step < config.steps:
                interval.add(*self.step(step, samples))
                step += 1
                report.advance(step)

                log = self.is_due(step, config.log_every)
                evaluate = self.is_due(step, config.eval_every)
                save = self.is_due(step, config.save_every)
                # With several processes, this is a collective operation: not at every step
                signal = process.signal() if process.world_size == 1 or log or save else 0

                if log or evaluate or save or signal:
                    metrics = self.means(interval, step)  # this is the only wait for the device
                    with self.checkpoints.saved_on_error(step), report.logging(step, metrics):
                        if evaluate:
                            metrics.update(self.validate(step))
                    if save:
                        self.checkpoints.save(step)
                    interval = Interval(self.zero)
                if signal and step < config.steps:
                    raise Stopped(signal)

    def is_due(self, step: int, every: int) -> bool:
        """Return whether a step is a multiple of a number of steps, or the last one."""
        return step > 0 and (step % every == 0 or step == self.config.steps)

    def step(self, step: int, samples: Iterator[Any]) -> tuple[Tensor, Any, Tensor]:
        """Take a step.

        Returns:
            The sum of the losses of this process, a tensor on the device; the number of samples,
            or of what else the loss counts, in all processes; and the norm of the gradient, a
            tensor on the device.
        """
        config, process = self.config, self.process
        count: Any = 0  # a tensor, if the task returns one or processes add theirs
        losses = self.zero
        for part, batch in enumerate(step_batches(samples, self.parallel, config.accumulate)):
            seed_all(mix(config.seed, 3, step, process.rank, part), process.device)
            with autocast(process.device, self.dtype):
                loss, counted = task.training_loss(self.parallel, batch, config)
            self.speed.count(counted, task.training_loss, self.model, batch, config)
            self.scaler.scale(loss).backward(self.weight)
            losses, count = losses + loss.detach(), count + counted
        count = process.sum(count)
        self.scaler.unscale_(self.optimizer)
        # The count is 0 if the batch has nothing to learn from
        factor = config.batch_size / (count + (count == 0))
        norm = scale_gradients(self.optimizer, factor, config.clip)
        # The scaler skips a step whose norm is not finite
        norm = norm.nan_to_num(posinf=0) if self.scaler.is_enabled() else norm
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * learning_rate(step + 1, config)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return losses, count, norm

    def means(self, interval: Interval, step: int) -> dict[str, float]:
        """Return the metrics of the steps since the last log.

        Raises:
            UserError: The loss or the norm is not finite.
        """
        means = interval.means(self.process)
        check_finite(means, self.scaler, step, self.config.out)
        rate = float(self.optimizer.param_groups[0]["lr"])
        return {**means, "lr": rate, **self.speed.of(interval)}

    def validate(self, step: int) -> dict[str, float]:
        """Evaluate on the validation set, and keep the checkpoint if it is the best so far."""
        figures = self.evaluation.on(self.data.validation)
        self.checkpoints.keep_best(step, figures, task.MONITOR, task.MODE)
        return {f"validation_{name}": figure for name, figure in figures.items()}
