"""The speed of a run: its throughput, the share of the GPU's peak (MFU), and a profiler trace."""

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

# Dense matrix multiplication in bf16 and fp16 with fp32 accumulation, in TFLOP/s, by the first
# pattern that matches the name of the device. From the data sheets of NVIDIA and AMD; for GeForce,
# from the white papers of Ada and Blackwell. For other devices, no share of the peak is reported.
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
    """Return the peak FLOP/s of a device in this number format, or 0 if unknown."""
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return 0.0
    name = torch.cuda.get_device_name(device)
    if " MIG " in name or name.startswith("GRID "):  # a part of a GPU
        return 0.0
    return next((1e12 * peak for pattern, peak in PEAKS.items() if re.search(pattern, name)), 0.0)


def count_flops(loss: Callable[..., Any], model: nn.Module, batch: Any, *options: Any) -> float:
    """Return the FLOPs of the forward and the backward pass of a batch.

    It computes with shapes only, on a copy without weights: this takes no memory of the device, and
    changes neither the model nor a random number. It returns 0 if the model needs actual values.
    """
    tensors = [*model.parameters(), *model.buffers()]
    memo: dict[int, Any] = {}
    for tensor in tensors:
        shape = tensor.detach().to("meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(shape, tensor.requires_grad) if is_parameter else shape
    with suppress(Exception):  # any error of a model that needs actual values
        copied = copy.deepcopy(model, memo)
        with FlopCounterMode(display=False) as counter:
            loss(copied, to_device(batch, torch.device("meta")), *options)[0].backward()
        return float(counter.get_total_flops())
    return 0.0


class Speed:
    """The throughput of a run.

    Args:
        unit: Name of what the loss counts, such as samples.
    """

    def __init__(self, process: Process, dtype: torch.dtype, unit: str) -> None:
        self.process, self.unit = process, unit
        self.peak = peak_flops(process.device, dtype)
        self._flops: float | None = None

    def count(self, samples: Any, loss: Callable[..., Any], *arguments: Any) -> None:
        """Count the FLOPs per sample, at the first batch, if the peak of the device is known."""
        if self.peak and self._flops is None:
            self._flops = count_flops(loss, *arguments) / max(1.0, float(samples))

    def of(self, interval: Interval) -> dict[str, float]:
        """Return the samples per second in an interval, and the share of the peak if known."""
        rate = float(interval.count) / (time.perf_counter() - interval.begin)
        found = {f"{self.unit}_per_second": rate}
        if self._flops:
            found["share_of_peak"] = self._flops * rate / self.process.world_size / self.peak
        return found


class Trace:
    """A profiler trace of the fourth to sixth steps of the main process."""

    def __init__(self, folder: Path) -> None:
        self.path, self.note = folder / "trace.json", "no trace: fewer than four steps were taken"
        steps = schedule(wait=1, warmup=2, active=3, repeat=1)
        self._profile = profile(schedule=steps, on_trace_ready=self._write)
        self._profile.start()

    def step(self) -> None:
        """Note the end of a step."""
        self._profile.step()

    def close(self) -> None:
        """Stop, and write what there is if the run is shorter."""
        self._profile.stop()

    def _write(self, found: Any) -> None:
        found.export_chrome_trace(str(self.path))
        self.note = f"trace: {self.path}, for https://ui.perfetto.dev"
