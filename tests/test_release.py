"""Releases: nothing that answers rest on goes away, and a tag is set only where all is said."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from jinja2 import UndefinedError
from packaging.version import Version

from tests.history import append, commit, copied, git, released, replace, update
from tests.interface import RUNTIME, broken, interface, runtime, tags
from tests.table import ROOT


@pytest.fixture
def earlier() -> list[str]:
    """The tags of earlier versions."""
    try:
        return tags(ROOT)
    except (LookupError, subprocess.CalledProcessError) as error:
        pytest.skip(f"SKIPPED: the tags of this clone cannot be read ({error})")


def test_no_question_or_value_of_an_earlier_version_is_gone(earlier: list[str]) -> None:
    now = interface(ROOT)
    assert {tag: gone for tag in earlier if (gone := interface(ROOT, tag) - now)} == {}


def test_nothing_of_the_runtime_of_an_earlier_version_is_gone(earlier: list[str]) -> None:
    now = runtime(ROOT)
    assert {tag: found for tag in earlier if (found := broken(runtime(ROOT, tag), now))} == {}


@pytest.mark.parametrize(
    ("file", "old", "new", "found"),
    [
        ("order.py", "def mix(", "def blend(", ["order.mix is gone"]),
        (
            "dist.py",
            "    def print(self, line: str,",
            "    def print(self, text: str,",
            ["dist.Process.print takes", "dist.Process.print requires text"],
        ),
        ("loader.py", "    test: Samples\n", "    final: Samples\n", ["loader.Data.test is gone"]),
        (
            "weights.py",
            "path: Path, step: int)",
            "path: Path, step: int, name: str)",
            ["weights.export_weights requires name"],
        ),
        (
            "state.py",
            "self.best, self.chosen_by, self.e",
            "self.top, self.chosen_by, self.e",
            ["state.Checkpoints.best is gone"],
        ),
        ("weights.py", "path: Path, step: int)", "path: Path, step: int, name: str = '')", []),
        ("weights.py", "path: Path, step: int)", "path: Path, step: int = 0)", []),
    ],
)
def test_what_the_code_of_a_user_calls_is_an_interface(
    file: str, old: str, new: str, found: list[str], tmp_path: Path
) -> None:
    source = released(tmp_path / "template")
    replace(source / RUNTIME / file, old, new)
    changes = broken(runtime(source, "1.0.0"), runtime(source))
    assert [change[: len(start)] for change, start in zip(changes, found, strict=True)] == found


def drop_build(source: Path) -> None:
    replace(source / "builds.yml", "      rocm7.14: [linux-x86_64]\n", "")


def drop_release(source: Path) -> None:
    table = yaml.safe_load((source / "builds.yml").read_text())
    del table["releases"]["2.4"]
    (source / "builds.yml").write_text(yaml.safe_dump(table, sort_keys=False))


def drop_value(source: Path) -> None:
    replace(source / "copier.yml", "    BSD 3-Clause: BSD-3-Clause\n", "")


def drop_value_from_a_row(source: Path) -> None:
    questions = source / "copier.yml"
    questions.write_text(re.sub(r"\n    trackio: .*", "", questions.read_text(encoding="utf-8")), encoding="utf-8")


def rename_question(source: Path) -> None:
    questions = source / "copier.yml"
    questions.write_text(questions.read_text(encoding="utf-8").replace("user_email", "user_mail"), encoding="utf-8")


@pytest.mark.parametrize(
    ("drop", "gone"),
    [
        (drop_build, {("2.14", "linux-x86_64", "rocm7.14"), ("backend", "rocm7.14")}),
        (drop_release, {("torch", "2.4"), ("2.4", "linux-x86_64", "Python", "3.8")}),
        (drop_value, {("license", "BSD-3-Clause")}),
        (drop_value_from_a_row, {("tracker", "trackio")}),
        (rename_question, {("user_email",)}),
    ],
)
def test_it_would_be_seen(drop: Callable[[Path], None], gone: set[tuple[str, ...]], tmp_path: Path) -> None:
    source = released(tmp_path / "template")
    assert interface(source, "1.0.0") == interface(source)
    drop(source)
    commit(source, "1.1.0")
    seen = interface(source, "1.0.0") - interface(source)
    assert gone <= seen
    assert len(seen) == len(gone) or drop is drop_release


def test_versions_come_in_the_order_of_pep_440(tmp_path: Path) -> None:
    for tag in ("1.10.0", "1.9.0", "1.10.0rc1", "latest", "v0.9"):
        (tmp_path / tag).touch()
        if tag == "1.10.0":
            git(tmp_path, "init")
        commit(tmp_path, tag)
    assert tags(tmp_path) == ["v0.9", "1.9.0", "1.10.0rc1", "1.10.0"]


def test_a_shallow_clone_is_no_reason_to_pass(tmp_path: Path) -> None:
    source = released(tmp_path / "template")
    commit(source)
    git(tmp_path, "clone", "--depth=1", source.as_uri(), "shallow")
    with pytest.raises(LookupError, match="git fetch --unshallow --tags"):
        tags(tmp_path / "shallow")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone to release 1.1.0 from: 1.0.0 is tagged, and all is ready."""
    folder = released(tmp_path / "clone", tag="")
    (folder / "tests").mkdir()
    for name in ("__init__.py", "interface.py", "release.py", "table.py"):
        shutil.copy(ROOT / "tests" / name, folder / "tests")
    (folder / ".gitignore").write_text("__pycache__/\n")
    (folder / "CHANGELOG.md").write_text("# Changelog\n\n## 1.1.0\n\n- Better.\n\n## 1.0.0\n\n- All.\n")
    commit(folder, "1.0.0")
    commit(folder)
    return folder


