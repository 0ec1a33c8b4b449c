"""A network that is sharded learns what a whole one learns, in an installed project with the answer data=text.

`nox -s train` renders and installs the project that PROJECT names.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.installed import PROJECT, ranks, rendered_again
from tests.test_swaps import EXACTLY
from tests.waiting import wait_for

SIZES = ["--context=16", "--width=36", "--heads=2", "--depth=2", "--batch-size=12", "--warmup=5", "--device=cpu"]
STEPS = ["--steps=20", "--log-every=5", "--eval-every=10", "--save-every=5", "--keep=9"]

SAME = """
import sys, torch
from safetensors.torch import load_file
one, two = (load_file(path) for path in sys.argv[1:])
assert one.keys() == two.keys()
for name in one:
    torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-12)
"""


@dataclass(frozen=True)
class Trainer:
    """A project that learns a short text, in fp64: sums in another order change nothing that counts."""

    folder: Path

    def start(self, *command: str, processes: int = 1) -> list[subprocess.Popen[str]]:
        """Start the command in as many processes, as torchrun would."""
        common = {"PYTHONPATH": str(self.folder / "src"), "OMP_NUM_THREADS": "1"}
        return [
            subprocess.Popen(
                [PROJECT / ".venv/bin/python", "exactly.py", *command],
                cwd=self.folder,
                env=os.environ | common | rank,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in (ranks(processes) if processes > 1 else [{}])
        ]

    def run(self, *command: str, processes: int = 1, code: int = 0) -> str:
        """Run the command, and return what its processes printed, the first one first."""
        running = self.start(*command, processes=processes)
        output = "".join(each.communicate(timeout=300)[0] for each in running)
        assert [each.returncode for each in running] == [code] * processes, output
        return output

    def train(self, out: str, *options: str, processes: int) -> list[float]:
        """Train, and return the losses."""
        self.run("train", f"--out={out}", "--text=sums.txt", *SIZES, *STEPS, *options, processes=processes)
        return self.losses(out)

    def losses(self, out: str) -> list[float]:
        records = [json.loads(line) for line in (self.folder / out / "metrics.jsonl").read_text().splitlines()]
        return [record[name] for record in records for name in ("loss", "validation_loss") if name in record]


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    folder = rendered_again(PROJECT, tmp_path_factory.mktemp("text"), data="text")
    (folder / "sums.txt").write_text("".join(f"{a} + {b} = {a + b}\n" for a in range(20) for b in range(20)))
    (folder / "exactly.py").write_text(EXACTLY)
    return Trainer(folder)


@pytest.fixture(scope="module")
def whole(trainer: Trainer) -> list[float]:
    """The losses of a run whose processes have the whole network."""
    return trainer.train("whole", processes=2)


def has_fsdp2() -> bool:
    code = "import sys, torch; from demo.runtime import shard; sys.exit(not shard.is_available(torch.device('cpu')))"
    return subprocess.run([PROJECT / ".venv/bin/python", "-c", code], check=False).returncode == 0


@pytest.fixture
def fsdp2() -> None:
    if not has_fsdp2():
        pytest.skip("SKIPPED: this release has no FSDP2 for a CPU")


@pytest.fixture(scope="module")
def sharded(trainer: Trainer) -> list[float]:
    """The losses of a run of two processes that is sharded."""
    return trainer.train("sharded", "--shard", "--accumulate=2", processes=2)


@pytest.mark.usefixtures("fsdp2")
def test_a_sharded_network_learns_like_a_whole_one(trainer: Trainer, whole: list[float], sharded: list[float]) -> None:
    assert sharded == pytest.approx(whole, rel=1e-9)
    assert sharded[-1] < sharded[0]
    last = trainer.folder / "whole" / "step-0000000020.pt"
    parts = list(trainer.folder.glob("sharded/step-0000000020.*.parts/*.pt"))
    assert len(parts) == 2
    assert max(part.stat().st_size for part in parts) < 0.6 * last.stat().st_size, "each has half of the rows"


@pytest.mark.usefixtures("fsdp2")
def test_it_is_killed_and_resumes_on_another_number_of_processes(trainer: Trainer, whole: list[float]) -> None:
    command = ("train", "--out=stormy", "--text=sums.txt", *SIZES, *STEPS, "--shard")
    running = trainer.start(*command, processes=3)
    wait_for(lambda: list(trainer.folder.glob("stormy/step-*.pt")))
    for process in running:
        process.send_signal(signal.SIGKILL)
    for process in running:
        process.communicate()
    for path in trainer.folder.glob("stormy/step-00000000[12]?.*"):  # it may have been quick
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert "resuming from step 5 in stormy" in trainer.run(*command, processes=4)
    assert trainer.losses("stormy") == pytest.approx(whole, rel=1e-9)


@pytest.mark.usefixtures("fsdp2", "whole", "sharded")
def test_a_checkpoint_of_parts_is_used_as_any_other(trainer: Trainer) -> None:
    for out in ("sharded", "whole"):
        trainer.run("export", f"--checkpoint={out}")
    files = ["sharded/model.safetensors", "whole/model.safetensors"]
    subprocess.run([PROJECT / ".venv/bin/python", "-c", SAME, *files], cwd=trainer.folder, check=True)

    evaluated = trainer.run("evaluate", "--checkpoint=sharded", "--device=cpu", processes=2).splitlines()[-1]
    assert evaluated.startswith("test set, with the weights of step 20: loss ")
    generate = ["generate", "--checkpoint=sharded", "--device=cpu", "--length=30", "--prompt=1 +"]
    assert trainer.run(*generate, processes=2) == trainer.run(*generate)
    tune = ["train", "--out=tuned", "--text=sums.txt", *SIZES, "--steps=1", "--lr=1e-12", "--shard"]
    tuned = trainer.run(*tune, "--init-from=sharded/model.safetensors", processes=2)
    assert evaluated.partition(": ")[2] in tuned


@pytest.mark.usefixtures("fsdp2")
def test_a_process_that_cannot_write_its_part_leaves_no_checkpoint(trainer: Trainer) -> None:
    limited = EXACTLY.replace(
        "from demo", "import os, resource\nif os.environ.get('RANK') == '1':\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1))\nfrom demo", 1,
    )  # fmt: skip
    (trainer.folder / "exactly.py").write_text(limited)
    try:
        train = ["train", "--out=full", "--text=sums.txt", *SIZES, *STEPS, "--shard"]
        output = trainer.run(*train, processes=2, code=2)
    finally:
        (trainer.folder / "exactly.py").write_text(EXACTLY)
    assert output.count("error: ") == 1
    assert "File too large" in output
    assert not list(trainer.folder.glob("full/*.pt"))


def test_a_release_that_cannot_shard_says_so(trainer: Trainer) -> None:
    if has_fsdp2():
        pytest.skip("SKIPPED: this release can")
    output = trainer.run("train", "--shard", "--text=sums.txt", *SIZES, processes=2, code=2)
    assert output.count("error: --shard needs torch 2.6 or newer") == 1
