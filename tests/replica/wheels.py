"""The wheels of the replica: what builds.yml says PyTorch's index has, as tiny files under the real names."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import zipfile
from collections.abc import Iterator
from email.message import Message
from functools import cache
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.version import Version

from tests.replica import pypi
from tests.table import (
    COMPANIONS,
    PLATFORMS,
    RELEASES,
    builds,
    companions,
    home,
    on_pypi,
    plain,
    pythons,
    sdk,
    triton,
    versions,
)

# The real index has these too. Here they are so new that a resolver takes them at once, unless the index is explicit.
DECOYS = ("filelock", "jinja2", "numpy", "nvidia-cublas-cu12", "setuptools", "sympy", "triton", "typing-extensions")


class Wheel(NamedTuple):
    """A wheel on the index of one backend, or on PyPI; a decoy belongs to no release."""

    backend: str
    package: str
    version: str
    local: str
    tag: str
    release: str | None = None
    on_pypi: bool = False

    @property
    def filename(self) -> str:
        return f"{self.package.replace('-', '_')}-{self.version}{self.local}-{self.tag}.whl"


@cache
def packages(backend: str) -> dict[str, list[Wheel]]:
    """Return what a backend's index has, by package."""
    found: dict[str, list[Wheel]] = {name: [Wheel(backend, name, "9999", "", "py3-none-any")] for name in DECOYS}
    for wheel in published(backend):
        found.setdefault(wheel.package, []).append(wheel)
    return found


def torch(backend: str, release: str, python: str) -> list[Wheel]:
    """Return the wheels of torch that a release has for a Python, as 3.11."""
    return [
        wheel
        for wheel in packages(backend)["torch"]
        if wheel.release == release and wheel.tag.startswith(f"cp{python.replace('.', '')}-")
    ]


def published(backend: str) -> Iterator[Wheel]:
    for release in RELEASES:
        for platform in PLATFORMS:
            for package in ("torch", *companions(release)):
                if home(release, package) == release and backend in builds(release, platform, package):
                    local = "" if package in plain(release, platform) else f"+{backend}"
                    for version in versions(release, package):
                        for tag in python_tags(release, platform, package, version):
                            tags = f"{tag}-{platform_tag(release, platform)}"
                            yield Wheel(backend, package, version, local, tags, release)
        yield from required(backend, release)


def required(backend: str, release: str) -> Iterator[Wheel]:
    """Yield what a build of torch requires of its own index: its triton, and AMD's SDK."""
    for platform in (platform for platform in PLATFORMS if backend in builds(release, platform)):
        if package := triton(release, backend):
            for version in triton_versions(release):
                for tag in python_tags(release, platform, "torch", version):
                    yield Wheel(backend, package, version, "", f"{tag}-{platform_tag(release, platform)}", release)
        for package in sdk(release, backend):
            tags = f"py3-none-{platform_tag(release, platform)}"
            yield Wheel(backend, package, f"{backend.removeprefix('rocm')}.0", "", tags, release)


def python_tags(release: str, platform: str, package: str, version: str) -> list[str]:
    """Return the Python and ABI tags of a version: one of each Python, or py3-none where PyPI has that."""
    published = " ".join(pypi.links(pypi.PYPI, package))
    if package in COMPANIONS and f"{package}-{like(package, version)}-py3-none-" in published:
        return ["py3-none"]
    numbers = (python.replace(".", "") for python in pythons(release, platform, package))
    return [f"cp{number}-cp{number}" for number in numbers]


def platform_tag(release: str, platform: str) -> str:
    """Return the platform tag that the index uses: manylinux since 2.7."""
    system, machine = platform.split("-")
    if system == "linux":
        return f"manylinux_2_28_{machine}" if int(release[2:]) >= 7 else f"linux_{machine}"
    if system == "macos":
        macos = RELEASES[release]["macos"]
        return f"macosx_{macos.replace('.', '_')}_arm64"
    return "win_amd64"