def release(clone: Path, version: str) -> subprocess.CompletedProcess[str]:
    git(clone, "config", "user.name", "tests")
    git(clone, "config", "user.email", "tests@example.org")
    command = [sys.executable, "-m", "tests.release", version]
    return subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)


def test_a_release_is_an_annotated_tag_with_what_changed(clone: Path) -> None:
    done = release(clone, "1.1.0")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1.1.0 is tagged. Publish it: git push origin 1.1.0\n"
    assert git(clone, "cat-file", "-t", "1.1.0") == "tag\n"
    assert git(clone, "tag", "--list", "--format=%(contents)", "1.1.0").split() == ["1.1.0", "-", "Better."]
    assert git(clone, "rev-parse", "1.1.0^{commit}") == git(clone, "rev-parse", "HEAD")


def add_answers(clone: Path) -> None:
    replace(clone / "copier.yml", "    MIT: MIT\n", "    MIT: MIT\n    ISC: ISC\n")


REFUSED: dict[str, tuple[str, Callable[[Path], None], bool, str]] = {
    "no version": ("one", lambda clone: None, True, "'one' is not a version"),
    "a version that PEP 440 writes otherwise": ("v1.1", lambda clone: None, True, "'v1.1' is not a version"),
    "a local version": ("1.1+here", lambda clone: None, True, "is not a version"),
    "a dirty tree": ("1.1.0", lambda clone: append(clone / "copier.yml", "# new"), False, "not committed"),
    "a file that is not tracked": ("1.1.0", lambda clone: (clone / "new").touch(), False, "not committed"),
    "the same version": ("1.0.0", lambda clone: None, True, "1.0.0 is not newer than 1.0.0"),
    "an older version": ("1.0.0rc1", lambda clone: None, True, "1.0.0rc1 is not newer than 1.0.0"),
    "a version without a section": ("1.2.0", lambda clone: None, True, "CHANGELOG.md says nothing of 1.2.0"),
    "a change of answers that is not told": (
        "1.1.0",
        add_answers,
        True,
        r'changed \(license ISC, ...\): CHANGELOG.md needs "### Answers" under 1.1.0',
    ),
    "a value that is gone": ("1.1.0", drop_value, True, "1.0.0 had what is gone, .*: license BSD-3-Clause"),
}


@pytest.mark.parametrize(("version", "change", "committed", "message"), list(REFUSED.values()), ids=list(REFUSED))
def test_a_release_is_refused(
    version: str, change: Callable[[Path], None], committed: bool, message: str, clone: Path
) -> None:
    change(clone)
    if committed:
        commit(clone)
    done = release(clone, version)
    assert done.returncode == 1
    assert re.search(message, done.stderr)
    assert git(clone, "tag").split() == ["1.0.0"]


def test_a_change_of_answers_that_is_told_is_released(clone: Path) -> None:
    add_answers(clone)
    replace(clone / "CHANGELOG.md", "- Better.\n", "- Better.\n\n### Answers\n\n`license` has ISC.\n")
    commit(clone)
    assert release(clone, "1.1.0").returncode == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Copier leaves a folder open
@pytest.mark.parametrize(
    ("condition", "updates"),
    [
        ("readme == 'none'", False),
        ("license == 'none' and readme == 'none'", False),
        ("readme | default('one') == 'none'", True),
    ],
)
def test_a_new_question_in_exclude_needs_a_default(condition: str, updates: bool, clone: Path, tmp_path: Path) -> None:
    """An update renders it with the answers to the version that it comes from, which did not ask."""
    project = copied(clone, tmp_path / "demo", "1.0.0", license="none")
    append(clone / "copier.yml", "\nreadme:\n  type: str\n  choices: [one, none]\n  default: one")
    replace(clone / "includes/given.jinja", "'torch_index'] + lists", "'torch_index', 'readme'] + lists")
    line = "  - \"{% if license == 'none' %}/LICENSE{% endif %}\"\n"
    replace(clone / "copier.yml", line, line + f'  - "{{% if {condition} %}}/README.md{{% endif %}}"\n')
    replace(clone / "CHANGELOG.md", "- Better.\n", "- Better.\n\n### Answers\n\n`readme` is new.\n")
    commit(clone)

    done = release(clone, "1.1.0")
    assert (done.returncode == 0) == updates
    if not updates:
        assert done.stderr == (
            "1.0.0 does not ask for readme, so its projects could not update: in _exclude, write readme | default(...)\n"
        )
        commit(clone, "1.1.0")
        with pytest.raises(UndefinedError, match="'readme' is undefined"):
            update(project)
    else:
        update(project)
        assert "readme: one" in (project / ".copier-answers.yml").read_text()


def test_a_shallow_clone_releases_nothing(clone: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--depth=1", clone.as_uri(), "shallow")
    done = release(tmp_path / "shallow", "1.1.0")
    assert done.returncode == 1
    assert "git fetch --unshallow --tags" in done.stderr


def test_the_changelog_has_a_form() -> None:
    """Each version has a section, the newest first, and what changed in the answers in one of its own."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = [name for name in re.findall(r"^## (.+)$", text, re.MULTILINE) if name != "Unreleased"]
    assert sections == sorted(sections, key=Version, reverse=True)
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= {"Answers"}
