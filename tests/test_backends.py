"""A project with several backends, in daily use: a machine stays on the one that it was given."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.project import PYTHON, Project, without_uv

FIRST, OTHER = "rocm7.2", "cpu"  # the replica has all of them: nothing is large
VERSION = 'import importlib.metadata as metadata; print(metadata.version("torch"))'


@pytest.fixture
def project(render: Callable[..., Project], replica: str) -> Project:
    """A project for this machine, with the backends of the replica."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("SKIPPED: ROCm is for Linux on x86_64")
    answers = {"torch": "2.13", "python": PYTHON, "platforms": ["linux-x86_64"], "features": ["slurm"]}
    return render(backend=FIRST, other_backends=[OTHER], torch_index=replica, **answers)


def readme_commands(project: Project) -> tuple[dict[str, str], list[str]]:
    """Return how the README chooses another backend: the variable, and the arguments of uv."""
    text = (project.path / "README.md").read_text(encoding="utf-8").partition("## Which torch")[2]
    block = re.search(r"```sh\nexport (\w+)=(\w+)\nuv (.+)\n```", text)
    assert block
    return {block[1]: block[2]}, shlex.split(block[3])


def test_a_machine_stays_on_its_backend(project: Project) -> None:
    variable, switch = readme_commands(project)

    def uv(*command: str, **variables: str) -> str:
        # not Project.uv, whose time limit on packages would make uv resolve anew when the script below runs without it
        env = {**without_uv(), "UV_PYTHON": sys.executable, **variables}
        done = subprocess.run(["uv", *command], cwd=project.path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def runs(**variables: str) -> str:
        return uv("run", "python", "-c", VERSION, **variables)

    assert runs() == f"2.13.0+{FIRST}", "the first backend is the default"
    uv(*switch, **variable)
    assert runs(**variable) == f"2.13.0+{OTHER}"
    for package in ("einops", "torchmetrics"):  # the second one requires torch
        uv("add", package, **variable)
        assert runs(**variable) == f"2.13.0+{OTHER}"
        uv(*switch, **variable)
        assert (
            uv(
                "run",
                "python",
                "-c",
                f"import importlib.util as i; print(i.find_spec({package!r}) is not None)",
                **variable,
            )
            == "True"
        )
        assert runs(**variable) == f"2.13.0+{OTHER}"
    assert in_a_batch_job(project) == f"2.13.0+{OTHER}"
    assert runs() == f"2.13.0+{FIRST}", "the README says why the variable must stay"


def in_a_batch_job(project: Project) -> str:
    """Return the torch that the batch script runs with, where Slurm passes on no variables of the shell."""
    program = project.path / ".venv" / "bin" / "demo"
    program.write_text(f"#!/bin/sh\npython -c '{VERSION}'\n")
    program.chmod(0o755)
    stand_ins = project.path / "bin"
    stand_ins.mkdir()
    (stand_ins / "srun").write_text('#!/bin/sh\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n')
    (stand_ins / "srun").chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_NNODES": "1", "SLURM_JOB_NODELIST": "first", "SLURM_CPUS_PER_TASK": "1"}
    env = {**without_uv(), **slurm, "UV_PYTHON": sys.executable, "PATH": f"{stand_ins}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", "slurm/train.sbatch"]
    done = subprocess.run(command, cwd=project.path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("others", [[], ["cpu"]], ids=["one backend", "two"])
def test_a_wheel_requires_torch_as_the_readme_says(
    others: list[str], render: Callable[..., Project], tmp_path: Path
) -> None:
    project = render(other_backends=others)
    project.uv("build", "--wheel", "--out-dir", str(tmp_path))
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode().partition("\n\n")[0])
    required = {Requirement(line).name for line in metadata.get_all("Requires-Dist", [])}
    readme = (project.path / "README.md").read_text(encoding="utf-8")
    assert "numpy" in required
    assert ("torch" in required) == (not others)
    assert ("does not require torch" in readme) == bool(others)
