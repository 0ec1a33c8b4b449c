"""docs/faq.md has the messages as uv and Copier print them today, and what it says to type helps."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import template, without_uv
from tests.table import ROOT

PAGE = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
PROJECT = """
[project]
name = "demo"
version = "0"
requires-python = ">=3.9"

[dependency-groups]
cpu = []
cu132 = []

[tool.uv]
default-groups = ["cu132"]
conflicts = [[{ group = "cu132" }, { group = "cpu" }]]
environments = ["sys_platform == 'linux' or sys_platform == 'darwin' or sys_platform == 'win32'"]
"""


def headings(message: str) -> list[str]:
    """Return the headings that a message matches: … stands for anything."""
    titles = re.findall(r"^### (?:`` ?(.+?) ?``|`([^`]+)`)", PAGE, re.MULTILINE)
    return [
        title
        for title in (one or other for one, other in titles)
        if re.search(re.escape(title).replace("…", ".*"), message)
    ]


def answer(message: str) -> str:
    """Return what the page says about a message."""
    (title,) = headings(message)
    return PAGE.partition(title)[2].partition("\n### ")[0]


def run(*command: str | Path, cwd: Path) -> tuple[int, str]:
    """Run a command, and return its exit code and what it says, in one line: uv may wrap it."""
    done = subprocess.run(command, cwd=cwd, env=without_uv(), capture_output=True, text=True, check=False)
    return done.returncode, " ".join(done.stderr.split())


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with two groups that exclude one another, and its lock."""
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    assert run("uv", "lock", cwd=tmp_path)[0] == 0
    return tmp_path


def test_groups_that_conflict(project: Path) -> None:
    code, message = run("uv", "sync", "--group", "cpu", cwd=project)
    assert code
    (command,) = re.findall(r"^uv (sync --no-group .*)$", answer(message), re.MULTILINE)
    assert run("uv", *command.split(), cwd=project)[0] == 0


def test_a_stale_lock(project: Path) -> None:
    text = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(text.replace('version = "0"', 'version = "1"'))
    code, message = run("uv", "sync", "--locked", cwd=project)
    assert code
    assert "Run `uv lock`" in answer(message)
    run("uv", "lock", cwd=project)
    assert run("uv", "sync", "--locked", cwd=project)[0] == 0


def test_a_platform_that_the_lock_is_not_for(project: Path) -> None:
    other = "darwin" if sys.platform == "linux" else "linux"
    text = re.sub("environments = .*", f"environments = [\"sys_platform == '{other}'\"]", PROJECT)
    (project / "pyproject.toml").write_text(text)
    code, message = run("uv", "sync", cwd=project)
    assert code
    assert "--data 'platforms=[" in answer(message)


def test_a_program_that_is_not_installed(project: Path) -> None:
    code, message = run("uv", "run", "a-linter", cwd=project)
    assert code
    assert "`uv sync`" in answer(message)


@pytest.mark.parametrize(
    "options",
    [
        ["--data=torch=2.15", "--data=backend=cu126"],
        ["--data=platforms=linux-x86_64"],
        ["--data=platfroms=[linux-x86_64]"],
    ],
)
def test_an_answer_that_is_refused(options: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "copier", "copy", "--defaults", *options, str(template()), "demo"]
    code, message = run(*command, cwd=tmp_path)
    assert code
    assert len(headings(message)) == 1, message
