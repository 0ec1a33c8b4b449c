"""A project in a larger repository: what docs/places.md says is followed, with uv as it is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import copier
import pytest
import yaml

from tests.files import assert_linted
from tests.history import append, commit, git, released, replace, update
from tests.project import Project, resolving, template
from tests.table import PLATFORMS, ROOT

PAGE = (ROOT / "docs" / "places.md").read_text(encoding="utf-8")
CPU = {"torch": "2.13", "backend": "cpu", "python": "3.11", "platforms": list(PLATFORMS)}


def blocks(heading: str, language: str) -> list[str]:
    """Return the code in a section of the page."""
    section = re.split(r"^##+ ", PAGE.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    code = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    found = [text for kind, text in code if kind == language]
    assert found, heading
    return found


def environments(project: Project) -> str:
    """Return the lists that only the root of a workspace can have."""
    text = (project.path / "pyproject.toml").read_text()
    lists = re.findall(r"^(?:required-)?environments = \[\n.*?^\]\n", text, re.MULTILINE | re.DOTALL)
    assert len(lists) == 2
    return "".join(lists)


def findings(project: Project, *words: str) -> list[str]:
    """Return what the doctor finds of these words."""
    command = [sys.executable, str(project.path / "tools" / "doctor.py"), "--json"]
    done = subprocess.run(command, env=resolving(), capture_output=True, text=True, check=False)
    texts = [finding["text"] for finding in json.loads(done.stdout)["findings"]]
    return [text for text in texts if any(word in text for word in words)]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository that holds something already."""
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "README.md").write_text("Ours.\n")
    git(tmp_path / "repository", "init")
    commit(tmp_path / "repository")
    return tmp_path / "repository"


@pytest.mark.parametrize(
    ("folder", "begins", "moves"),
    [("repository/services/demo", False, True), ("repository", False, False), ("demo", True, False)],
    ids=["inside", "the root", "outside"],
)
def test_the_message_after_copying_knows_a_repository(
    folder: str, begins: bool, moves: bool, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copier.run_copy(str(template()), repository.parent / folder, defaults=True, overwrite=True)
    message = capsys.readouterr().err.partition("is ready. Next:")[2]
    assert "git add ." in message
    assert ("git init" in message) == begins
    assert ("docs/places.md" in message) == moves


def test_a_subfolder_with_a_lock_of_its_own(replica: str, repository: Path, tmp_path: Path) -> None:
    (repository / "pyproject.toml").write_text(*blocks("In a subfolder of a repository", "toml"))
    source = released(tmp_path / "template")
    demo = Project(repository / "services" / "demo")
    settings = copier.Settings()
    answers = {**CPU, "torch_index": replica}
    copier.run_copy(str(source), demo.path, data=answers, defaults=True, quiet=True, settings=settings)
    demo.uv("sync", "--no-dev")
    assert (demo.path / ".venv").is_dir()
    assert not (repository / "uv.lock").exists()
    assert demo.locked("cpu", "linux-x86_64")["torch"].version == "2.13.0+cpu"
    commit(repository)

    append(source / "template" / ".gitattributes", "# new")
    commit(source, "1.1.0")
    (repository / "README.md").write_text("Ours, and not committed.\n")
    update(demo.path)
    assert (demo.path / ".gitattributes").read_text().endswith("# new\n")
    assert Project(demo.path).answers["_commit"] == "1.1.0"


@pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: the commands are for a shell")
def test_the_pipeline_and_the_hooks_move_to_the_root(repository: Path) -> None:
    demo = Project.render(repository / "services" / "demo")
    demo.uv("lock")
    commit(repository)
    assert findings(demo, "root of the repository") == [
        f".github and .pre-commit-config.yaml must be in the root of the repository, {repository}"
    ]
    rendered = {path.stem: yaml.safe_load(path.read_text()) for path in demo.path.glob(".github/workflows/*")}
    subprocess.run(["sh", "-eu", "-c", *blocks("The pipeline", "sh")], cwd=repository, check=True)
    workflows = repository / ".github" / "workflows"
    replace(workflows / "demo-image.yml", "            .\n", "            services/demo\n")
    for name, before in rendered.items():
        moved = yaml.safe_load((workflows / f"demo-{name}.yml").read_text())
        assert moved["jobs"] == before["jobs"] or name == "image"
        assert (moved.get("defaults") == {"run": {"working-directory": "services/demo"}}) == (name != "image")
    assert (repository / ".github" / "dependabot.yml").exists()

    hooks = demo.path / ".pre-commit-config.yaml"
    before = yaml.safe_load(hooks.read_text())["repos"][0]["hooks"]
    (repository / hooks.name).write_text(*blocks("The hooks", "yaml"))
    hooks.unlink()
    moved = yaml.safe_load((repository / hooks.name).read_text())["repos"][0]["hooks"]
    for hook, old in zip(moved, before, strict=True):
        *command, option, folder = re.sub(r"(--project) (\S+) (.*)", r"\3 \1 \2", hook["entry"]).split()
        assert (" ".join(command), option, folder) == (old["entry"], "--project", "services/demo")
        assert re.search(hook["files"], "services/demo/pyproject.toml")
        assert not re.search(hook["files"], "pyproject.toml")
    demo.uv("--directory", str(repository), *moved[-1]["entry"].split()[1:])
    assert not findings(demo, "root of the repository")
    shutil.rmtree(demo.path)
    assert_linted(repository.parent)


def test_a_member_of_a_workspace(replica: str, tmp_path: Path) -> None:
    demo = Project.render(tmp_path / "packages" / "demo", torch_index=replica, **CPU)
    root = tmp_path / "pyproject.toml"
    root.write_text('[tool.uv]\n\n[tool.uv.workspace]\nmembers = ["packages/*"]\n')
    other = tmp_path / "packages" / "other"
    other.mkdir()
    (other / "pyproject.toml").write_text(
        '[project]\nname = "other"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["torch"]\n'
    )
    demo.lock()
    assert findings(demo, "environments") == [
        f"uv.lock is not limited to the platforms: uv reads environments in {root} alone"
    ]

    replace(root, "[tool.uv]\n", f"[tool.uv]\n{environments(demo)}")
    demo.lock()
    assert not findings(demo, "environments")
    for platform in PLATFORMS:
        assert demo.locked("cpu", platform)["torch"].index.rstrip("/") == f"{replica}/cpu"

    for command in blocks("A member of a workspace", "sh")[0].splitlines():
        words = command.replace("demo train", "demo --help").split()[1:]
        printed = demo.uv("--directory", str(tmp_path), *words)
    assert "demo [-h] {train,evaluate,export}" in printed
    assert (tmp_path / ".venv").is_dir()
    assert not (demo.path / ".venv").exists()
    demo.uv("sync", "--directory", str(other), "--locked")
    frozen = demo.uv("pip", "freeze", "--python", str(tmp_path / ".venv"))
    assert "torch==2.13.0+cpu" in frozen.split() or "torch==2.13.0" in frozen.split()


def test_the_image_of_a_member_parses(tmp_path: Path) -> None:
    demo = Project.render(tmp_path / "packages" / "demo")
    (diff,) = blocks("The image", "diff")
    subprocess.run(["git", "apply", "-"], cwd=demo.path, input=diff, text=True, check=True)
    assert_linted(tmp_path / "packages")
    compose = yaml.safe_load((demo.path / "compose.yaml").read_text())["services"]["train"]
    assert (demo.path / compose["build"]["context"]).resolve() == tmp_path
    assert (tmp_path / compose["build"]["dockerfile"]).exists()
