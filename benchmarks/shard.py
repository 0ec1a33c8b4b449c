"""The text model with DDP and with --shard: the time of a step and the memory of a process.

It runs in the environment of an installed project named demo, rendered with data=text: each round trains with both, in
turn. Arguments: `--rounds 5`, `--processes 2`, `--width 512`, `--depth 8`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

# Prints what a process held at most, without what torch takes before there is a network
CODE = """
import atexit, sys
import torch.distributed.fsdp, torch.nn.parallel, torch._dynamo
from pathlib import Path
from demo.__main__ import main

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

Path("/proc/self/clear_refs").write_text("5")
before = peak()
code = main()
print(f"held {peak() - before:.0f}", flush=True)
sys.exit(code)
"""


def train(folder: Path, processes: int, flags: list[str]) -> tuple[float, float]:
    """Train, and return the seconds of a step and the MB that the process that has most took at most."""
    script = folder / "train.py"
    script.write_text(CODE)
    out = Path(tempfile.mkdtemp(dir=folder))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*launcher, str(script), "train", f"--out={out}", *flags]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    lines = (out / "metrics.jsonl").read_text().splitlines()
    records = [record for record in map(json.loads, lines) if "loss" in record]
    steps = [(b["time"] - a["time"]) / (b["step"] - a["step"]) for a, b in pairwise(records[:-1])]
    return statistics.median(steps), max(map(float, re.findall(r"held (\d+)", done.stdout)))


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("rounds", 5), ("processes", 2), ("width", 512), ("depth", 8), ("steps", 12)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    sizes = [f"--width={given.width}", f"--depth={given.depth}", f"--steps={given.steps}", "--log-every=2"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = folder / "text.txt"
        text.write_text("".join(f"{a} + {b} = {a + b}\n" for a in range(40) for b in range(40)))
        flags = ["--device=cpu", f"--text={text}", "--eval-every=9999", *sizes]
        rounds = [
            (train(folder, given.processes, flags), train(folder, given.processes, [*flags, "--shard"]))
            for _ in range(given.rounds)
        ]
    ratios = [sharded[0] / whole[0] for whole, sharded in rounds]
    (whole, mb), (sharded, less) = (
        [statistics.median(column) for column in zip(*kind, strict=True)] for kind in zip(*rounds, strict=True)
    )
    print(f"{given.depth} blocks of width {given.width}, {given.processes} processes\n")
    print("| | DDP | `--shard` |\n|---|---|---|")
    print(f"| a step | {whole:.2f} s | {sharded:.2f} s, {statistics.median(ratios):.2f} x |")
    print(f"| peak memory of a process, without libraries | {mb:.0f} MB | {less:.0f} MB |")


if __name__ == "__main__":
    main()
