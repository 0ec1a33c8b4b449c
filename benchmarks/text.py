"""The language model of a rendered project, compared with the same by hand and with nanoGPT's own train.py.

It runs in the environment of an installed project named demo, rendered with data=text. Arguments: `--rounds 31`, in
each of which a step is timed, `--steps 1000` for nanoGPT, and a checkout of it; without one it is cloned. Both learn
bytes, from the same part of the same text, with the same sizes and rates, and the weights of both are tested on the same
windows. They draw other batches, and nanoGPT has learned positions, LayerNorm and GELU.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import pickle
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from demo import model as task
from demo.config import EvaluateConfig, TrainConfig
from demo.data import Text, load_data
from demo.runtime.device import autocast, choose_device, choose_precision
from demo.train import TASK
from loops import Clock, learn, trained
from train import ratio

URL = "https://github.com/karpathy/nanoGPT"
DEVICE, _ = choose_device()
ON_CPU = DEVICE.type == "cpu"
# On an accelerator, the sizes of nanoGPT's config/train_shakespeare_char.py
SIZES: dict[str, Any] = {} if ON_CPU else {"depth": 6, "width": 384, "heads": 6, "context": 256, "batch_size": 64}


def by_hand(config: TrainConfig) -> float:
    """Train with nothing that can be left out, and return the seconds of a step."""
    clock, dtype = Clock(config), choose_precision(config.precision, DEVICE)
    text = Text(config)
    tokens = torch.tensor(text.read(0, text.length), device=DEVICE).long()
    window = torch.arange(config.context + 1, device=DEVICE)
    model = task.build_model(config).to(DEVICE)
    if config.compile:
        model.compile()
    optimizer = task.build_optimizer(model, config)
    for step in range(1, config.steps + 1):
        begins = torch.randint(text.length - config.context, (config.batch_size, 1), device=DEVICE)
        batch = tokens[begins + window]
        with autocast(DEVICE, dtype):
            loss, count = task.training_loss(model, batch, config)
        (loss / count).backward()
        learn(model, optimizer, config, step)
        clock.tick(step, loss)
    return clock.per_step


def steps(rounds: int) -> None:
    """Print the ratio of the two in turn; the first round is for warming up."""
    half, never = 20, 2**31
    config = TrainConfig(
        steps=2 * half + 1, log_every=half, eval_every=never, save_every=never, compile=not ON_CPU, **SIZES
    )
    with contextlib.redirect_stdout(io.StringIO()):
        times = [(by_hand(config), trained(config)) for _ in range(rounds + 1)][1:]
    bare, project = ([pair[n] for pair in times] for n in range(2))
    print(
        f"a step: {statistics.median(bare) * 1000:.3g} ms by hand, {ratio(project, bare)} x by the project", flush=True
    )


def prepare(checkout: Path, folder: Path, config: TrainConfig) -> None:
    """Give nanoGPT's data set the training set of the project, as bytes, and its validation set."""
    for name in ("train.py", "model.py", "configurator.py"):
        shutil.copy(checkout / name, folder)
    data, text = folder / "data" / "text", Text(config)
    data.mkdir(parents=True)
    begins = [part.begins for part in load_data(config)[:3]]
    for name, first, end in (("train", 0, begins[1][0]), ("val", begins[1][0], begins[2][0])):
        text.read(first, end - first).astype("uint16").tofile(data / f"{name}.bin")
    (data / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": config.vocabulary}))


def options(config: TrainConfig) -> list[str]:
    """Give the settings of the project in nanoGPT's names."""
    settings = {
        "dataset": "text",
        "device": DEVICE.type,
        "dtype": "float32" if ON_CPU else "bfloat16",
        "compile": config.compile,
        "max_iters": config.steps,
        "lr_decay_iters": config.steps,
        "warmup_iters": config.warmup,
        "learning_rate": config.lr,
        "min_lr": config.lr * config.lr_floor,
        "weight_decay": config.weight_decay,
        "grad_clip": config.clip,
        "batch_size": config.batch_size,
        "gradient_accumulation_steps": 1,
        "block_size": config.context,
        "n_layer": config.depth,
        "n_head": config.heads,
        "n_embd": config.width,
        "eval_interval": config.steps,  # and thus a checkpoint after the last step
        "eval_iters": 1,
        "log_interval": 1,
    }
    return [f"--{name}={value}" for name, value in settings.items()]


def nanogpt(checkout: Path, folder: Path, config: TrainConfig) -> dict[str, float]:
    """Train by nanoGPT, and return what it took and what it reached."""
    prepare(checkout, folder, config)
    start = time.perf_counter()
    command = [sys.executable, "train.py", *options(config)]
    output = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds = time.perf_counter() - start
    logged = re.findall(r"^iter \d+: loss ([\d.]+), time ([\d.]+)ms", output, re.MULTILINE)
    return {
        "seconds": seconds,
        "step": statistics.median(float(taken) for _, taken in logged[len(logged) // 2 :]) / 1000,
        "training": statistics.mean(float(loss) for loss, _ in logged[-config.log_every - 1 : -1]),
        "test": loss_of_nanogpt(folder, config),
    }


def loss_of_nanogpt(folder: Path, config: TrainConfig) -> float:
    """Return the loss of its last checkpoint on the test set of the project."""
    sys.path.insert(0, str(folder))
    gpt = importlib.import_module("model")
    saved = torch.load(folder / "out" / "ckpt.pt", map_location=DEVICE, weights_only=True)
    network = gpt.GPT(gpt.GPTConfig(**saved["model_args"])).to(DEVICE).eval()
    network.load_state_dict({name.removeprefix("_orig_mod."): value for name, value in saved["model"].items()})
    test, total = load_data(config).test, 0.0
    with torch.no_grad():
        for indices in torch.arange(len(test)).split(config.batch_size):
            batch = test[indices].to(DEVICE)
            _, loss = network(batch[:, :-1], batch[:, 1:].contiguous())
            total += loss.item() * len(batch)
    return total / len(test)


def project(folder: Path, config: TrainConfig) -> dict[str, float]:
    """Train by the project, and return the same of it."""
    out = folder / "run"
    given = {"out": out, "steps": config.steps, "eval_every": config.steps, "compile": config.compile, **SIZES}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not False]
    flags = [flag.removesuffix("=True") for flag in flags]
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "demo", "train", *flags], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {
        "seconds": seconds,
        "step": statistics.median(
            (later["time"] - record["time"]) / (later["step"] - record["step"])
            for record, later in pairwise(records[len(records) // 2 :])
            if later["step"] > record["step"]
        ),
        "training": records[-1]["loss"],
        "test": TASK.evaluate(EvaluateConfig(checkpoint=out))["loss"],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkout", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--steps", type=int, default=TrainConfig.steps if ON_CPU else 2000)
    arguments = parser.parse_args()
    steps(arguments.rounds)
    config = TrainConfig(steps=arguments.steps, eval_every=arguments.steps, compile=not ON_CPU, **SIZES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkout = arguments.checkout or folder / "nanoGPT"
        if not checkout.exists():
            done = subprocess.run(
                ["git", "clone", "--quiet", "--depth=1", URL, str(checkout)],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                print(f"SKIPPED: {URL} cannot be cloned: {done.stderr.strip().splitlines()[-1]}")
                return
        (folder / "theirs").mkdir()
        theirs, ours = nanogpt(checkout, folder / "theirs", config), project(folder, config)
    sizes = f"{config.batch_size} x {config.context} bytes, {config.depth} blocks of width {config.width}"
    print(f"{config.steps} steps of {sizes}, on {DEVICE}\n\n| | nanoGPT | the project |\n|---|---|---|")
    for title, key, form in (
        ("the whole command", "seconds", "{:.1f} s"),
        ("a step, the median of the second half", "step", "{:.4f} s"),
        (f"loss of the last {config.log_every} training batches", "training", "{:.3f}"),
        ("loss on the test set", "test", "{:.3f}"),
    ):
        print(f"| {title} | {form.format(theirs[key])} | {form.format(ours[key])} |")


if __name__ == "__main__":
    main()