def triton_versions(release: str) -> list[str]:
    """Return the versions of triton that the patches of a release want; those of ROCm and XPU are the same."""
    pins = (pin for patch in versions(release, "torch") for pin in real_requirements("torch", patch))
    return list(dict.fromkeys(triton_version(pin) for pin in pins if pin.startswith("triton")))


def triton_version(pin: str) -> str:
    """Return the version of a requirement of the form triton==3.7.1 or triton~=3.8.0."""
    (specifier,) = Requirement(pin).specifier
    return specifier.version


@cache
def like(package: str, version: str) -> str:
    """Return the version that PyPI has of a package or, if builds.yml is ahead of PyPI, the newest before it."""
    names = (re.match(rf"{package}-([\d.]+)-\S+\.whl", name) for name in pypi.links(pypi.PYPI, package))
    published = {match[1] for match in names if match}
    return max((name for name in published if Version(name) <= Version(version)), key=Version)


@cache
def real_metadata(package: str, version: str) -> Message:
    """Return the core metadata of PyPI's wheel; it is the same text on every platform."""
    files = pypi.links(pypi.PYPI, package)
    start = f"{package}-{like(package, version)}-"
    name = next(name for name in sorted(files) if name.startswith(start) and name.endswith(".whl"))
    return pypi.metadata(files[name])


@cache
def real_requirements(package: str, version: str) -> list[str]:
    """Return the Requires-Dist of PyPI's wheel.

    A torch that PyPI does not have wants the next minor of triton; a companion that pins torch, its own patch.
    """
    lines = [str(Requirement(line)) for line in real_metadata(package, version).get_all("Requires-Dist", [])]
    if like(package, version) == version:
        return lines
    if package == "torch":
        ahead = Version(version).minor - Version(like(package, version)).minor
        return [re.sub(r"^(triton\W+\d+\.)(\d+)", lambda pin: f"{pin[1]}{int(pin[2]) + ahead}", line) for line in lines]
    return [re.sub(r"^torch==.*", f"torch=={patch_of(package, version)}", line) for line in lines]


def patch_of(package: str, version: str) -> str:
    """Return the patch of torch that a version of a companion was published for."""
    patches: dict[str, dict[str, str]] = {
        patch: row for release in RELEASES.values() for patch, row in release["patches"].items()
    }
    return next(patch for patch, row in patches.items() if row.get(package) == version)


def requires_python(wheel: Wheel) -> str | None:
    """Return the Requires-Python of a wheel: that of PyPI's."""
    if wheel.release is None or wheel.package not in ("torch", *COMPANIONS):
        return None
    return real_metadata(wheel.package, wheel.version)["Requires-Python"]


def requirements(wheel: Wheel) -> list[str]:
    """Return the Requires-Dist of a wheel: that of PyPI's wheel, with the backend's own CUDA packages and triton."""
    if wheel.release and wheel.package == "rocm":
        return sdk_requirements(wheel)
    if wheel.release is None or wheel.package not in ("torch", *COMPANIONS):
        return []
    real = real_requirements(wheel.package, wheel.version)
    if wheel.package != "torch" or wheel.on_pypi or wheel.backend == on_pypi(wheel.release, "linux-x86_64"):
        return real
    own = [line for line in real if not line.startswith(("nvidia-", "cuda-", "triton"))]
    pin = next(line for line in real if line.startswith("triton"))
    if wheel.backend.startswith("cu"):
        return [*own, pin, *cuda_packages(major=wheel.backend[2:4], minor=wheel.backend[4])]
    if package := triton(wheel.release, wheel.backend):
        own.append(f"{package}{Requirement(pin).specifier}")
    return [*own, *filter(None, [RELEASES[wheel.release].get("sdk", {}).get(wheel.backend)])]


