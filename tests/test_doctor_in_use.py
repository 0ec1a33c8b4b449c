"""The doctor with real things: an installed torch, a driver that answers, wheels of another build, imports that hang.

`nox -s train` renders and installs the project that PROJECT names.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.installed import PROJECT
from tests.network import unreached
from tests.project import without_uv

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SKIPPED: the stand-in of the driver is for Linux")
DOCTOR = PROJECT / "tools" / "doctor.py"

# A stand-in of the NVIDIA driver: CUDA 13.2 and one GPU of a compute capability, or a driver that fails
LIBCUDA = r"""
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static const char *text(const char *name) { return getenv(name) ? getenv(name) : ""; }
int cuDriverGetVersion(int *version) { *version = atoi(text("STANDIN_VERSION")); return 0; }
int cuInit(unsigned flags) {
    if (!strcmp(text("STANDIN"), "hang")) sleep(1000);
    if (!strcmp(text("STANDIN"), "crash")) abort();
    return atoi(text("STANDIN"));
}
int cuDeviceGetCount(int *count) { *count = getenv("CUDA_VISIBLE_DEVICES") ? 0 : 1; return 0; }
int cuDeviceGet(int *device, int index) { *device = index + 7; return 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "NVIDIA stand-in", length); return device != 7; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? atoi(text("STANDIN_MAJOR")) : atoi(text("STANDIN_MINOR"));
    return device != 7;
}
"""


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables with which the stand-in is the driver of an H100."""
    folder = tmp_path_factory.mktemp("driver")
    (folder / "cuda.c").write_text(LIBCUDA)
    command = ["gcc", "-shared", "-fPIC", "-o", "libcuda.so.1", "cuda.c"]
    subprocess.run(command, cwd=folder, check=True)
    version = {"STANDIN_VERSION": "13020", "STANDIN_MAJOR": "9", "STANDIN_MINOR": "0"}
    return {"LD_LIBRARY_PATH": str(folder), **version}


def examine(*arguments: str, **environ: str) -> dict[str, Any]:
    """Return what the doctor of the project finds, as from its folder."""
    command = [sys.executable, str(DOCTOR), "--json", *arguments]
    options: dict[str, Any] = {"env": {**without_uv(), **environ}, "capture_output": True, "text": True}
    done = subprocess.run(command, cwd=PROJECT, timeout=120, check=False, **options)
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (found["count"]["error"] > 0)
    return found


