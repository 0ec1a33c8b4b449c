"""How much torch is to download from PyPI: its wheel, and those of all that it requires, as uv resolves them."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from tests.project import UV_PLATFORMS, applies, without_uv
from tests.table import PLATFORMS

ROUGHLY = 0.1  # what is off by less is no difference: there are new versions of what torch does not pin


def of_version(index: str, version: str, python: str, macos: str) -> dict[str, int]:
    """Return what a version of torch takes on each platform, in MB to two digits."""
    with ThreadPoolExecutor(len(PLATFORMS)) as pool:
        sizes = pool.map(lambda platform: size(index, version, platform, python, macos), PLATFORMS)
        return {platform: int(float(f"{size / 1e6:.2g}")) for platform, size in zip(PLATFORMS, sizes, strict=True)}


@cache
def size(index: str, version: str, platform: str, python: str, macos: str) -> int:
    """Return the bytes of the wheels that a version of torch brings in on a platform."""
    command = ["uv", "pip", "compile", "-", "--quiet", "--no-config", "--no-build", "--format", "pylock.toml"]
    # Of the Python, only the version counts: uv need not download it
    options = ["--python", sys.executable, "--python-version", python, "--python-platform", UV_PLATFORMS[platform]]
    env = without_uv() | {"UV_DEFAULT_INDEX": index, "MACOSX_DEPLOYMENT_TARGET": macos}
    done = subprocess.run(
        [*command, *options], env=env, input=f"torch=={version}", stdout=subprocess.PIPE, text=True, check=True
    )
    return sum(
        max(wheel["size"] for wheel in package["wheels"])
        for package in tomllib.loads(done.stdout)["packages"]
        if "marker" not in package or applies(package["marker"], platform, python)
    )


def differ(known: int, found: int) -> bool:
    """Say whether a size is more than roughly another."""
    return abs(found - known) > ROUGHLY * known
