"""The training loop. Its only state is the step; the rest follows from it or is in a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from . import model as task
from .config import OPERATIONAL, TrainConfig
from .evaluate import Evaluation, load_task
from .runtime import Stopped, UserError, checkpoint
from .runtime.device import autocast, choose_precision, compile_model, seed_all
from .runtime.dist import Process
from .runtime.loader import batches, mix, train_parts
from .runtime.performance import Speed
from .runtime.rendezvous import join_processes
from .runtime.report import Report, introduce, reporting
from .runtime.state import Checkpoints, TrainingState
from .runtime.steps import Interval, check_gradients, scale_gradients, step_batches
from .runtime.weights import start_from


def train(config: TrainConfig) -> dict[str, float]:
    """Train the network, and return what its best checkpoint reaches on the test set.

    Raises:
        UserError: A setting cannot be, or the loss is not finite any more.
        Stopped: A signal ended the run early, after a checkpoint.
    """
    with join_processes(config.device) as process, checkpoint.exclusive(config.out, process):
        process.print(f"device {process.device}: {process.reason}")
        run = Run(config, process)
        introduce(config, run.model, run.dtype, process)
        step = run.checkpoints.resume(OPERATIONAL, lambda step: learning_rate(step, config))
        if config.init_from and not step:
            start_from(config.init_from, run.model, process, config.init_partly)
        with reporting(config, step, process, task.MONITOR) as report:
            run.train(step, report)
        best = process.main_only(checkpoint.load_best, config.out)
        figures = run.evaluation.test(best)
        report.finish(best)
        return figures


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the share of its learning rate that a step has: a linear rise, then half a cosine.

    Steps count from 1. The rise takes at most half of them.
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
        self.data, model = load_task(config, process)
        self.model = model.to(process.device)
        if config.compile:
            compile_model(self.model)
        self.parallel = process.wrap(self.model)
        self.optimizer = task.build_optimizer(self.model, config)
        self.scaler = GradScaler(process.device.type, enabled=self.dtype == torch.float16)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.zero = torch.zeros((), device=process.device)
        self.speed = Speed(process, self.dtype, task.UNIT)
        state = TrainingState(self.model, self.optimizer, self.scaler)
        self.checkpoints = Checkpoints(config, state, process)
        self.evaluation = Evaluation(self.model, self.data, config, process)
        # Of a sample in the mean of a batch; the processes take the mean of their gradients
        self.weight = torch.tensor(process.world_size / config.batch_size, device=process.device)

    def train(self, step: int, report: Report) -> None:
        """Take the steps that are left."""
        config, process = self.config, self.process
        train_set, parts = self.data.train, config.accumulate
        indices = train_parts(train_set, process, step, config.seed, config.batch_size, parts)
        samples = batches(train_set, indices, self.data, process, config.workers)
        try:
            if self.is_due(step, config.eval_every) and self.checkpoints.evaluated < step:
                report.log(step, self.validate(step))  # a signal kept the run from it
            interval = Interval(self.zero)
            while step < config.steps:
                interval.add(*self.step(step, samples))
                step += 1
                report.advance(step)

                log = self.is_due(step, config.log_every)
                evaluate = self.is_due(step, config.eval_every)
                save = self.is_due(step, config.save_every)
                # Among processes the question costs a message: it is not asked at every step
                signal = process.signal() if process.world_size == 1 or log or save else 0

                if log or evaluate or save or signal:
                    metrics = self.means(interval, step)  # only here does it wait for the device
                    try:
                        if evaluate:
                            metrics.update(self.validate(step))
                        report.log(step, metrics)
                        if save:
                            self.checkpoints.save(step)
                    except Stopped:  # in the evaluation: these steps are not taken again
                        report.log(step, metrics)
                        raise
                    except UserError:  # the run ends, but not without a checkpoint
                        self.checkpoints.save(step)
                        raise
                    interval = Interval(self.zero)
                if signal and step < config.steps:
                    raise Stopped(signal)
        except Stopped:  # between steps, or while there was no data for one
            self.checkpoints.save(step)
            report.say(f"stopped at step {step}: the same command resumes the run")
            raise

    def is_due(self, step: int, every: int) -> bool:
        """Return whether a step, or the last one, is one of every so many."""
        return step > 0 and (step % every == 0 or step == self.config.steps)

    def step(self, step: int, samples: Iterator[Any]) -> tuple[Tensor, Any, Tensor]:
        """Take a step.

        Returns:
            The sum of the losses of this process, a tensor on the device; of how many samples, or
            whatever the loss is of, in all processes; and the norm of the gradient, on the device.
        """
        config, process = self.config, self.process
        count: Any = 0  # a tensor, if a model or several processes count
        losses = self.zero
        for part, batch in enumerate(step_batches(samples, self.parallel, config.accumulate)):
            seed_all(mix(config.seed, 3, step, process.rank, part), process.device)
            with autocast(process.device, self.dtype):
                loss, counted = task.training_loss(self.parallel, batch, config)
            self.speed.count(counted, task.training_loss, self.model, batch, config)
            self.scaler.scale(loss).backward(self.weight)
            losses, count = losses + loss.detach(), count + counted
        check_gradients(self.parallel)
        if process.world_size > 1:
            count = process.sum(torch.zeros_like(losses) + count)
        self.scaler.unscale_(self.optimizer)
        # The count is 0 if there is nothing to learn from
        factor = config.batch_size / (count + (count == 0))
        norm = scale_gradients(self.parameters, factor, config.clip)
        if self.scaler.is_enabled():
            norm = norm.nan_to_num(posinf=0)  # the scaler leaves such a step out
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
        if not math.isfinite(sum(means.values())) or self.scaler.get_scale() < 1e-3:
            found = checkpoint.newest_first(self.config.out)
            newest = f"; the newest checkpoint is {found[0]}" if found else ""
            problem = f"loss or gradient is not finite at step {step}"
            raise UserError(f"{problem}: use a lower --lr{newest}")
        rate = float(self.optimizer.param_groups[0]["lr"])
        return {**means, "lr": rate, **self.speed.of(interval)}

    def validate(self, step: int) -> dict[str, float]:
        """Evaluate on the validation set, and keep what is better than all before."""
        figures = self.evaluation.on(self.data.validation)
        self.checkpoints.keep_best(step, figures, task.MONITOR, task.MODE)
        return {f"validation_{name}": figure for name, figure in figures.items()}
