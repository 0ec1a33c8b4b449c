"""What is wrong with this machine or this installation, and what mends it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from .config import DoctorConfig
from .machine import DENIED, QUOTA, RENDER, VISIBLE, Machine, Torch

# Written anew by each update of the template: the release of torch and the builds of it that this
# project installs on each system and machine. Then CUDA builds, newest first: that release or else
# the newest that has it, the oldest driver on each system, and the capabilities with kernels.
TABLE = json.loads(Path(__file__).with_name("builds.json").read_text())
RELEASE, BUILDS, CUDA = TABLE["release"], TABLE["builds"], TABLE["cuda"]


@dataclass(frozen=True)
class Finding:
    """What a check found: ok, a warning or an error, and what mends it."""

    level: str
    text: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.level:8} {self.text}" + (f"\n{'':8} -> {self.fix}" if self.fix else "")


def doctor(config: DoctorConfig) -> int:
    """Print what was found, and return 1 if there is an error, else 0."""
    machine, torch = Machine.here(), Torch.here()
    findings = list(examine(machine, torch))
    if config.json:
        found = [asdict(finding) for finding in findings]
        print(json.dumps({"findings": found, "machine": asdict(machine), "torch": asdict(torch)}))
    else:
        print(*findings, sep="\n")
    return int(any(finding.level == "error" for finding in findings))


def examine(machine: Machine, torch: Torch) -> Iterator[Finding]:
    """Yield what each check finds."""
    yield from _package(Path(__file__).parent)
    yield from _installation(machine, torch)
    if torch.build in CUDA:
        yield from _nvidia(machine, torch)
    if torch.build.startswith(("rocm", "xpu")):
        yield from _nodes(machine, torch)
    yield from _devices(machine, torch)
    yield from _surroundings(machine)


def _package(folder: Path) -> Iterator[Finding]:
    """Compare the name of the package with the one that updates know."""
    answers = folder.parent.parent / ".copier-answers.yml"
    text = answers.read_text(encoding="utf-8") if answers.exists() else ""
    known = re.search(r"^package_name: (\w+)$", text, re.MULTILINE)
    if known and known[1] != folder.name:
        text = f"updates do not reach this package: for them it is {known[1]}, not {folder.name}"
        fix = f"uvx copier update --defaults --vcs-ref=:current: --data package_name={folder.name}"
        yield Finding("error", text, fix)


def _installation(machine: Machine, torch: Torch) -> Iterator[Finding]:
    builds = BUILDS.get(f"{machine.system} {machine.machine}")
    if machine.translated:
        text = "this is an x86 Python on Apple silicon, which torch has no wheels for"
        yield Finding("error", text, "install uv for arm64, then: uv sync --reinstall")
    elif builds is None:
        name = f"{machine.system} on {machine.machine}"
        yield Finding("error", f"uv.lock is not for {name}", "uvx copier update: add the platform")
    if torch.problem:
        text = f"torch cannot be imported: {torch.problem}"
        yield Finding("error", text, "uv sync --reinstall-package torch")
    elif not torch.version.startswith(f"{RELEASE}."):
        text = f"torch {torch.version} is installed, but this project is for {RELEASE}"
        yield Finding("error", text, "uv sync")
    elif builds and torch.build not in builds:
        text = f"torch is the {torch.build} build, but this project installs {' or '.join(builds)}"
        yield Finding("error", text, "uv sync")
    else:
        yield Finding("ok", f"torch {torch.version}, the {torch.build} build")
    for warning in torch.warnings:
        yield Finding("warning", f"torch says: {warning}", "python -m torch.utils.collect_env")


def _nvidia(machine: Machine, torch: Torch) -> Iterator[Finding]:
    major = int(torch.build[2:4])
    driver = CUDA[torch.build]["drivers"].get(machine.system)
    if machine.driver is None:
        if machine.in_container:
            fix = "docker run --gpus all, with the NVIDIA container toolkit on the host"
        elif "microsoft" in machine.kernel.lower():
            fix = "install the NVIDIA driver in Windows, not in WSL"
        else:
            fix = f"install driver {driver} or newer"
        yield Finding("warning", "there is no NVIDIA driver, so torch computes on the CPU", fix)
        return
    level = f"{machine.driver // 1000}.{machine.driver % 1000 // 10}"
    if machine.driver // 1000 < major:
        text = f"the driver runs CUDA up to {level}, but this build is of CUDA {major}"
        yield Finding("error", text, f"install driver {driver} or newer{_or_take(machine.driver)}")
    else:
        yield Finding("ok", f"the NVIDIA driver runs CUDA up to {level}")


def _or_take(driver: int, capability: str = "") -> str:
    """Return the newest build that runs with a driver, and on a GPU, as a way out."""
    ways = {
        cuda["release"]: build
        for build, cuda in reversed(CUDA.items())
        if int(build[2:4]) <= driver // 1000
        and (not capability or _has_kernels(capability, cuda["kernels"].split()))
    }
    if not ways:
        return ""
    release = RELEASE if RELEASE in ways else max(ways, key=lambda name: int(name.split(".")[1]))
    return f", or: uvx copier update --data torch={release} --data backend={ways[release]}"


def _nodes(machine: Machine, torch: Torch) -> Iterator[Finding]:
    for node in ("/dev/kfd", RENDER) if torch.build.startswith("rocm") else (RENDER,):
        if node not in machine.files:
            inside = machine.in_container
            fix = f"docker run --device {node}" if inside else "install the driver of the GPU"
            yield Finding("warning", f"there is no {node}, so torch computes on the CPU", fix)
        elif machine.files[node] == DENIED:
            fix = "sudo usermod --append --groups render,video $USER, and log in again"
            yield Finding("error", f"{node} is not yours to open", fix)
    if "HSA_OVERRIDE_GFX_VERSION" in machine.environ:
        text = "HSA_OVERRIDE_GFX_VERSION makes torch run kernels of another GPU"
        yield Finding("warning", text, "unset HSA_OVERRIDE_GFX_VERSION")


def _devices(machine: Machine, torch: Torch) -> Iterator[Finding]:
    for name, value in machine.environ.items():
        if name in VISIBLE and not torch.problem:
            if value in ("", "-1"):
                text = f"{name} is {value!r}: it hides every GPU"
                yield Finding("warning", text, f"unset {name}")
            elif len(value.split(",")) > len(torch.devices):
                text = f"{name} is {value!r}, but torch sees {len(torch.devices)} devices"
                yield Finding("warning", text, f"unset {name}")
    for device in torch.devices:
        name = f"{device.name} ({device.model})"
        if not device.problem:
            yield Finding("ok", f"{name} computes as the CPU does")
        elif torch.kernels and not _has_kernels(device.target, torch.kernels):
            text = f"{name} is of {device.target}, but this build is for {' '.join(torch.kernels)}"
            fix = "take another GPU"
            if machine.driver is not None:
                fix += _or_take(machine.driver, device.target)
            yield Finding("error", text, fix)
        else:
            text = f"{name} does not compute: {device.problem}"
            yield Finding("error", text, "train --device cpu, or mend the driver")
        if device.taken > 0.5:
            text = f"{device.taken:.0%} of the memory of {name} is taken by another process"
            fix = "nvidia-smi" if machine.driver is not None else "rocm-smi"
            yield Finding("warning", text, f"{fix} shows which")
    if machine.system == "darwin" and not torch.devices and not torch.problem:
        fix = f"macOS {TABLE['macos']} or newer, on the machine itself"
        yield Finding("error", "torch cannot use MPS", fix)


def _has_kernels(target: str, kernels: list[str]) -> bool:
    """Return whether the kernels for one of these GPUs run on a target, as 8.6 or gfx942.

    Of CUDA, those of the same major and of no higher minor do (sm_80 on 8.6).
    """
    if target in kernels:
        return True
    major, _, minor = target.partition(".")
    numbers = [kernel.replace("sm_", "") for kernel in kernels]
    return any(number[:-1] == major and number[-1] <= minor for number in numbers)


def _surroundings(machine: Machine) -> Iterator[Finding]:
    if machine.shared_memory is not None and machine.shared_memory < 1 << 30:
        text = f"/dev/shm has {machine.shared_memory >> 20} MB: --workers may run out of it"
        fix = "mount --options remount,size=8g /dev/shm"
        if machine.in_container:
            fix = "docker run --shm-size 8g"
        yield Finding("warning", text, fix)
    if not machine.compiler:
        fix = "install a C++ compiler"
        if machine.system == "linux":
            fix = "apt-get install g++ python3-dev"
        text = "there is no C++ compiler, or no Python.h: --compile will fail"
        yield Finding("warning", text, fix)
    if machine.disk is not None and machine.disk < 1 << 30:
        text = f"{machine.disk >> 20} MB can be written here: a checkpoint may not fit"
        yield Finding("warning", text, "train --out on another disk")
    quota, _, period = machine.files.get(QUOTA, "max").partition(" ")
    counted = int(machine.environ.get("OMP_NUM_THREADS") or machine.cpus)
    if quota.isdigit() and int(quota) // int(period) < counted:
        share = max(1, int(quota) // int(period))
        text = f"this container may use {share} of the {counted} CPUs that torch counts on"
        yield Finding("warning", text, f"export OMP_NUM_THREADS={share}")
