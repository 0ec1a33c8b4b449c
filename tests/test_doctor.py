"""The doctor in recorded situations: machines, drivers, installations, and what their processes answer."""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import cache
from itertools import product
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jsonschema
import pexpect
import pytest

from tests.history import commit, copied, git, released, replace
from tests.project import SYSTEMS, Project, without_uv
from tests.supported import everywhere
from tests.table import BACKENDS, PLATFORMS, RELEASES, ROOT, builds, companions, loads, on_pypi, pythons
from tests.test_rendered import code_lines
from tests.waiting import foreground, wait_for

# What the processes of a healthy machine answer: a workstation with an H100, and the default project installed
DRIVER = {"cuda": "13.2", "gpus": [["9.0", "NVIDIA H100"]]}
KERNELS = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
UV = {"--version": "uv 0.13.9\n", "sync": '{"sync": {"changes": []}}'}
Finding = tuple[str, str, list[str]]


@cache
def project_of(**answers: str) -> Path:
    """Return a project, rendered once; lists of answers are words in a row."""
    folder = Path(tempfile.mkdtemp(prefix="torch-uv-template-"))
    atexit.register(shutil.rmtree, folder)
    lists = ("platforms", "other_backends", "companions")
    given = {name: text.split() if name in lists else text for name, text in answers.items()}
    return Project.render(folder / "demo", **given).path


def load(project: Path) -> ModuleType:
    """Import the doctor of a project."""
    spec = importlib.util.spec_from_file_location("doctor", project / "tools" / "doctor.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["doctor"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def record(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    answers: dict[str, str] | None = None,
    machine: tuple[str, str, str] = ("linux", "x86_64", ""),
    files: dict[str, str] | None = None,
    environ: dict[str, str] | None = None,
    packages: dict[str, str] | None = None,
    build: str = "cu132",
    uv: dict[str, str] | None = None,
    disk: dict[str, int] | None = None,
    compiler: str | None = "/usr/bin/g++",
    **probes: Any,
) -> tuple[ModuleType, Any]:
    """Return the doctor of a project, and what it is to look at.

    Args:
        machine: System, machine and version of macOS.
        files: Files of the system, such as `proc/version`, and what they hold.
        packages: Installed packages and their versions.
        build: The backend of the installed torch.
        uv: What commands of uv print; what begins with `error: ` is why one fails.
        probes: What a probe finds that is not as on a healthy machine, or its problem.
    """
    doctor = load(project_of(**(answers or {})))
    system = folder / "system"
    (system / "dev/shm").mkdir(parents=True)
    for name, text in (files or {}).items():
        (system / name).parent.mkdir(parents=True, exist_ok=True)
        (system / name).write_text(text)
    monkeypatch.setattr(doctor.Here, "system", system)
    here = doctor.Here(doctor.Machine(*machine[:2], macos=machine[2]), folder)
    here.environ, here.environment, here.uv = environ or {}, folder, "uv"
    healthy: dict[str, dict[str, Any]] = {
        "driver": DRIVER,
        "python": {
            "version": "3.11.7",
            "machine": machine[1],
            "headers": True,
            "packages": "/site-packages",
            "installed": {"torch": "2.15.0"} if packages is None else packages,
            "build": build,
        },
        "torch": {
            "file": "/site-packages/torch/__init__.py",
            "kernels": KERNELS,
            "devices": {"cuda:0": ""},
            "warnings": [],
        },
    }

    def probe(name: str, *arguments: str) -> tuple[dict[str, Any], str]:
        name = "_".join([name, *arguments])
        answer = probes.get(name, {})
        return ({}, answer) if isinstance(answer, str) else ({**healthy.get(name, {}), **answer}, "")

    def ask(command: str, *arguments: str) -> tuple[str, str]:
        assert command == "uv"
        known = {**UV, **(uv or {})}
        answer = known.get(
            f"sync --group {arguments[4]}" if arguments[3:4] == ("--group",) else "", known[arguments[0]]
        )
        return ("", answer[7:]) if answer.startswith("error: ") else (answer, "")

    here.probe, here.ask = probe, ask
    sizes = SimpleNamespace(**{"total": 1 << 40, "free": 1 << 40, **(disk or {})})
    fakes = SimpleNamespace(which=lambda _: compiler, disk_usage=lambda _: sizes)
    monkeypatch.setattr(doctor, "shutil", fakes)
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda _: range(8), raising=False)
    return doctor, here


def examine(folder: Path, monkeypatch: pytest.MonkeyPatch, **situation: Any) -> list[Finding]:
    """Return what the doctor finds in a situation."""
    doctor, here = record(folder, monkeypatch, **situation)
    return [(level, text, fix) for check in doctor.GROUPS.values() for level, text, *fix in check(here)]


NO_DRIVER: dict[str, Any] = {"driver": {"cuda": "", "gpus": []}}
CPU: dict[str, Any] = {"build": "cpu", "packages": {"torch": "2.15.0+cpu"}, "torch": {"kernels": [], "devices": {}}}
CPU_PROJECT = {**CPU, "answers": {"backend": "cpu"}}
SEVERAL = {"other_backends": "cpu"}
OTHER_TORCH = '{"sync": {"changes": [{"name": "torch"}]}}'
SECOND = {**CPU, "answers": SEVERAL, **NO_DRIVER, "uv": {"sync": OTHER_TORCH, "sync --group cpu": UV["sync"]}}
STAYS = {"environ": {"UV_NO_SYNC": "1"}}
MAC = {"machine": ("darwin", "arm64", "15.1"), **NO_DRIVER, "build": "cpu", "torch": {"devices": {"mps": ""}}}
ROCM: dict[str, Any] = {
    "answers": {"torch": "2.14", "backend": "rocm7.2"},
    "build": "rocm7.2",
    "packages": {"torch": "2.14.0+rocm7.2"},
    "torch": {"kernels": ["gfx942", "gfx1100"]},
    **NO_DRIVER,
}
XPU: dict[str, Any] = {
    "answers": {"torch": "2.14", "backend": "xpu"},
    "build": "xpu",
    "packages": {"torch": "2.14.0+xpu"},
    "torch": {"kernels": []},
    **NO_DRIVER,
}
NODES = {"dev/kfd": "", "dev/dri/renderD128": ""}
KFD = "sys/class/kfd/kfd/topology/nodes/1/properties"
GFX1100 = {KFD: "simd_count 96\ngfx_target_version 110000\n"}
DOCKER = {".dockerenv": ""}
UPDATE = "uvx copier update --defaults --vcs-ref=:current:"
WSL = {"proc/version": "Linux version 6.6.87.2-microsoft-standard-WSL2"}

