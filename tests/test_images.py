"""Images of rendered projects, built and run for real.

It takes Docker, and downloads several GB. `uvx nox -s docker` runs it, with an engine of its own where there is none.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docker import Docker
from tests.docker.images import bases, provide
from tests.history import append, commit, git, replace
from tests.network import unreached
from tests.project import PYTHON, Project, without_uv
from tests.replica import replica, serving, wheels
from tests.table import ROOT, TABLE
from tests.test_mirrors import Guarded
from tests.test_places import blocks, environments

NAME = "torch-uv-template-demo"  # of the projects, and of their images
RELEASE = "2.13"  # the wheel that the replica may have
CPU: dict[str, object] = {"torch": RELEASE, "backend": "cpu", "python": PYTHON, "platforms": ["linux-x86_64"]}


@pytest.fixture(scope="session")
def docker() -> Docker:
    return Docker()


@contextmanager
def pytorch_index() -> Iterator[str]:
    """Give PyTorch's index, or else the replica, at an address that containers reach too."""
    if not unreached(f"{TABLE['index']}/cpu/torch/"):
        yield TABLE["index"]
        return
    if not any(wheels.real_file(wheel) for wheel in wheels.torch("cpu", RELEASE, PYTHON)):
        pytest.skip("SKIPPED: download.pytorch.org cannot be reached, and PIP_FIND_LINKS has no wheel of torch")
    with replica(own_address()) as url:
        yield url


def own_address() -> str:
    """Return the address of this machine that others see."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: it chooses the address
        return str(probe.getsockname()[0])


@pytest.fixture(scope="session")
def index() -> Iterator[str]:
    with pytorch_index() as url:
        yield url


@pytest.fixture(scope="session")
def projects(docker: Docker, index: str) -> Iterator[Callable[..., Project]]:
    """Render and lock a project, and have the images that it begins with. Containers may write in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)

        def make(variant: str, **answers: object) -> Project:
            project = Project.render(folder / variant / "demo", project_name=NAME, package_name="demo", **answers)
            lock(project)
            (project.path / "runs").mkdir()
            (project.path / "runs").chmod(0o777)
            have(docker, project)
            return project

        yield make


@pytest.fixture(scope="session")
def cpu(projects: Callable[..., Project], index: str) -> Project:
    return projects("cpu", torch_index=index, features=["docker", "devcontainer"], **CPU)


@pytest.fixture(scope="session")
def default(projects: Callable[..., Project]) -> Project:
    return projects("default")


def have(docker: Docker, project: Project) -> None:
    """Have the images that the one of a project begins with."""
    for image in bases((project.path / "Dockerfile").read_text()):
        provide(docker, image)


def lock(project: Project, *command: str) -> None:
    """Lock a project as its user would: an image is built without the settings of the tests."""
    subprocess.run(["uv", "--quiet", *(command or ("lock",))], cwd=project.path, env=without_uv(), check=True)


def edit_code(project: Project) -> None:
    append(project.path / "src" / "demo" / "train.py", "# an edit")


def edit_tool(project: Project) -> None:
    replace(project.path / "pyproject.toml", "line-length = 100", "line-length = 99")


def add_dependency(project: Project) -> None:
    lock(project, "add", "--no-sync", "einops>=0.8")


# Without headers that are compiled first: they would serve the next function, and there is none
COMPILE = """
import torch
from torch._inductor import config
config.cpp_cache_precompile_headers = False
assert torch.compile(lambda x: (x.sin() + 1).sum())(torch.zeros(9)) == 9
"""
# That of PEP 552 which does not depend on times
BYTECODE = """
from pathlib import Path
files = list(Path("/opt/venv").rglob("*.pyc"))
assert len(files) > 5000
assert {file.read_bytes()[4:8] for file in files} == {b"\\1\\0\\0\\0"}
"""


def python(docker: Docker, image: str, code: str, *options: str) -> str:
    """Run Python code in a container, and return what it printed."""
    return docker("run", "--rm", *options, "--entrypoint", "python", image, "-c", code)