def sdk_requirements(wheel: Wheel) -> list[str]:
    """Return the Requires-Dist of AMD's `rocm`: its extras bring in the libraries, and the kernels for every family of GPUs."""
    assert wheel.release
    _, core, libraries, *devices = (f"{name}=={wheel.version}" for name in sdk(wheel.release, wheel.backend))
    return [core, f'{libraries}; extra == "libraries"', *(f'{name}; extra == "device-all"' for name in devices)]


def cuda_packages(major: str, minor: str) -> list[str]:
    """Return the CUDA packages of a build that PyPI does not carry.

    From CUDA 13 on the toolkit is one package, on every Linux; before, there is one a library, on x86_64 alone (the aarch64
    wheels hold the libraries themselves).
    """
    if int(major) >= 13:
        toolkit = f"cuda-toolkit[cublas,cudart,cufft,nvrtc]=={major}.{minor}.*"
        names = [toolkit, *(f"nvidia-{name}-cu{major}" for name in ("cudnn", "cusparselt", "nccl"))]
        return [f"{name}; platform_system == 'Linux'" for name in names]
    names = [
        "cublas",
        "cuda-cupti",
        "cuda-nvrtc",
        "cuda-runtime",
        "cudnn",
        "cufft",
        "curand",
        "cusolver",
        "cusparse",
        "nccl",
        "nvtx",
    ]
    marker = "platform_system == 'Linux' and platform_machine == 'x86_64'"
    return [f"nvidia-{name}-cu{major}; {marker}" for name in names]


def real_file(wheel: Wheel) -> Path | None:
    """Return the real wheel, if a directory of PIP_FIND_LINKS has it."""
    paths = (Path(directory, wheel.filename) for directory in os.environ.get("PIP_FIND_LINKS", "").split())
    return next((path for path in paths if path.is_file()), None)


@cache
def body(wheel: Wheel) -> bytes:
    """Return the real wheel, or else a tiny one with its name and metadata."""
    if path := real_file(wheel):
        return path.read_bytes()
    info = f"{wheel.package.replace('-', '_')}-{wheel.version}{wheel.local}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {wheel.package}", f"Version: {wheel.version}{wheel.local}"]
    if pythons := requires_python(wheel):
        metadata.append(f"Requires-Python: {pythons}")
    metadata += [f"Requires-Dist: {line}" for line in requirements(wheel)]
    metadata += [f"Provides-Extra: {extra}" for extra in ("libraries", "device-all") if wheel.package == "rocm"]
    files = {
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: replica\nRoot-Is-Purelib: false\nTag: {wheel.tag}\n",
    }
    if wheel.release and wheel.package in ("torch", *COMPANIONS):
        files[f"{wheel.package}/version.py"] = f"__version__ = '{wheel.version}+{wheel.backend}'\n"
    record = ""
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        record += f"{name},sha256={digest},{len(text)}\n"
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return stream.getvalue()


@cache
def size(wheel: Wheel) -> int:
    """Return the size that is given of a wheel which PyPI does not have: that of the newest before it, if there is one."""
    python, abi, platform = wheel.tag.split("-")
    start = f"{wheel.package}-{like(wheel.package, wheel.version)}-{python}-{abi}-"
    end = re.sub(r"^.*(?=(x86_|aarch|arm|amd)64$)", "", platform)
    for file in pypi.files(pypi.PYPI, wheel.package):
        if file["filename"].startswith(start) and file["filename"].endswith(f"{end}.whl"):
            return int(file["size"])
    return len(body(wheel))


@cache
def digest(wheel: Wheel) -> str:
    return hashlib.sha256(body(wheel)).hexdigest()


@cache
def metadata(wheel: Wheel) -> bytes:
    """Return the core metadata, as it stands in the wheel."""
    with zipfile.ZipFile(io.BytesIO(body(wheel))) as archive:
        return archive.read(f"{wheel.package.replace('-', '_')}-{wheel.version}{wheel.local}.dist-info/METADATA")
