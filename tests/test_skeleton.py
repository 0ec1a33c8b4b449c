"""`skeleton=none`: the right torch and everything around it, an empty package, and nothing that leads nowhere."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import copier
import pytest
import yaml

from tests.files import assert_fit_for_windows, assert_linted, assert_tidy, files, parse
from tests.history import append, commit, copied, git, released, update
from tests.project import Project, template
from tests.table import loads
from tests.test_update import rename_as_documented

ANSWERS: dict[str, dict[str, Any]] = {
    "default": {},
    "everything": {
        "torch": "2.14",
        "platforms": ["linux-x86_64", "linux-aarch64", "macos-arm64", "windows-x86_64"],
        "other_backends": ["rocm7.2", "cpu"],
        "companions": ["torchvision", "torchaudio"],
        "features": ["docker", "devcontainer", "slurm", "kubernetes", "pre-commit", "agents"],
        "ci": "gitlab",
        "license": "Apache-2.0",
    },
    "nothing": {"platforms": ["macos-arm64"], "features": [], "ci": "none", "license": "none", "description": ""},
    "oldest": {"torch": "2.4", "backend": "cu118", "license": "BSD-3-Clause", "user_name": "Ada Lovelace"},
    "cpu": {"platforms": ["linux-x86_64"], "backend": "cpu", "companions": ["torchvision"]},
    "cpu and another": {"backend": "cpu", "other_backends": ["cu132"]},
    "rocm": {"torch": "2.14", "backend": "rocm7.2", "features": ["slurm"]},
    "xpu": {"torch": "2.14", "backend": "xpu", "other_backends": ["cpu"], "features": ["docker", "slurm"]},
    "windows": {"torch": "2.14", "platforms": ["windows-x86_64"], "features": ["pre-commit"]},
    "a development container": {"features": ["devcontainer"], "companions": ["torchcodec"]},
    "another name": {"project_name": "My.Project", "package_name": "other", "platforms": ["linux-aarch64"]},
    "a long name": {"project_name": 12 * "long-" + "name", "ci": "gitlab", "features": ["docker"]},
    "data and a tracker": {"data": "huggingface", "tracker": "wandb"},
}
SETS = pytest.mark.parametrize("answers", list(ANSWERS.values()), ids=list(ANSWERS))
# What the package that trains has: commands and their options, files, dependencies
TRACES = re.compile(
    r"\b(train|trains|trained|evaluate|checkpoints?|tyro|cattrs|matplotlib|digits|epochs?|fsdp2)\b"
    r"|--(workers|compile|lr|out runs)\b|runtime/|__main__|conftest"
)
COMMAND = re.compile(r"\buv run (?:--\S+ )?(?:srun )?([^\s`]+)")


@SETS
def test_nothing_leads_nowhere(answers: dict[str, Any], tmp_path: Path) -> None:
    project = Project.render(tmp_path / "demo", skeleton="none", **answers)
    found = files(project)
    assert_fit_for_windows(found)
    package = project.answers["package_name"]
    own = {path.as_posix() for path in found if path.parts[0] in ("src", "tests")}
    assert own == {f"src/{package}/__init__.py", "tests/test_package.py"}
    assert not list(project.path.glob("*/*/runtime")), "nor is there an empty folder"
    for path, text in found.items():
        parse(path.name, text)
        assert_tidy(path.name, text)
        if path.name in (".copier-answers.yml", "doctor.py"):  # tests/test_doctor.py reads its hints
            continue
        assert not TRACES.search(text), path
        for command in COMMAND.findall(text):
            assert command in ("ruff", "mypy", "pytest", "python", "torchrun") or (project.path / command).exists(), (
                path
            )
    for name in re.findall(r"(?:kubernetes|slurm|tools)/[\w.]+", found[Path("README.md")]):
        assert (project.path / name).exists(), name
    assert "scripts" not in project.pyproject["project"]
    if any("pytest -m gpu" in text for text in found.values()):
        assert "@pytest.mark.gpu" in found[Path("tests/test_package.py")]


def test_files_are_as_a_person_would_leave_them(tmp_path: Path) -> None:
    for number, answers in enumerate(ANSWERS.values()):
        Project.render(tmp_path / str(number), **{"project_name": "demo", "skeleton": "none"} | answers)
    assert_linted(tmp_path)


@SETS
def test_every_platform_gets_its_torch_and_no_more(answers: dict[str, Any], tmp_path: Path, replica: str) -> None:
    project = Project.render(tmp_path / "demo", skeleton="none", **answers)
    project.resolve_with(replica)
    project.lock()
    for backend in project.backends:
        for platform in project.answers["platforms"]:
            for package in ("torch", *project.answers["companions"]):
                version = project.locked(backend, platform)[package].version
                build = loads(project.answers["torch"], backend, platform, package)
                assert version.partition("+")[2] in ("", build)
    given = {*answers.get("companions", []), *[answers[name] for name in ("tracker",) if name in answers]}
    assert {"torch", "numpy", "ruff", "mypy", "pytest"} | given == direct(project)


def direct(project: Project) -> set[str]:
    """Return the packages that a project names itself, except those that a build of torch takes from its index."""
    (own,) = (
        package
        for package in tomllib.loads((project.path / "uv.lock").read_text())["package"]
        if "editable" in package["source"]
    )
    rows = [own.get("dependencies", []), *own["dev-dependencies"].values()]
    return {each["name"] for row in rows for each in row if "triton" not in each["name"]}


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as a repository with two versions: the second fixes the doctor, and what an empty package lacks too."""
    folder = released(tmp_path_factory.mktemp("history") / "template")
    for name in ("tools/doctor.py.jinja", ".gitignore.jinja", "src/{{ package_name }}/runtime/dist.py"):
        append(folder / "template" / name, "# fixed")
    for name in ("src/{{ package_name }}/__init__.py.jinja", "tests/test_package.py.jinja"):
        append(folder / "template" / name, "# for new projects")
    commit(folder, "1.1.0")
    return folder


