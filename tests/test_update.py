"""An update brings in what changed in the template, and leaves the user's own alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import copier

from tests.project import Project, template


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def commit(folder: Path, tag: str = "") -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--message=change")
    if tag:
        git(folder, "tag", "--annotate", "--message=release", tag)


def append(path: Path, line: str) -> None:
    path.write_text(f"{path.read_text(encoding='utf-8')}{line}\n", encoding="utf-8")


def test_an_update_keeps_what_the_user_did(tmp_path: Path) -> None:
    source, demo = tmp_path / "template", tmp_path / "demo"
    shutil.copytree(template(), source)
    git(source, "init")
    commit(source, "1.0.0")
    settings = copier.Settings()
    copier.run_copy(str(source), demo, defaults=True, quiet=True, settings=settings)
    git(demo, "init")
    commit(demo)

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
    copier.run_update(demo, defaults=True, quiet=True, overwrite=True, settings=settings)

    assert (demo / "pyproject.toml").read_text().endswith("# new\n")
    assert (demo / "README.md").read_text().endswith("Our own words.\n")
    assert (package / "train.py").read_text().endswith("# ours\n")
    assert "# new" not in (package / "train.py").read_text()
    assert (package / "ours.py").exists()
    assert not (package / "model.py").exists()
    assert not (demo / "tests" / "test_train.py").exists()
    assert Project(demo).answers["_commit"] == "1.1.0"
