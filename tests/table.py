"""builds.yml, as the tests and the sessions read it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FILE = ROOT / "builds.yml"
TABLE: dict[str, Any] = yaml.safe_load(FILE.read_text())
RELEASES: dict[str, dict[str, Any]] = TABLE["releases"]
BACKENDS: dict[str, dict[str, Any]] = TABLE["backends"]
PLATFORMS: dict[str, dict[str, str]] = TABLE["platforms"]
COMPANIONS = ("torchvision", "torchaudio", "torchcodec")


def companions(release: str) -> list[str]:
    """Return the companions that there are for a release."""
    return [package for package in COMPANIONS if versions(release, package)]


def versions(release: str, package: str) -> list[str]:
    """Return the versions of torch or of a companion that belong to a release, oldest first."""
    patches = RELEASES[release]["patches"]
    if package == "torch":
        return list(patches)
    return list(dict.fromkeys(patch[package] for patch in patches.values() if package in patch))


@cache
def home(release: str, package: str) -> str:
    """Return the release that a package was published with: torchaudio 2.11.0, the last one, with 2.11."""
    return next(name for name in reversed(RELEASES) if versions(name, package) == versions(release, package))


def entry(release: str, package: str = "torch") -> dict[str, Any]:
    """Return what the table says of the wheels of a package; torchcodec has builds of its own."""
    if package == "torchcodec":
        found: dict[str, Any] = TABLE["torchcodec"][versions(release, package)[0]]
        return found
    return RELEASES[home(release, package)]


def builds(release: str, platform: str, package: str = "torch") -> list[str]:
    """Return the backends that a package of a release has on a platform."""
    return [name for name in BACKENDS if platform in entry(release, package)["builds"].get(name, [])]


def loads(release: str, backend: str, platform: str, package: str = "torch") -> str | None:
    """Return the build of a package that loads on a platform beside the build of torch that a backend brings there."""
    built = backend if backend in builds(release, platform) else "cpu"
    candidates = [built, *entry(release, package).get("beside", {}).get(built, [])]
    return next((name for name in candidates if name in builds(release, platform, package)), None)


def on_pypi(release: str, platform: str, package: str = "torch") -> str | None:
    """Return the backend whose build of a package PyPI carries for a platform."""
    build: str | None = entry(release, package)["pypi"].get(platform)
    return build


def pythons(release: str, platform: str, package: str = "torch") -> list[str]:
    """Return the Pythons that have wheels of a package on a platform."""
    home = entry(release, package)
    partly: dict[str, list[str]] = home.get("python_on", {})
    alone = package not in ("torchvision", "torchaudio")
    return [python for python in home["python"] if python not in partly or (alone and platform in partly[python])]


def plain(release: str, platform: str) -> list[str]:
    """Return the packages whose wheels on the index have no local version for this platform."""
    if platform == "macos-arm64":
        return ["torch", *COMPANIONS]
    names: list[str] = RELEASES[release].get("plain", [])
    return names if platform == "linux-aarch64" else []


def backends(release: str) -> list[str]:
    """Return all backends of a release, in the order of the table."""
    return [name for name in BACKENDS if name in RELEASES[release]["builds"]]


def triton(release: str, backend: str) -> str | None:
    """Return the triton package of a ROCm or XPU build."""
    names: dict[str, str] = RELEASES[release].get("triton", {})
    return names.get("rocm" if backend.startswith("rocm") else backend)


def sdk(release: str, backend: str) -> list[str]:
    """Return the packages of AMD's SDK that a ROCm build requires: the first brings in the others."""
    if backend not in RELEASES[release].get("sdk", {}):
        return []
    devices = (f"rocm-sdk-device-{target}" for target in BACKENDS[backend]["devices"])
    return ["rocm", "rocm-sdk-core", "rocm-sdk-libraries", *devices]


def open_facts(text: str = FILE.read_text()) -> list[str]:
    """Return what the table says that nobody knows yet: `cu134 is open: driver, gpus`."""
    return [
        f"{key} is open: {what}" for key, what in re.findall(r"^ *'?([\w.]+)'?:.*# open: (.+)$", text, re.MULTILINE)
    ]