class Image:
    """An image, and the layers of it that hold the packages."""

    def __init__(self, docker: Docker, project: Project, variant: str) -> None:
        self.tag, packages = f"{NAME}:{variant}", f"{NAME}:{variant}-packages"
        docker("build", "--progress", "plain", "--tag", self.tag, ".", cwd=project.path)
        docker("build", "--quiet", "--tag", packages, "--target", "packages", ".", cwd=project.path)
        (self.layers, self.size), (self.packages, below) = (
            (tuple(found["RootFS"]["Layers"]), found["Size"])
            for found in json.loads(docker("image", "inspect", self.tag, packages))
        )
        assert self.layers[: len(self.packages)] == self.packages
        self.top = self.size - below


@pytest.mark.parametrize("variant", ["cpu", "default"])
def test_an_edit_moves_no_packages(variant: str, docker: Docker, request: pytest.FixtureRequest) -> None:
    project: Project = request.getfixturevalue(variant)
    before = Image(docker, project, variant)
    python(docker, before.tag, BYTECODE)
    if variant == "default":  # it has a compiler for torch.compile
        python(docker, before.tag, COMPILE, "--user", "1234")

    edit_code(project)
    edited = Image(docker, project, variant)
    assert edited.layers != before.layers
    assert edited.packages == before.packages

    edit_tool(project)
    tool = Image(docker, project, variant)
    assert tool.layers != edited.layers
    assert tool.packages == before.packages
    assert tool.top < 500_000, "what moves is the code and uv.lock, before it is compressed"


def test_a_small_dependency_moves_the_small_packages(cpu: Project, docker: Docker) -> None:
    before = Image(docker, cpu, "cpu")
    add_dependency(cpu)
    after = Image(docker, cpu, "cpu")
    moved = [new for old, new in zip(before.packages, after.packages, strict=True) if old != new]
    assert moved == list(after.packages[-2:]), "the list of all packages, and those that are not torch"
    python(docker, after.tag, "import einops, torch")


def run(docker: Docker, project: Project, image: str, *command: str) -> subprocess.CompletedProcess[str]:
    runs = project.path / "runs"
    return docker.run("run", "--rm", "--init", "--volume", f"{runs}:/app/runs", image, *command)


def share(docker: Docker, project: Project, image: str) -> None:
    """Let whoever runs the tests remove what a container wrote."""
    runs = f"{project.path / 'runs'}:/app/runs"
    docker("run", "--rm", "--user", "0", "--entrypoint", "chmod", "--volume", runs, image, "-R", "a+rwX", "/app/runs")


@pytest.mark.parametrize("variant", ["cpu", "default"])
def test_a_container_trains_as_a_user_who_is_not_root(
    variant: str, docker: Docker, request: pytest.FixtureRequest
) -> None:
    project: Project = request.getfixturevalue(variant)
    image = f"{NAME}:{variant}"
    docker("build", "--tag", image, ".", cwd=project.path)
    trained = run(docker, project, image, "train", "--steps", "20")
    assert trained.returncode == 0, trained.stderr
    assert "device cpu" in trained.stdout + trained.stderr
    exported = run(docker, project, image, "export")
    assert exported.returncode == 0, exported.stderr
    assert (project.path / "runs" / "default" / "model.safetensors").stat().st_mode & 0o777 == 0o644
    assert owners(project) == {1000}
    share(docker, project, image)

    refused = run(docker, project, image, "train", "--device", "cuda")
    assert refused.returncode == 2
    assert "no device 'cuda'" in refused.stderr
    if variant == "cpu":  # it has no compiler
        refused = run(docker, project, image, "train", "--compile")
        assert refused.returncode == 2
        assert "--compile needs g++: install it (in a Dockerfile: in its stage base)" in refused.stderr

    # Before 2.13, torch.compile asks for the name of the user
    python(docker, image, "import getpass; getpass.getuser()", "--user", "1234")


