"""Git repositories: the versions of the template, and the projects that are rendered from them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import copier

from tests import interface, quick
from tests.project import template


def git(folder: Path, *arguments: str) -> str:
    """Run Git as somebody."""
    return interface.git(folder, "-c", "user.name=tests", "-c", "user.email=tests@example.org", *arguments)


def commit(folder: Path, tag: str = "") -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--allow-empty", "--message=change")
    if tag:
        git(folder, "tag", "--annotate", "--message=release", tag)


def append(path: Path, line: str) -> None:
    path.write_text(f"{path.read_text(encoding='utf-8')}{line}\n", encoding="utf-8")


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{path}: {old!r} is not there once"
    path.write_text(text.replace(old, new), encoding="utf-8")


def released(folder: Path, tag: str = "1.0.0") -> Path:
    """Release the template as it is in the working tree, and return its repository."""
    shutil.copytree(template(), folder)
    git(folder, "init")
    commit(folder, tag)
    return folder


def released_twice(folder: Path, make_earlier: Callable[[Path], None]) -> Path:
    """Release the template as an earlier version might have been, 1.0.0, and as it is, 1.1.0."""
    shutil.copytree(template(), folder)
    make_earlier(folder)
    git(folder, "init")
    commit(folder, "1.0.0")
    shutil.rmtree(folder / "template")
    shutil.copytree(template() / "template", folder / "template")
    commit(folder, "1.1.0")
    git(folder, "repack", "-adq")
    return folder


def copied(source: Path, folder: Path, ref: str | None = None, **answers: object) -> Path:
    """Render a project from a version of the template, and commit it."""
    settings = copier.Settings()
    with quick.once():
        copier.run_copy(str(source), folder, data=answers, vcs_ref=ref, defaults=True, quiet=True, settings=settings)
    git(folder, "init")
    commit(folder)
    return folder


def update(project: Path, quiet: bool = True, ref: str | copier.VcsRef | None = None, **answers: object) -> None:
    settings = copier.Settings()
    with quick.once():
        copier.run_update(
            project, data=answers, vcs_ref=ref, defaults=True, quiet=quiet, overwrite=True, settings=settings
        )
