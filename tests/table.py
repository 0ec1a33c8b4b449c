"""builds.yml, as the tests and the sessions read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
TABLE: dict[str, Any] = yaml.safe_load((ROOT / "builds.yml").read_text())
RELEASES: dict[str, dict[str, Any]] = TABLE["releases"]
BACKENDS: dict[str, dict[str, Any]] = TABLE["backends"]
PLATFORMS: dict[str, dict[str, str]] = TABLE["platforms"]
COMPANIONS = ("torchvision", "torchaudio")


def words(row: str) -> list[str]:
    """Return the words of a row, without the mark of the one that PyPI carries."""
    return row.replace("*", "").split()


def builds(release: str, platform: str) -> list[str]:
    """Return the backends that a release has on a platform."""
    return words(RELEASES[release]["platforms"][platform])


def on_pypi(release: str, platform: str) -> str:
    """Return the backend whose build PyPI carries for a platform."""
    row: str = RELEASES[release]["platforms"][platform]
    return next(word.removesuffix("*") for word in row.split() if word.endswith("*"))


def pythons(release: str, platform: str, package: str = "torch") -> list[str]:
    """Return the Pythons that have wheels of a package on a platform."""
    more = "" if package in COMPANIONS else RELEASES[release].get("more_python", {}).get(platform, "")
    return words(f"{RELEASES[release]['python']} {more}")


def plain(release: str, platform: str) -> list[str]:
    """Return the packages whose wheels on the index have no local version for this platform."""
    if platform == "macos-arm64":
        return ["torch", *COMPANIONS]
    return words(RELEASES[release].get("plain", "")) if platform == "linux-aarch64" else []


def backends(release: str) -> list[str]:
    """Return all backends of a release, in the order of the table."""
    return [name for name in BACKENDS if any(name in builds(release, platform) for platform in PLATFORMS)]


def versions(release: str, package: str) -> list[str]:
    """Return the versions of torch or of a companion that belong to a release, oldest first."""
    patches = RELEASES[release]["patches"]
    return list(patches) if package == "torch" else list(dict.fromkeys(patch[package] for patch in patches.values()))


def home(release: str, package: str) -> str:
    """Return the release that a companion was built with: torchaudio 2.11.0, the last one, with 2.11."""
    return versions(release, package)[0].rsplit(".", 1)[0] if package == "torchaudio" else release


def triton(release: str, backend: str) -> str | None:
    """Return the triton package of a ROCm or XPU build."""
    names: dict[str, str] = RELEASES[release].get("triton", {})
    return names.get("rocm" if backend.startswith("rocm") else backend)