def test_without_a_skeleton_a_container_runs_python(
    projects: Callable[..., Project], docker: Docker, index: str
) -> None:
    project = projects("none", torch_index=index, skeleton="none", **CPU)
    image = f"{NAME}:none"
    docker("build", "--tag", image, ".", cwd=project.path)
    (found,) = json.loads(docker("image", "inspect", image))
    assert (found["Config"].get("Entrypoint"), found["Config"]["Cmd"]) == (None, ["python"])
    code = "import sys, torch, demo; print(sys.prefix, torch.ones(2).sum().item(), file=open('runs/ours', 'w'))"
    done = run(docker, project, image, "python", "-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr
    assert owners(project) == {1000}
    share(docker, project, image)
    assert (project.path / "runs" / "ours").read_text() == "/opt/venv 2.0\n"
    output = docker("run", "--rm", "--shm-size", "2g", image, "python", "tools/doctor.py", "--json")
    assert json.loads(output)["count"]["error"] == 0
    options = ["--build", "--rm", "--no-TTY"]
    assert (
        docker(
            "compose", "run", *options, "app", "python", "-c", "import demo, os; print(os.getcwd())", cwd=project.path
        )
        .strip()
        .endswith("/app")
    )
    docker("compose", "down", "--volumes", "--rmi", "all", cwd=project.path)


def owners(project: Project) -> set[int]:
    """Return who owns what a container wrote."""
    return {path.stat().st_uid for path in (project.path / "runs").rglob("*")}


def refusal(docker: Docker, project: Project, *options: str) -> str:
    done = docker.run("build", "--progress", "plain", *options, ".", cwd=project.path)
    assert done.returncode != 0
    return done.stderr


def test_the_doctor_examines_a_container(cpu: Project, docker: Docker) -> None:
    image = f"{NAME}:cpu"
    docker("build", "--tag", image, ".", cwd=cpu.path)
    options = ["--rm", "--shm-size", "2g", "--cpus", "0.5", "--user", "1234:1234", "--entrypoint", "python"]
    output = docker("run", *options, image, "tools/doctor.py", "--json")
    found = json.loads(output)
    assert found["count"]["error"] == 0
    texts = [finding["text"] for finding in found["findings"]]
    assert any(re.search("^linux .* in docker, ", text) for text in texts)
    assert any(text.startswith("/opt/venv, Python ") for text in texts)
    assert any("threads on 0.5 CPUs" in text for text in texts)
    assert not any("/dev/shm" in text or "written" in text for text in texts)
    options = ["--rm", "--read-only", "--tmpfs", "/dev/shm:size=64m", "--entrypoint", "python"]
    done = docker.run("run", *options, image, "tools/doctor.py")
    assert done.returncode == 1, done.stderr
    assert "nothing can be written to /app/runs: Read-only file system" in done.stdout
    assert "/dev/shm has 64 MB" in done.stdout


def test_an_image_needs_a_lockfile_that_is_up_to_date(projects: Callable[..., Project], docker: Docker) -> None:
    project = projects("stale")
    file = project.path / "pyproject.toml"
    file.write_text(file.read_text().replace("dependencies = [", 'dependencies = [\n  "einops>=0.8",', 1))
    assert "The lockfile at `uv.lock` needs to be updated" in refusal(docker, project)
    assert "run `uv lock`" in refusal(docker, project)
    (project.path / "uv.lock").unlink()
    message = refusal(docker, project)
    assert "Unable to find lockfile at `uv.lock`" in message
    assert "run `uv lock`" in message


def test_an_image_is_for_a_backend_and_a_platform_of_the_project(
    projects: Callable[..., Project], docker: Docker, index: str
) -> None:
    two = projects("two", torch=RELEASE, python=PYTHON, torch_index=index, other_backends=["cpu"])
    assert "127.0.0.1:9" in refusal(docker, two, "--build-arg", "UV_DEFAULT_INDEX=http://127.0.0.1:9/simple")
    message = refusal(docker, two, "--build-arg", "BACKEND=cu126")
    assert "there is no backend cu126: use --build-arg BACKEND=cu130 or BACKEND=cpu" in message
    other = {"x86_64": ("linux-aarch64", "linux/arm64"), "aarch64": ("linux-x86_64", "linux/amd64")}
    platform, architecture = other[os.uname().machine]
    elsewhere = projects("elsewhere", platforms=[platform])
    message = refusal(docker, elsewhere)
    assert f"the project is for {architecture}: docker build --platform {architecture} ." in message


VARIANTS: dict[str, dict[str, object]] = {
    "cpu": {"backend": "cpu"},
    "cuda": {"features": ["docker", "devcontainer"]},
    "two": {"other_backends": ["cpu"]},
    "rocm": {"torch": "2.14", "backend": "rocm7.2", "license": "none"},
    "xpu": {"torch": "2.14", "backend": "xpu", "other_backends": ["cpu", "cu130"]},
    "old": {"torch": "2.4", "companions": ["torchvision"], "platforms": ["linux-x86_64"]},
    "none": {"skeleton": "none", "other_backends": ["cpu"]},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_files_pass_their_checks(variant: str, docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project.render(tmp_path / "demo", python=PYTHON, **VARIANTS[variant])
    have(docker, project)
    (project.path / "uv.lock").touch()
    assert "no warnings found" in docker("build", "--check", ".", cwd=project.path)
    files = sorted(project.path.glob("compose*.yaml"), reverse=True)
    options = [option for file in files for option in ("--file", file.name)]
    monkeypatch.setenv("RENDER_GROUP", "9")
    for given in (options[:2], options):
        config = docker("compose", *given, "config", "--format", "json", cwd=project.path)
        (service,) = json.loads(config)["services"].values()
        assert service["shm_size"] == str(8 << 30)
    # DL3008 wants versions of Debian's packages, which Debian does not keep
    subprocess.run(["hadolint", "--ignore=DL3008", project.path / "Dockerfile"], check=True)


def test_compose_runs_the_same_image(cpu: Project, docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(cpu.path / "runs")
    missing = docker.run("compose", "run", "--build", "--rm", "--no-TTY", "train", cwd=cpu.path)
    assert missing.returncode != 0
    assert "does not exist" in missing.stderr
    (cpu.path / "runs").mkdir()
    (cpu.path / "runs").chmod(0o777)
    monkeypatch.setenv("RUN_AS", "1234:1234")
    output = docker("compose", "run", "--rm", "--no-TTY", "train", "train", "--steps", "5", cwd=cpu.path)
    assert "device cpu" in output
    assert owners(cpu) == {1234}
    share(docker, cpu, NAME)
    docker("compose", "down", "--volumes", "--rmi", "all", cwd=cpu.path)


def test_a_member_of_a_workspace_trains(docker: Docker, index: str, tmp_path: Path) -> None:
    """It is the recipe of docs/places.md."""
    tmp_path.chmod(0o755)
    demo = Project.render(tmp_path / "packages" / "demo", torch_index=index, **CPU)
    have(docker, demo)
    changes = blocks("The image", "diff")[0].partition("--- a/compose.yaml")[0]
    for removed, added in re.findall(r"((?:^-(?!--).*\n)+)((?:^\+.*\n)+)", changes, re.MULTILINE):
        old, new = (re.sub("^[-+]", "", lines, flags=re.MULTILINE) for lines in (removed, added))
        replace(demo.path / "Dockerfile", old, new)
    (demo.path / "Dockerfile.dockerignore").write_text(blocks("The image", "")[0])
    members = '[tool.uv.workspace]\nmembers = ["packages/*"]\n'
    (tmp_path / "pyproject.toml").write_text(f"[tool.uv]\n{environments(demo)}\n{members}")
    lock(demo)
    (command,) = blocks("The image", "sh")
    docker(*command.replace("--tag demo", f"--tag {NAME}:member").split()[1:], cwd=tmp_path)
    assert "device cpu" in docker("run", "--rm", f"{NAME}:member", "train", "--steps", "5")
    docker("run", "--rm", "--entrypoint", "python", f"{NAME}:member", "packages/demo/tools/doctor.py")


class Private(Guarded):
    """The replica, and a repository next to it, for whoever has the password."""

    folder = ""

    def do_GET(self) -> None:
        path = Path(self.folder, self.path.partition("?")[0].lstrip("/"))
        if not self.path.startswith("/lib/") or "Authorization" not in self.headers:
            super().do_GET()
        elif path.is_file():
            self.reply(path.read_bytes(), "application/octet-stream")
        else:
            self.send_error(404)


def test_passwords_and_git(docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lib = tmp_path / "served" / "lib"
    (lib / "src" / "lib").mkdir(parents=True)
    (lib / "src" / "lib" / "__init__.py").touch()
    (lib / "pyproject.toml").write_text(
        '[project]\nname = "lib"\nversion = "1"\n[build-system]\nrequires = ["uv_build>=0.13,<0.14"]\n'
        'build-backend = "uv_build"\n'
    )
    git(lib, "init")
    commit(lib)
    git(lib, "update-server-info")
    monkeypatch.setattr(Private, "folder", str(lib.parent))
    with serving(Private, own_address()) as url:
        netrc = tmp_path / ".netrc"
        netrc.write_text(f"machine {own_address()} login reader password hunter2\n")
        demo = Project.render(tmp_path / "demo", torch_index=f"{url}/whl", **CPU)
        have(docker, demo)
        with monkeypatch.context() as patch:
            patch.setenv("HOME", str(tmp_path))
            lock(demo, "add", "--no-sync", f"lib @ git+{url}/lib/.git")
        (install,) = recipes("Passwords and Git")
        dockerfile = demo.path / "Dockerfile"
        base = re.findall("^FROM python.*\n", dockerfile.read_text(), re.MULTILINE)[0]
        replace(dockerfile, base, base + install)
        assert "hunter2" not in (demo.path / "uv.lock").read_text()
        assert re.search("401|credentials", refusal(docker, demo))
        image = f"{NAME}:secret"
        docker("build", "--secret", f"id=netrc,src={netrc}", "--tag", image, ".", cwd=demo.path)
    python(docker, image, "import lib, torch")
    assert "hunter2" not in docker("history", "--no-trunc", image)
    docker(
        "run", "--rm", "--user", "0", "--entrypoint", "sh", image, "-c", "! grep -rs hunter2 /root /app /opt/venv/bin"
    )


SETUP = """
from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CUDAExtension

setup(
    name="doubled",
    ext_modules=[CUDAExtension("doubled", ["doubled.cu"])],
    cmdclass={"build_ext": BuildExtension.with_options(no_python_abi_suffix=True)},
)
"""
KERNEL = """
#include <Python.h>
#include <ATen/core/Tensor.h>
#include <torch/library.h>

__global__ void kernel(float *values, long count) {
  long index = blockIdx.x * (long)blockDim.x + threadIdx.x;
  if (index < count) values[index] *= 2;
}

void doubled(at::Tensor values) {
  kernel<<<(values.numel() + 255) / 256, 256>>>(values.data_ptr<float>(), values.numel());
}

TORCH_LIBRARY(doubled, library) { library.def("doubled", &doubled); }

static PyModuleDef module = {PyModuleDef_HEAD_INIT, "doubled"};
PyMODINIT_FUNC PyInit_doubled() { return PyModule_Create(&module); }
"""


def recipes(heading: str) -> list[str]:
    """Return the lines of a Dockerfile in a section of docs/containers.md."""
    section = (ROOT / "docs" / "containers.md").read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```dockerfile\n(.*?)```", section, re.DOTALL)


def test_a_cuda_extension_compiles(default: Project, docker: Docker, tmp_path: Path) -> None:
    """It is the recipe of docs/containers.md: compiled and loaded, but not run, for that takes a GPU."""
    stage, install = recipes("CUDA extensions")
    shutil.copytree(default.path, tmp_path / "demo")
    extension = tmp_path / "demo" / "extension"
    extension.mkdir()
    (extension / "setup.py").write_text(SETUP)
    (extension / "doubled.cu").write_text(KERNEL)
    with (tmp_path / "demo" / ".dockerignore").open("a") as file:
        file.write("!extension\n")
    dockerfile = tmp_path / "demo" / "Dockerfile"
    before, last = dockerfile.read_text().rsplit("FROM packages\n", 1)
    dockerfile.write_text(f"{before}{stage}\nFROM packages\n{last.replace('USER 1000', f'{install}USER 1000', 1)}")
    image = f"{NAME}:extended"
    docker("build", "--progress", "plain", "--tag", image, ".", cwd=tmp_path / "demo")
    assert "doubled" in python(docker, image, "import torch, doubled; print(torch.ops.doubled.doubled)")


@pytest.mark.skipif(not shutil.which("npx"), reason="SKIPPED: there is no npx to run @devcontainers/cli with")
def test_a_development_container_trains(cpu: Project, docker: Docker) -> None:
    def devcontainer(name: str, *arguments: str) -> str:
        command = ["npx", "--yes", "@devcontainers/cli", name, "--workspace-folder", str(cpu.path), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    container = json.loads(devcontainer("up").splitlines()[-1])["containerId"]
    try:
        assert "device cpu" in devcontainer("exec", "uv", "run", NAME, "train", "--steps", "5", "--out", "/tmp/run")
        assert devcontainer("exec", "id", "-un").strip() == "user"
    finally:
        volumes = docker("inspect", container, "--format", "{{range .Mounts}}{{.Name}} {{end}}").split()
        image = docker("inspect", container, "--format", "{{.Image}}")
        docker("rm", "--force", container)
        docker("volume", "rm", *volumes)
        docker("image", "rm", "--force", image)
