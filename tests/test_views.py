"""What a person sees of a run: on a terminal of 80 and of 120 columns, in a file, in a pipe and in a notebook.

`nox -s views` renders and installs the project that PROJECT names.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pexpect
import pytest

from tests.history import replace
from tests.installed import PROJECT
from tests.project import without_uv
from tests.table import ROOT
from tests.terminal import Terminal
from tests.waiting import wait_for

PYTHON = PROJECT / ".venv/bin/python"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: Windows has no such terminals")

COMMAND = [str(PYTHON), "-m", "demo", "train", "--device=cpu", "--out=run", "--batch-size=8", "--log-every=20"]
WHOLE = ["--steps=100", "--eval-every=50"]
BAR = (
    r" {0,2}\d+% \[#*-*\]  \d+/\d+  [\dd: ]+ (?:left|in all|so far)"
    r"(?:  loss [\d.e-]+)?(?:  validation_accuracy [\d.]+)?"
)
LINE = (
    r"step \d+/\d+  \d+%  \d\d:\d\d:\d\d, [\d:]+ (?:left|in all)"
    r"  loss [\d.e-]+  norm [\d.e-]+  lr [\d.e-]+  [\d,.]+ samples/s(?:  validation_loss [\d.]+  validation_accuracy [\d.]+)?"
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the package, to run and to change."""
    shutil.copytree(PROJECT / "src", tmp_path / "src")
    return tmp_path


