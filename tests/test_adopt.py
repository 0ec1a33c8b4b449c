"""adopt.py on projects as they are: each gets the right torch, and keeps all else, or is refused and left alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import adopt
from tests import adoption
from tests.adoption import PLATFORMS, SHAPES
from tests.history import commit, git
from tests.project import Project, resolving
from tests.replica.pypi import PYPI
from tests.table import PLATFORMS as MACHINES
from tests.table import ROOT, home, loads, on_pypi, plain, versions
from tests.terminal import Terminal
from tests.test_questions import ASKED
from tests.waiting import wait_for

REFUSED = [name for name, shape in SHAPES.items() if "refused" in shape]
ADOPTED = [name for name in SHAPES if name not in REFUSED]


@pytest.fixture(scope="session")
def clone(replica: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adoption.clone(tmp_path_factory.mktemp("clone") / "template", replica)


class Repository:
    """A project of somebody, in which adopt.py is run."""

    def __init__(self, folder: Path, run: Callable[[Path, list[str]], tuple[int, str, str]]) -> None:
        self.folder, self.run = folder, run
        folder.mkdir()

    def write(self, files: dict[str, str]) -> None:
        adoption.write(self.folder, {"files": files})

    def files(self) -> dict[str, bytes]:
        """Return all files but the lock and what a build leaves behind."""
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and path.name != "uv.lock" and ".egg-info" not in path.as_posix()
        }

    def adopt(self, *options: str, **answers: Any) -> tuple[int, str, str]:
        """Run the command with answers, and return its exit code and what it printed."""
        return self.run(self.folder, ["--defaults", *options, *adoption.options(answers)])


@pytest.fixture
def repository(
    tmp_path: Path, clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Repository:
    monkeypatch.setenv("COPIER_SETTINGS_PATH", os.devnull)
    for name, value in resolving().items():
        monkeypatch.setenv(name, value)
    for name in os.environ.keys() - resolving().keys():
        monkeypatch.delenv(name)

    def run(folder: Path, options: list[str]) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        with adoption.renders():
            code = adopt.main(["--template", str(clone), *options])
        return code, *capsys.readouterr()

    return Repository(tmp_path / "lab", run)


def assert_locked(folder: Path, options: list[str], answers: dict[str, Any], replica: str) -> None:
    """Check that each platform gets the build that was asked for, by the table, from where it should."""
    project, release = Project(folder), answers["torch"]
    project.__dict__["answers"] = {"other_backends": [], "companions": []} | answers
    for backend in project.backends:
        export = ["--frozen", "--format=pylock.toml", "--all-packages", "--no-emit-workspace"]
        chosen = options if backend == project.backends[0] else project.groups(backend)
        packages = tomllib.loads(project.uv("export", *export, *chosen))["packages"]
        project._exported[backend] = [package for package in packages if "directory" not in package]
        for platform in answers["platforms"]:
            locked = project.locked(backend, platform)
            for package in ("torch", *project.answers["companions"]):
                version, build = versions(release, package)[-1], loads(release, backend, platform, package)
                index = PYPI if on_pypi(release, platform, package) == build else f"{replica}/{build}"
                if index != PYPI and package not in plain(home(release, package), platform):
                    version += f"+{build}"
                assert (locked[package].version, locked[package].index) == (version, index), platform
                assert locked[package].wheel(platform).startswith(f"{package}-{version}-")


def headers(content: bytes) -> set[tuple[bytes, bytes]]:
    """Return the headers of tables that follow a line without an empty one between them."""
    lines = content.splitlines()
    return {(line, header) for line, header in pairwise(lines) if line and header.startswith(b"[")}


@pytest.mark.parametrize("name", ADOPTED)
def test_a_shape_is_adopted(name: str, repository: Repository, replica: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    answers = {"platforms": PLATFORMS} | shape["asked"]
    house = replica.replace("/whl", "/house")  # an index that is there, and has nothing
    adoption.write(repository.folder, shape, house)
    (tmp_path / "widget").mkdir()
    (tmp_path / "widget" / "pyproject.toml").write_text('[project]\nname = "widget"\nversion = "1"\n', encoding="utf-8")
    before = repository.files()

    code, output, errors = repository.adopt("--yes", **answers)

    assert code == 0, errors
    after = repository.files()
    names = "pyproject.toml", *(path for path in after if after[path] != before.get(path))
    text = "".join(after[path].decode().replace("\r\n", "\n") for path in dict.fromkeys(names))
    for line in shape["keeps"]:
        assert line.replace("https://pkgs.example.org/simple", house) in text.split("\n")
    for part in shape.get("gone", []):
        assert part not in text
    for part in shape["named"]:
        assert part in output
    assert headers(after["pyproject.toml"]) <= headers(before.get("pyproject.toml", b""))
    if shape.get("ends") == "crlf":
        assert all(after[path].count(b"\n") == after[path].count(b"\r\n") for path in after)
    assert_locked(
        repository.folder, shape.get("options", []), answers | {"companions": shape.get("companions", [])}, replica
    )

    # Again, with the answers that the file shows: nothing changes
    lock = (repository.folder / "uv.lock").read_bytes()
    code, output, errors = repository.adopt()
    assert (code, "- nothing to change\n" in output) == (0, True), output + errors
    assert repository.files() == after
    assert (repository.folder / "uv.lock").read_bytes() == lock


@pytest.mark.parametrize("name", REFUSED)
def test_a_shape_is_refused(name: str, repository: Repository) -> None:
    shape = SHAPES[name]
    repository.write(shape["files"])
    before = repository.files()
    code, output, errors = repository.adopt("--yes", platforms=PLATFORMS, **shape["asked"])
    assert (code, output, errors) == (1, "", f"adopt: {shape['refused']}\n")
    assert repository.files() == before
    assert not (repository.folder / "uv.lock").exists()


PLAIN = {
    "pyproject.toml": '[project]\nname = "lab"\nversion = "1"\nrequires-python = ">=3.11,<3.13"\ndependencies = ["torch"]\n'
}
CUDA: dict[str, Any] = {"torch": "2.14", "backend": "cu126", "platforms": PLATFORMS}


def test_every_question_of_the_template_is_asked_or_fixed() -> None:
    assert [name for name in ASKED if name not in adopt.FIXED] == list(adopt.ASKED)
    assert set(adopt.FIXED) < set(ASKED)


def test_other_answers_move_what_an_earlier_run_wrote(repository: Repository, replica: str) -> None:
    repository.write(PLAIN)
    for answers in (
        CUDA | {"companions": ["torchvision"]},
        {
            "torch": "2.14",
            "backend": "rocm7.2",
            "other_backends": ["cpu"],
            "platforms": ["linux-x86_64", "macos-arm64"],
            "companions": ["torchvision"],
        },
        {
            "torch": "2.13",
            "backend": "cu126",
            "other_backends": ["cpu"],
            "platforms": PLATFORMS,
            "companions": ["torchvision"],
        },
    ):
        code, output, errors = repository.adopt("--yes", **answers)
        assert code == 0, output + errors
        assert_locked(repository.folder, [], answers, replica)
    # One answer alone: the others are as the file shows them
    code, output, errors = repository.adopt("--yes", other_backends=[])
    assert code == 0, output + errors
    moved = repository.files()
    shutil.rmtree(repository.folder)
    repository.folder.mkdir()
    repository.write(PLAIN)
    repository.adopt("--yes", **CUDA | {"torch": "2.13", "companions": ["torchvision"]})
    assert tomllib.loads(moved["pyproject.toml"].decode()) == tomllib.loads(
        repository.files()["pyproject.toml"].decode()
    )


def test_what_only_a_build_requires_is_wherever_torch_is(repository: Repository) -> None:
    groups = '[dependency-groups]\na = ["torch"]\nb = ["torch", "numpy"]\nc = ["numpy"]\n'
    repository.write({"pyproject.toml": PLAIN["pyproject.toml"].replace('"torch"', "") + groups})
    assert repository.adopt("--yes", torch="2.14", backend="rocm7.2", platforms=["linux-x86_64"])[0] == 0
    lists = tomllib.loads(repository.files()["pyproject.toml"].decode())["dependency-groups"]
    triton = "triton-rocm; sys_platform == 'linux' and platform_machine == 'x86_64'"
    assert lists == {"a": ["torch~=2.14.0", triton], "b": ["torch~=2.14.0", triton, "numpy"], "c": ["numpy"]}


def test_a_mirror_is_kept(repository: Repository, replica: str) -> None:
    repository.write(PLAIN)
    mirror = replica.replace("127.0.0.1", "localhost")
    assert repository.adopt("--yes", torch="2.13", backend="cpu", platforms=PLATFORMS, torch_index=mirror)[0] == 0
    assert f'url = "{mirror}/cpu"' in repository.files()["pyproject.toml"].decode()
    code, output, _ = repository.adopt()
    assert (code, "- nothing to change\n" in output) == (0, True)


def test_a_byte_order_mark_and_mixed_line_ends_stay(repository: Repository) -> None:
    content = b"\xef\xbb\xbf" + PLAIN["pyproject.toml"].replace("\n", "\r\n", 2).encode()
    (repository.folder / "pyproject.toml").write_bytes(content)
    assert repository.adopt("--yes", torch="2.15", backend="cu132", platforms=PLATFORMS)[0] == 0
    lines = repository.files()["pyproject.toml"].split(b"\n")
    assert lines[:3] == content.split(b"\n")[:3]
    assert not [line for line in lines[3:] if line.endswith(b"\r")]


NOT_ADOPTED: dict[str, tuple[dict[str, str], dict[str, Any], str]] = {
    "nothing": (
        {},
        {},
        "there is no pyproject.toml and no requirements.txt: run 'uv init --bare', then run this again",
    ),
    "setup.py": ({"setup.py": ""}, {}, "setup.py lists the requirements: list them under [project] in pyproject.toml"),
    "setup.cfg": ({"setup.cfg": "", "requirements.txt": "torch"}, {}, "setup.cfg lists the requirements"),
    "conda": (
        {"environment.yml": "dependencies:\n  - pytorch=2.4\n"},
        {},
        "environment.yml is not a project that uv locks",
    ),
    "pixi": ({"pixi.toml": '[dependencies]\npytorch = ">=2.4"\n'}, {}, "pixi.toml is not a project that uv locks"),
    "pipenv": ({"Pipfile": '[packages]\ntorch = "*"\n'}, {}, "Pipfile is not a project that uv locks"),
    "tools alone": ({"pyproject.toml": "[tool.ruff]\n"}, {}, "pyproject.toml has no [project]: add it"),
    "not TOML": ({"pyproject.toml": "[project\n"}, {}, "pyproject.toml cannot be read"),
    "an editable requirement": ({"requirements.txt": "torch\n-e .\n"}, {}, "requirements.txt: '-e .' has no form in"),
    "excluded": (
        {"pyproject.toml": PLAIN["pyproject.toml"] + '[tool.uv]\nexclude-dependencies = ["torch"]\n'},
        {},
        "'torch' keeps torch out of the lock",
    ),
    "an inline table": (
        {"pyproject.toml": PLAIN["pyproject.toml"] + "[tool]\nuv = { package = false }\n"},
        {},
        "pyproject.toml has a form that cannot be edited",
    ),
    "a Python that is too old": (
        {"pyproject.toml": PLAIN["pyproject.toml"].replace(">=3.11,<3.13", "<3.9")},
        {},
        "requires-python = '<3.9' excludes all that torch has, >=3.10,<3.15: choose another release",
    ),
    "a companion that is required": (
        {"pyproject.toml": PLAIN["pyproject.toml"].replace('["torch"]', '["torchvision"]')},
        {"companions": []},
        "torchvision is required here: choose it as a companion, or remove it first",
    ),
    "an index of the same name": (
        {
            "pyproject.toml": PLAIN["pyproject.toml"]
            + '[tool.uv.sources]\nhelper = { index = "pytorch-cu126" }\n'
            + '[[tool.uv.index]]\nname = "pytorch-cu126"\nurl = "https://pkgs.example.org/simple"\n'
        },
        {},
        "index pytorch-cu126 is https://pkgs.example.org/simple, for helper: give it another name first",
    ),
    "an extra that is included": (
        {
            "pyproject.toml": '[project]\nname = "My.Lab"\nversion = "1"\n[project.optional-dependencies]\ncpu = ["torch"]\n'
            'cu118 = ["torch"]\nall = ["my-lab[cpu]"]\n'
            '[tool.uv]\nconflicts = [[{ extra = "cpu" }, { extra = "cu118" }]]\n'
        },
        {},
        "extra all includes extra cpu, which chooses a build of torch: remove that first",
    ),
    "a group that is included": (
        {
            "pyproject.toml": PLAIN["pyproject.toml"]
            + '[dependency-groups]\ndev = [{ include-group = "cpu" }]\ncpu = ["torch"]\n'
        },
        {"other_backends": ["cpu"]},
        "group dev includes group cpu, which chooses a build of torch: remove that first",
    ),
    "uv.toml": ({**PLAIN, "uv.toml": 'resolution = "highest"\n'}, {}, "uv.toml hides the indexes in pyproject.toml"),
    "dynamic, from nowhere": (
        {"pyproject.toml": '[project]\nname = "lab"\nversion = "1"\ndynamic = ["dependencies"]\n', "setup.py": ""},
        {},
        "the dependencies are dynamic: list them in [project], then run this again",
    ),
    "several backends in a workspace": (
        {"pyproject.toml": '[tool.uv.workspace]\nmembers = ["a"]\n', "a/pyproject.toml": PLAIN["pyproject.toml"]},
        {"other_backends": ["cpu"]},
        "several backends are groups, which members of a workspace cannot require: choose one",
    ),
    "no member with torch": (
        {
            "pyproject.toml": '[tool.uv.workspace]\nmembers = ["a"]\n',
            "a/pyproject.toml": PLAIN["pyproject.toml"].replace('"torch"', ""),
        },
        {},
        "no member requires torch: 'uv add --package MEMBER torch', then run this again",
    ),
    "an answer that is not possible": (
        PLAIN,
        {"torch": "2.15"},
        "choose torch 2.14 or backend cu132; 2.15 lacks cu126",
    ),
    "an answer that is no list": (
        PLAIN,
        {"platforms": "linux-x86_64"},
        'adopt: platforms takes a list: --data "platforms=[linux-x86_64]"\n',
    ),
    "an answer that is not asked": (
        PLAIN,
        {"data": "text"},
        "data is not asked here; the questions are platforms, backend,",
    ),
}


@pytest.mark.parametrize("name", NOT_ADOPTED)
def test_what_is_refused_stays_as_it_is(name: str, repository: Repository) -> None:
    files, answers, message = NOT_ADOPTED[name]
    repository.write(files)
    before = repository.files()
    code, output, errors = repository.adopt("--yes", **CUDA | answers)
    assert (code, output) == (1, "")
    assert message in errors
    assert errors.startswith("adopt: ")
    assert errors.count("\n") == 1
    assert repository.files() == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('">=3.11,<3.13"', '"^3.11"'),
        ('">=3.11,<3.13"', "3.11"),
        ('["torch"]', '"torch"'),
        ('["torch"]', '["torch", 3]'),
        ('["torch"]', '["torch"]\noptional-dependencies = ["torch"]'),
        ('["torch"]', '["torch"]\n[[tool.uv.index]]\nname = "x"'),
        ('["torch"]', '["torch"]\n[tool.uv]\nconflicts = [{ extra = "a" }]'),
        ('["torch"]', '["torch"]\n[tool.uv.workspace]\nmembers = ["a**"]'),
        ("[project]", "[[project]]"),
    ],
)
def test_what_uv_cannot_read_is_refused_with_its_reason(old: str, new: str, repository: Repository) -> None:
    repository.write({"pyproject.toml": PLAIN["pyproject.toml"].replace(old, new)})
    before = repository.files()
    code, output, errors = repository.adopt("--yes", **CUDA)
    assert (code, output) == (1, "")
    assert "pyproject.toml" in errors
    assert errors.endswith("\nadopt: 'uv workspace' failed, for the reason above: nothing is changed\n")
    assert repository.files() == before


def test_the_members_of_a_workspace_are_those_of_uv(repository: Repository) -> None:
    text = PLAIN["pyproject.toml"]
    members = '[tool.uv.workspace]\nmembers = [".", "./packages/*/"]\nexclude = ["packages/b"]\n'
    repository.write({"pyproject.toml": text + members})
    repository.write({f"packages/{name}/pyproject.toml": text.replace("lab", name) for name in "ab"})
    assert repository.adopt("--yes", **CUDA)[0] == 0
    changed = [name for name, content in repository.files().items() if b"torch~=2.14.0" in content]
    assert sorted(changed) == ["packages/a/pyproject.toml", "pyproject.toml"]
    repository.folder /= "packages/b"
    assert repository.adopt("--yes", **CUDA)[0] == 0


def edited(folder: Path, answers: dict[str, Any], *texts: str) -> str:
    """Return pyproject.toml as the command would write it, after an earlier text of what it contains."""
    adoption.write(folder, {"files": {"pyproject.toml": "".join(texts)}})
    return adoption.planned(folder, answers).documents[0].written().decode()


def test_comments_stay_with_the_table_below(tmp_path: Path) -> None:
    tables = (
        "[project.optional-dependencies]\ncpu = ['torch']\ngpu = ['torch']\n\n"
        "# uv\n[tool.uv]\nconflicts = [[{ extra = 'cpu' }, { extra = 'gpu' }]]\npackage = true\n\n"
        "# where from\n# by name\n[tool.uv.sources]\nhelper = { index = 'house' }\n\n"
        "# theirs\n[[tool.uv.index]]\nname = 'pt'\nurl = 'https://download.pytorch.org/whl/cu121'\n"
        "# ours\n[[tool.uv.index]]\nname = 'house'\nurl = 'https://pkgs.example.org/simple'\n\n"
        "# black\n[tool.black]\nline-length = 100\n"
    )
    pairs = [
        "# uv\n[tool.uv]\n",
        "\n\n# where from\n# by name\n[tool.uv.sources]\n",
        '\n\n# theirs\n[[tool.uv.index]]\nname = "pytorch-cu126"\n',
        "# ours\n[[tool.uv.index]]\nname = 'house'\n",
        "\n\n# black\n[tool.black]\n",
    ]
    text = edited(tmp_path, CUDA, PLAIN["pyproject.toml"], tables)
    assert [pair for pair in pairs if pair not in text] == []
    # The new tables come before the build system, whose comment is about it
    text = edited(
        tmp_path, CUDA, PLAIN["pyproject.toml"], "[tool.a]\nb = 1\n\n# built\n[build-system]\nrequires = []\n"
    )
    assert "explicit = true\n\n# built\n[build-system]\n" in text


def test_an_index_that_a_member_uses_stays(tmp_path: Path) -> None:
    text, index = (
        PLAIN["pyproject.toml"],
        '[[tool.uv.index]]\nname = "pt"\nurl = "https://download.pytorch.org/whl/cu124"\n',
    )
    sources = '[tool.uv.sources]\nxformers = { index = "pt" }\n'
    adoption.write(tmp_path, {"files": {"a/pyproject.toml": text.replace("lab", "a") + sources}})
    assert index in edited(tmp_path, CUDA, text, '[tool.uv.workspace]\nmembers = ["a"]\n', index)


def test_no_default_group_is_not_the_usual_one(tmp_path: Path) -> None:
    text = PLAIN["pyproject.toml"] + '[dependency-groups]\ndev = ["pytest"]\n'
    for given, left in (("[]", []), ('["dev"]', None)):
        several = edited(tmp_path, CUDA | {"other_backends": ["cpu"]}, text, f"[tool.uv]\ndefault-groups = {given}\n")
        single = tomllib.loads(edited(tmp_path, {"other_backends": []}, several))
        assert single["tool"]["uv"].get("default-groups") == left


def test_a_later_release_may_need_a_later_python(tmp_path: Path) -> None:
    text = PLAIN["pyproject.toml"].replace(">=3.11,<3.13", ">=3.9")
    text = edited(tmp_path, {"torch": "2.8", "backend": "cu126", "platforms": PLATFORMS}, text)
    assert 'requires-python = ">=3.9"' in text
    assert 'requires-python = ">=3.10"' in edited(tmp_path, {"torch": "2.14"}, text)


def test_what_still_conflicts_without_torch_stays_a_conflict(tmp_path: Path) -> None:
    extras = '[project.optional-dependencies]\nold = ["torch<2.6", "numpy<2"]\nnew = ["torch", "numpy>=2"]\n'
    conflicts = '[tool.uv]\nconflicts = [[{ extra = "old" }, { extra = "new" }]]\n'
    assert conflicts in edited(tmp_path, CUDA, PLAIN["pyproject.toml"], extras, conflicts)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_requirements_with_hashes_or_from_powershell_are_read(encoding: str, tmp_path: Path) -> None:
    text = "torch==2.5.1 \\\n    --hash=sha256:12ab \\\n    --hash=sha256:34cd\nnumpy==2.0 --hash sha256:56ef\n"
    (tmp_path / "requirements.txt").write_text(text, encoding=encoding)
    plan = adoption.planned(tmp_path, CUDA)
    assert plan.root.after["project"]["dependencies"] == ["torch~=2.14.0", "numpy==2.0"]


@pytest.mark.parametrize("option", ["-r base.txt", "-rbase.txt", "--requirement=base.txt"])
def test_requirements_that_include_others_are_read(option: str, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(f"{option}\nnumpy==2.0\n")
    (tmp_path / "base.txt").write_text("torch==2.5.1\n")
    plan = adoption.planned(tmp_path, CUDA)
    assert plan.root.after["project"]["dependencies"] == ["torch~=2.14.0", "numpy==2.0"]


def test_requirements_that_include_themselves_are_refused(repository: Repository) -> None:
    repository.write({"requirements.txt": "torch\n-r base.txt\n", "base.txt": "-r requirements.txt\n"})
    code, _, errors = repository.adopt("--yes", **CUDA)
    assert (code, errors) == (1, "adopt: requirements.txt includes itself: remove that line first\n")


def test_a_member_of_a_workspace_is_refused(repository: Repository) -> None:
    repository.write(
        {"pyproject.toml": '[tool.uv.workspace]\nmembers = ["a"]\n', "a/pyproject.toml": PLAIN["pyproject.toml"]}
    )
    repository.folder /= "a"
    code, _, errors = repository.adopt("--yes", **CUDA)
    root = repository.folder.parent
    assert (code, errors) == (1, f"adopt: this is a member of the workspace in {root}: run this there\n")


def test_the_ways_out_lead_to_torch(repository: Repository, replica: str) -> None:
    """What the refusals of shapes say to do, done."""
    for name in ("07-poetry1", "15-kept-out-of-the-lock", "20-script-block"):
        shape = SHAPES[name]
        shutil.rmtree(repository.folder)
        repository.folder.mkdir()
        repository.write(shape["files"])
        if "remove it first" in shape["refused"]:
            text = shape["files"]["pyproject.toml"].replace("\"torch; sys_platform == 'never'\", ", "")
            repository.write({"pyproject.toml": text})
        else:
            (command,) = re.findall("run '(.+?)'", shape["refused"])
            for unwanted in re.findall("remove every (\\S+),", shape["refused"]):
                repository.write({"pyproject.toml": shape["files"]["pyproject.toml"].replace(unwanted, "")})
            subprocess.run(command.split(), cwd=repository.folder, check=True, capture_output=True)
        answers = CUDA | shape["asked"]
        code, output, errors = repository.adopt("--yes", **answers)
        assert code == 0, output + errors
        companions = ["torchvision"] if "torchvision" in repository.files()["pyproject.toml"].decode() else []
        assert_locked(repository.folder, [], answers | {"companions": companions}, replica)


def test_a_lock_that_fails_changes_nothing(repository: Repository) -> None:
    text = PLAIN["pyproject.toml"].replace('["torch"]', '["torch", "numpy<1", "numpy>=2"]')
    lock = 'version = 1\nrequires-python = ">=3.11"\n'
    repository.write({"pyproject.toml": text})
    (repository.folder / "uv.lock").write_text(lock, encoding="utf-8")
    code, output, errors = repository.adopt("--yes", **CUDA)
    assert code == 1
    assert "torch -> torch~=2.14.0" in output
    assert "numpy" in errors
    assert errors.endswith("adopt: 'uv lock' failed, for the reason above: nothing is changed\n")
    assert repository.files() == {"pyproject.toml": text.encode()}
    assert (repository.folder / "uv.lock").read_text(encoding="utf-8") == lock


def test_a_wrong_build_in_the_lock_changes_nothing(
    repository: Repository, replica: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = adopt.uv
    monkeypatch.setattr(adopt, "uv", lambda *command: real(*command).replace(f"{replica}/cu126", f"{replica}/cpu"))
    repository.write(PLAIN)
    code, _, errors = repository.adopt("--yes", **CUDA)
    assert code == 1
    assert f"linux-x86_64 would get torch 2.14.1+cu126 from {replica}/cpu, not cu126" in errors
    assert repository.files() == {"pyproject.toml": PLAIN["pyproject.toml"].encode()}
    assert not (repository.folder / "uv.lock").exists()


def test_an_interruption_changes_nothing(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    real = adopt.uv

    def interrupted(root: Path, *command: str) -> str:
        if command == ("lock",):
            raise KeyboardInterrupt
        return real(root, *command)

    monkeypatch.setattr(adopt, "uv", interrupted)
    repository.write(PLAIN)
    code, _, errors = repository.adopt("--yes", "--doctor", **CUDA)
    assert (code, errors) == (130, "\nadopt: stopped: nothing is changed\n")
    assert repository.files() == {"pyproject.toml": PLAIN["pyproject.toml"].encode()}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
def test_a_signal_changes_nothing(repository: Repository, clone: Path, tmp_path: Path) -> None:
    slow = tmp_path / "uv"
    slow.write_text(f'#!/bin/sh\n[ "$1" = lock ] && echo half > uv.lock && sleep 60\nexec {shutil.which("uv")} "$@"\n')
    slow.chmod(0o755)
    repository.write(PLAIN)
    command = [
        sys.executable,
        str(ROOT / "adopt.py"),
        "--template",
        str(clone),
        "--defaults",
        "--yes",
        *adoption.options(CUDA),
    ]
    child = subprocess.Popen(
        command, cwd=repository.folder, env={**os.environ, "UV": str(slow)}, stderr=subprocess.PIPE, text=True
    )
    wait_for((repository.folder / "uv.lock").exists)
    child.terminate()
    assert child.communicate()[1] == "\nadopt: stopped: nothing is changed\n"
    assert child.returncode == 130
    assert repository.files() == {"pyproject.toml": PLAIN["pyproject.toml"].encode()}
    assert not (repository.folder / "uv.lock").exists()


def test_a_disk_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", lambda *_: os.mkdir(tmp_path))
    with pytest.raises(FileExistsError):
        adopt.replace(tmp_path / "uv.lock", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_another_folder_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "uv.lock").write_bytes(b"old")
    (tmp_path / "uv.lock").symlink_to(tmp_path / "elsewhere" / "uv.lock")
    moved, real = [], os.replace

    def replace(*paths: Path) -> None:
        moved.append([Path(path).parent for path in paths])
        real(*paths)

    monkeypatch.setattr(os, "replace", replace)
    adopt.replace(tmp_path / "uv.lock", b"new")
    assert moved == [[tmp_path / "elsewhere"] * 2]  # across disks it would fail
    assert ((tmp_path / "uv.lock").is_symlink(), (tmp_path / "uv.lock").read_bytes()) == (True, b"new")


def test_an_output_that_lacks_a_letter_is_no_error(repository: Repository, clone: Path) -> None:
    repository.write({"pyproject.toml": PLAIN["pyproject.toml"].replace("version", 'description = "🤗"\nversion')})
    command = [sys.executable, str(ROOT / "adopt.py"), "--template", str(clone), "--defaults", *adoption.options(CUDA)]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, cwd=repository.folder, env=environment, capture_output=True, text=True, check=False)
    assert ' description = "?"\n' in done.stdout
    assert done.stderr == "adopt: nothing is changed, because there is no terminal to confirm in: add --yes\n"


def test_files_that_cannot_be_read_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = '[[tool.uv.dependency-metadata]]\nname = "a"\nrequires-dist = ["torch"]\n'
    adoption.write(
        tmp_path, {"files": {"pyproject.toml": PLAIN["pyproject.toml"] + metadata * 2, "a.sh": "pip install torch"}}
    )
    found = adoption.planned(tmp_path, CUDA).documents
    assert list(adopt.others(tmp_path, found)) == ["[tool.uv.dependency-metadata]", "a.sh:1"]
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert list(adopt.others(tmp_path, found)) == ["[tool.uv.dependency-metadata]"]


def test_a_read_only_folder_is_refused(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.write(PLAIN)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    code, output, errors = repository.adopt("--yes", **CUDA)
    assert (code, output) == (1, "")
    assert errors == f"adopt: {repository.folder} is read-only: make it writable first\n"


def test_without_a_terminal_it_asks_nothing(repository: Repository) -> None:
    repository.write(PLAIN)
    code, output, errors = repository.run(repository.folder, [])
    assert (code, output) == (1, "")
    assert errors == "adopt: there is no terminal to ask in: add --defaults, and --data name=value for other answers\n"
    code, output, errors = repository.adopt(**CUDA)
    assert code == 1
    assert '+dependencies = ["torch~=2.14.0"]' in output
    assert errors == "adopt: nothing is changed, because there is no terminal to confirm in: add --yes\n"
    assert repository.files() == {"pyproject.toml": PLAIN["pyproject.toml"].encode()}


def test_a_read_only_file_is_refused(repository: Repository) -> None:
    repository.write(PLAIN)
    (repository.folder / "pyproject.toml").chmod(0o444)
    code, _, errors = repository.adopt("--yes", **CUDA)
    assert (code, errors) == (1, "adopt: pyproject.toml is read-only: make it writable first\n")


def test_an_unknown_option_is_refused(repository: Repository) -> None:
    with pytest.raises(SystemExit) as error:
        repository.adopt("--backend=cu126")
    assert error.value.code == 2


def test_the_doctor_comes_along(repository: Repository) -> None:
    repository.write(PLAIN)
    assert repository.adopt("--yes", "--doctor", **CUDA)[0] == 0
    doctor = [sys.executable, "tools/doctor.py", "--json"]
    done = subprocess.run(doctor, cwd=repository.folder, capture_output=True, text=True, check=False)
    assert "2.14" in repository.files()["tools/doctor.py"].decode()
    findings = json.loads(done.stdout)["findings"]
    assert [each["level"] for each in findings if each["group"] == "Project"] == ["ok"] * 2
    code, output, _ = repository.adopt("--doctor", **CUDA)
    assert (code, "- nothing to change\n" in output) == (0, True)


def test_a_person_is_asked_six_questions(repository: Repository, clone: Path, tmp_path: Path) -> None:
    """The script as `uv run` starts it, in a clone that is a repository."""
    shutil.copytree(clone, tmp_path / "clone")
    shutil.copy(ROOT / "adopt.py", tmp_path / "clone")
    git(tmp_path / "clone", "init")
    commit(tmp_path / "clone")
    repository.write(PLAIN)
    terminal = Terminal(
        "uv", "run", tmp_path / "clone" / "adopt.py", cwd=repository.folder, columns=160, rows=80, env=dict(os.environ)
    )
    for question in (
        "Platforms that",
        "Backend:",
        "PyTorch release",
        "Oldest Python",
        "Other backends",
        "Packages whose",
    ):
        terminal.wait_for(question)
        terminal.press("enter")
    terminal.wait_for("Write this? [y/N]")
    terminal.child.send("y\r")
    terminal.wait_for("linux-x86_64    cu")
    assert terminal.exit_code() == 0
    assert "torch~=" in repository.files()["pyproject.toml"].decode()


@pytest.mark.parametrize(
    ("specifiers", "expected"),
    [((">=3.8",), "3.8"), (("==3.12.7",), "3.12"), ((">=3.10.4", ">=3.9,<3.14"), "3.10"), (("<3.9", ">=3.10"), "")],
)
def test_the_lowest_python(specifiers: tuple[str, ...], expected: str) -> None:
    assert adopt.lowest(*specifiers) == expected


@pytest.mark.parametrize("name", ["shapes", "example"])
def test_the_page_is_current(name: str, replica: str) -> None:
    match = adoption.between(name).search(adoption.PAGE.read_text(encoding="utf-8"))
    assert match
    made = adoption.table() if name == "shapes" else adoption.example(replica)
    assert match[0] == made, "write it anew: uv run --group tests python -m tests.adoption"


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"torch": "2.14", "backend": "cu126", "companions": ["torchvision", "torchaudio"]},
        {"torch": "2.14", "backend": "rocm7.14", "platforms": ["linux-x86_64"]},
        {"torch": "2.13", "backend": "xpu", "other_backends": ["cu126", "cpu"], "companions": ["torchvision"]},
        {
            "torch": "2.8",
            "backend": "cpu",
            "platforms": list(MACHINES),
            "torch_index": "https://mirror.example.org/whl",
        },
    ],
    ids=str,
)
def test_a_rendered_project_is_adopted_already(answers: dict[str, Any], render: Callable[..., Project]) -> None:
    folder = render(**answers).path
    assert [document.written() == document.content for document in adoption.planned(folder, {}).documents] == [True]