@SETS
def test_an_update_leaves_the_package_alone(answers: dict[str, Any], source: Path, tmp_path: Path) -> None:
    demo = copied(source, tmp_path / "demo", "1.0.0", skeleton="none", **answers)
    (package,) = (demo / "src").iterdir()
    (package / "__init__.py").write_text("# ours\n")
    (package / "train.py").write_text("# ours\n")
    (demo / "tests" / "test_package.py").unlink()
    commit(demo)
    recorded = Project(demo).answers
    update(demo)
    changed = {line[3:] for line in git(demo, "status", "--porcelain").splitlines()}
    assert changed == {".copier-answers.yml", ".gitignore", "tools/doctor.py"}
    assert (demo / "tools" / "doctor.py").read_text().endswith("# fixed\n")
    assert Project(demo).answers == recorded | {"_commit": "1.1.0"}, "those that are not asked as well"
    assert recorded.items() >= answers.items()


def test_an_empty_package_is_renamed_as_the_page_says(source: Path, tmp_path: Path) -> None:
    demo = copied(source, tmp_path / "demo", "1.0.0", skeleton="none")
    rename_as_documented(demo)
    assert git(demo, "status", "--porcelain") == ""
    update(demo)
    assert [path.name for path in (demo / "src").iterdir()] == ["other"]
    assert Project(demo).pyproject["tool"]["uv"]["build-backend"]["module-name"] == "other"
    Project(demo).uv("build", "--quiet", "--wheel", "--out-dir", str(tmp_path / "dist"))


@pytest.mark.parametrize(
    ("skeleton", "other", "folder"), [("training", "none", "demo"), ("none", "training", "a path like [a-z]* pattern?")]
)
def test_another_skeleton_is_refused_with_what_works(
    skeleton: str, other: str, folder: str, source: Path, tmp_path: Path
) -> None:
    demo = copied(source, tmp_path / folder, skeleton=skeleton, project_name="demo")
    with pytest.raises(ValueError, match="Invalid choice for 'skeleton'") as caught:
        update(demo, ref=copier.VcsRef.CURRENT, skeleton=other)
    message = str(caught.value).split(": ", 1)[1]
    assert message == f"keep {skeleton} or copy into a new folder; it counts at the first copy"
    assert len(message) <= 70
    assert git(demo, "status", "--porcelain") == ""
    # Both ways are open
    update(demo, ref=copier.VcsRef.CURRENT, skeleton=skeleton)
    assert git(demo, "status", "--porcelain") == ""
    new = copied(source, tmp_path / "new" / "demo", skeleton=other)
    assert (new / "src" / "demo" / "__main__.py").exists() == (other == "training")


def test_the_message_after_copying_names_commands_that_there_are(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = {"project_name": "demo", "skeleton": "none"}
    copier.run_copy(str(template()), tmp_path / "demo", data=data, defaults=True, settings=copier.Settings())
    lines = [line.strip() for line in capfd.readouterr().err.splitlines()]
    start = lines.index("uv sync")
    assert lines[start : start + 3] == ["uv sync", "uv run tools/doctor.py", "git init --initial-branch main"]
    assert not any("train" in line or "not found" in line for line in lines), "nor is there a warning"


def test_an_image_runs_python(render: Callable[..., Project]) -> None:
    project = render(skeleton="none", torch="2.14", other_backends=["cpu"])
    *_, last = (project.path / "Dockerfile").read_text().splitlines()
    assert (last.split()[0], json.loads(last.split(" ", 1)[1])) == ("CMD", ["python"])
    for name in ("compose.yaml", "compose.gpu.yaml"):
        (service,) = yaml.safe_load((project.path / name).read_text())["services"].items()
        assert service[0] == "app"
        assert "command" not in service[1]
