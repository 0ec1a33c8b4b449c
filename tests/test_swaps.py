"""Other tasks in an installed project: each in tests/swaps changes data.py, model.py and the fields of config.py alone.

The text is the template's own, by the answer data=text.

`nox -s train` renders and installs the project that PROJECT names.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.history import replace
from tests.installed import PROJECT, SAME_WEIGHTS, rendered_again
from tests.project import without_uv
from tests.table import ROOT
from tests.waiting import wait_for

SWAPS = ROOT / "tests" / "swaps"

# In fp64, so that sums in another order change nothing that counts
EXACTLY = """
import sys, torch
torch.set_default_dtype(torch.float64)
from demo.__main__ import main
sys.exit(main())
"""

# Options of each, the figure that chooses the best, and what it reaches
TASKS: dict[str, tuple[list[str], str, float]] = {
    "regression": (["--lr", "0.01", "--workers", "1"], "squared_error", 0.02),
    "segmentation": (["--lr", "0.01", "--workers", "2", "--batch-size", "32"], "intersection_over_union", 0.8),
    "sequences": (["--lr", "0.02", "--batch-size", "32"], "token_accuracy", 0.5),
    "frozen": (["--lr", "0.02", "--batch-size", "40"], "error", 0.05),
    "tokens": (["--lr", "0.01", "--batch-size", "64"], "loss", 2.0),
    "text": (["--batch-size", "32", "--context=32", "--width=32", "--depth=2"], "loss", 2.9),
}
STEPS = 150


@dataclass(frozen=True)
class Task:
    """A project with another task."""

    name: str
    folder: Path

    @property
    def options(self) -> list[str]:
        return [
            *TASKS[self.name][0],
            "--device=cpu",
            f"--steps={STEPS}",
            "--log-every=25",
            "--eval-every=50",
            "--warmup=10",
        ]

    def start(self, *command: str | Path, processes: int = 0, **options: Any) -> subprocess.Popen[str]:
        """Run Python in the project, or torchrun for several processes."""
        program = [".venv/bin/python"]
        if processes:
            program = [".venv/bin/torchrun", "--standalone", "--nproc-per-node", str(processes)]
        environ = {**os.environ, "PYTHONPATH": str(self.folder / "src"), "OMP_NUM_THREADS": "1"}
        program[0] = str(PROJECT / program[0])
        return subprocess.Popen([*program, *command], cwd=self.folder, env=environ, text=True, **options)

    def run(self, *command: str | Path, processes: int = 0) -> str:
        running = self.start(*command, processes=processes, stdout=subprocess.PIPE)
        output, _ = running.communicate(timeout=900)  # hundreds of tests, on a busy machine
        assert running.returncode == 0, output
        return output

    def train(self, out: str, *options: str, processes: int = 0) -> list[dict[str, float]]:
        """Train, and return the metrics."""
        self.run("exactly.py", "train", f"--out={out}", *self.options, *options, processes=processes)
        lines = (self.folder / out / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


def swap(package: Path, name: str) -> None:
    """Give a package another task."""
    for file in ("data.py", "model.py"):
        shutil.copy(SWAPS / name / file, package / file)
    before = "    log_every: PositiveInt = 50\n"
    replace(package / "config.py", before, (SWAPS / name / "fields.txt").read_text() + before)


@pytest.fixture(scope="module", params=list(TASKS))
def task(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Task:
    """The project, with this task in the place of its own."""
    folder = tmp_path_factory.mktemp(request.param)
    own = request.param == "text"
    source = rendered_again(PROJECT, tmp_path_factory.mktemp("rendered"), data="text") if own else PROJECT
    for name in ("src", "tests"):
        shutil.copytree(source / name, folder / name)
    shutil.copytree(PROJECT / ".mypy_cache", folder / ".mypy_cache")  # what mypy knows of torch takes it half a minute
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(source / name, folder)
    if not own:
        swap(folder / "src" / "demo", request.param)
    (folder / "exactly.py").write_text(EXACTLY)
    # Each token is the one before it plus one, now and then another
    tokens = bytes(byte for n in range(20_000) for byte in ((n + n // 97) % 64, 0))
    (folder / "tokens.bin").write_bytes(tokens)
    return Task(request.param, folder)


@pytest.fixture(scope="module")
def calm(task: Task) -> list[dict[str, float]]:
    """The metrics of a run that nothing disturbed."""
    return task.train("calm")


@pytest.mark.parametrize("command", ["ruff format --check src", "ruff check src", "mypy src tests/runtime"])
def test_it_is_clean(command: str, task: Task) -> None:
    program, *arguments = command.split()
    subprocess.run([PROJECT / ".venv/bin" / program, *arguments], cwd=task.folder, check=True)


@pytest.mark.parametrize("task", ["frozen"], indirect=True)  # it imports nothing of the task
def test_the_runtime_is_as_it_was(task: Task) -> None:
    task.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/runtime")


def test_it_learns(task: Task, calm: list[dict[str, float]]) -> None:
    _, name, enough = TASKS[task.name]
    first, last = calm[1][f"validation_{name}"], calm[-1][f"validation_{name}"]
    better = last > enough if name in ("intersection_over_union", "token_accuracy") else last < enough
    assert better, (first, last)


@pytest.mark.usefixtures("calm")
def test_it_is_killed_and_resumes_bit_for_bit(task: Task) -> None:
    saves = ["--save-every=20", "--keep=99"]
    command = ["exactly.py", "train", "--out=stormy", *task.options, *saves]
    running = task.start(*command)
    wait_for(lambda: list((task.folder / "stormy").glob("step-*.pt")))
    running.send_signal(signal.SIGKILL)
    running.wait(300)
    stopped = max((task.folder / "stormy").glob("step-*.pt"))
    assert stopped.name < f"step-{STEPS:010d}.pt"
    assert "resuming from step" in task.run(*command)
    last = f"step-{STEPS:010d}.pt"
    task.run("-c", SAME_WEIGHTS, task.folder / "calm" / last, task.folder / "stormy" / last)


def test_two_processes_have_the_figures_of_one(task: Task, calm: list[dict[str, float]]) -> None:
    pair = task.train("pair", "--eval-batch-size=14", processes=2)
    for one, two in zip(calm, pair, strict=True):
        assert one.keys() == two.keys()
        for name in one.keys() - {"time", *(name for name in one if name.endswith("_per_second"))}:
            assert two[name] == pytest.approx(one[name], rel=1e-9), name


@pytest.mark.usefixtures("calm")
def test_it_is_evaluated_exported_and_tuned(task: Task) -> None:
    figures = task.run("exactly.py", "evaluate", "--checkpoint=calm", "--device=cpu").splitlines()[-1]
    task.run("exactly.py", "export", "--checkpoint=calm")
    options = ["--init-from=calm/model.safetensors", "--steps=1", "--lr=1e-12"]
    if task.name == "frozen":
        options += ["--head-lr=1e-12"]
    tuned = task.run("exactly.py", "train", "--out=tuned", *task.options, *options)
    assert "weights from calm/model.safetensors" in tuned
    reached = next(line for line in tuned.splitlines() if line.startswith("test set"))
    assert reached.partition(": ")[2] == figures.partition(": ")[2]
    if task.name == "frozen":
        options += ["--classes=3", "--init-partly", "--out=another head"]
        assert "left out: head.weight" in task.run("exactly.py", "train", *task.options, *options)


@pytest.mark.usefixtures("calm")
@pytest.mark.parametrize("task", ["text"], indirect=True)
def test_text_is_generated(task: Task) -> None:
    generate = ["-m", "demo", "generate", "--checkpoint=calm", "--device=cpu", "--prompt=ROMEO:", "--length=100"]
    text = task.run(*generate)
    assert text.startswith("ROMEO:")
    assert 90 < len(text) <= 107
    assert len(set(text.split())) > 10
    assert task.run(*generate) == text
    assert task.run(*generate, "--seed=1") != text


@pytest.mark.parametrize("task", ["text"], indirect=True)
def test_the_readme_leads_to_a_model_of_ones_own(task: Task) -> None:
    readme = (task.folder / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (script,) = (block for block in blocks if "tokenizers" in block)
    (task.folder / "tokenize_text.py").write_text(script)
    (task.folder / "my.txt").write_text("".join(f"{a} + {b} = {a + b}\n" for a in range(200) for b in range(200)))
    packages = ["--no-project", f"--python={PROJECT / '.venv/bin/python'}", "--with=tokenizers", "--with=numpy"]
    subprocess.run(["uv", "run", *packages, "tokenize_text.py"], cwd=task.folder, env=without_uv(), check=True)
    section = readme.partition("\n### Text\n")[2].partition("\n### ")[0]
    generate, learn, tune = (shlex.split(line) for line in re.findall(r"^uv run demo (.*)", section, re.MULTILINE))
    short = ["--steps=2", "--device=cpu"]
    for command in (["train"], learn, tune):
        output = task.run("-m", "demo", *command, *short)
        assert "test set, with the weights of step 2: loss " in output
        assert ("weights from runs/default" in output) == (command == tune)
    few = ["--length=3", "--device=cpu"]
    assert task.run("-m", "demo", *generate, *few).startswith("ROMEO:")
    numbers = task.run("-m", "demo", "generate", "--checkpoint=runs/mine", "--prompt=12 99", *few)
    assert re.fullmatch(r"12 99( \d+){3}\n", numbers)