HEALTHY: dict[str, dict[str, Any]] = {
    "an H100, the default project": {},
    "a Mac": MAC,
    "a runner without a GPU, a CPU project": {**CPU_PROJECT, **NO_DRIVER},
    "the second of two backends, without a GPU": {**SECOND, **STAYS},
    "one visible GPU of two": {
        "driver": {"gpus": [["9.0", "NVIDIA H100"]] * 2},
        "environ": {"CUDA_VISIBLE_DEVICES": "1"},
    },
    "variables of other vendors": {"environ": {"HIP_VISIBLE_DEVICES": "", "ZE_AFFINITY_MASK": "7"}},
    "a variable, but no GPU": {**CPU_PROJECT, **NO_DRIVER, "environ": {"CUDA_VISIBLE_DEVICES": "0"}},
    "a UUID as the visible GPU": {"environ": {"CUDA_VISIBLE_DEVICES": "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"}},
    "two numbers of threads": {"environ": {"OMP_NUM_THREADS": "4,2"}},
    "a number of threads that is none": {"environ": {"OMP_NUM_THREADS": "abc"}},
    "no thread": {"environ": {"OMP_NUM_THREADS": "0"}},
    "a compiler of another name": {"environ": {"CXX": "/opt/gcc/bin/g++"}},
    "a quota as large as the machine": {"files": {"sys/fs/cgroup/cpu.max": "800000 100000"}},
    "no quota": {"files": {"sys/fs/cgroup/cpu.max": "max 100000"}},
    "an Ada GPU, kernels of Ampere": {"driver": {"gpus": [["8.9", "NVIDIA RTX 4090"]]}},
    "a DGX Spark": {
        "machine": ("linux", "aarch64", ""),
        "driver": {"gpus": [["12.1", "NVIDIA GB10"]]},
        "torch": {"kernels": ["sm_80", "sm_90", "sm_120"]},
    },
    "a new GPU, and PTX": {
        "driver": {"gpus": [["13.0", "NVIDIA GPU"]]},
        "torch": {"kernels": ["sm_90", "compute_120"]},
    },
    "an image, which has no uv": {"files": DOCKER, "uv": {"--version": "error: No such file or directory"}},
    "a companion that loads": {"packages": {"torch": "2.15.0", "torchvision": "0.29.2"}},
    "an AMD processor's GPU, a CPU project": {
        **CPU_PROJECT,
        **NO_DRIVER,
        "files": {KFD: "gfx_target_version 100306\n"},
    },
    "a driver without a GPU, a CPU project": {**CPU_PROJECT, "driver": "error 100"},
    "an old GPU, a new one, and a variable": {
        "driver": {"gpus": [["6.1", "NVIDIA GTX 1080"], ["9.0", "NVIDIA H100"]]},
        "environ": {"CUDA_VISIBLE_DEVICES": "1"},
    },
    "an Intel GPU in Windows": {
        "answers": {"torch": "2.13", "backend": "xpu", "platforms": "windows-x86_64"},
        "machine": ("win32", "AMD64", ""),
        "build": "xpu",
        "packages": {"torch": "2.13.0+xpu"},
        **NO_DRIVER,
    },
    "what uv 0.7 prints": {"uv": {"sync": ""}},
    "what an older uv says": {"uv": {"sync": '{"sync": {"packages": []}}'}},
    "an RX 7900": {**ROCM, "files": {**NODES, **GFX1100}},
    "an Intel GPU": {**XPU, "files": NODES},
    "ROCm in WSL": {**ROCM, "files": WSL},
}


