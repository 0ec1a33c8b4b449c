"""The state that a run resumes from, and its checkpoints, of which one is the best."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from . import Stopped, UserError, checkpoint
from .dist import Process, is_sharded
from .report import Report
from .settings import plain, restored
from .shard import complete, write_part
from .weights import fitted, load_saved, opened

# Settings that do not affect the result: they may change when a finished run is started again
OPERATIONAL = {"device", "workers", "eval_batch_size", "log_every", "save_every", "keep", "profile"}


class TrainingState:
    """The state that training changes, besides the step: weights, optimizer and scaler."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, scaler: GradScaler) -> None:
        self.model, self.optimizer, self.scaler = model, optimizer, scaler
        self.names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
        given = [p for group in optimizer.param_groups for p in group["params"]]
        if not self.names.keys() >= set(given):
            raise UserError("the optimizer has a parameter that the model does not have")
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])  # the name that torch's schedulers use
        self.given = self._groups()

    def state_dict(self) -> dict[str, Any]:
        """Return the state; the state of the optimizer is keyed by the names of the parameters."""
        return {
            "model": self.model.state_dict(),
            "optimizer": type(self.optimizer).__name__,
            "optimizer_state": {self.names[p]: v for p, v in self.optimizer.state.items()},
            "groups": self._groups(),
            "given": self.given,
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore a state, except for options of the optimizer whose given values have changed.

        Raises:
            UserError: It is the state of another model or optimizer.
        """
        load_saved(self.model, saved, ": use another --out")
        names = [group["params"] for group in self.given]
        theirs = [group["params"] for group in saved["given"]]
        if (type(self.optimizer).__name__, names) != (saved["optimizer"], theirs):
            source = f"the checkpoint of step {saved['step']}"
            raise UserError(f"{source} is from another optimizer or its groups: use another --out")
        numbers = {name: n for n, name in enumerate(name for group in names for name in group)}
        groups = []
        for n, now in enumerate(self.given):
            then, last = saved["given"][n], saved["groups"][n]
            kept = {option: last[option] for option in last if now.get(option) == then.get(option)}
            groups.append({**now, **kept, "params": [numbers[name] for name in now["params"]]})
        found = opened(saved)["optimizer_state"]
        before = {n: fitted(found[n], p) for p, n in self.names.items() if n in found}
        state = {numbers[name]: values for name, values in before.items()}
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        for parameter, values in self.optimizer.state.items():  # torch cast them to its dtype
            for key, value in before[self.names[parameter]].items():
                if isinstance(value, Tensor):
                    values[key] = value.to(values[key].device)
        if saved["scaler"]:
            self.scaler.load_state_dict(saved["scaler"])

    def _groups(self) -> list[dict[str, Any]]:
        return [
            {**group, "params": [self.names[parameter] for parameter in group["params"]]}
            for group in self.optimizer.param_groups
        ]


class Checkpoints:
    """The checkpoints of a run.

    Args:
        settings: A dataclass with at least the fields `out` and `keep`.
    """

    def __init__(self, settings: Any, state: TrainingState, process: Process) -> None:
        self.settings, self.state, self.process = settings, state, process
        self.folder: Path = settings.out
        self.best, self.chosen_by, self.evaluated, self.saved = math.nan, "", -1, -1
        several = any(map(is_sharded, state.names))
        self.start = process.main_only(secrets.token_hex, 4) if several else ""

    def resume(
        self, scale: Callable[[int], float], operational: Collection[str] = OPERATIONAL
    ) -> int:
        """Restore the newest checkpoint, if there is one, and return its step, or 0.

        Args:
            scale: Returns the factor of the learning rate at a step, with the current settings.
            operational: Names of settings that do not affect the result.

        Raises:
            UserError: It does not match, or the run is finished and its result would change.
        """
        process, settings = self.process, self.settings
        saved = process.main_only(checkpoint.load_newest, self.folder)
        if saved is None:
            return 0
        step: int = saved["step"]
        before = vars(restored(type(settings), saved["settings"]))
        now = {name: value for name, value in vars(settings).items() if name != "out"}
        changed = [n for n, value in now.items() if repr(value) != repr(before[n])]  # nan is nan
        lines = {n: f"{n} changed from {before[n]} to {now[n]}" for n in changed}
        finished = step >= settings.steps
        if finished and (shaping := [n for n in changed if n not in operational]):
            problem = f"finished, and {lines[shaping[0]]}"
            if "steps" in changed:
                problem = f"at step {step} of {before['steps']}, and --steps is {settings.steps}"
            raise UserError(f"the run in {self.folder} is {problem}: use another --out")
        self.state.load_state_dict(saved)
        if "steps" in changed:
            group = self.state.optimizer.param_groups[0]
            rate = group["initial_lr"] * scale(step + 1)
            lines["steps"] += f": the learning rate goes from {group['lr']:.3g} to {rate:.3g}"
        self.chosen_by, self.evaluated, self.saved = saved["chosen_by"], saved["evaluated"], step
        # A best checkpoint of a later step is from a course that the run may not repeat
        if process.main_only(checkpoint.best_step, self.folder) <= step:
            self.best = saved["best"]
        place = f"step {step} in {self.folder}"
        process.print(f"{place}: the run is finished" if finished else f"resuming from {place}")
        for line in lines.values():
            process.print(line)
        return step

    @contextmanager
    def saved_on_stop(self, report: Report) -> Iterator[None]:
        """Write a checkpoint if a signal ends the context: the run can resume from there."""
        try:
            yield
        except Stopped:
            step = report.progress.step
            self.save(step)
            report.say(f"stopped at step {step}: the same command resumes the run")
            raise

    @contextmanager
    def saved_on_error(self, step: int) -> Iterator[None]:
        """Write a checkpoint if an error ends the context, in whichever process."""
        try:
            yield
        except Exception:
            path = checkpoint.path_of(self.folder, step)
            try:  # no collective operation: the others may not have failed
                state = write_part(path, self._state(step), self.start, self.process)
                if self.process.is_main:
                    complete(path, state)
            except UserError as error:  # the other error matters more
                self.process.print(f"warning: {error}")
            raise

    def save(self, step: int) -> None:
        """Write the checkpoint of a step, unless it exists."""
        if self.saved != step:
            self._write(checkpoint.path_of(self.folder, step), step)
            self.process.main_only(checkpoint.prune, self.folder, step, self.settings.keep)
            self.saved = step

    def keep_best(self, step: int, figures: dict[str, float], monitor: str, mode: str) -> None:
        """Write the best checkpoint if a metric is better (higher or lower) than all before.

        Raises:
            UserError: There is no such metric, or no such mode.
        """
        if mode not in ("max", "min"):
            raise UserError(f"MODE is {mode!r}: use max or min")
        if monitor not in figures:
            raise UserError(f"MONITOR is {monitor!r}, but measure returns {', '.join(figures)}")
        if self.chosen_by != f"{mode} {monitor}":
            self.best, self.chosen_by = math.nan, f"{mode} {monitor}"
        figure, self.evaluated = figures[monitor], step
        better = figure > self.best if mode == "max" else figure < self.best
        if better or math.isnan(self.best):
            self.best = figure
            self._write(self.folder / checkpoint.BEST, step)
        if step == self.saved:  # a signal had postponed this evaluation
            self._write(checkpoint.path_of(self.folder, step), step)

    def _write(self, path: Path, step: int) -> None:
        process, state = self.process, self._state(step)
        state = process.in_all(write_part, path, state, self.start, process)
        process.main_only(complete, path, state)

    def _state(self, step: int) -> dict[str, Any]:
        best = {"best": self.best, "chosen_by": self.chosen_by, "evaluated": self.evaluated}
        return {"step": step, **best, "settings": plain(self.settings), **self.state.state_dict()}