def wrong(found: dict[str, Any]) -> list[tuple[str, str, list[str]]]:
    """Return what is wrong with the installation: the machine of the tests may lack disk, compiler or memory."""
    return [
        (finding["level"], finding["text"], finding["fix"])
        for finding in found["findings"]
        if finding["level"] != "ok" and finding["group"] not in ("Machine", "Surroundings")
    ]


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A copy of the environment of the project, to break."""
    shutil.copytree(PROJECT / ".venv", tmp_path / "venv", symlinks=True, copy_function=os.link)
    return tmp_path / "venv"


def packages(environment: Path) -> Path:
    (folder,) = environment.glob("lib/python3*/site-packages")
    return folder


def replace_import(environment: Path, name: str, text: str) -> None:
    """Put other code in the place of a package; the file is a link to that of the project."""
    path = packages(environment) / name / "__init__.py"
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text)


def test_nothing_is_wrong_with_the_installation() -> None:
    found = examine()
    assert wrong(found) == []
    texts = [finding["text"] for finding in found["findings"]]
    assert "uv.lock matches pyproject.toml" in texts
    assert any(text.endswith("the cpu build") for text in texts)
    assert "torch loads" in texts


def test_the_cpu_build_beside_a_driver(driver: dict[str, str]) -> None:
    found = examine(**driver, CUDA_VISIBLE_DEVICES="")
    ((level, text, fix),) = wrong(found)
    assert level == "warning"
    assert text == "there is a GPU, NVIDIA stand-in (9.0), but this is the cpu build: it is not for nvidia GPUs"
    assert "--data backend=cu" in fix[-2]
    assert found["machine"]["gpus"] == [{"vendor": "nvidia", "target": "9.0", "name": "NVIDIA stand-in"}]
    assert found["machine"]["cuda"] == "13.2"


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("803", "the NVIDIA driver does not work: error 803"),
        ("hang", "the NVIDIA driver does not work: no answer within 8 s"),
        ("crash", "the NVIDIA driver does not work: it crashed: Aborted"),
    ],
)
def test_a_driver_that_does_not_work(how: str, text: str, driver: dict[str, str]) -> None:
    found = examine(**driver, STANDIN=how)
    assert [finding[:2] for finding in wrong(found)] == [("warning", text)]  # it has the CPU build


@pytest.mark.parametrize(
    ("code", "problem", "fix"),
    [
        ("import time; time.sleep(1000)", "no answer within 2 s", "uv run tools/doctor.py --limit 600"),
        ("import os; os.abort()", "it crashed: Aborted", "uv sync --reinstall"),
        ("raise ImportError('it is broken')", "ImportError: it is broken", "uv sync --reinstall"),
        ("import sys; sys.exit()", "it printed nothing", "uv sync --reinstall"),
    ],
)
def test_a_torch_that_does_not_load(code: str, problem: str, fix: str, environment: Path) -> None:
    replace_import(environment, "torch", code)
    found = examine("--limit=2", UV_PROJECT_ENVIRONMENT=str(environment))
    assert ("error", f"torch does not load: {problem}", [fix]) in wrong(found)


def test_an_environment_whose_python_is_gone(environment: Path) -> None:
    python = environment / "bin" / "python"
    python.unlink()
    python.symlink_to("/none/python")
    (finding,) = wrong(examine(UV_PROJECT_ENVIRONMENT=str(environment)))
    assert finding == ("error", f"the environment {environment}: No such file or directory", ["uv sync"])


def test_packages_that_are_not_as_in_the_lock(environment: Path) -> None:
    (information,) = packages(environment).glob("filelock-*.dist-info")
    shutil.rmtree(information)
    ((level, text, fix),) = wrong(examine(UV_PROJECT_ENVIRONMENT=str(environment)))
    assert (level, fix) == ("warning", ["uv sync"])
    assert "these differ from uv.lock: " in text
    assert "filelock" in text


def test_torchvision_of_another_build(environment: Path) -> None:
    """PyPI's torchvision, which is built for CUDA, with a torch for the CPU."""
    if reason := unreached("https://pypi.org"):
        pytest.skip(f"SKIPPED: {reason}")
    (torch,) = packages(environment).glob("torch-*.dist-info")
    minor = int(torch.name.split(".")[1])
    python = ["--python", str(environment / "bin" / "python"), "--link-mode=copy"]
    command = ["uv", "pip", "install", "--no-deps", *python, f"torchvision==0.{minor + 15}.*", "pillow"]
    subprocess.run(command, check=True, capture_output=True)
    found = [one for one in wrong(examine(UV_PROJECT_ENVIRONMENT=str(environment))) if "torchvision" in one[1]]
    ((level, text, fix),) = found
    assert level == "error"
    assert "does not load: RuntimeError: operator torchvision::nms does not exist" in text
    assert fix[-2].endswith("--data 'companions=[torchvision]'")


@pytest.fixture
def run_in_project() -> Callable[[str], str]:
    """Run code with the Python of the project, in which `doctor` is the module."""

    def run(code: str) -> str:
        script = f"import sys; sys.path.insert(0, {str(DOCTOR.parent)!r}); import doctor, torch\n{code}"
        done = subprocess.run(
            [str(PROJECT / ".venv/bin/python"), "-c", script], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def test_a_device_that_computes_otherwise_is_seen(run_in_project: Callable[[str], str]) -> None:
    healthy = "print(doctor.try_device(torch, 'cpu'))"
    assert run_in_project(healthy) == ""
    broken = """
real, factors = torch.autograd.grad, iter((1.0, 1.1))
torch.autograd.grad = lambda *given: tuple(next(factors) * one for one in real(*given))
"""
    assert run_in_project(broken + healthy) == "it gives different results from the CPU"
    assert "CUDA" in run_in_project("print(doctor.try_device(torch, 'cuda:0'))")


def test_warnings_of_torch_are_passed_on(run_in_project: Callable[[str], str]) -> None:
    code = """
import json, warnings
torch.cuda.device_count = lambda: warnings.warn("the driver is too old\\nupdate it") or 0
print(json.dumps(doctor.probe_torch()["warnings"]))
"""
    assert run_in_project(code) == '["the driver is too old"]'
