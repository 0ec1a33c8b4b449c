"""Commands in rendered files do what the files say: uv is asked what each `uv sync` would install."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.project import Project

FILES = {"docker": "Dockerfile", "github": ".github/workflows/ci.yml", "gitlab": ".gitlab-ci.yml"}


def installs(project: Project, file: str, platform: str, backend: str = "") -> list[dict[str, str]]:
    """Return what each `uv sync` of a file would install on a platform, into an empty environment: names and versions."""
    text = (project.path / file).read_text().replace("\\\n", "").replace("$BACKEND", backend)
    found = [
        project.would_sync(platform, *shlex.split(options)) for options in re.findall(r"\buv sync\b([^&\n]*)", text)
    ]
    assert found, f"no uv sync in {file}"
    return found


@pytest.mark.parametrize("others", [[], ["cpu"]], ids=["one backend", "two"])
def test_an_image_has_the_backend_and_no_tools(others: list[str], render: Callable[..., Project], replica: str) -> None:
    project = render(torch="2.14", backend="cu126", other_backends=others)
    project.resolve_with(replica)
    project.lock()
    for backend in project.backends:
        (installed,) = installs(project, FILES["docker"], "linux-x86_64", backend)
        assert installed["torch"] == f"2.14.1+{backend}"
        assert "demo" in installed
        assert "pytest" not in installed


@pytest.mark.parametrize("ci", ["github", "gitlab"])
@pytest.mark.parametrize(("others", "build"), [([], "cu126"), (["cpu"], "cpu")], ids=["one backend", "two"])
def test_a_pipeline_has_the_smallest_backend_and_the_tools(
    ci: str, others: list[str], build: str, render: Callable[..., Project], replica: str
) -> None:
    project = render(torch="2.14", backend="cu126", other_backends=others, ci=ci)
    project.resolve_with(replica)
    project.lock()
    checks, on_a_gpu = installs(project, FILES[ci], "linux-x86_64")
    assert checks["torch"] == f"2.14.1+{build}"
    assert on_a_gpu["torch"] == "2.14.1+cu126"
    assert {"pytest", "ruff", "mypy", "demo"} <= checks.keys()


# What the batch scripts give to Slurm's commands, and what they make of the answers; tests/test_slurm.py has a real Slurm
STAND_INS = {
    "uv": 'printf "%s\\n" "$@" > uv.txt; shift 2; exec "$@"',
    "srun": 'echo "$SRUN_CPUS_PER_TASK $OMP_NUM_THREADS" > cpus.txt; exit "$CODE"',
    "scontrol": '[ "$1" = show ] && echo first || echo "$@" > scontrol.txt',
}
SLURM = {"SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "first,second", "SLURM_CPUS_PER_TASK": "8"}


def run_batch(project: Project, *command: str, **env: str) -> int:
    """Run a batch script with stand-ins of what it calls, and return its exit code."""
    for name, text in STAND_INS.items():
        file = project.path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
    path = f"{project.path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environ = {**os.environ, **SLURM, "PATH": path, **env}
    return subprocess.run(["bash", *command], cwd=project.path, env=environ, check=False, timeout=300).returncode


@pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: Slurm does not run on Windows")
@pytest.mark.parametrize(
    ("code", "array", "requeued"),
    [
        (138, {}, "7"),
        (143, {}, "7"),
        (138, {"SLURM_ARRAY_JOB_ID": "6", "SLURM_ARRAY_TASK_ID": "3"}, "6_3"),
        (0, {}, ""),
        (130, {}, ""),
        (2, {}, ""),
    ],
    ids=["out of time", "preempted", "a job of an array", "the end", "an interrupt", "an error"],
)
def test_a_batch_job_that_has_to_stop_is_queued_again(
    code: int, array: dict[str, str], requeued: str, render: Callable[..., Project]
) -> None:
    project = render(features=["slurm"])
    command = ("slurm/train.sbatch", "--steps", "9", "--out", "runs/the %a")
    assert run_batch(project, *command, CODE=str(code), **array) == (0 if requeued else code)
    assert (project.path / "cpus.txt").read_text().split() == ["8", "8"], "srun does not inherit them"
    words = (project.path / "uv.txt").read_text().splitlines()
    assert words[:3] == ["run", "--locked", "srun"]
    number = array.get("SLURM_ARRAY_TASK_ID", "%a")
    assert words[-6:] == ["demo", "train", "--steps", "9", "--out", f"runs/the {number}"]
    order = project.path / "scontrol.txt"
    assert (order.read_text().split() if order.exists() else []) == (["requeue", requeued] if requeued else [])


def test_slurm_gives_a_job_time_for_its_checkpoint(render: Callable[..., Project]) -> None:
    script = (render(features=["slurm"]).path / "slurm" / "train.sbatch").read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(.+)$", script, re.MULTILINE))
    name, seconds = options["signal"].split("@")
    assert f"\n{128 + signal.Signals[f'SIG{name}']} | " in script, "to the processes of the run, whose exit code it is"
    assert int(seconds) >= 100


@pytest.mark.parametrize(
    ("answers", "gpus"),
    [({}, True), ({"backend": "cpu"}, False), ({"backend": "cpu", "other_backends": ["cu130"], "torch": "2.14"}, True)],
    ids=["a GPU", "none", "one of two"],
)
@pytest.mark.parametrize(("skeleton", "script"), [("training", "train.sbatch"), ("none", "run.sbatch")])
def test_a_job_asks_for_a_gpu_if_a_backend_has_one(
    skeleton: str, script: str, answers: dict[str, object], gpus: bool, render: Callable[..., Project]
) -> None:
    project = render(features=["slurm"], skeleton=skeleton, **answers)
    assert ("#SBATCH --gpus-per-node=1\n" in (project.path / "slurm" / script).read_text()) == gpus


@pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: Slurm does not run on Windows")
@pytest.mark.parametrize("gpus", [{}, {"SLURM_GPUS_ON_NODE": "4"}], ids=["no GPU", "four"])
def test_a_script_of_ones_own_runs_on_every_node_after_one_sync(
    gpus: dict[str, str], render: Callable[..., Project]
) -> None:
    project = render(skeleton="none", features=["slurm"])
    assert run_batch(project, "slurm/run.sbatch", "script.py", "--name", "two words", CODE="3", **gpus) == 3
    words = (project.path / "uv.txt").read_text().splitlines()
    assert words[:6] == ["run", "--locked", "srun", "torchrun", "--nnodes", "2"]
    assert words[words.index("--nproc-per-node") + 1] == gpus.get("SLURM_GPUS_ON_NODE", "1")
    assert words[words.index("--rdzv-endpoint") + 1] == "first:20007"
    assert words[-3:] == ["script.py", "--name", "two words"]
