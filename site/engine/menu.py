"""What the page lets a visitor choose by name: systems, GPUs, drivers. All of it is from builds.yml."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Table = dict[str, Any]

# As Python spells them, and the doctor does
SYSTEMS = {
    "linux-x86_64": ("linux", "x86_64"),
    "linux-aarch64": ("linux", "aarch64"),
    "macos-arm64": ("darwin", "arm64"),
    "windows-x86_64": ("win32", "AMD64"),
}


def menu(table: Table) -> list[dict[str, Any]]:
    """Return the systems, each with its GPUs, newest first, and the levels of drivers that tell builds apart."""
    return [
        {
            "platform": platform,
            "name": entry["name"],
            "system": SYSTEMS[platform][0],
            "machine": SYSTEMS[platform][1],
            "gpus": [] if platform == "macos-arm64" else list(gpus(table, platform)),
            "drivers": drivers(table, platform),
            "macos": macos(table) if platform == "macos-arm64" else [],
        }
        for platform, entry in table["platforms"].items()
    ]


def gpus(table: Table, platform: str) -> Iterator[dict[str, str]]:
    """Yield what people call the GPUs of a platform. Of two rows with a name, the later says what the card itself has."""
    kinds = ["aarch64"] if platform.endswith("aarch64") else ["desktop", "server"]
    targets = {name: target for target, row in table["cards"].items() for kind in kinds for name in row.get(kind, [])}
    for name, target in reversed(targets.items()):
        yield {"vendor": "amd" if target.startswith("gfx") else "nvidia", "target": target, "name": name}
    if any(platform in release["builds"].get("xpu", []) for release in table["releases"].values()):
        yield {"vendor": "intel", "target": "", "name": table["backends"]["xpu"]["cards"]}


def drivers(table: Table, platform: str) -> list[dict[str, str]]:
    """Return the levels of NVIDIA drivers, newest first: the oldest driver of each, and the CUDA that it runs."""
    system = platform.split("-")[0]
    oldest = {}
    for backend, entry in table["backends"].items():
        if system in entry.get("driver", {}) and any(
            platform in r["builds"].get(backend, []) for r in table["releases"].values()
        ):
            oldest[f"{backend[2:4]}.0"] = entry["driver"][system]
    if not oldest:
        return []
    return [*({"cuda": cuda, "oldest": driver} for cuda, driver in oldest.items()), {"cuda": "10.0", "oldest": ""}]


def macos(table: Table) -> list[str]:
    """Return the versions of macOS that releases need, newest first."""
    return sorted({release["macos"] for release in table["releases"].values()}, key=numbers, reverse=True)


def numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]
