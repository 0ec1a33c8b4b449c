"""adopt.py on projects as they are: each gets the right torch, and keeps all else, or is refused and left alone."""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import adopt
from tests import quick
from tests.project import Project, resolving, template
from tests.replica.pypi import PYPI
from tests.table import ROOT, TABLE, home, loads, on_pypi, plain, versions

PLATFORMS = ["linux-x86_64", "linux-aarch64", "macos-arm64"]
SHAPES = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "tests/shapes").glob("*"))
}
REFUSED = [name for name, shape in SHAPES.items() if "refused" in shape]
ADOPTED = [name for name in SHAPES if name not in REFUSED]


@pytest.fixture(scope="session")
def clone(replica: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template, with the replica in the place of PyTorch's index."""
    folder = tmp_path_factory.mktemp("clone") / "template"
    shutil.copytree(template(), folder)
    table = folder / "builds.yml"
    table.write_text(table.read_text(encoding="utf-8").replace(TABLE["index"], replica), encoding="utf-8")
    return folder


class Repository:
    """A project of somebody, in which adopt.py is run."""

    def __init__(self, folder: Path, run: Callable[[Path, list[str]], tuple[int, str, str]]) -> None:
        self.folder, self.run = folder, run
        folder.mkdir()

    def write(self, files: dict[str, str], ends: str = "") -> None:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\r\n" if ends == "crlf" else "\n")

    def files(self) -> dict[str, bytes]:
        """Return all files but the lock and what a build leaves behind."""
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and path.name != "uv.lock" and ".egg-info" not in path.as_posix()
        }

    def adopt(self, *options: str, **answers: Any) -> tuple[int, str, str]:
        """Run the command with answers, and return its exit code and what it printed."""
        texts = {name: f"[{','.join(value)}]" if isinstance(value, list) else value for name, value in answers.items()}
        return self.run(
            self.folder, ["--defaults", *options, *(f"--data={name}={text}" for name, text in texts.items())]
        )


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
        with quick.renders():
            code = adopt.main(["--template", str(clone), *options])
        return code, *capsys.readouterr()

    return Repository(tmp_path / "lab", run)


def house(text: str, replica: str) -> str:
    """Put an index that is there and has nothing in the place of one that is nowhere."""
    return text.replace("https://pkgs.example.org/simple", replica.replace("/whl", "/house"))


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


@pytest.mark.parametrize("name", ADOPTED)
def test_a_shape_is_adopted(name: str, repository: Repository, replica: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    answers = {"platforms": PLATFORMS} | shape["asked"]
    repository.write({path: house(text, replica) for path, text in shape["files"].items()}, shape.get("ends", ""))
    (tmp_path / "widget").mkdir()
    (tmp_path / "widget" / "pyproject.toml").write_text('[project]\nname = "widget"\nversion = "1"\n', encoding="utf-8")
    before = repository.files()

    code, output, errors = repository.adopt("--yes", **answers)

    assert code == 0, errors
    after = repository.files()
    names = "pyproject.toml", *(path for path in after if after[path] != before.get(path))
    text = "".join(after[path].decode().replace("\r\n", "\n") for path in dict.fromkeys(names))
    for line in shape["keeps"]:
        assert house(line, replica) in text.split("\n")
    for part in shape.get("gone", []):
        assert part not in text
    for part in shape["named"]:
        assert part in output
    if shape.get("ends") == "crlf":
        assert all(after[path].count(b"\n") == after[path].count(b"\r\n") for path in after)
    assert_locked(
        repository.folder, shape.get("options", []), answers | {"companions": shape.get("companions", [])}, replica
    )

    # Again, with the answers and with none: nothing changes
    lock = (repository.folder / "uv.lock").read_bytes()
    for again in (answers, {}):
        code, output, errors = repository.adopt(**again)
        assert (code, "Nothing to change." in output) == (0, True), output + errors
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