@pytest.mark.parametrize("situation", HEALTHY.values(), ids=list(HEALTHY))
def test_nothing_is_wrong(situation: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = examine(tmp_path, monkeypatch, **situation)
    assert [finding for finding in findings if finding[0] != "ok"] == []


STALE_LOCK = {"sync": "error: The lockfile at `uv.lock` needs to be updated, but `--locked` was provided."}
WRONG: dict[str, tuple[dict[str, Any], str, str, list[str]]] = {
    # Systems
    "an Intel Mac": ({**MAC, "machine": ("darwin", "x86_64", "13.7")}, "error", "Intel Mac", ["another machine"]),
    "Rosetta": (
        {**MAC, "python": {"machine": "x86_64"}},
        "error",
        "its Python is for x86_64, but this machine is arm64",
        ["uv sync --python cpython-3.11-macos-aarch64-none"],
    ),
    "an old macOS": (
        {**MAC, "machine": ("darwin", "arm64", "13.7")},
        "error",
        r"torch 2.15 needs macOS 14.0, not 13.7",
        ["--data torch=2.11", "uv sync"],
    ),
    "an old macOS, and ROCm": (
        {
            **ROCM,
            "answers": {"torch": "2.10", "backend": "rocm7.0"},
            "machine": ("darwin", "arm64", "13.7"),
            "build": "cpu",
        },
        "error",
        r"torch 2.10 needs macOS 14.0, not 13.7",
        [f"{UPDATE} --data backend=rocm7.2 --data torch=2.11", "uv sync"],
    ),
    "Windows on Arm": (
        {"machine": ("win32", "ARM64", ""), **NO_DRIVER},
        "error",
        "Windows on Arm",
        ["wsl --install"],
    ),
    "another system": (
        {"machine": ("freebsd14", "amd64", ""), **NO_DRIVER},
        "error",
        "no wheels for freebsd14 amd64",
        ["another"],
    ),
    "a platform that the lock is not for": (
        {"machine": ("win32", "AMD64", ""), "packages": {}, **NO_DRIVER},
        "error",
        "uv.lock is for linux-x86_64, linux-aarch64, macos-arm64, and not for windows-x86_64",
        [f"{UPDATE} --data 'platforms=[linux-x86_64,linux-aarch64,macos-arm64,windows-x86_64]'", "uv sync"],
    ),
    "a platform that the lock is not for, and a GPU": (
        {"machine": ("win32", "AMD64", ""), "packages": {}, "driver": {"gpus": [["12.0", "NVIDIA RTX 5090"]]}},
        "error",
        "not for windows-x86_64",
        ["macos-arm64,windows-x86_64]' --data torch=2.14", "uv sync"],
    ),
    # The project
    "no uv": (
        {"uv": {"--version": "error: pyenv: uv: command not found"}},
        "warning",
        "uv does not start: pyenv: uv: command not found",
        ["curl -LsSf https://astral.sh/uv/install.sh | sh"],
    ),
    "no lock": (
        {"uv": {"sync": "error: Unable to find lockfile at `uv.lock`, but `--locked` was provided."}},
        "warning",
        "uv sync --locked: Unable to find lockfile",
        ["uv sync"],
    ),
    "a stale lock": (
        {"uv": STALE_LOCK},
        "error",
        "The lockfile at `uv.lock` needs to be updated",
        ["uv sync"],
    ),
    "a stale lock without a network": (
        {"uv": {"sync": "error: No solution found when resolving dependencies for split (…)"}},
        "error",
        "No solution found",
        ["uv lock", "uv sync"],
    ),
    "a lock with conflict markers": (
        {"uv": {"sync": "error: Failed to parse `uv.lock`"}},
        "error",
        "uv.lock cannot be read: Failed to parse",
        ["git checkout -- uv.lock"],
    ),
    "conflict markers": (
        {"uv": {"sync": "error: Failed to parse: `pyproject.toml`"}},
        "error",
        "Failed to parse: `pyproject.toml`",
        ["uv sync"],
    ),
    # The environment
    "an environment that is something else": ({"python": "No such file"}, "error", "No such file", ["uv sync"]),
    "a Python that does not start": (
        {"python": "it crashed: Segmentation fault"},
        "error",
        "Segmentation",
        ["uv sync"],
    ),
    "no torch": ({"packages": {}, "build": ""}, "error", "torch is not installed", ["uv sync"]),
    "the CPU build instead of CUDA": (
        {**CPU, "uv": STALE_LOCK},
        "error",
        r"torch 2.15.0\+cpu, the cpu build, is not the one that this project installs",
        ["uv sync"],
    ),
    "CUDA instead of the CPU build": (
        {"answers": {"backend": "cpu"}, **NO_DRIVER, "uv": STALE_LOCK},
        "error",
        "torch 2.15.0, the cu132 build, is not the one that this project installs",
        ["uv sync"],
    ),
    "another torch than in the lock": (
        {"uv": {"sync": '{"sync": {"changes": [{"name": "torch"}]}}'}},
        "error",
        "torch 2.15.0, the cu132 build, is not the one that this project installs",
        ["uv sync"],
    ),
    "packages not as in the lock": (
        {
            "answers": SEVERAL,
            **CPU,
            **NO_DRIVER,
            "uv": {
                "sync": '{"sync": {"changes": [{"name": "torch"}]}}',
                "sync --group cpu": json.dumps({"sync": {"changes": [{"name": f"p{n}"} for n in range(9)]}}),
            },
        },
        "warning",
        "these differ from uv.lock: p0, p1, p2, p3, …",
        ["uv sync --no-group cu132 --group cpu"],
    ),
    "a backend that the next command replaces": (
        SECOND,
        "warning",
        "uv run and uv add replace the cpu build by that of cu132",
        ["export UV_NO_SYNC=1"],
    ),
    "a lock that cannot be installed here": (
        {"uv": {"sync": "error: Distribution `x==1` can't be installed because it has no wheel for this platform"}},
        "error",
        "Distribution `x==1` can't be installed",
        ["uv sync"],
    ),
    "uv of another age": (
        {"uv": {"sync": "error: unexpected argument '--output-format' found"}},
        "warning",
        "uv sync --locked: unexpected argument",
        ["uv sync"],
    ),
    "a uv that is slow": (
        {"uv": {"sync": "error: no answer within 8 s"}},
        "warning",
        "uv sync --locked: no answer within 8 s",
        ["uv sync"],
    ),
    "a Python that must be downloaded": (
        {"uv": {"sync": "error: No interpreter found for Python 3.11 in managed installations"}},
        "warning",
        "No interpreter found",
        ["uv sync"],
    ),
    "another torch, and no uv": (
        {
            "files": DOCKER,
            "packages": {"torch": "2.14.0"},
            "uv": {"--version": "error: No such file or directory"},
        },
        "error",
        "torch 2.14.0, the cu132 build, is not the one that this project installs",
        ["uv sync"],
    ),
    # Drivers and GPUs
    "no driver": (NO_DRIVER, "warning", "no NVIDIA driver", ["for an NVIDIA GPU: install driver 580"]),
    "no driver in WSL": ({**NO_DRIVER, "files": WSL}, "warning", "no NVIDIA driver", ["in Windows, not in WSL"]),
    "no driver in Docker": ({**NO_DRIVER, "files": DOCKER}, "warning", "no NVIDIA driver", ["docker run --gpus all"]),
    "no driver in Podman": (
        {**NO_DRIVER, "files": {"run/.containerenv": ""}},
        "warning",
        "no NVIDIA driver",
        ["podman run --device nvidia.com/gpu=all"],
    ),
    "no driver in Kubernetes": (
        {**NO_DRIVER, "files": {"run/secrets/kubernetes.io/serviceaccount/token": ""}},
        "warning",
        "no NVIDIA driver",
        ["resources: {limits: {nvidia.com/gpu: 1}}"],
    ),
    "no driver in Apptainer": (
        {**NO_DRIVER, "files": {".singularity.d/actions/run": ""}},
        "warning",
        "no NVIDIA driver",
        ["apptainer exec --nv"],
    ),
    "a driver that was updated": (
        {"driver": "error 803"},
        "error",
        "the NVIDIA driver does not work: error 803",
        ["sudo reboot"],
    ),
    "a driver that hangs": ({"driver": "no answer within 8 s"}, "error", "no answer within 8 s", ["nvidia-smi"]),
    "a driver that crashes": ({"driver": "it crashed: Aborted"}, "error", "it crashed: Aborted", ["nvidia-smi"]),
    "an old driver, an old GPU": (
        {"driver": {"cuda": "12.2", "gpus": [["8.0", "NVIDIA A100"]]}},
        "error",
        r"there is a GPU, NVIDIA A100 \(8.0\), but this is the cu132 build: it needs driver 580 or newer",
        [
            "install driver 580 or newer: https://www.nvidia.com/drivers",
            f"or: {UPDATE} --data backend=cu126 --data torch=2.14",
            "uv sync",
        ],
    ),
    "driver 570, an RTX 5090": (
        {"driver": {"cuda": "12.8", "gpus": [["12.0", "NVIDIA RTX 5090"]]}},
        "error",
        "it needs driver 580 or newer",
        ["install driver 580 or newer", "--data backend=cu128 --data torch=2.11", "uv sync"],
    ),
    "a GTX 1080": (
        {"driver": {"gpus": [["6.1", "NVIDIA GTX 1080"]]}},
        "error",
        "it has kernels for sm_75 sm_80 sm_86 sm_90 sm_100 sm_120",
        ["--data backend=cu126 --data torch=2.14", "uv sync"],
    ),
    "a Tesla K80": (
        {"driver": {"cuda": "11.4", "gpus": [["3.7", "Tesla K80"]]}},
        "error",
        "it has kernels for",
        ["train with --device cpu"],
    ),
    "a Tesla K80 and code that has no option for a device": (
        {"answers": {"skeleton": "none"}, "driver": {"cuda": "11.4", "gpus": [["3.7", "Tesla K80"]]}},
        "error",
        "it has kernels for",
        ["compute on the CPU"],
    ),
    "a Jetson Orin": (
        {
            "machine": ("linux", "aarch64", ""),
            "driver": {"cuda": "12.6", "gpus": [["8.7", "Orin"]]},
            "torch": {"kernels": ["sm_80", "sm_90"]},
        },
        "error",
        "a Jetson needs NVIDIA's own wheels",
        ["train with --device cpu"],
    ),
    "an old GPU and a new one": (
        {
            "driver": {"gpus": [["6.1", "NVIDIA GTX 1080"], ["9.0", "NVIDIA H100"]]},
            "torch": {"devices": {"cuda:0": "", "cuda:1": "no kernel image", "cuda:2": ""}},
        },
        "error",
        "cuda:1 does not compute: no kernel image",
        ['export CUDA_VISIBLE_DEVICES="0,2"'],
    ),
    "a driver that does not work, a CPU project": (
        {**CPU_PROJECT, "driver": "error 803"},
        "warning",
        "the NVIDIA driver does not work: error 803",
        ["sudo reboot"],
    ),
    "a driver without a GPU": (
        {"driver": "error 100"},
        "warning",
        "there is no NVIDIA driver with a GPU",
        ["install driver 580"],
    ),
    "a torch from elsewhere": (
        {"torch": {"file": "/elsewhere/torch/__init__.py"}, "environ": {"PYTHONPATH": "/elsewhere"}},
        "warning",
        "torch is imported from /elsewhere/torch/__init__.py, not from the environment",
        ["unset PYTHONPATH"],
    ),
    "what is left of a torch": (
        {"torch": {"file": None, "kernels": []}},
        "warning",
        "torch is imported from None, not from the environment",
        ["unset PYTHONPATH"],
    ),
    "the CPU build of a CPU project, and a driver": (
        CPU_PROJECT,
        "warning",
        r"there is a GPU, NVIDIA H100 \(9.0\), but this is the cpu build",
        [f"{UPDATE} --data backend=cu132", "uv sync"],
    ),
    "the CPU build of several, and a driver": (
        {**CPU, "answers": SEVERAL},
        "warning",
        "there is a GPU, .* but this is the cpu build",
        ["uv sync"],
    ),
    "the first of several is for the CPU, and a driver": (
        {**CPU, "answers": {"backend": "cpu", "other_backends": "cu132"}},
        "warning",
        "there is a GPU, .* but this is the cpu build",
        ["export UV_NO_SYNC=1", "uv sync --no-group cpu --group cu132"],
    ),
    "Windows, where the newest torch has no CUDA": (
        {
            **CPU,
            "answers": {"platforms": "linux-x86_64 windows-x86_64", "torch": "2.15"},
            "machine": ("win32", "AMD64", ""),
        },
        "warning",
        "there is a GPU",
        ["--data torch=2.14", "uv sync"],
    ),
    "an AMD GPU in a CUDA project": (
        {**NO_DRIVER, "files": {**NODES, **GFX1100}},
        "warning",
        r"there is a GPU, amd \(gfx1100\), but this is the cu132 build",
        ["--data backend=rocm7.2 --data torch=2.14", "uv sync"],
    ),
    "an AMD GPU without kernels": (
        {**ROCM, "files": {**NODES, KFD: "gfx_target_version 100306\n"}},
        "error",
        "it has kernels for gfx942 gfx1100",
        ["train with --device cpu"],
    ),
    "no node of ROCm": (ROCM, "warning", "there is no /dev/kfd", ["install the driver of the GPU"]),
    "no render node in Docker": (
        {**XPU, "files": DOCKER},
        "warning",
        r"there is no /dev/dri/renderD\*",
        ["docker run --device /dev/kfd --device /dev/dri"],
    ),
    "the kernels of another AMD GPU": (
        {**ROCM, "files": {**NODES, **GFX1100}, "environ": {"HSA_OVERRIDE_GFX_VERSION": "11.0.0"}},
        "warning",
        "HSA_OVERRIDE_GFX_VERSION",
        ["unset HSA_OVERRIDE_GFX_VERSION"],
    ),
    "a GPU that torch does not find": (
        {"torch": {"devices": {}}},
        "error",
        "torch finds no GPU, but the driver does$",
        ["nvidia-smi"],
    ),
    **{
        f"GPUs hidden by {value!r}": (
            {"environ": {"CUDA_VISIBLE_DEVICES": value, "HIP_VISIBLE_DEVICES": "0"}, "torch": {"devices": {}}},
            "warning",
            f"torch finds no GPU, but the driver does, and CUDA_VISIBLE_DEVICES is {value!r}$",
            ["unset CUDA_VISIBLE_DEVICES"],
        )
        for value in ("", "-1", "1", "5,6", "NoDevFiles", "GPU-deadbeef", "MIG-x", "²")
    },
    "AMD GPUs hidden": (
        {
            **ROCM,
            "files": {**NODES, **GFX1100},
            "environ": {"ROCR_VISIBLE_DEVICES": ""},
            "torch": {"kernels": ["gfx1100"], "devices": {}},
        },
        "warning",
        "torch finds no GPU, but the driver does, and ROCR_VISIBLE_DEVICES is ''",
        ["unset ROCR_VISIBLE_DEVICES"],
    ),
    # torch and what depends on it
    "a broken torch": (
        {"torch": "ImportError: libcudart.so.13: cannot open shared object file"},
        "error",
        "torch does not load: ImportError: libcudart.so.13",
        ["uv sync --reinstall"],
    ),
    "a broken torch, of the second of two backends": (
        {**SECOND, **STAYS, "torch": "OSError: libgomp.so.1"},
        "error",
        "torch does not load: OSError: libgomp.so.1",
        ["uv sync --no-group cu132 --group cpu --reinstall"],
    ),
    "an import that hangs": (
        {"torch": "no answer within 60 s"},
        "error",
        "torch does not load: no answer within 60 s",
        ["uv run tools/doctor.py --limit 600"],
    ),
    "torch warns": (
        {"torch": {"warnings": ["CUDA initialization: The NVIDIA driver on your system is too old"]}},
        "warning",
        "torch warns: CUDA initialization: The NVIDIA driver on your system is too old$",
        ["uv run --no-sync python -m torch.utils.collect_env"],
    ),
    "a device that gives other results": (
        {"torch": {"devices": {"cuda:0": "it gives different results"}}},
        "error",
        "cuda:0 does not compute: it gives different results",
        ["nvidia-smi"],
    ),
    "the one visible GPU of two does not compute": (
        {"torch": {"devices": {"cuda:0": "", "cuda:1": "no"}}, "environ": {"CUDA_VISIBLE_DEVICES": "2,3"}},
        "error",
        "cuda:1 does not compute: no",
        ["nvidia-smi"],
    ),
    "no MPS": ({**MAC, "torch": {"devices": {}}}, "warning", "torch cannot use MPS", ["use the Mac itself"]),
    "torchvision of PyPI with a CPU torch": (
        {
            **CPU_PROJECT,
            **NO_DRIVER,
            "packages": {"torch": "2.15.0+cpu", "torchvision": "0.29.2"},
            "import_torchvision": "RuntimeError: operator torchvision::nms does not exist",
        },
        "error",
        "torchvision 0.29.2 does not load: RuntimeError: operator torchvision::nms does not exist",
        [f"{UPDATE} --data 'companions=[torchvision]'", "uv sync"],
    ),
    "a companion that was answered": (
        {
            "answers": {"companions": "torchvision"},
            "packages": {"torch": "2.15.0", "torchvision": "0.29.2"},
            "import_torchvision": "ImportError: _C.so",
        },
        "error",
        "torchvision 0.29.2 does not load",
        ["uv sync --reinstall-package torchvision"],
    ),
    "torchaudio, which has no build for this CUDA": (
        {
            "answers": {"torch": "2.14", "backend": "cu132"},
            "version_py": "__version__ = '2.14.1+cu132'",
            "packages": {"torch": "2.14.1+cu132", "torchaudio": "2.11.0"},
            "import_torchaudio": "RuntimeError: Detected that PyTorch and TorchAudio were compiled with different CUDA",
        },
        "error",
        "torchaudio 2.11.0 does not load",
        ["--data backend=cu130 --data 'companions=[torchaudio]'", "uv sync"],
    ),
    "flash-attn of another torch": (
        {"packages": {"torch": "2.15.0", "flash-attn": "2.8.3"}, "import_flash-attn": "ImportError: undefined symbol"},
        "error",
        "flash-attn 2.8.3 does not load: ImportError: undefined symbol",
        ["uv pip install --upgrade flash-attn"],
    ),
    "a package whose import hangs": (
        {"packages": {"torch": "2.15.0", "vllm": "0.33.0"}, "import_vllm": "no answer within 60 s"},
        "error",
        "vllm 0.33.0 does not load: no answer within 60 s",
        ["uv run tools/doctor.py --limit 600"],
    ),
    "two companions that were not answered": (
        {
            "answers": {"torch": "2.14", "backend": "cu130"},
            "build": "cu130",
            "packages": {"torch": "2.14.0", "torchvision": "0.29.0", "torchaudio": "2.11.0"},
            "import_torchvision": "RuntimeError: operator torchvision::nms does not exist",
            "import_torchaudio": "OSError: Could not load this library",
        },
        "error",
        "torchaudio 2.11.0 does not load",
        [f"{UPDATE} --data 'companions=[torchvision,torchaudio]'", "uv sync"],
    ),
    # What surrounds it
    "a small /dev/shm": (
        {"disk": {"total": 64 << 20}},
        "warning",
        "/dev/shm has 64 MB",
        ["sudo mount -o remount,size=8g /dev/shm"],
    ),
    "a small /dev/shm in Docker": (
        {"disk": {"total": 64 << 20}, "files": DOCKER},
        "warning",
        "/dev/shm has 64 MB",
        ["docker run --shm-size 8g"],
    ),
    "a full disk": ({"disk": {"free": (1 << 30) - 1}}, "warning", "1023 MB are free in", ["--out"]),
    "a full disk, of code that has no option for another": (
        {"answers": {"skeleton": "none"}, "disk": {"free": (1 << 30) - 1}},
        "warning",
        "1023 MB are free in",
        ["write to another disk"],
    ),
    "a small /dev/shm, of code that has no option for workers": (
        {"answers": {"skeleton": "none"}, "disk": {"total": 64 << 20}},
        "warning",
        "/dev/shm has 64 MB; workers may need more",
        ["sudo mount"],
    ),
    "no compiler, for code that has no option to compile": (
        {"answers": {"skeleton": "none"}, "compiler": None},
        "warning",
        "^torch.compile needs",
        ["python3-dev"],
    ),
    "no compiler": ({"compiler": None}, "warning", "--compile needs", ["sudo apt-get install g++ python3-dev"]),
    "no Python.h": ({"python": {"headers": False}}, "warning", "--compile needs", ["python3-dev"]),
    "no compiler in an image": (
        {"compiler": None, "files": DOCKER},
        "warning",
        "--compile needs",
        ["stage base of the Dockerfile"],
    ),
    "a quota": (
        {"files": {"sys/fs/cgroup/cpu.max": "150000 100000"}},
        "warning",
        "torch starts 8 threads on 1.5 CPUs",
        ["export OMP_NUM_THREADS=1"],
    ),
    "more threads than CPUs": (
        {"environ": {"OMP_NUM_THREADS": "16"}},
        "warning",
        "torch starts 16 threads on 8 CPUs",
        ["export OMP_NUM_THREADS=8"],
    ),
    "a quota of Docker": (
        {"files": {"sys/fs/cgroup/cpu.max": "150000 100000", **DOCKER}},
        "warning",
        "torch starts 8 threads on 1.5 CPUs",
        ["docker run --env OMP_NUM_THREADS=1"],
    ),
    "a quota of the first version of control groups": (
        {"files": {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}},
        "warning",
        "torch starts 8 threads on 2 CPUs",
        ["export OMP_NUM_THREADS=2"],
    ),
}


@pytest.mark.parametrize(("situation", "level", "text", "fix"), WRONG.values(), ids=list(WRONG))
def test_what_is_wrong_is_found(
    situation: dict[str, Any],
    level: str,
    text: str,
    fix: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    findings = examine(tmp_path, monkeypatch, **situation)
    (found,) = [finding for finding in findings if re.search(text, finding[1])]
    assert found[0] == level
    assert len(found[2]) == len(fix), found
    for command, expected in zip(found[2], fix, strict=True):
        assert expected in command
    assert all(len(line) <= 200 and "\n" not in line for line in (found[1], *found[2]))


def test_a_gpu_that_may_not_be_opened_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    doctor, here = record(tmp_path, monkeypatch, **{**ROCM, "files": {**NODES, **GFX1100, **DOCKER}})
    monkeypatch.setattr(doctor.os, "access", lambda path, _: "render" not in str(path))
    (found,) = [finding for finding in doctor.check_gpus(here) if finding[0] == "error"]
    assert found == (
        "error",
        "permission denied: /dev/dri/renderD*",
        'docker run --group-add "$(getent group render | cut -d: -f3)" …',
    )


@pytest.mark.parametrize(
    ("skeleton", "fix"), [("training", "choose another folder with --out"), ("none", "write to another folder")]
)
def test_a_folder_that_cannot_be_written_to_is_an_error(
    skeleton: str, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doctor, here = record(tmp_path, monkeypatch, {"skeleton": skeleton})
    here.out = Path("/proc/runs")
    (found,) = [finding for finding in doctor.check_surroundings(here) if finding[0] == "error"]
    assert found[1].startswith("nothing can be written to /proc: ")
    assert found[2] == fix


def test_packages_are_not_imported_without_the_right_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"torch": "2.15.0", "torchvision": "0.29.2"}
    texts = [text for _, text, _ in examine(tmp_path, monkeypatch, packages=found, torch="ImportError: x")]
    assert "torch does not load: ImportError: x" in texts
    assert "torchvision 0.29.2 loads" not in texts


def test_a_package_that_updates_know_by_another_name_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doctor, here = record(tmp_path, monkeypatch)
    shutil.copytree(doctor.ROOT, tmp_path / "demo")
    monkeypatch.setattr(doctor, "ROOT", tmp_path / "demo")
    assert not any("for updates" in text for _, text, *_ in doctor.check_project(here))
    (tmp_path / "demo/src/demo").rename(tmp_path / "demo/src/new")
    (found,) = [finding for finding in doctor.check_project(here) if "for updates" in finding[1]]
    assert found == (
        "error",
        "for updates the package is demo, but src has new",
        f"{UPDATE} --data package_name=new",
        "git checkout --ours src tests",
    )
    replace(tmp_path / "demo/.copier-answers.yml", "package_name: demo", "package_name: new")
    assert not any("for updates" in text for _, text, *_ in doctor.check_project(here))


def test_what_only_the_root_of_a_repository_can_have_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doctor, here = record(tmp_path, monkeypatch)
    demo = tmp_path / "services/demo"
    shutil.copytree(doctor.ROOT, demo)
    monkeypatch.setattr(doctor, "ROOT", demo)
    here.workspace = demo
    assert not [*doctor.check_place(here)], "there is no repository"
    git(tmp_path, "init")
    assert [*doctor.check_place(here)] == [
        (
            "warning",
            f".github and .pre-commit-config.yaml must be in the root of the repository, {tmp_path}",
            "move them: https://github.com/org/torch-uv-template/blob/main/docs/places.md",
        )
    ]
    for path in (*demo.glob(".github/*/*"), *demo.glob(".github/*.yml"), demo / ".pre-commit-config.yaml"):
        path.unlink()
    assert not [*doctor.check_place(here)], "they have moved"
    shutil.copytree(project_of(), demo, dirs_exist_ok=True)
    git(demo, "init")
    assert not [*doctor.check_place(here)], "it is a repository of its own"


def test_a_workspace_without_the_platforms_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = {"project": {"workspace": {"path": str(tmp_path)}}, "sync": {"changes": []}}
    doctor, here = record(tmp_path, monkeypatch, uv={"sync": json.dumps(synced)})

    def found() -> list[tuple[str, ...]]:
        return [finding for finding in doctor.check_project(here) if "environments" in finding[1]]

    (tmp_path / "uv.lock").write_text("version = 1\n")
    root, own = tmp_path / "pyproject.toml", doctor.ROOT / "pyproject.toml"
    text = f"uv.lock is not limited to the platforms: uv reads environments in {root} alone"
    fix = f"copy environments and required-environments from {own} to it"
    assert found() == [("warning", text, fix, "uv lock")]
    (tmp_path / "uv.lock").write_text("version = 1\nrequired-markers = [\n]\n")
    assert not found()


def test_a_companion_that_the_user_added_becomes_an_answer(
    replica: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands that the doctor gives are run, as they are, in a project with `uv add torchvision`."""
    demo = Project(copied(released(tmp_path / "template"), tmp_path / "demo", backend="cpu", torch="2.14"))
    replace(demo.path / "pyproject.toml", '"filelock>=3.12"', '"torchvision>=0.20", "filelock>=3.12"')
    commit(demo.path)
    doctor, here = record(tmp_path / "record", monkeypatch, packages={"torch": "2.14.1", "torchvision": "0.29.1"})
    monkeypatch.setattr(doctor, "ROOT", demo.path)
    monkeypatch.setattr(doctor, "ANSWERS", load(demo.path).ANSWERS)
    monkeypatch.setattr(doctor, "ANSWERED", ["cpu"])
    here.python, here.has_torch = {"installed": {"torchvision": "0.29.1"}}, True
    here.probe = lambda *_: ({}, "RuntimeError: operator torchvision::nms does not exist")
    ((_, _, *fix),) = doctor.check_packages(here)
    assert fix == [
        "uv remove torchvision",
        "git commit --all --message 'Before the update'",
        f"{UPDATE} --data 'companions=[torchvision]'",
        "uv sync",
    ]
    for name in ("user.name=tests", "user.email=tests@example.org"):
        git(demo.path, "config", *name.split("="))
    demo.uv("remove", "torchvision", "--frozen")
    git(demo.path, *shlex.split(fix[1])[1:])
    copier = [str(Path(sys.executable).with_name("copier")), *shlex.split(fix[2])[2:]]
    subprocess.run(copier, cwd=demo.path, check=True, capture_output=True)
    demo.resolve_with(replica)
    demo.lock()
    found = demo.locked("cpu", "linux-x86_64")
    assert {found[name].version for name in ("torch", "torchvision")} == {"2.14.1+cpu", "0.29.1+cpu"}


# Advice


GPUS = {
    "Tesla K80": "3.7",
    "GTX 980": "5.2",
    "GTX 1080": "6.1",
    "V100": "7.0",
    "T4": "7.5",
    "A100": "8.0",
    "RTX 3090": "8.6",
    "Orin": "8.7",
    "RTX 4090": "8.9",
    "H100": "9.0",
    "B200": "10.0",
    "B300": "10.3",
    "Thor": "11.0",
    "RTX 5090": "12.0",
    "GB10": "12.1",
}


@pytest.mark.parametrize(
    ("system", "gpus", "driver", "torch", "backend"),
    [
        ("linux-x86_64", ["H100"], "13.2", "2.15", "cu132"),
        ("linux-x86_64", ["H100"], "", "2.15", "cu132"),
        ("linux-x86_64", ["H100"], "12.4", "2.14", "cu126"),
        ("linux-x86_64", ["RTX 5090"], "12.8", "2.11", "cu128"),
        ("linux-x86_64", ["GTX 1080"], "13.0", "2.14", "cu126"),
        ("linux-x86_64", ["V100"], "13.0", "2.14", "cu126"),
        ("linux-x86_64", ["GTX 1080", "RTX 4090"], "13.0", "2.15", "cu132"),
        ("linux-x86_64", ["RTX 3090", "RTX 5090"], "12.9", "2.11", "cu128"),
        ("linux-x86_64", ["Tesla K80"], "11.4", "2.15", "cpu"),
        ("linux-x86_64", ["gfx1100"], "", "2.14", "rocm7.2"),
        ("linux-x86_64", ["gfx1036"], "", "2.15", "cpu"),
        ("linux-x86_64", ["intel"], "", "2.14", "xpu"),
        ("linux-x86_64", [], "", "2.15", "cpu"),
        ("linux-aarch64", ["GB10"], "13.0", "2.15", "cu132"),
        ("linux-aarch64", ["Thor"], "13.0", "2.15", "cu132"),
        ("linux-aarch64", ["Orin"], "12.6", "2.15", "cpu"),
        ("linux-aarch64", ["H100"], "12.4", "2.14", "cu126"),
        ("macos-arm64", [], "", "2.15", "cpu"),
        ("windows-x86_64", ["RTX 5090"], "13.2", "2.14", "cu132"),
        ("windows-x86_64", ["intel"], "", "2.13", "xpu"),
    ],
)
def test_advice_for_one_machine(system: str, gpus: list[str], driver: str, torch: str, backend: str) -> None:
    doctor = load(project_of())
    advice = doctor.advise([machine_of(doctor, system, gpus, driver)])
    answers = {"platforms": [system], "torch": torch, "backend": backend, "other_backends": []}
    assert advice["answers"] == {**advice["answers"], **answers}
    assert advice["computing"] == (backend != "cpu")
    (reason,) = advice["reasons"]
    assert reason.startswith(f"{system}: ")
    assert (backend in reason) == (backend != "cpu")
    assert reason.endswith(", not on GTX 1080 (6.1)") == (gpus == ["GTX 1080", "RTX 4090"])


def machine_of(doctor: ModuleType, platform: str, gpus: list[str], driver: str = "", macos: str = "15.0") -> Any:
    where, found = SYSTEMS[platform], []
    for name in gpus:
        vendor = "intel" if name == "intel" else "amd" if name.startswith("gfx") else "nvidia"
        found.append(doctor.Gpu(vendor, GPUS.get(name, name if vendor == "amd" else ""), name))
    return doctor.Machine(*where, gpus=found, cuda=driver, macos=macos if where[0] == "darwin" else "")


def test_advice_for_a_team(tmp_path: Path) -> None:
    """The old workstation decides the release, the build that serves the most machines comes first, CI needs neither."""
    doctor = load(project_of())
    team = [
        machine_of(doctor, "macos-arm64", []),
        machine_of(doctor, "linux-x86_64", ["H100"], "13.0"),
        machine_of(doctor, "linux-x86_64", ["RTX 5090"], "13.0"),
        machine_of(doctor, "linux-x86_64", ["GTX 1080"], "13.0"),
        machine_of(doctor, "linux-x86_64", []),
        doctor.Machine("darwin", "x86_64", macos="13.7"),
    ]
    advice = doctor.advise(team)
    assert advice["answers"] == {
        "platforms": ["macos-arm64", "linux-x86_64"],
        "torch": "2.14",
        "backend": "cu130",
        "other_backends": ["cu126", "cpu"],
        "python": "3.10",
        "companions": [],
    }
    assert advice["reasons"] == [
        "macos-arm64: the CPU build computes on MPS",
        "linux-x86_64: the cu130 build computes on H100 (9.0)",
        "linux-x86_64: the cu130 build computes on RTX 5090 (12.0)",
        "linux-x86_64: the cu126 build computes on GTX 1080 (6.1)",
        "linux-x86_64: there is no GPU, so torch computes on the CPU; the cpu build is enough",
        "darwin x86_64: torch 2.14 has no wheels for it",
    ]
    Project.render(tmp_path / "demo", **advice["answers"])


@pytest.mark.parametrize(
    ("machines", "others"),
    [
        ([("linux-x86_64", ["H100"]), ("linux-x86_64", [])], ["cpu"]),
        ([("linux-x86_64", ["H100"]), ("macos-arm64", [])], []),  # it gets the CPU build anyway
        ([("linux-x86_64", ["H100"]), ("linux-aarch64", [])], ["cpu"]),
        ([("linux-x86_64", []), ("linux-x86_64", [])], []),
    ],
)
def test_a_machine_without_a_gpu_need_not_download_cuda(
    machines: list[tuple[str, list[str]]], others: list[str]
) -> None:
    doctor = load(project_of())
    advice = doctor.advise([machine_of(doctor, *machine, "13.2") for machine in machines])
    assert advice["answers"]["other_backends"] == others


@pytest.mark.parametrize(
    ("macos", "reason"),
    [("13.7", "MPS needs macOS 14 or newer, so torch computes on the CPU"), ("14.0", "the CPU build computes on MPS")],
)
def test_advice_for_a_mac_says_what_mps_needs(macos: str, reason: str) -> None:
    doctor = load(project_of())
    assert doctor.advise([machine_of(doctor, "macos-arm64", [], macos=macos)])["reasons"] == [f"macos-arm64: {reason}"]


PROJECTS: list[dict[str, str]] = [
    {},
    {"backend": "cpu"},
    {"other_backends": "cpu"},
    {"backend": "cpu", "other_backends": "cu132"},
    {"companions": "torchvision"},
    {"torch": "2.14", "companions": "torchvision torchaudio"},
    {"torch": "2.14", "backend": "rocm7.2", "other_backends": "cpu xpu"},
    {"torch": "2.14", "backend": "xpu"},
    {"platforms": "windows-x86_64"},
    {"platforms": "linux-x86_64 windows-x86_64", "torch": "2.13", "backend": "cu126"},
    {"platforms": "macos-arm64"},
    {"torch": "2.15", "python": "3.14"},
    {"torch": "2.11", "companions": "torchaudio", "backend": "cu130"},
    {"torch": "2.14", "companions": "torchcodec", "backend": "cu126"},
    {
        "torch": "2.6",
        "python": "3.9",
        "backend": "cu124",
        "other_backends": "cu118 rocm6.1",
        "companions": "torchaudio",
    },
    {"torch": "2.4", "python": "3.8"},
]


@pytest.mark.parametrize("answers", PROJECTS, ids=lambda answers: " ".join(answers.values()) or "default")
def test_a_fix_that_changes_answers_leads_to_what_it_says(answers: dict[str, str], tmp_path: Path) -> None:
    """Each machine of the table, with each driver: the answers are possible, and give the machine its build."""
    project = project_of(**answers)
    doctor = load(project)
    cards = [*GPUS, "gfx942", "gfx1100", "gfx1036", "intel", ""]
    levels = ["11.4", "12.4", "13.0", ""]
    known: dict[str, ModuleType] = {}
    for platform, card, driver in product(PLATFORMS, cards, levels):
        machine = machine_of(doctor, platform, [card] if card else [], driver)
        commands = doctor.commands(machine)
        if not commands:
            assert not doctor.advise([machine], doctor.ANSWERS)["computing"]
            continue
        if "copier" not in commands[0]:
            (backend,) = commands[-1].split()[5:] or [doctor.ANSWERS["backend"]]
            assert doctor.served(machine, backend, doctor.ANSWERS["torch"])
            continue
        data = dict(word.split("=", 1) for word in shlex.split(commands[0])[5:] if word != "--data")
        changed = {name: text.strip("[]").split(",") if text[0] == "[" else text for name, text in data.items()}
        changed = {name: [] if value == [""] else value for name, value in changed.items()}
        if commands[0] not in known:
            new = Project.render(tmp_path / str(len(known)) / "demo", **{**Project(project).answers, **changed})
            known[commands[0]] = load(new.path)
        after = known[commands[0]]
        assert platform in after.ANSWERS["platforms"]
        if doctor.advise([machine], doctor.ANSWERS)["computing"]:
            assert "copier" not in after.commands(machine)[0]
        else:
            assert after.commands(machine) == []


@pytest.mark.parametrize("release", list(RELEASES))
def test_the_table_is_that_of_the_builds(release: str) -> None:
    doctor, entry = load(project_of()), RELEASES[release]
    found = doctor.RELEASES[release]
    assert found["python"] == everywhere(release)
    assert found["macos"] == entry["macos"]
    for package in ("torchaudio", "torchcodec"):
        assert (package in found) == (package in companions(release))
        for platform in PLATFORMS if package in found else []:
            beside = [name for name in builds(release, platform) if loads(release, name, platform, package)]
            assert sorted(found[package][platform]) == sorted(beside)
            assert set(found[package]["python"]) <= set(pythons(release, platform, package))
    for platform in PLATFORMS:
        assert sorted(found[platform]) == sorted(builds(release, platform))
        assert found[platform][0] == on_pypi(release, platform)
        for build in builds(release, platform):
            own = entry.get("gpus", {}).get(build, BACKENDS[build].get("gpus", {}))
            machine = machine_of(doctor, platform, [])
            assert doctor.documented(machine, build, release) == own.get(platform.split("-")[1], [])
            oldest = BACKENDS[build].get("driver", {}).get(platform.split("-")[0])
            assert oldest is None or doctor.oldest_driver(machine, build) == oldest


def test_the_answers_are_those_of_the_project() -> None:
    answers = {"torch": "2.14", "backend": "rocm7.2", "other_backends": "cpu", "companions": "torchvision"}
    project = project_of(**answers)
    known = load(project).ANSWERS
    assert known == {name: Project(project).answers[name] for name in known}
    assert known["torch"] == "2.14"
    assert known["other_backends"] == ["cpu"]


# Processes


def ask(limit: float, *command: str) -> tuple[str, str]:
    doctor = load(project_of())
    found: tuple[str, str] = doctor.Here(doctor.Machine(), ROOT).ask(*command, limit=limit)
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: Windows has no such shell")
@pytest.mark.parametrize(
    ("command", "found"),
    [
        (["sh", "-c", "echo found"], ("found\n", "")),
        (["sh", "-c", "echo 'error: why' >&2; echo hint >&2; exit 2"], ("", "why")),
        (["sh", "-c", "echo 'warning: x' >&2; echo 'error: why' >&2; exit 2"], ("", "why")),
        (["sh", "-c", "head -c 1000000 /dev/zero >&2; echo found"], ("found\n", "")),
        (["sh", "-c", "exit 3"], ("", "exit code 3")),
        (["sh", "-c", "kill -SEGV $$"], ("", "it crashed: Segmentation fault")),
        (["sh", "-c", r"printf '\377'"], ("\ufffd", "")),
        (["sh", "-c", "sleep 60 & echo found"], ("found\n", "")),
        (["sh", "-c", "setsid sleep 20 & echo found"], ("found\n", "")),
        (["sh", "-c", "echo 'error: https://user:pa/ss@host is wrong' >&2; exit 2"], ("", "https://@host is wrong")),
        (
            ["sh", "-c", r"printf 'pyenv: uv: command not found\n\nNote: See\n' >&2; exit 127"],
            ("", "pyenv: uv: command not found"),
        ),
        (["/none/uv"], ("", "No such file or directory")),
    ],
)
def test_a_process_may_fail(command: list[str], found: tuple[str, str]) -> None:
    assert ask(10, *command) == found


@pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: Windows has no such shell")
def test_a_process_that_hangs_ends_with_what_it_started(tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/pid; trap '' TERM; wait"
    assert ask(0.5, "sh", "-c", script) == ("", "no answer within 0.5 s")
    state = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    wait_for(lambda: not state.exists() or state.read_text().split()[2] == "Z")


def environment_of(folder: Path, **modules: str) -> tuple[ModuleType, Any]:
    """Return the doctor, looking into an environment that has these modules."""
    doctor = load(project_of())
    here = doctor.Here(doctor.Machine(), ROOT, limit=2)
    here.environment = folder
    python = folder / doctor.PYTHON
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    return doctor, here


@pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: the Python is a script for sh")
@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("print('loading...', flush=True); import atexit; atexit.register(print, 'bye')", ""),
        ("raise ImportError('libfoo\\n\\nSee it')", "ImportError: libfoo"),
        ("import sys; sys.exit()", "it printed nothing"),
        ("import os; os.abort()", "it crashed: Aborted"),
        ("import time; time.sleep(60)", "no answer within 2 s"),
    ],
)
def test_an_import_may_print_fail_crash_or_hang(code: str, problem: str, tmp_path: Path) -> None:
    _, here = environment_of(tmp_path, flash_attn=code)
    assert here.probe("import", "flash-attn")[1] == problem


@pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: the Python is a script for sh")
def test_imports_run_at_once(tmp_path: Path) -> None:
    """Each of the two waits until the other one has begun."""
    waits = "import os, time\nopen('{}', 'w').close()\nwhile not os.path.exists('{}'):\n    time.sleep(0.1)"
    one, other = tmp_path / "one", tmp_path / "other"
    modules = {"torchvision": waits.format(one, other), "torchao": waits.format(other, one)}
    doctor, here = environment_of(tmp_path, **modules)
    here.limit = 60
    here.python, here.has_torch = {"installed": dict.fromkeys(modules, "1.0")}, True
    assert [finding[0] for finding in doctor.check_packages(here)] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("version", "build"),
    [
        ("__version__ = '2.15.0+cu132'\ncuda: Optional[str] = '13.2'\nhip: Optional[str] = None", "cu132"),
        ("__version__ = '2.14.0+rocm7.2'\ncuda: Optional[str] = None\nhip: Optional[str] = '7.2.53211'", "rocm7.2"),
        ("__version__ = '2.14.0+xpu'", "xpu"),
        ("__version__ = '2.14.0+cpu'", "cpu"),
        ("__version__ = '2.15.0'\ncuda: Optional[str] = None", "cpu"),
        ("__version__ = '2.15.0'\ncuda: Optional[str] = '12.6'", "cu126"),  # of conda
        ("__version__ = '2.9.0a0+50eac811a6.nv25.09'\ncuda: Optional[str] = '13.0'", "cu130"),  # of NVIDIA
    ],
)
def test_an_environment_is_described_from_its_files(
    version: str, build: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doctor = load(project_of())
    monkeypatch.setattr(doctor.sysconfig, "get_path", lambda _: str(tmp_path))
    assert doctor.probe_python()["build"] == ""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/version.py").write_text(f"from typing import Optional\n{version}\n")
    for name in ("torch-2.15.0", "flash_attn-2.8.3", "~orch-2.14.0"):
        (tmp_path / f"{name}.dist-info").mkdir()
    found = doctor.probe_python()
    assert found["build"] == build
    assert found["installed"] == {"torch": "2.15.0", "flash-attn": "2.8.3"}
    assert found["headers"] is False


def test_rosetta_claims_an_intel_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    doctor = load(project_of())
    monkeypatch.setattr(doctor.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(doctor.platform, "version", lambda: "Darwin Kernel Version 22.6: xnu-8796~4/RELEASE_X86_64")
    assert doctor.Machine("darwin").platform == ""
    monkeypatch.setattr(
        doctor.platform, "version", lambda: "Darwin Kernel Version 22.6: xnu-8796~4/RELEASE_ARM64_T8103"
    )
    assert doctor.Machine("darwin").platform == "macos-arm64"


def test_the_environment_is_the_one_of_uv(tmp_path: Path) -> None:
    """A member of a workspace has that of the workspace, a project next to it has its own."""
    for name, members in {"member": "demo", "stranger": "other/*"}.items():
        root = tmp_path / name
        shutil.copytree(project_of(), root / "demo")
        (root / "pyproject.toml").write_text(f'[tool.uv.workspace]\nmembers = ["{members}"]\n')
        if name == "stranger":
            (root / "pyproject.toml").write_text(
                '[tool.uv]\nworkspace = { members = ["other/*"], exclude = ["demo"] }\n'
            )
        subprocess.run(["uv", "lock", "--quiet"], cwd=root / "demo", check=True, env=without_uv())
        output = run(root / "demo").stdout
        environment = root / (".venv" if name == "member" else "demo/.venv")
        assert f"  error    the environment {environment}: it does not exist" in output.splitlines()


# The command


def run(
    project: Path, *arguments: str, python: str = sys.executable, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run the doctor in a folder that is not the project's."""
    command = [python, str(project / "tools" / "doctor.py"), *arguments]
    return subprocess.run(
        command, cwd="/", env={**without_uv(), **environ}, capture_output=True, text=True, check=False
    )


def test_the_command_prints_groups_and_a_summary() -> None:
    done = run(project_of(), UV_PROJECT_ENVIRONMENT="none")
    assert done.returncode == 1
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    headings = [line for line in lines if line[0] not in " e"]
    assert headings == list(load(project_of()).GROUPS)
    assert re.fullmatch(r"errors: \d, warnings: \d", lines[-1])
    assert "\033" not in done.stdout
    assert f"  error    the environment {project_of()}/none: it does not exist" in lines
    assert "           -> uv sync" in lines


def test_json_has_a_schema_and_no_secrets() -> None:
    schema = json.loads((ROOT / "docs" / "doctor.schema.json").read_text())
    done = run(project_of(), "--json", SECRET="hidden-0815", OMP_NUM_THREADS="100000")
    found = json.loads(done.stdout)
    jsonschema.validate(found, schema)
    assert found["schema"] == 1
    assert done.returncode == (found["count"]["error"] > 0)
    assert "hidden-0815" not in done.stdout
    assert any("torch starts 100000 threads" in finding["text"] for finding in found["findings"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**found, "environ": {}}, schema)


@pytest.mark.parametrize(
    "environ",
    [
        {"UV_DEFAULT_INDEX": "https://user:hidden/0815@pypi.example.org/simple"},
        {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1"},
        {"UV_PROJECT_ENVIRONMENT": "", "UV": "", "CXX": "", "OMP_NUM_THREADS": "²", "CUDA_VISIBLE_DEVICES": "²"},
        {"PYTHONIOENCODING": "ascii", "UV_PROJECT_ENVIRONMENT": "ä ö"},
        {"LC_ALL": "C", "NO_COLOR": "", "TERM": ""},
    ],
)
def test_odd_variables_do_no_harm(environ: dict[str, str]) -> None:
    done = run(project_of(), **environ)
    assert done.stderr == ""
    assert "hidden" not in done.stdout
    assert "\033" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith("errors: ")
    if environ.get("UV_PROJECT_ENVIRONMENT") == "":
        assert f"the environment {project_of()}/.venv: it does not exist" in done.stdout


@pytest.mark.parametrize("limit", ["nan", "inf", "soon"])
def test_a_limit_that_is_none_is_refused(limit: str) -> None:
    done = run(project_of(), f"--limit={limit}")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(f"argument --limit: invalid int value: '{limit}'")


def test_a_file_in_place_of_the_folder_of_runs_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    done = run(project_of(), f"--out={tmp_path / 'runs'}")
    assert f"error    nothing can be written to {tmp_path / 'runs'}: Not a directory" in done.stdout


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"])
def test_every_python_runs_it(version: str) -> None:
    """Even those that the project itself is not for."""
    command = ["uv", "python", "find", "--no-project", "--no-python-downloads", version]
    found = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False).stdout.split()
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    found += map(str, pyenv.glob(f"versions/{version}.*/bin/python"))
    if not found:
        pytest.skip(f"SKIPPED: there is no Python {version} on this machine")
    done = run(project_of(torch="2.4", python="3.8", platforms="windows-x86_64", backend="cu121"), python=found[0])
    assert done.stderr == ""
    assert sys.platform == "win32" or "copier update" in done.stdout
    assert re.search(rf"Python {version}\.\d+$", done.stdout.splitlines()[1])
    assert done.stdout.splitlines()[-1].startswith("errors: ")


def test_uv_runs_it_in_a_project_that_does_not_resolve(tmp_path: Path) -> None:
    project = tmp_path / "demo"
    shutil.copytree(project_of(platforms="windows-x86_64", torch="2.14", backend="cu130"), project)
    replace(project / "pyproject.toml", '"filelock>=3.12"', '"there-is-no-such-package"')
    (project / ".python-version").unlink()
    command = ["uv", "run", "--offline", "--no-python-downloads", "tools/doctor.py"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert "uv.lock is for windows-x86_64, and not for " in done.stdout
    assert done.returncode == 1
    assert not (project / ".venv").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: pexpect needs a terminal of POSIX")
@pytest.mark.parametrize(
    ("environ", "mark"),
    [
        ({"TERM": "xterm", "PYTHONUTF8": "1"}, "\033[32m✓\033[0m"),
        ({"TERM": "xterm", "PYTHONUTF8": "1", "NO_COLOR": "1"}, "  ✓  "),
        ({"TERM": "dumb", "PYTHONUTF8": "1"}, "  ok       "),
        ({"TERM": "xterm", "PYTHONIOENCODING": "ascii"}, "\033[32mok     \033[0m"),
    ],
)
def test_a_terminal_shows_what_it_can(environ: dict[str, str], mark: str) -> None:
    script = str(project_of() / "tools" / "doctor.py")
    inherited = {name: text for name, text in os.environ.items() if name not in ("NO_COLOR", "PYTHONIOENCODING")}
    output = pexpect.run(f"{sys.executable} {script}", env={**inherited, **environ}, encoding="utf-8", timeout=300)
    assert mark in output


@pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: Windows has no such signals")
def test_an_interrupt_and_a_closed_pipe_are_no_tracebacks(tmp_path: Path) -> None:
    (tmp_path / "uv").write_text(f"#!/bin/sh\necho $$ >> {tmp_path}/pids\nexec sleep 600\n")
    (tmp_path / "uv").chmod(0o755)
    # The signal comes while a process is just starting
    slow = "import subprocess, time\nstart = subprocess.Popen.__init__\n"
    slow += "subprocess.Popen.__init__ = lambda *parts, **options: (start(*parts, **options), time.sleep(0.5))[0]\n"
    (tmp_path / "sitecustomize.py").write_text(slow)
    environ = {**os.environ, "UV": str(tmp_path / "uv"), "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, str(project_of() / "tools" / "doctor.py")]
    started = tmp_path / "pids"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        started.write_text("")
        running = subprocess.Popen(
            command,
            env=environ,
            stdout=-1,
            stderr=-1,
            text=True,
            preexec_fn=foreground,  # noqa: PLW1509 - there are no threads here
        )
        wait_for(started.read_text)
        running.send_signal(number)
        _, errors = running.communicate(timeout=120)
        assert (running.returncode, errors) == (128 + number, "")
        wait_for(lambda: not any(Path("/proc", pid).exists() for pid in started.read_text().split()))
    shell = f"{shlex.join(command)} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"torch": "2.14", "backend": "rocm7.2"},
        {"torch": "2.14", "backend": "xpu"},
        {"backend": "cpu"},
        {"platforms": "macos-arm64"},
        {"torch": "2.14", "platforms": "windows-x86_64", "backend": "cu130"},
    ],
    ids=["cuda", "rocm", "xpu", "cpu", "mac", "windows"],
)
def test_the_readme_shows_what_the_doctor_says(
    answers: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is of a machine that has the project installed, but no GPU of it; a Mac has one."""
    project = project_of(**answers)
    platform = load(project).ANSWERS["platforms"][0]
    mac = platform == "macos-arm64"
    torch = {"devices": {"mps": ""} if mac else {}}
    machine = (*SYSTEMS[platform], "15.1" if mac else "")
    doctor, here = record(tmp_path, monkeypatch, answers, machine=machine, torch=torch, **NO_DRIVER)
    here.python = {"build": here.build, "packages": "/site-packages"}
    monkeypatch.setattr(doctor, "GROUPS", {"GPUs and torch": doctor.check_gpus})
    doctor.examine(here, as_json=False)
    shown = capsys.readouterr().out.split("errors: ")[0]
    assert f"```\n{shown}```\n" in (project / "README.md").read_text(encoding="utf-8")


def test_the_doctor_is_short(tmp_path: Path) -> None:
    """Its table aside, which is data."""
    text = (project_of() / "tools" / "doctor.py").read_text(encoding="utf-8")
    code = tmp_path / "code.py"
    code.write_text(text[: text.index("# fmt: off")] + text[text.index("# fmt: on") :], encoding="utf-8")
    assert code_lines(code) <= 646


def test_the_package_has_no_trace_of_the_doctor() -> None:
    for path in project_of().rglob("src/**/*.py"):
        assert "doctor" not in path.read_text(encoding="utf-8"), path


def test_the_page_of_the_doctor_is_true() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    (document,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    jsonschema.validate(json.loads(document), json.loads((ROOT / "docs" / "doctor.schema.json").read_text()))
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    command = [sys.executable, "-c", f"{code}\nimport json\nprint(json.dumps(advice))"]
    found = json.loads(subprocess.check_output(command, cwd=project_of() / "tools"))
    assert (found["answers"]["backend"], found["answers"]["torch"]) == ("cu126", "2.14")
    assert found["reasons"][0] == "linux-x86_64: the cu126 build computes on GTX 1080 (6.1)"
    assert [name for name in load(project_of()).GROUPS if f"| {name} |" not in page] == []
    listed = re.sub("[^a-z0-9 ]", "-", page.lower().replace("`", ""))
    assert [name for name in load(project_of()).BOUND if name not in listed] == []


def test_a_package_is_replaced_by_how_it_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named in pyproject.toml, brought in by another package, or installed by hand."""
    doctor, here = record(tmp_path, monkeypatch)
    shutil.copytree(doctor.ROOT, tmp_path / "demo")
    monkeypatch.setattr(doctor, "ROOT", tmp_path / "demo")
    replace(tmp_path / "demo/pyproject.toml", '"filelock>=3.12"', '"xformers", "filelock>=3.12"')
    (tmp_path / "demo/uv.lock").write_text('[[package]]\nname = "xformers"\n\n[[package]]\nname = "torchao"\n')
    found = {name: doctor.for_package(here, name) for name in ("xformers", "torchao", "vllm")}
    assert found == {
        "xformers": ["uv lock --upgrade-package xformers", "uv sync --reinstall-package xformers"],
        "torchao": ["uv lock --upgrade-package torchao", "uv sync --reinstall-package torchao"],
        "vllm": ["uv pip install --upgrade vllm"],
    }
