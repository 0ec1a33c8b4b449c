"""Records of the machine and of torch, for the doctor to judge. Tests put others in their place."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from .runtime import first_line

DENIED = "denied"
QUOTA = "/sys/fs/cgroup/cpu.max"
RENDER = "/dev/dri/renderD128"
FILES = ("/.dockerenv", "/run/.containerenv", "/dev/kfd", RENDER, QUOTA)
VISIBLE = (
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
)
SETTINGS = (*VISIBLE, "HSA_OVERRIDE_GFX_VERSION", "OMP_NUM_THREADS")
# What the import of a broken torch raises
FAILURES = (ImportError, OSError, RuntimeError, AttributeError, ValueError, TypeError, SyntaxError)


@dataclass
class Machine:
    """What can be known of a machine without torch."""

    system: str = sys.platform
    machine: str = platform.machine()
    kernel: str = platform.release()
    cpus: int = 1
    environ: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    compiler: bool = True
    """Whether there is a C++ compiler, and Python.h for it."""
    disk: int | None = None
    """What can be written in this folder, in bytes."""
    driver: int | None = None
    """Newest CUDA that the NVIDIA driver runs, as 13020 for 13.2; None without a driver."""
    shared_memory: int | None = None
    """Size of /dev/shm, in bytes."""
    translated: bool = False
    """Whether this is an x86 Python on Apple silicon."""

    @property
    def in_container(self) -> bool:
        """Whether Docker or Podman runs this."""
        return not {"/.dockerenv", "/run/.containerenv"}.isdisjoint(self.files)

    @classmethod
    def here(cls) -> Machine:
        """Look at this machine."""
        environ = {name: value for name, value in os.environ.items() if name in SETTINGS}
        files = {name: _text(Path(name)) for name in FILES if Path(name).exists()}
        return cls(
            cpus=_cpus(),
            environ=environ,
            files=files,
            compiler=any(map(shutil.which, ("c++", "g++", "clang++", "cl")))
            and Path(sysconfig.get_path("include"), "Python.h").exists(),
            disk=shutil.disk_usage(".").free if os.access(".", os.W_OK) else 0,
            driver=_driver(),
            shared_memory=_size(Path("/dev/shm")),
            translated=sys.platform == "darwin" and _translated(),
        )


@dataclass
class Device:
    """A device that torch sees, and what went wrong when it computed."""

    name: str
    model: str = ""
    target: str = ""
    """What kernels are built for: a compute capability, as 9.0, or a gfx target."""
    problem: str = ""
    taken: float = 0.0
    """Share of its memory that is not free, from 0 to 1."""


@dataclass
class Torch:
    """What torch says of itself, or why it cannot be imported."""

    version: str = ""
    build: str = ""
    problem: str = ""
    warnings: list[str] = field(default_factory=list)
    kernels: list[str] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)

    @classmethod
    def here(cls) -> Torch:
        """Import torch, and let each device compute something."""
        try:
            import torch

            from .runtime import device
        except FAILURES as error:
            return cls(problem=f"{type(error).__name__}: {first_line(error)}")
        version, _, build = torch.__version__.partition("+")
        kind = device.built_for()
        with warnings.catch_warnings(record=True) as caught:  # of a driver that is too old, say
            warnings.simplefilter("always")
            count = device.count(kind) if kind else 0
        return cls(
            version,
            build or "cpu",
            warnings=[first_line(warning.message) for warning in caught],
            kernels=torch.cuda.get_arch_list() if kind == "cuda" else [],
            devices=[probe(str(kind), index) for index in range(count)],
        )


def probe(kind: str, index: int) -> Device:
    """Return what a device is, and whether a matrix product and its gradient are as on the CPU."""
    import torch

    from .runtime import device as hardware

    device = torch.device(kind, index)
    found = Device(str(device))
    square = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
    gradients: list[torch.Tensor] = []
    try:
        found.model = hardware.describe(device)
        if kind == "cuda":
            gfx = getattr(torch.cuda.get_device_properties(device), "gcnArchName", "")
            capability = torch.cuda.get_device_capability(device)
            found.target = gfx.split(":")[0] or ".".join(map(str, capability))
            free, total = torch.cuda.mem_get_info(device)
            found.taken = 1 - free / total
        for place in (torch.device("cpu"), device):
            leaf = square.to(place).requires_grad_()
            gradients += torch.autograd.grad((leaf @ leaf).sum(), leaf)
        if not torch.allclose(gradients[0], gradients[1].cpu(), rtol=1e-2):
            found.problem = "it gives different results from the CPU"
    except hardware.FAILURES as error:
        found.problem = first_line(error)
    return found


def _cpus() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _text(path: Path) -> str:
    if not os.access(path, os.R_OK):
        return DENIED
    return path.read_text().strip() if path.is_file() else ""


def _size(path: Path) -> int | None:
    return shutil.disk_usage(path).total if path.exists() else None


def _driver() -> int | None:
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    level = ctypes.c_int()
    return level.value if library.cuDriverGetVersion(ctypes.byref(level)) == 0 else None


def _translated() -> bool:
    command = ["sysctl", "-n", "sysctl.proc_translated"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() == "1"
