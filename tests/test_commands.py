"""Commands in rendered files do what the files say: uv is asked what each `uv sync` would install."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.project import Project
from tests.waiting import wait_for

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


SRUN = """#!/bin/sh
echo "$@" > srun.txt
echo "$SRUN_CPUS_PER_TASK" > cpus.txt
[ -n "$CODE" ] && exit "$CODE"
trap 'echo saved > saved.txt; exit 1' TERM
touch started.txt
while :; do sleep 0.1; done
"""


SCONTROL = '#!/bin/sh\n[ "$1" = show ] && echo first || echo "$@" > scontrol.txt\n'


@pytest.fixture
def batch(render: Callable[..., Project]) -> Callable[..., subprocess.Popen[bytes]]:
    """Start the batch script that trains."""
    return start_batch(render(features=["slurm"]), "slurm/train.sbatch", "--steps", "9")


def start_batch(project: Project, *command: str, **stand_ins: str) -> Callable[..., subprocess.Popen[bytes]]:
    """Return what starts a batch script as Slurm would, with stand-ins of its commands and of other ones."""
    for name, text in ({"srun": SRUN, "scontrol": SCONTROL} | stand_ins).items():
        file = project.path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "first,second", "SLURM_CPUS_PER_TASK": "8"}
    path = f"{project.path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return lambda **env: subprocess.Popen(
        ["bash", *command],
        cwd=project.path,
        env={**os.environ, **slurm, "PATH": path, **env},
    )


@pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: Slurm does not run on Windows")
def test_a_batch_job_that_runs_out_of_time_is_queued_again(
    batch: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    running, folder = batch(), tmp_path / "demo"
    wait_for((folder / "started.txt").exists, 30)
    running.send_signal(signal.SIGUSR1)
    assert running.wait(30) == 0
    assert (folder / "saved.txt").exists(), "the requeue waits for the checkpoint"
    assert (folder / "scontrol.txt").read_text().split() == ["requeue", "7"]
    command = (folder / "srun.txt").read_text()
    assert (folder / "cpus.txt").read_text().strip() == "8", "srun does not inherit them"
    assert "--nnodes 2" in command
    assert "--rdzv-endpoint first:20007" in command
    assert command.rstrip().endswith("-m demo train --steps 9")


def test_slurm_gives_a_job_time_for_its_checkpoint(render: Callable[..., Project]) -> None:
    script = (render(features=["slurm"]).path / "slurm" / "train.sbatch").read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(.+)$", script, re.MULTILINE))
    to, signal_name, seconds = re.split("[:@]", options["signal"])
    assert (to, signal_name) == ("B", "USR1"), "to the script alone"
    assert int(seconds) >= 100, "torchrun's processes have that long"
    assert f"trap 'timeout=1; kill -TERM \"$run\"' {signal_name}" in script


@pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: Slurm does not run on Windows")
@pytest.mark.parametrize("code", [0, 3])
def test_a_batch_job_that_ends_is_not(code: int, batch: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    assert batch(CODE=str(code)).wait(30) == code
    assert not (tmp_path / "demo" / "scontrol.txt").exists()


UV = '#!/bin/sh\necho "$@" >> uv.txt\n[ "$1" = run ] || exit "${CODE:-0}"\n'


@pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: Slurm does not run on Windows")
@pytest.mark.parametrize(
    ("others", "code"), [([], 0), ([], 2), (["cpu"], 0)], ids=["one backend", "a stale lock", "two"]
)
def test_a_script_of_ones_own_runs_on_every_node_after_one_sync(
    others: list[str], code: int, render: Callable[..., Project]
) -> None:
    project = render(skeleton="none", features=["slurm"], other_backends=others)
    command = ["slurm/run.sbatch", "script.py", "--name", "two words"]
    stand_ins = {"uv": UV, "srun": '#!/bin/sh\nprintf "%s\\n" "$@" > srun.txt\nexit 3\n'}
    assert start_batch(project, *command, **stand_ins)(CODE=str(code)).wait(30) == (code or 3)
    assert (project.path / "uv.txt").exists() != bool(others), "with several backends, what is installed stays"
    if not others:
        assert (project.path / "uv.txt").read_text() == "sync --locked\n"
    if code == 0:
        words = (project.path / "srun.txt").read_text().splitlines()
        assert words[:6] == ["uv", "run", "--no-sync", "torchrun", "--nnodes", "2"]
        assert words[words.index("--rdzv-endpoint") + 1] == "first:20007"
        assert words[-3:] == ["script.py", "--name", "two words"]
