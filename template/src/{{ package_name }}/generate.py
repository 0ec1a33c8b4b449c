"""Generating text with a trained model, printed token by token."""

from __future__ import annotations

import math
import os
from codecs import getincrementaldecoder
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .config import GenerateConfig
from .data import decode, encode
from .model import Net
from .runtime.device import autocast, choose_precision
from .runtime.rendezvous import join_processes
from .train import TASK


def generate(config: GenerateConfig) -> None:
    """Print a prompt and its continuation by the model of a checkpoint."""
    with join_processes(config.device, quiet=True) as process:
        model, settings, _ = TASK.load_trained(config.checkpoint, process)
        dtype = choose_precision(settings.precision, process.device)
        following = continuation(model.eval(), encode(config.prompt, settings), dtype, config)
        # A character may take several bytes
        letters = getincrementaldecoder("utf-8")(errors="replace")
        process.print(letters.decode(os.fsencode(config.prompt)), end="")
        for _ in range(config.length):
            process.print(letters.decode(decode(next(following), settings)), end="")
            process.end_if_asked()
        process.print(letters.decode(b"", final=True))


@torch.inference_mode()
def continuation(
    model: Net, prompt: list[int], dtype: torch.dtype, config: GenerateConfig
) -> Iterator[int]:
    """Yield the tokens that follow a prompt, without end.

    The model sees as many tokens as its context holds. When that is full, it reads the newer half
    again, as the beginning of a sample: on average, this costs the computation of two tokens for
    each new one, rather than of the whole context.
    """
    device = next(model.parameters()).device
    random = torch.Generator().manual_seed(config.seed)
    tokens = list(prompt)
    cache: dict[nn.Module, Tensor] = {}
    seen, new = 0, tokens[-model.context :]
    while True:
        if seen + len(new) > model.context:
            cache, seen, new = {}, 0, tokens[-max(1, model.context // 2) :]
        with autocast(device, dtype):
            logits = model(torch.tensor([new], device=device), cache)[0, -1]
        token = draw(logits, random, config)
        tokens.append(token)
        seen, new = seen + len(new), [token]
        yield token


def draw(logits: Tensor, random: torch.Generator, config: GenerateConfig) -> int:
    """Return a token sampled from the logits, on the CPU so that every device draws the same."""
    if not config.temperature:
        return int(logits.argmax())
    logits = logits.cpu().double()  # MPS has no float64
    if config.top_k:
        least = logits.topk(min(config.top_k, len(logits))).values[-1]
        logits = logits.masked_fill(logits < least, -math.inf)
    probabilities = ((logits - logits.max()) / config.temperature).softmax(0)
    return int(probabilities.multinomial(1, generator=random))
