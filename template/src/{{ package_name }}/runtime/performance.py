"""How fast a run is: the share of a GPU's peak that it uses, and a trace of a few steps."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import profile, schedule
from torch.utils.flop_counter import FlopCounterMode

from .device import to_device
from .dist import Process
from .steps import Interval

# Matrix multiplication in bf16 and fp16 with fp32 sums, dense, in TFLOP/s, by the first pattern
# that the name of the device matches. From the data sheets of NVIDIA and AMD; for GeForce, from
# the white papers of Ada and Blackwell. A device that is not here has no share of its peak.
PEAKS = {
    r"\bB200\b": 2250.0,
    r"\bH200 NVL\b": 835.0,
    r"\bH200\b": 989.0,
    r"\bH100 NVL\b": 835.0,
    r"\bH100 PCIe\b": 756.0,
    r"\bH100 80GB HBM3\b": 989.0,
    r"\bA100\b": 312.0,
    r"\bL40S\b": 362.0,
    r"\bL4\b": 121.0,
    r"\bRTX 5090$": 209.5,
    r"\bRTX 4090$": 165.2,
    r"\bMI300X\b": 1307.0,
}


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Return the FLOP/s that a device reaches at most in this number format, or 0 if unknown."""
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return 0.0
    name = torch.cuda.get_device_name(device)
    if " MIG " in name or name.startswith("GRID "):  # a part of a GPU
        return 0.0
    return next((1e12 * peak for pattern, peak in PEAKS.items() if re.search(pattern, name)), 0.0)


def count_flops(loss: Callable[..., Any], model: nn.Module, batch: Any, *options: Any) -> float:
    """Return the FLOPs of a batch, forwards and backwards.

    Computes with shapes alone, on a copy without weights: it takes no memory of the device, and
    changes neither the model nor a random number. 0 if the model needs values to compute with.
    """
    tensors = [*model.parameters(), *model.buffers()]
    memo: dict[int, Any] = {}
    for tensor in tensors:
        shape = tensor.detach().to("meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(shape, tensor.requires_grad) if is_parameter else shape
    with suppress(Exception):  # whatever a model does with values
        copied = copy.deepcopy(model, memo)
        with FlopCounterMode(display=False) as counter:
            loss(copied, to_device(batch, torch.device("meta")), *options)[0].backward()
        return float(counter.get_total_flops())
    return 0.0


class Speed:
    """How fast steps are.

    Args:
        unit: What the loss is of, such as samples.
    """

    def __init__(self, process: Process, dtype: torch.dtype, unit: str) -> None:
        self.process, self.unit = process, unit
        self.peak = peak_flops(process.device, dtype)
        self._flops: float | None = None

    def count(self, samples: Any, loss: Callable[..., Any], *arguments: Any) -> None:
        """Count the FLOPs of a batch once, for each of its samples, if a peak is known."""
        if self.peak and self._flops is None:
            self._flops = count_flops(loss, *arguments) / max(1.0, float(samples))

    def of(self, interval: Interval) -> dict[str, float]:
        """Return how many samples were learned from in a second, and the share of the peak."""
        rate = float(interval.count) / (time.perf_counter() - interval.begin)
        found = {f"{self.unit}_per_second": rate}
        if self._flops:
            found["share_of_peak"] = self._flops * rate / self.process.world_size / self.peak
        return found


class Trace:
    """A trace of the fourth to the sixth step of the main process."""

    def __init__(self, folder: Path) -> None:
        self.path, self.note = folder / "trace.json", "no trace: it takes four steps"
        steps = schedule(wait=1, warmup=2, active=3, repeat=1)
        self._profile = profile(schedule=steps, on_trace_ready=self._write)
        self._profile.start()

    def step(self) -> None:
        """Note the end of a step."""
        self._profile.step()

    def close(self) -> None:
        """Write what there is, if the run is shorter."""
        self._profile.stop()

    def _write(self, found: Any) -> None:
        found.export_chrome_trace(str(self.path))
        self.note = f"trace: {self.path}, for https://ui.perfetto.dev"
