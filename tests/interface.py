"""What recorded answers rest on, in any version of the template: the names of its questions, and their values."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import yaml
from copier._main import Worker
from copier._user_data import Question
from packaging.version import InvalidVersion, Version

Interface = set[tuple[str, ...]]


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def tags(folder: Path) -> list[str]:
    """Return the versions of a template that Copier sees, oldest first.

    Raises:
        LookupError: The clone is shallow, so it may lack some.
    """
    if git(folder, "rev-parse", "--is-shallow-repository").strip() == "true":
        raise LookupError("a shallow clone may lack tags: git fetch --unshallow --tags")
    return sorted(filter(is_version, git(folder, "tag", "--list").split()), key=Version)


def is_version(tag: str) -> bool:
    try:
        Version(tag)
    except InvalidVersion:
        return False
    return True


def interface(folder: Path, tag: str | None = None) -> Interface:
    """Return the questions and values of the template in a folder, as it is there or as a tag has it.

    A question is its name alone, a value that and itself, a build its release, platform and backend.
    """
    with tempfile.TemporaryDirectory() as name:
        # Copier would take a repository as its last tag has it
        plain = Path(name) / "template"
        if tag is None:
            shutil.copytree(folder / "includes", plain / "includes")
            for file in ("copier.yml", "builds.yml"):
                shutil.copy(folder / file, plain)
        else:
            command = ["git", "archive", tag, "copier.yml", "builds.yml", "includes"]
            archive = subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                tar.extractall(plain, filter="data")
        builds = yaml.safe_load((plain / "builds.yml").read_text())
        return questions(plain, list(builds["platforms"])) | table(builds)


def questions(folder: Path, platforms: list[str]) -> Interface:
    """Return what Copier asks, and what it offers where all platforms are chosen, and the newest Python."""
    found: Interface = set()
    with Worker(src_path=str(folder), dst_path=folder / "none", data={"platforms": platforms}, defaults=True) as worker:
        worker._ask()
        for name, details in worker.template.questions_data.items():
            question = Question(
                answers=worker.answers,
                context=worker._render_context(),
                jinja_env=worker.jinja_env,
                var_name=name,
                **details,
            )
            if question.get_when():
                found |= {(name,), *((name, str(choice.value)) for choice in question._formatted_choices)}
    return found


def table(builds: dict[str, Any]) -> Interface:
    """Return what builds.yml offers with each release: backends, Pythons and companions."""
    found: Interface = set()
    for release, entry in builds["releases"].items():
        for platform, row in entry["platforms"].items():
            found |= {(release, platform, backend) for backend in row.replace("*", "").split()}
            found |= {(release, platform, "Python", python) for python in entry["python"].split()}
        found |= {(release, package) for patch in entry["patches"].values() for package in patch}
    return found