def environ(project: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1"}


class Run(Terminal):
    """A run on a terminal.

    Attributes:
        frames: The last line, each time that it changed.
    """

    def __init__(self, project: Path, columns: int, *options: str) -> None:
        super().__init__(*COMMAND, *options, cwd=project, columns=columns, rows=100, env=environ(project))
        self.frames: list[str] = []

    @property
    def lines(self) -> list[str]:
        """What is on the screen, without empty rows."""
        return [line for line in super().lines if line]

    def read_until(self, holds: Callable[[], object] = lambda: False) -> list[str]:
        """Read until a condition holds, or to the end, and return the lines on the screen."""
        deadline, running = time.monotonic() + 120, True
        while running and not holds():
            assert time.monotonic() < deadline, self.lines
            running = self.read()
            last = (self.lines or [""])[-1]
            if "%" in last and last not in self.frames[-1:]:
                self.frames.append(last)
        if not running:
            self.child.close()
        return self.lines


@pytest.mark.parametrize("columns", [80, 120])
def test_a_whole_run_on_a_terminal(columns: int, project: Path) -> None:
    terminal = Run(project, columns, *WHOLE)
    lines = terminal.read_until()
    assert terminal.child.exitstatus == 0
    device, model, *settings, place, bar, test, best, curves, after = lines
    assert device == "device cpu: chosen by --device"
    assert model == "model: 58,314 parameters, in fp32 on 1 process"
    expected = "settings: device=cpu, steps=100, batch_size=8, log_every=20, eval_every=50, others by default"
    assert "".join(settings).replace(" ", "") == expected.replace(" ", ""), "in two lines, if there is no room"
    assert place == "everything goes to run"
    assert re.fullmatch(BAR, bar)
    assert re.match(r"100% \[#{8,}\]  100/100  ", bar)
    assert "loss" in bar
    assert "validation_accuracy" in bar
    assert re.match(r"test set, with the weights of step \d+: loss ", test)
    assert re.match(r"best on the validation set: accuracy 0\.\d+, at step \d+$", best)
    assert curves == "for a picture of the curves: uv add --dev matplotlib" or curves == "curves: run/curves.png"
    assert re.fullmatch("next: (uv run )?demo export --checkpoint run", after)
    assert all(re.fullmatch(BAR, frame) for frame in terminal.frames)


def test_a_bar_moves_between_two_logs(project: Path) -> None:
    terminal = Run(project, 80, "--steps=1000000", "--log-every=1000000")
    terminal.read_until(lambda: len(terminal.frames) >= 5)
    count = len(terminal.frames)
    terminal.read_until(lambda: len(terminal.frames) >= count + 8)
    terminal.child.kill(signal.SIGKILL)


@pytest.mark.parametrize("columns", [80, 120])
def test_an_interrupted_run_on_a_terminal(columns: int, project: Path) -> None:
    terminal = Run(project, columns, "--steps=1000000")
    terminal.read_until(lambda: any("loss" in frame for frame in terminal.frames))
    terminal.child.sendintr()
    *_, bar, last = terminal.read_until()
    assert terminal.child.exitstatus == 130
    assert re.fullmatch(BAR, bar)
    found = re.fullmatch(r"stopped at step (\d+): the same command resumes the run", last)
    assert found
    assert f"  {found[1]}/1000000  " in bar


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("failure", ["diverges", "has a bug"])
def test_a_failing_run_on_a_terminal(columns: int, failure: str, project: Path) -> None:
    options = ["--lr=4e9", "--warmup=0"] if failure == "diverges" else []
    if failure == "has a bug":
        bug = 'if not model.training:\n        raise KeyError("a bug")\n    images, labels = batch\n    logits'
        replace(project / "src/demo/model.py", "images, labels = batch\n    logits", bug)
    terminal = Run(project, columns, *WHOLE, *options)
    lines = terminal.read_until()
    (number,) = (number for number, line in enumerate(lines) if re.match(r" *\d+% ", line))
    assert re.fullmatch(BAR, lines[number])
    if failure == "diverges":
        assert terminal.child.exitstatus == 2
        assert "".join(lines[number + 1 :]).startswith("error: loss or gradient is not finite at step 20: use a lower")
    else:
        assert terminal.child.exitstatus == 1
        assert lines[number + 1] == "Traceback (most recent call last):"
        assert lines[-1] == "KeyError: 'a bug'"


def test_a_whole_run_in_a_file(project: Path) -> None:
    with (project / "log").open("w") as log:
        subprocess.run([*COMMAND, *WHOLE], cwd=project, env=environ(project), stdout=log, stderr=log, check=True)
    lines = [line for line in (project / "log").read_text().splitlines() if line.startswith("step ")]
    assert [int(re.split(r"[ /]", line)[1]) for line in lines] == [20, 40, 50, 60, 80, 100]
    assert all(re.fullmatch(LINE, line) for line in lines)
    assert "validation_accuracy" in lines[2]


def test_lines_go_through_a_pipe_from_a_terminal(project: Path) -> None:
    command = " ".join([*COMMAND, *WHOLE])
    options: dict[str, Any] = {"cwd": project, "env": environ(project), "encoding": "utf-8", "timeout": 200}
    child = pexpect.spawn("/bin/sh", ["-c", f"{command} | tee log"], **options)
    shown = child.read().splitlines()
    child.close()
    lines = (project / "log").read_text().splitlines()
    assert child.exitstatus == 0
    assert len([line for line in lines if re.fullmatch(LINE, line)]) == 6
    assert shown == lines


def test_a_resumed_run_says_what_changed(project: Path) -> None:
    def output(*options: str) -> str:
        done = subprocess.run(
            [*COMMAND, *options], cwd=project, env=environ(project), stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout

    output("--steps=20")
    lines = output("--steps=40").splitlines()
    assert "resuming from step 20 in run" in lines
    assert "steps changed from 20 to 40: the learning rate goes from 0 to 0.00298" in lines


def test_a_config_repeats_a_run(project: Path) -> None:
    def train(*options: str) -> None:
        subprocess.run([*COMMAND[:4], *options], cwd=project, env=environ(project), check=True, capture_output=True)

    train(*COMMAND[4:], "--steps=40", "--lr=0.01")
    train("--config=run/config.json", "--out=again")
    one, two = (
        [json.loads(line) for line in (project / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("run", "again")
    )
    assert [record["loss"] for record in one] == [record["loss"] for record in two]


CELL = """
import os
from pathlib import Path
from demo.config import TrainConfig
from demo.train import train

Path("pid").write_text(str(os.getpid()))
figures = train(TrainConfig(device="cpu", batch_size=8, log_every=20, out=Path("run"), **settings))
"""


class Notebook:
    """A notebook that trains in its second cell."""

    def __init__(self, project: Path, settings: str) -> None:
        cell: dict[str, Any] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
        cells = [{**cell, "source": code} for code in (f"settings = {settings}", CELL)]
        content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
        self.notebook = nbformat.reads(json.dumps(content), as_version=4)  # type: ignore[no-untyped-call]
        self.client = nbclient.NotebookClient(
            self.notebook, timeout=120, allow_errors=True, resources={"metadata": {"path": str(project)}}
        )
        self.project = project

    def run(self) -> tuple[str, list[str]]:
        """Run the cells, and return what the second shows: its text, and the lines of an error."""
        with self.client.setup_kernel(env=environ(self.project), cwd=str(self.project)):
            for number, cell in enumerate(self.notebook.cells):
                self.client.execute_cell(cell, number)
        outputs = self.notebook.cells[-1].outputs
        text = "".join(output.text for output in outputs if output.output_type == "stream")
        return text, [line for output in outputs if output.output_type == "error" for line in output.traceback]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let notebooks run in the environment of the project, with the kernel of the tests' own."""
    import ipykernel

    site = Path(ipykernel.__file__).parents[1]
    spec = tmp_path / "jupyter/kernels/python3"
    spec.mkdir(parents=True)
    code = f"import sys; sys.path.append({str(site)!r}); from ipykernel.kernelapp import main; main()"
    kernel = {"argv": [str(PYTHON), "-c", code, "-f", "{connection_file}"], "display_name": "x", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(kernel))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))


@pytest.mark.usefixtures("kernel")
def test_a_whole_run_in_a_notebook(project: Path) -> None:
    text, error = Notebook(project, '{"steps": 40}').run()
    assert not error
    lines = [line for line in text.splitlines() if line.startswith("step ")]
    assert len(lines) == 2
    assert all(re.fullmatch(LINE, line) for line in lines)
    assert text.splitlines()[-1].startswith("next: ")


@pytest.mark.usefixtures("kernel")
def test_an_interrupted_run_in_a_notebook(project: Path) -> None:
    notebook = Notebook(project, '{"steps": 1_000_000}')

    def interrupt() -> None:
        metrics = project / "run/metrics.jsonl"
        wait_for(lambda: metrics.exists() and metrics.read_text())
        os.kill(int((project / "pid").read_text()), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    text, error = notebook.run()
    thread.join()
    assert re.search(r"^stopped at step \d+: the same command resumes the run$", text, re.MULTILINE)
    assert error == ["stopped by signal 2"]
    assert list((project / "run").glob("step-*.pt"))


@pytest.mark.usefixtures("kernel")
def test_a_failing_run_in_a_notebook(project: Path) -> None:
    _, (line,) = Notebook(project, '{"lr": 4e9, "warmup": 0}').run()
    assert line.startswith("loss or gradient is not finite at step 20: use a lower --lr")


def test_the_page_of_notebooks_is_followed(project: Path) -> None:
    """Its cell, executed by its command in the project as it is, which stays so."""
    page = (ROOT / "docs" / "notebooks.md").read_text()
    (cell,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (command,) = re.findall("^uv run (.* jupyter execute .*)$", page, re.MULTILINE)
    notebook = Notebook(project, "{}").notebook
    notebook.cells[1:] = []
    notebook.cells[0].source = cell.replace("steps=1000", "steps=20, device='cpu'")
    path = project / "first.ipynb"
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
    arguments = shlex.split(command.replace(path.name, str(path)))
    before = sorted(path.name for path in PROJECT.glob(".venv/lib/python*/site-packages/*"))
    variables = {**without_uv(), "UV_NO_SYNC": "1"}
    subprocess.run(["uv", "run", *arguments], cwd=PROJECT, env=variables, check=True, capture_output=True)
    executed = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    text = "".join(output.text for output in executed.cells[0].outputs)
    assert "test set, with the weights of step 20" in text
    assert (project / "runs" / "first" / "best.pt").exists()
    assert sorted(path.name for path in PROJECT.glob(".venv/lib/python*/site-packages/*")) == before


def test_a_sweep_needs_no_framework(project: Path) -> None:
    """The loop of the README, and the comparison of its trials."""
    readme = (PROJECT / "README.md").read_text()
    (loop, best) = re.findall(
        r"```(?:sh|python)\n(.*?)```", readme.partition("### Sweeps")[2].partition("\n## ")[0], re.DOTALL
    )[:2]
    short = "--device=cpu --batch-size=8 --steps=20 --eval-every=10"
    script = loop.replace("uv run demo", f"{PYTHON} -m demo").replace("--steps 1000", short)
    for _ in range(2):  # the trials are finished: again, nothing is trained
        done = subprocess.run(
            ["/bin/sh", "-e", "-c", script],
            cwd=project,
            env=environ(project),
            check=True,
            capture_output=True,
            text=True,
        )
    assert done.stdout.count("the run is finished") == 3
    found = subprocess.run([PYTHON, "-c", best], cwd=project, check=True, capture_output=True, text=True)
    assert len(found.stdout.splitlines()) == 3
    assert all(re.match(r"[\d.]+ runs/lr-", line) for line in found.stdout.splitlines())
