"""The repository with a release in builds.yml that is not published yet: everything else has to follow from it.

    python -m tests.next_release FOLDER

copies it there. `nox -s next_release` then runs its tests, with a stand-in of PyPI that has the release.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests.table import FILE, RELEASES, ROOT, TABLE

NEWEST = next(iter(RELEASES))
NEXT = f"2.{int(NEWEST.removeprefix('2.')) + 1}"
CUDA = f"cu{max(int(name.removeprefix('cu')) for name in TABLE['backends'] if name.startswith('cu')) + 2}"
LINUX = ["linux-x86_64", "linux-aarch64"]


def release() -> dict[str, object]:
    """Return the release: with a new CUDA, a Python more, another triton (which the stand-in of PyPI derives) and companions."""
    newest = RELEASES[NEWEST]
    companions = list(newest["patches"].values())[-1]
    major, minor, _ = companions["torchvision"].split(".")
    python = f"3.{int(newest['python'][-1].removeprefix('3.')) + 1}"
    return {
        "source": "none: it does not exist",
        "python": [*newest["python"], python],
        "macos": newest["macos"],
        "patches": {f"{NEXT}.0": companions | {"torchvision": f"{major}.{int(minor) + 1}.0"}},
        "triton": {"rocm": "triton-rocm", "xpu": "triton-xpu"},
        "pypi": {**dict.fromkeys(LINUX, CUDA), "macos-arm64": "cpu", "windows-x86_64": "cpu"},
        "download": newest["download"],
        "builds": {
            CUDA: [*LINUX, "windows-x86_64"],
            newest["pypi"]["linux-x86_64"]: LINUX,
            "rocm7.2": LINUX[:1],
            "xpu": LINUX[:1],
            "cpu": [*LINUX, "macos-arm64", "windows-x86_64"],
        },
    }


def backend() -> dict[str, object]:
    like = TABLE["backends"][next(iter(TABLE["backends"]))]
    return {"name": f"CUDA {CUDA[2:-1]}.{CUDA[-1]}", "driver": like["driver"], "gpus": like["gpus"]}


def table() -> str:
    """Return the text of builds.yml with the release and its backend."""
    text = FILE.read_text(encoding="utf-8")
    for section, entry in {"releases": {NEXT: release()}, "backends": {CUDA: backend()}}.items():
        block = yaml.safe_dump({section: entry}, sort_keys=False, default_flow_style=None)
        before, after = text.split(f"\n{section}:\n")
        text = f"{before}\n{block}{after}"
    return text


def main() -> None:
    """Copy what Git knows of the repository, with the table, into a folder."""
    folder = Path(sys.argv[1])
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "builds.yml").write_text(table(), encoding="utf-8")
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@example.org"]
    for command in (["init", "--quiet"], ["add", "--all"], [*identity, "commit", "--quiet", "--message=next"]):
        subprocess.run(["git", *command], cwd=folder, check=True)


if __name__ == "__main__":
    main()
