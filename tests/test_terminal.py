"""The questionnaire in a terminal of 80 columns and 24 rows, as people with seven kinds of machines go through it.

None of them sees a line that is cut, a choice that is not available or a refusal, and each ends in a project whose lock gives
the machine its GPU build.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import copier
import pytest

from tests.project import Project, template
from tests.replica.pypi import PYPI
from tests.table import PLATFORMS, RELEASES, on_pypi
from tests.terminal import Terminal
from tests.test_questions import ASKED, questions

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: pexpect needs a pseudo-terminal")

# What each of them chooses, by the beginning of a label (of several answers: those that are ticked), and for which platform
PEOPLE: dict[str, tuple[dict[str, Any], str, str]] = {
    "who presses Enter throughout": ({}, "linux-x86_64", ""),
    "with an AMD card on Linux": ({"platforms": ["Linux x86_64"], "backend": "ROCm 7.2"}, "linux-x86_64", "rocm7.2"),
    "with an RTX 50 on Windows": (
        {"platforms": ["Linux x86_64", "Windows x86_64"], "backend": "CUDA 13.2"},
        "windows-x86_64",
        "cu132",
    ),
    "with a GTX 10": ({"backend": "CUDA 12.6"}, "linux-x86_64", "cu126"),
    "with a Mac": ({"platforms": ["macOS on Apple silicon"]}, "macos-arm64", "cpu"),
    "with an Intel GPU": ({"backend": "XPU"}, "linux-x86_64", "xpu"),
    "with Grace machines alone": ({"platforms": ["Linux aarch64"]}, "linux-aarch64", ""),
    "with code of their own": ({"skeleton": "None"}, "linux-x86_64", ""),
}


class Questionnaire:
    """`copier copy` in a terminal. Whatever is on the screen is whole: nothing reaches the last column, where it is cut."""

    def __init__(self, folder: Path) -> None:
        self.terminal = Terminal(sys.executable, "-m", "copier", "copy", template(), folder.name, cwd=folder.parent)
        self.seen: list[str] = []

    def answer(self, name: str, choice: str | list[str] | None) -> None:
        """Answer a question: with the default, with the choice that begins as given, or by ticking some."""
        self.terminal.wait_for(questions()[name]["help"].split("{")[0].removesuffix(". A platform without"))
        if isinstance(choice, str):
            self.go_to(choice)
        elif choice is not None:
            self.tick(choice)
        self.look()
        self.terminal.press("enter")

    def look(self) -> None:
        lines = self.terminal.lines
        assert all(len(line) < self.terminal.screen.columns for line in lines), lines
        assert all(line.count("(") == line.count(")") for line in lines), "a line is cut where a word ends"
        assert not any(word in line for line in lines for word in ("lacks", "choose", "drop ")), "nothing is disabled"
        self.seen += [line for line in lines if line not in self.seen]

    @property
    def pointed(self) -> str:
        """The choice that the pointer is at."""
        (row,) = (line for line in self.terminal.lines if line.startswith(" »"))
        return row[2:].strip()

    def go_to(self, choice: str) -> None:
        for _ in range(30):
            if self.pointed.lstrip("●○ ").startswith(choice):
                return
            self.terminal.press("down")
            self.look()
        raise AssertionError(f"no choice begins with {choice}: {self.terminal.lines}")

    def tick(self, choices: list[str]) -> None:
        first = self.pointed.lstrip("●○ ")
        while True:
            row = self.pointed
            if row.startswith("●") != any(row.lstrip("●○ ").startswith(choice) for choice in choices):
                self.terminal.press("space")
            self.terminal.press("down")
            if self.pointed.lstrip("●○ ") == first:
                return


def skipped(name: str, given: dict[str, Any]) -> bool:
    """Tell whether a question is not asked: a Mac has the CPU build alone, an empty package neither data nor a tracker."""
    if name in ("backend", "other_backends"):
        return given.get("platforms") == ["macOS on Apple silicon"]
    return name in ("data", "tracker") and given.get("skeleton") == "None"


@pytest.mark.parametrize("who", PEOPLE)
def test_a_person_gets_the_build_for_the_machine(who: str, tmp_path: Path, replica: str) -> None:
    given, platform, backend = PEOPLE[who]
    questionnaire = Questionnaire(tmp_path / "demo")
    for name in ASKED:
        if not skipped(name, given):
            questionnaire.answer(name, given.get(name))
    questionnaire.terminal.wait_for("README.md has the rest")
    questionnaire.look()
    assert questionnaire.terminal.exit_code() == 0
    print("\n".join(questionnaire.seen))

    project = Project(tmp_path / "demo")
    backend = backend or str(on_pypi(next(iter(RELEASES)), platform))
    assert project.answers["backend"] == backend
    project.resolve_with(replica)
    project.lock()
    version = project.synced(backend, platform)["torch"]
    index = project.locked(backend, platform)["torch"].index
    if on_pypi(project.answers["torch"], platform) == backend:
        assert "+" not in version
        assert index == PYPI
    else:
        assert version.endswith(f"+{backend}")
        assert index == f"{replica}/{backend}"


def test_pressing_enter_throughout_ends_in_the_default_project(tmp_path: Path, render: Callable[..., Project]) -> None:
    questionnaire = Questionnaire(tmp_path / "asked")
    for name in ASKED:
        questionnaire.answer(name, None)
    assert questionnaire.terminal.exit_code() == 0
    asked = Project(tmp_path / "asked").answers
    assert asked == render(project_name="asked").answers | {"_src_path": asked["_src_path"]}


def test_the_message_after_the_copy_names_each_platform_that_falls_back(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    answers = {"platforms": list(PLATFORMS), "backend": "cu132", "torch": "2.15"}
    settings = copier.Settings()
    copier.run_copy(str(template()), tmp_path / "demo", data=answers, defaults=True, settings=settings)
    message = capfd.readouterr().err
    assert "windows-x86_64 gets the CPU build: torch 2.15 has no cu132 for it, 2.14 has" in message
    assert message.count("gets the CPU build") == 1, "a Mac computes on its GPU with it"
