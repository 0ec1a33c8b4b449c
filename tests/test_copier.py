"""The template with the oldest Copier that it allows and with the newest, as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.history import append, commit, git, released
from tests.project import Project
from tests.test_questions import settings
from tests.test_update import files

OLDEST = str(settings()["_min_copier_version"])


def copier(version: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a version of Copier, without the settings of whoever runs the tests."""
    command = ["uvx", "--python", sys.executable, f"copier@{version}", *arguments]
    env = os.environ | {"COPIER_SETTINGS_PATH": os.devnull}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def skip_unless_there(version: str, folder: Path) -> None:
    done = copier(version, folder, "--version")
    if done.returncode:
        pytest.skip(f"SKIPPED: copier@{version} cannot be had ({done.stderr.strip().splitlines()[-1]})")


@pytest.mark.parametrize("version", [OLDEST, "latest"])
def test_copier_renders_and_updates(version: str, tmp_path: Path) -> None:
    skip_unless_there(version, tmp_path)
    source, demo = released(tmp_path / "template"), tmp_path / "demo"
    answers = ["--data=torch=2.14", "--data=other_backends=[cpu]", "--data=torch_index=https://mirror.example.org"]
    done = copier(version, tmp_path, "copy", "--defaults", *answers, str(source), "demo")
    assert done.returncode == 0, done.stderr
    assert "uv run demo train" in done.stderr
    here = Project.render(
        tmp_path / "here" / "demo", torch="2.14", other_backends=["cpu"], torch_index="https://mirror.example.org"
    )
    assert files(demo) == files(here.path)

    git(demo, "init")
    commit(demo)
    append(source / "template" / "pyproject.toml.jinja", "# new")
    commit(source, "1.1.0")
    done = copier(version, demo, "update", "--defaults", "--data=torch=2.15")
    assert done.returncode == 1
    assert "choose torch 2.14; 2.15 lacks cu130" in done.stderr.splitlines()[-1]
    assert git(demo, "status", "--porcelain") == ""
    done = copier(version, demo, "update", "--defaults")
    assert done.returncode == 0, done.stderr
    assert (demo / "pyproject.toml").read_text().endswith("# new\n")


def test_an_older_copier_is_refused(tmp_path: Path) -> None:
    """It would pass over `ask: false`, and ask everyone for torch_index."""
    skip_unless_there("9.18.2", tmp_path)
    done = copier("9.18.2", tmp_path, "copy", "--defaults", str(released(tmp_path / "template")), "demo")
    assert done.returncode == 1
    assert OLDEST in done.stderr
    assert not (tmp_path / "demo").exists()
