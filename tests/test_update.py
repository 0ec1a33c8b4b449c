"""An update brings in what changed in the template, and leaves the user's own alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import copier
import pytest
import yaml

from tests.project import Project, template
from tests.table import RELEASES


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@example.org"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(folder: Path, tag: str = "") -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--message=change")
    if tag:
        git(folder, "tag", "--annotate", "--message=release", tag)


def append(path: Path, line: str) -> None:
    path.write_text(f"{path.read_text(encoding='utf-8')}{line}\n", encoding="utf-8")


def copied(folder: Path, **answers: object) -> tuple[Path, Path]:
    """Release the template, and render a project from it: return both as Git repositories."""
    source, demo = folder / "template", folder / "demo"
    shutil.copytree(template(), source)
    git(source, "init")
    commit(source, "1.0.0")
    copier.run_copy(str(source), demo, data=answers, defaults=True, quiet=True, settings=copier.Settings())
    git(demo, "init")
    commit(demo)
    return source, demo


def update(demo: Path, quiet: bool = True) -> None:
    copier.run_update(demo, defaults=True, quiet=quiet, overwrite=True, settings=copier.Settings())


def test_an_update_keeps_what_the_user_did(tmp_path: Path) -> None:
    source, demo = copied(tmp_path)

    # The user edits, deletes and adds
    package = demo / "src" / "demo"
    append(demo / "README.md", "Our own words.")
    append(package / "train.py", "# ours")
    (package / "model.py").unlink()
    (package / "ours.py").touch()
    (demo / "tests" / "test_train.py").unlink()
    commit(demo)

    # The template changes a tool's settings, a module and a test
    append(source / "template" / "pyproject.toml.jinja", "# new")
    for name in (
        "src/{{ package_name }}/train.py.jinja",
        "src/{{ package_name }}/model.py",
        "tests/test_train.py.jinja",
    ):
        append(source / "template" / name, "# new")
    commit(source, "1.1.0")
    update(demo)

    assert (demo / "pyproject.toml").read_text().endswith("# new\n")
    assert (demo / "README.md").read_text().endswith("Our own words.\n")
    assert (package / "train.py").read_text().endswith("# ours\n")
    assert "# new" not in (package / "train.py").read_text()
    assert (package / "ours.py").exists()
    assert not (package / "model.py").exists()
    assert not (demo / "tests" / "test_train.py").exists()
    assert Project(demo).answers["_commit"] == "1.1.0"


def test_the_message_after_an_update_says_what_is_in_force(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, demo = copied(tmp_path, other_backends=["cpu"])

    # The template no longer offers the release of the project: Copier takes the default, without a word
    newest, second, *_ = RELEASES
    builds = yaml.safe_load((source / "builds.yml").read_text())
    del builds["releases"][newest]
    (source / "builds.yml").write_text(yaml.safe_dump(builds, sort_keys=False))
    commit(source, "1.1.0")
    capfd.readouterr()
    update(demo, quiet=False)

    answers = Project(demo).answers
    assert answers["torch"] == second
    message = capfd.readouterr().err
    assert f"torch {second}, backend {answers['backend']} and cpu, Python {answers['python']} or newer" in message
    commands = [line.strip() for line in message.splitlines() if line.startswith("    ")]
    assert commands == ["git diff .copier-answers.yml", "uv lock", "uv sync"]
    assert f"+torch: '{second}'" in git(demo, "diff", ".copier-answers.yml")
