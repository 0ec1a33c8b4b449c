"""Windows and macOS: what they would make of the paths, the line endings and the encodings, as far as any system can tell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
import yaml

from tests.files import assert_fit_for_windows, files
from tests.project import Project, template
from tests.table import PLATFORMS, ROOT

EVERYTHING = {
    "platforms": list(PLATFORMS),
    "features": ["docker", "devcontainer", "slurm", "kubernetes", "pre-commit", "agents"],
    "tracker": "wandb",
}


def git(*arguments: str | Path, cwd: Path) -> str:
    """Run Git as it is set up on Windows: it turns line endings, where it is not told otherwise."""
    options = ["core.autocrlf=true", "core.eol=crlf", "user.name=tests", "user.email=tests@example.org"]
    command = ["git", *(part for option in options for part in ("-c", option)), *arguments]
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def test_windows_can_check_out_the_template() -> None:
    listed = [line.split("\t") for line in git("ls-files", "--stage", "-z", cwd=ROOT).split("\0") if line]
    assert len(listed) > 50
    assert_fit_for_windows(PurePosixPath(path) for _, path in listed)
    assert {mode.split()[0] for mode, _ in listed} <= {"100644", "100755"}, "no symbolic links"


@pytest.mark.parametrize(
    "paths",
    [["a/nul.txt"], ["a:b"], ['"a"'], ["a|b"], ["a."], ["a "], ["COM1"], ["A/b", "a/c"], ["é", "e\u0301"], ["x" * 151]],
)
def test_what_windows_cannot_have_is_found(paths: list[str]) -> None:
    with pytest.raises(AssertionError):
        assert_fit_for_windows(map(PurePosixPath, paths))


def test_a_checkout_of_the_template_has_lf(tmp_path: Path) -> None:
    shutil.copytree(template(), tmp_path / "template")
    shutil.copy(ROOT / ".gitattributes", tmp_path / "template")
    assert_lf_after_checkout(tmp_path / "template", tmp_path / "clone")


@pytest.mark.parametrize("ci", ["github", "gitlab"])
def test_a_checkout_of_a_project_has_lf(ci: str, render: Callable[..., Project], tmp_path: Path) -> None:
    """A shell script or a Dockerfile with CRLF would not run on Linux."""
    project = render(**EVERYTHING, ci=ci)
    assert_lf_after_checkout(project.path, tmp_path / "clone")


def assert_lf_after_checkout(folder: Path, clone: Path) -> None:
    git("init", "--quiet", cwd=folder)
    git("add", "--all", cwd=folder)
    git("commit", "--quiet", "--message=Begin", cwd=folder)
    git("clone", "--quiet", folder, clone, cwd=folder)
    cloned = [path for path in clone.rglob("*") if path.is_file() and ".git" not in path.parts]
    assert len(cloned) > 20
    changed = [path for path in cloned if path.read_bytes() != (folder / path.relative_to(clone)).read_bytes()]
    assert not changed
    assert not [path for path in cloned if ".gz" not in path.name and b"\r" in path.read_bytes()]
    assert not git("status", "--porcelain", cwd=clone)


def test_the_encoding_of_the_system_changes_nothing(render: Callable[..., Project], tmp_path: Path) -> None:
    """Windows reads and writes files in another encoding than UTF-8, unless it is told."""
    answers = {"description": "日本語 🎉 O'Brien", "user_name": "José Ångström", "project_name": "demo"}
    (tmp_path / "answers.yml").write_text(yaml.safe_dump(answers), encoding="ascii")
    options = ["--quiet", "--defaults", "--data-file", str(tmp_path / "answers.yml")]
    folder = tmp_path / "where naïve people, & others, put it" / "demo"
    command = [sys.executable, "-m", "copier", "copy", *options, str(template()), str(folder)]
    settings = {"COPIER_SETTINGS_PATH": str(tmp_path / "none.yml")}
    plain = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", **settings}
    subprocess.run(command, env=os.environ | plain, check=True)
    assert files(Project(folder)) == files(render(**answers))
