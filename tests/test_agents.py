"""`AGENTS.md`, the guide for coding assistants: short, and each file and command in it is there."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.files import assert_tidy
from tests.project import Project
from tests.test_rendered import ANSWERS as TRAINING
from tests.test_skeleton import ANSWERS as EMPTY

ANSWERS = {
    **{name: TRAINING[name] for name in ("default", "everything", "nothing", "text", "a package of another name")},
    **{f"{name}, empty": EMPTY[name] | {"skeleton": "none"} for name in ("default", "everything", "nothing")},
}
SETS = pytest.mark.parametrize("answers", list(ANSWERS.values()), ids=list(ANSWERS))


def with_guide(render: Callable[..., Project], answers: dict[str, Any]) -> tuple[Project, str]:
    """Render a project with the guide, and return both."""
    project = render(**answers | {"features": [*{*answers.get("features", []), "agents"}]})
    return project, (project.path / "AGENTS.md").read_text()


def commands(text: str) -> list[str]:
    """Return what a text says to type, in its code and within its lines."""
    code = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    return [*code, *re.findall(r"`(uvx? [^`]+)`", text)]


@SETS
def test_the_guide_is_short_and_each_file_in_it_is_there(
    answers: dict[str, Any], render: Callable[..., Project]
) -> None:
    project, text = with_guide(render, answers)
    assert_tidy("AGENTS.md", text)
    assert len(text.splitlines()) <= 50
    package = project.path / "src" / project.answers["package_name"]
    made_later = {"uv.lock", "runs"}
    names = set(re.findall(r"`([\w.-]+(?:/[\w.-]*)+|[\w.-]+\.(?:py|md|toml|yml|lock)|tests|tools|runs)`", text))
    assert {"README.md", "pyproject.toml", "tests", "tools", *made_later} <= names
    for name in names - made_later:
        assert (project.path / name).exists() or (package / name).exists(), name
    if answers.get("skeleton") != "none":
        assert {path.name for path in package.glob("*.py")} - names == {"__init__.py"}


@SETS
def test_each_command_of_the_guide_is_there(answers: dict[str, Any], render: Callable[..., Project]) -> None:
    project, text = with_guide(render, answers)
    pyproject = project.pyproject
    groups = pyproject["dependency-groups"]
    programs = {Requirement(line).name for line in groups["dev"]} | set(pyproject["project"].get("scripts", {}))
    settings = [path.read_text() for path in project.path.glob("src/*/config.py")]
    found = commands(text)
    assert len(found) > 8
    for program, *options in (command.removeprefix("uv run ").split() for command in found):
        if program not in ("uv", "uvx"):
            assert program in programs or (project.path / program).exists(), program
        for option in options:
            name = option.removeprefix("--").replace("-", "_")
            if program in pyproject["project"].get("scripts", {}) and option.startswith("--") and name != "help":
                assert re.search(rf"^    {name}: ", settings[0], re.MULTILINE), option
        if "--no-group" in options:
            assert {options[2], options[4]} <= groups.keys()


@SETS
def test_the_guide_and_the_readme_say_the_same(answers: dict[str, Any], render: Callable[..., Project]) -> None:
    project, text = with_guide(render, answers)
    readme = (project.path / "README.md").read_text()
    table = re.findall(r"^\|.*\n", text, re.MULTILINE)
    assert "".join(table) in readme
    assert bool(table) == (answers.get("skeleton") != "none")
    (checks,) = re.findall(r"must pass[^\n]*:\n\n(```sh\n.*?```)", text, re.DOTALL)
    assert f"## Check\n\n{checks}\n" in readme


def test_the_page_says_which_platforms_and_python(render: Callable[..., Project]) -> None:
    _, text = with_guide(render, {"platforms": ["linux-x86_64"], "python": "3.12"})
    assert "runs on Python 3.12 and newer, on Linux x86_64, with" in text


def test_nobody_gets_the_guide_unasked(render: Callable[..., Project]) -> None:
    assert not (render().path / "AGENTS.md").exists()
