"""docs/packages.md and its session: what it takes for right, and what it says; and the README's part on packages."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.history import commit, copied, released
from tests.packages import PACKAGES, PAGE, Result, Wrong, added, counted, judged, rendered, typed
from tests.project import Project, without_uv
from tests.table import on_pypi

TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def base(replica: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A locked project whose second backend is not on PyPI."""
    answers = {"torch": "2.13", "python": "3.11", "other_backends": ["cpu"], "platforms": ["linux-x86_64"]}
    project = rendered(tmp_path_factory.mktemp("base") / "demo", replica, **answers)
    project.lock()
    return project


@pytest.mark.parametrize(
    ("name", "recipe", "wrong"),
    [
        ("accelerate", {"add": "accelerate"}, ""),
        ("accelerate", {"add": "accelerate<1"}, r"0\.34\.2, too old for this torch"),
        ("accelerate", {"add": "accelerate; sys_platform == 'win32'"}, "nothing is installed"),
        ("accelerate", {"add": "accelerate>=999"}, "no version fits"),
        ("torchvision", {"companions": ["torchvision"]}, ""),
        ("torchvision", {"add": "torchvision"}, f"torchvision is built for {on_pypi('2.13', 'linux-x86_64')}"),
        ("torchcodec", {"add": "torchcodec<0.12"}, r"torchcodec 0\.11\.1, for another torch"),
    ],
)
def test_a_lock_is_judged(
    name: str, recipe: dict[str, object], wrong: str, base: Project, replica: str, tmp_path: Path
) -> None:
    if wrong:
        with pytest.raises(Wrong, match=wrong):
            added(name, base, replica, tmp_path / "demo", recipe)
    else:
        assert re.fullmatch(r"\d+\.[\d.]+", added(name, base, replica, tmp_path / "demo", recipe))


def test_another_torch_is_noticed(base: Project, replica: str, tmp_path: Path) -> None:
    other = rendered(tmp_path / "demo", replica, **base.answers | {"torch": "2.12"})
    other.lock()
    with pytest.raises(Wrong, match=r"torch 2\.12\.1"):
        judged("numpy", base, other)


def test_results_are_counted() -> None:
    results = {"one": [Result("1"), Result("1", "old")], "two": [Result("", "old"), Result("", "x", tried=False)]}
    assert counted(results) == (
        "4 results: 1 right without a recipe, 1 right with a recipe, 1 not at all, 1 not tried; 2 packages, by their "
        "worst result: 0 right without a recipe, 1 right with a recipe, 0 not at all, 1 not tried"
    )


def test_the_page_has_every_package_and_counts_right() -> None:
    day, heading = re.findall(r"^(\d{4}-\d\d-\d\d)\. (\d+ results: .+)\.$", TEXT, re.MULTILINE)[0]
    assert date.fromisoformat(day) <= date.today()
    rows = [[cell.strip() for cell in row.split("|")] for row in re.findall(r"^\| (`.+) \|$", TEXT, re.MULTILINE)]
    assert [(row[0], row[1]) for row in rows] == [(f"`{name}`", typed(name)) for name in PACKAGES]
    results = {name: [result_of(cell) for cell in row[2:5]] for name, row in zip(PACKAGES, rows, strict=True)}
    assert counted(results) == heading
    assert len(rows) >= 40


def result_of(cell: str) -> Result:
    """Return what a cell of the page stands for."""
    if cell in ("no", "not tried"):
        return Result("", "wrong", tried=cell == "no")
    return Result(cell.strip("*"), "wrong" if cell.startswith("**") else "")


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_uv_knows_what_the_page_has_for_pyproject(block: str, tmp_path: Path) -> None:
    project = '[project]\nname = "demo"\nversion = "1"\nrequires-python = ">=3.11"\n'
    (tmp_path / "pyproject.toml").write_text(project + block)
    uv = ["uv", "lock", "--offline", "--directory", str(tmp_path)]
    done = subprocess.run(uv, env=without_uv(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    settings = tomllib.loads(block)["tool"]["uv"]  # uv passes over a key that it does not know
    assert all(index["explicit"] for index in settings.get("index", []))
    builds = [one for some in settings.get("extra-build-dependencies", {}).values() for one in some]
    assert all(one["match-runtime"] and one["requirement"] == "torch" for one in builds)
    assert builds or settings["index"]


@pytest.mark.parametrize("others", [[], ["cpu"]], ids=["one backend", "two"])
def test_packages_are_added_as_the_readme_says(others: list[str], replica: str, tmp_path: Path) -> None:
    answers: dict[str, Any] = {"torch": "2.13", "other_backends": others, "platforms": ["linux-x86_64"]}
    project = Project(copied(released(tmp_path / "template"), tmp_path / "demo", torch_index=replica, **answers))
    before = project_torch(project)
    section = (project.path / "README.md").read_text().partition("## Add packages")[2].partition("\n## ")[0]
    commands = [
        shlex.split(line) for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL) for line in block.split("\n")
    ]
    (lines,) = re.findall(r"```toml\n(.*?)```", section, re.DOTALL)
    for program, *arguments in filter(None, commands):
        if program == "uv":
            printed = project.uv(*arguments, UV_NO_SYNC="1")
        else:
            commit(project.path)
            subprocess.run([Path(sys.executable).with_name("copier"), *arguments[1:]], cwd=project.path, check=True)
    assert re.search(r"accelerate v1\.\d+", printed)
    with (project.path / "pyproject.toml").open("a") as file:
        file.write(lines.replace("\n  ", "\n"))
    project.uv("add", "--no-sync", "flash-attn")
    assert project_torch(project) == before
    for backend in project.backends:
        found = project.locked(backend, "linux-x86_64")
        assert {"accelerate", "flash-attn"} <= found.keys()
        assert found["torchvision"].version.partition("+")[2] == found["torch"].version.partition("+")[2]


def project_torch(project: Project) -> dict[str, tuple[str, str]]:
    """Return version and index of torch for each backend, as they are locked now."""
    project.lock()
    now = Project(project.path)
    locked = {backend: now.locked(backend, "linux-x86_64")["torch"] for backend in now.backends}
    return {backend: (torch.version, torch.index) for backend, torch in locked.items()}
