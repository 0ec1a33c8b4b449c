"""Images of rendered projects, built and run for real.

It takes an engine, root on Debian or else Docker, and downloads several GB. `uvx nox -s docker` runs it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docker import Docker, engine
from tests.docker.images import bases, provide
from tests.project import PYTHON, Project
from tests.replica import replica as stand_in
from tests.replica import wheels
from tests.table import ROOT, TABLE

CPU = {"torch": "2.13", "backend": "cpu", "python": PYTHON, "platforms": ["linux-x86_64"]}


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """The commands of an engine; the images that are made are gone in the end."""
    with engine() as docker:
        before = set(docker("image", "ls", "--quiet").split())
        yield docker
        made = set(docker("image", "ls", "--quiet").split()) - before
        if made:
            docker.run("image", "rm", "--force", *made)


@pytest.fixture(scope="session")
def index() -> Iterator[str]:
    """PyTorch's index, or else the replica, at an address that containers reach too."""
    try:
        urllib.request.urlopen(f"{TABLE['index']}/cpu/torch/", timeout=20).close()
        yield TABLE["index"]
    except OSError:
        if not any(wheels.real_file(wheel) for wheel in wheels.torch("cpu", CPU["torch"], PYTHON)):
            pytest.skip("SKIPPED: download.pytorch.org cannot be reached, and PIP_FIND_LINKS has no wheel of torch")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it chooses the address that others see
            address = probe.getsockname()[0]
        with stand_in(address) as url:
            yield url


@pytest.fixture(scope="session")
def projects(docker: Docker, index: str) -> Iterator[Callable[..., Project]]:
    """Render and lock a project, and have the images that it begins with. Containers may write in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)

        def make(variant: str, **answers: object) -> Project:
            project = Project.render(folder / variant / "demo", project_name="demo", **answers)
            lock(project)
            (project.path / "runs").mkdir()
            (project.path / "runs").chmod(0o777)
            for image in bases((project.path / "Dockerfile").read_text()):
                provide(docker, image)
            return project

        yield make


@pytest.fixture(scope="session")
def cpu(projects: Callable[..., Project], index: str) -> Project:
    return projects("cpu", torch_index=index, features=["docker", "devcontainer"], **CPU)


@pytest.fixture(scope="session")
def default(projects: Callable[..., Project]) -> Project:
    return projects("default")


def lock(project: Project, *command: str) -> None:
    """Lock a project as its user would: an image is built without the settings of the tests."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("UV_") or name == "UV_CACHE_DIR"}
    subprocess.run(["uv", "--quiet", *(command or ("lock",))], cwd=project.path, env=env, check=True)


class Image:
    """An image, and the layers of it that hold the packages."""

    def __init__(self, docker: Docker, project: Project, tag: str) -> None:
        docker("build", "--progress", "plain", "--tag", tag, ".", cwd=project.path)
        docker("build", "--quiet", "--tag", f"{tag}-packages", "--target", "packages", ".", cwd=project.path)
        (self.layers, self.size), (self.packages, below) = (
            (tuple(found["RootFS"]["Layers"]), found["Size"])
            for found in json.loads(docker("image", "inspect", tag, f"{tag}-packages"))
        )
        assert self.layers[: len(self.packages)] == self.packages
        self.top = self.size - below


@pytest.mark.parametrize("variant", ["cpu", "default"])
def test_an_edit_moves_no_packages(variant: str, docker: Docker, request: pytest.FixtureRequest) -> None:
    project: Project = request.getfixturevalue(variant)
    before = Image(docker, project, variant)
    output = docker("run", "--rm", variant, "train", "--steps", "20")
    assert "device cpu" in output

    with (project.path / "src" / "demo" / "train.py").open("a") as file:
        file.write("# an edit\n")
    code = Image(docker, project, variant)
    assert code.layers != before.layers
    assert code.packages == before.packages

    file = project.path / "pyproject.toml"
    file.write_text(file.read_text().replace("line-length = 100", "line-length = 99"))
    tool = Image(docker, project, variant)
    assert tool.layers != code.layers
    assert tool.packages == before.packages
    assert tool.top < 500_000, "what moves is the code and uv.lock, before it is compressed"


def test_a_small_dependency_moves_the_small_packages(cpu: Project, docker: Docker) -> None:
    before = Image(docker, cpu, "cpu")
    lock(cpu, "add", "--no-sync", "einops>=0.8")
    after = Image(docker, cpu, "cpu")
    moved = [new for old, new in zip(before.packages, after.packages, strict=True) if old != new]
    assert moved == list(after.packages[-2:]), "the list of all packages, and those that are not torch"
    docker("run", "--rm", "--entrypoint", "python", "cpu", "-c", "import einops, torch")
