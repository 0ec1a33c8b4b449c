"""A small transformer in bf16 on the accelerator, compiled: by hand and by a rendered project.

`--tiny` tries this page on any machine, with sizes that say nothing of speed.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from loops import DEVICE, Case, interleaved
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset
from torch.utils.flop_counter import FlopCounterMode

TINY = "--tiny" in sys.argv
VOCABULARY, LENGTH, WIDTH, DEPTH, BATCH = (64, 16, 32, 2, 4) if TINY else (8192, 512, 1024, 12, 64)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        layer = nn.TransformerEncoderLayer(
            WIDTH, WIDTH // 16, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, DEPTH, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.layers(self.embed(tokens))).transpose(1, 2)  # classes come second


def tokens(samples: int) -> TensorDataset:
    return TensorDataset(*torch.randint(VOCABULARY, (2, samples, LENGTH)))


def operations() -> int:
    """Count what the matrix products of a step compute."""
    model, (inputs, labels) = Transformer().to(DEVICE), (tensor.to(DEVICE) for tensor in tokens(BATCH).tensors)
    with FlopCounterMode(display=False) as counter, torch.autocast(DEVICE.type, torch.bfloat16):
        F.cross_entropy(model(inputs), labels).backward()
    return counter.get_total_flops()


def peak() -> float:
    """Measure how many operations a second large matrix products of bf16 reach on this device."""
    size, times = (256, 4) if TINY else (8192, 50)
    a, b = torch.randn(2, size, size, device=DEVICE, dtype=torch.bfloat16)
    for _ in range(2):  # the first time warms up
        start = time.perf_counter()
        for _ in range(times):
            c = a @ b
        c[0, 0].item()
        seconds = time.perf_counter() - start
    return 2 * size**3 * times / seconds


def main() -> None:
    if not TINY and not torch.accelerator.is_available():
        print("SKIPPED: a transformer in bf16 is for an accelerator, and this machine has none", file=sys.stderr)
        print("{}")
        return
    case = Case.of(
        Transformer,
        tokens(8 * BATCH),
        half=2 if TINY else 20,
        batch_size=BATCH,
        precision="bf16",
        compile=True,
    )
    result = {"operations": operations(), "peak": peak(), **interleaved(case, ["bare", "project"], rounds=15)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
