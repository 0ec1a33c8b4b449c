"""An update brings in what changed in the template, and leaves the user's own alone."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import copier
import pytest
import yaml

from tests.files import contents, without_origin
from tests.history import append, commit, copied, git, released, released_twice, replace, update
from tests.project import Project
from tests.table import PLATFORMS, RELEASES, ROOT, backends
from tests.terminal import KEYS, Terminal
from tests.test_questions import questions
from tests.test_rendered import ANSWERS

Files = dict[str, bytes]
OLDER = "# of an earlier version"
# What the template keeps up to date in src and tests
KEPT = re.compile(r"/runtime/")


def files(folder: Path) -> tuple[Files, Files]:
    """Return what is in a project: what the template keeps up to date, and the source and tests.

    Of the answers file this is the answers alone: where they come from is told apart.
    """
    every = contents(folder)
    every[".copier-answers.yml"] = without_origin(every[".copier-answers.yml"])
    own = {name: content for name, content in every.items() if re.match("(src|tests)/", name) and not KEPT.search(name)}
    return {name: content for name, content in every.items() if name not in own}, own


def make_earlier(source: Path) -> None:
    """Make of a template what an earlier version of it might have been."""
    folder = source / "template"
    for path in (path for path in folder.rglob("*") if path.is_file()):
        inside = path.relative_to(folder).parts[0]
        if inside not in ("pyproject.toml.jinja", "README.md.jinja") and not re.search("json|gz|LICENSE", path.name):
            append(path, OLDER)
    replace(folder / "pyproject.toml.jinja", "line-length = 100", "line-length = 88")
    replace(folder / "README.md.jinja", "The first line says on which device, and why.", "The first line says where.")
    (folder / ".python-version.jinja").unlink()
    (folder / "setup.cfg").write_text(f"{OLDER}\n")
    package = folder / "src" / "{{ package_name }}"
    (package / "config.py.jinja").unlink()
    (package / "older.py").touch()
    (package / "runtime" / "steps.py").unlink()
    (package / "runtime" / "older.py").touch()


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as a repository: 1.0.0 is an earlier version, 1.1.0 the working tree."""
    return released_twice(tmp_path_factory.mktemp("history") / "template", make_earlier)


def edit_settings(project: Path) -> None:
    """Do what a user does with the README and with pyproject.toml."""
    replace(project / "README.md", "## Make it yours", "## Our own\n\nOur own words.\n\n## Make it yours")
    append(project / "README.md", "\nOur last words.")
    replace(project / "pyproject.toml", 'version = "0.1.0"', 'version = "7.0.0"')
    append(project / "pyproject.toml", "\n[tool.ours]\nours = true")


def edit_tooling(project: Path) -> None:
    """Do what a user does with all files of the template."""
    edit_settings(project)
    for name in ("Dockerfile", ".gitignore", ".pre-commit-config.yaml", ".github/workflows/ci.yml", ".gitlab-ci.yml"):
        if (project / name).exists():
            (project / name).write_text(f"# ours\n{(project / name).read_text(encoding='utf-8')}", encoding="utf-8")
    (project / "notes.md").write_text("Ours.\n")
    for path in (*project.glob("src/*/runtime/d*.py"), *project.glob("tests/runtime/*.py")):
        path.write_text(f"# ours\n{path.read_text(encoding='utf-8')}", encoding="utf-8")


def edit_source(project: Path) -> None:
    """Do what a user does with the example: write all of it anew, rename, delete and add."""
    (package,) = (project / "src").iterdir()
    for path in (*package.glob("*.py"), *(project / "tests").glob("*.py")):
        if not KEPT.search(path.as_posix()):
            path.write_text("# ours\n")
    (package / "data.py").rename(package / "ours.py")
    (package / "model.py").unlink()
    (project / "tests" / "test_data.py").unlink()
    (project / "tests" / "test_ours.py").touch()


def rendered(folder: Path, edit: Callable[[Path], None], **answers: object) -> Files:
    """Return what the template keeps up to date in a project that is rendered and edited now."""
    project = Project.render(folder / "now" / "demo", **answers)
    edit(project.path)
    return files(project.path)[0]


SETS: dict[str, dict[str, Any]] = ANSWERS | {
    f"torch {release}": {"torch": release, "backend": backends(release)[0], "other_backends": [backends(release)[-1]]}
    for release in RELEASES
}


@pytest.mark.parametrize("answers", list(SETS.values()), ids=list(SETS))
def test_an_update_changes_all_but_what_is_the_users(answers: dict[str, Any], source: Path, tmp_path: Path) -> None:
    answers = {"project_name": "demo"} | answers
    demo = copied(source, tmp_path / "demo", "1.0.0", **answers)
    edit_tooling(demo)
    edit_source(demo)
    commit(demo)
    _, own = files(demo)
    update(demo)

    assert files(demo) == (rendered(tmp_path, edit_tooling, **answers), own)
    assert Project(demo).answers["_commit"] == "1.1.0"
    commit(demo)
    update(demo)
    assert git(demo, "status", "--porcelain") == "", "a second update changes nothing"


def test_a_fix_reaches_each_file_of_the_runtime(source: Path, tmp_path: Path) -> None:
    demo = copied(source, tmp_path / "demo", "1.0.0", tracker="wandb")
    edit_source(demo)
    edit_tooling(demo)
    commit(demo)
    update(demo)
    kept = [path for path in demo.rglob("*.py") if "runtime" in path.parts]
    names = {path.name for path in kept}
    assert {"device.py", "loader.py", "checkpoint.py", "state.py", "report.py", "tracker.py", "steps.py"} < names
    assert "older.py" not in names
    for path in kept:
        assert OLDER not in path.read_text(), f"the fix has not reached {path}"
    assert (demo / "src" / "demo" / "runtime" / "device.py").read_text().startswith("# ours\n"), "nor is an edit lost"
    assert not (demo / "src" / "demo" / "config.py").exists(), "new files outside of the runtime are not brought"


def test_a_package_is_renamed_as_the_page_says(source: Path, tmp_path: Path) -> None:
    demo = copied(source, tmp_path / "demo", "1.0.0")
    edit_tooling(demo)
    commit(demo)
    rename_as_documented(demo)
    assert git(demo, "status", "--porcelain") == ""
    update(demo)
    assert not (demo / "src" / "demo").exists()
    for path in (demo / "src" / "other" / "runtime").iterdir():
        text = path.read_text()
        assert OLDER not in text
        assert "<<<<" not in text
        assert text.startswith("# ours\n") == path.name.startswith("d"), path
    assert OLDER in (demo / "src" / "other" / "train.py").read_text()


def rename_as_documented(project: Path) -> None:
    """Rename the package from demo to other, by the commands of docs/updates.md."""
    page = (ROOT / "docs" / "updates.md").read_text(encoding="utf-8").partition("## Renaming the package")[2]
    commands = re.search(r"```sh\n(.*?)```", page, re.DOTALL)
    assert commands
    for command in commands[1].replace("old", "demo").replace("new", "other").splitlines():
        program, *arguments = shlex.split(command)
        if program == "#":
            replace_name(project)
        elif program == "git":
            git(project, *arguments)
        else:
            assert [program, *arguments[:2]] == ["uvx", "copier", "update"]
            update(project, ref=copier.VcsRef.CURRENT, package_name="other")


def replace_name(project: Path) -> None:
    """Replace the name of the package in its code, its tests and pyproject.toml."""
    for path in (*project.glob("src/**/*.py"), *project.glob("tests/**/*.py")):
        path.write_text(re.sub(r"\bdemo\b", "other", path.read_text(encoding="utf-8")), encoding="utf-8")
    settings = project / "pyproject.toml"
    settings.write_text(
        settings.read_text(encoding="utf-8").replace('"demo.__main__', '"other.__main__'), encoding="utf-8"
    )


def test_there_are_answers_enough() -> None:
    assert len(SETS) >= 20


def test_a_conflict_is_marked_and_loses_nothing(source: Path, tmp_path: Path) -> None:
    demo = copied(source, tmp_path / "demo", "1.0.0")
    replace(demo / "pyproject.toml", "line-length = 88", "line-length = 99")
    commit(demo)
    update(demo)
    text = (demo / "pyproject.toml").read_text()
    assert re.search(r"<<<<<<<.*line-length = 99.*=======.*line-length = 100.*>>>>>>>", text, re.DOTALL)
    assert git(demo, "status", "--porcelain").count("UU pyproject.toml") == 1


# Answers, and others that are given later
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "another backend": ({"torch": "2.14", "backend": "cu126"}, {"backend": "cu130"}),
    "cpu beside it": ({"torch": "2.14", "backend": "cu126", "ci": "gitlab"}, {"other_backends": ["cpu"]}),
    "no cpu any more": ({"other_backends": ["cpu"]}, {"other_backends": []}),
    "more of everything": (
        {"torch": "2.14"},
        {
            "platforms": list(PLATFORMS),
            "companions": ["torchvision", "torchaudio"],
            "features": ["docker", "devcontainer", "slurm", "kubernetes", "pre-commit", "agents"],
        },
    ),
    "less of everything": ({}, {"platforms": ["linux-x86_64"], "features": [], "license": "none"}),
    "a newer torch": ({"torch": "2.13"}, {"torch": "2.14"}),
    "a newer torch and what it needs": ({"torch": "2.14"}, {"torch": "2.15", "backend": "cu132", "python": "3.11"}),
    "an older torch": ({"backend": "cpu"}, {"torch": "2.6", "python": "3.12"}),
    "another pipeline": ({}, {"ci": "gitlab", "license": "BSD-3-Clause", "user_name": "Ada Lovelace"}),
    "a mirror, and no pipeline": ({"backend": "cpu"}, {"torch_index": "https://mirror.example.org/whl", "ci": "none"}),
}


@pytest.mark.parametrize(("before", "change"), list(CHANGES.values()), ids=list(CHANGES))
def test_an_answer_that_changes_later_gives_the_same_project(
    before: dict[str, Any], change: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    demo = copied(source, tmp_path / "demo", project_name="demo", **before)
    edit_settings(demo)
    edit_source(demo)
    commit(demo)
    _, own = files(demo)
    update(demo, ref=copier.VcsRef.CURRENT, **change)
    assert files(demo) == (rendered(tmp_path, edit_settings, **before | change), own)


# Answers that are recorded, others that are given later, and why these do not go together
OUTLIVED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a backend": (
        {"torch": "2.14", "python": "3.11"},
        {"torch": "2.15"},
        "'torch': choose torch 2.14 or backend cu132; 2.15 lacks cu130",
    ),
    "another backend": (
        {"torch": "2.14", "python": "3.11", "backend": "cu132", "other_backends": ["cpu", "rocm7.2"]},
        {"torch": "2.15"},
        "'other_backends': choose torch 2.14 or drop rocm7.2; 2.15 lacks rocm7.2",
    ),
    "a Python": (
        {"torch": "2.14", "backend": "cu132"},
        {"torch": "2.15"},
        "'python': choose Python 3.11 to 3.15 or torch 2.14; 2.15 has no wheels for 3.10",
    ),
    "a companion": (
        {"torch": "2.14", "companions": ["torchaudio"]},
        {"backend": "cu132"},
        "'companions': choose backend cu130 or drop torchaudio; it lacks cu132",
    ),
    "a feature": (
        {"torch": "2.14"},
        {"platforms": ["macos-arm64"], "backend": "cpu"},
        "'features': add the platform linux-x86_64; docker runs on Linux",
    ),
    "a tracker": (
        {"torch": "2.8", "python": "3.10", "tracker": "mlflow"},
        {"python": "3.9"},
        "'tracker': choose Python 3.10; mlflow needs it",
    ),
    "a platform": (
        {"torch": "2.12", "backend": "rocm7.1"},
        {"platforms": ["macos-arm64"]},
        "'backend': choose cpu; no release has rocm7.1 for macos-arm64",
    ),
}


@pytest.mark.parametrize(("recorded", "change", "message"), list(OUTLIVED.values()), ids=list(OUTLIVED))
def test_an_answer_that_is_no_longer_possible_is_refused(
    recorded: dict[str, Any], change: dict[str, Any], message: str, source: Path, tmp_path: Path
) -> None:
    demo = copied(source, tmp_path / "demo", **recorded)
    with pytest.raises(ValueError, match=message):
        update(demo, ref=copier.VcsRef.CURRENT, **change)
    assert git(demo, "status", "--porcelain") == "", "nothing is written"


def test_every_question_that_may_refuse_an_answer_keeps_it() -> None:
    """Copier takes the default in the place of an answer that it refuses, and says nothing."""
    for name, question in questions().items():
        if question.get("when") is not False and ("choices" in question or "validator" in question):
            assert f"kept.{name} | default(" in question["default"], name


def test_what_the_template_itself_retires_is_refused(tmp_path: Path) -> None:
    source = released(tmp_path / "template")
    newest, second, *_ = RELEASES
    demo = copied(source, tmp_path / "demo")
    table = yaml.safe_load((source / "builds.yml").read_text())
    del table["releases"][newest]
    (source / "builds.yml").write_text(yaml.safe_dump(table, sort_keys=False))
    commit(source, "1.1.0")
    with pytest.raises(ValueError, match=f"Invalid choice for 'torch': '{newest}' is not in"):
        update(demo)
    assert git(demo, "status", "--porcelain") == ""
    update(demo, torch=second, backend="cpu")
    assert Project(demo).answers["torch"] == second


def test_the_message_after_an_update_says_what_is_in_force(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    demo = copied(source, tmp_path / "demo", "1.0.0", other_backends=["cpu"])
    capfd.readouterr()
    update(demo, quiet=False)
    answers, message = Project(demo).answers, capfd.readouterr().err
    assert (
        f"torch {answers['torch']}, backend {answers['backend']} and cpu, Python {answers['python']} or newer"
        in message
    )
    commands = [line.strip() for line in message.splitlines() if line.startswith("    ")]
    assert commands == ["git diff", "uv lock", "uv sync"]


# What moves in the lockfile when one of these answers changes
PYTORCH = re.compile(r"torch|torchvision|torchaudio|triton|(nvidia|cuda)-.+")


@pytest.mark.parametrize(
    ("before", "change", "moves"),
    [
        ({"torch": "2.14", "backend": "cu126"}, {"backend": "cu130"}, True),
        ({"torch": "2.14", "backend": "cu126"}, {"other_backends": ["cpu"]}, True),
        ({"torch": "2.14"}, {"platforms": list(PLATFORMS)}, False),
        ({"torch": "2.13", "companions": ["torchvision"]}, {"torch": "2.14"}, True),
    ],
    ids=["another backend", "cpu beside it", "a platform more", "a newer torch"],
)
def test_a_new_lock_moves_only_what_it_must(
    before: dict[str, Any], change: dict[str, Any], moves: bool, source: Path, tmp_path: Path, replica: str
) -> None:
    answers = {"project_name": "demo", "torch_index": replica} | before
    project = Project(copied(source, tmp_path / "demo", **answers))
    held = {"cattrs": "24.1.3", "filelock": "3.18.0", "ruff": "0.13.0"}  # not the newest, so that a move would be seen
    project.uv("lock", *(f"--upgrade-package={package}=={version}" for package, version in held.items()))
    earlier = locked(project)
    assert {package: earlier[package] for package in held} == {name: {version} for name, version in held.items()}
    commit(project.path)
    update(project.path, ref=copier.VcsRef.CURRENT, **change)
    project.uv("lock")
    now = locked(project)
    moved = {name for name in earlier.keys() & now.keys() if earlier[name] != now[name]}
    assert not {name for name in moved if not PYTORCH.fullmatch(name)}
    assert ("torch" in moved) == moves


def locked(project: Project) -> dict[str, set[str]]:
    """Return the versions of each package in a lockfile."""
    versions: dict[str, set[str]] = {}
    for package in tomllib.loads((project.path / "uv.lock").read_text())["package"]:
        versions.setdefault(package["name"], set()).add(package.get("version", ""))
    return versions


def asked_again(demo: Path, *options: str) -> Terminal:
    """Start an update of a project in a terminal."""
    return Terminal(sys.executable, "-m", "copier", "update", "--vcs-ref=:current:", *options, cwd=demo)


def assert_updated(terminal: Terminal) -> None:
    """Accept the choice that is pointed at, which ends the update."""
    terminal.press("enter")
    terminal.wait_for("is updated")
    assert terminal.exit_code() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: pexpect needs a pseudo-terminal")
def test_who_is_asked_sees_why_the_answer_so_far_is_gone(source: Path, tmp_path: Path) -> None:
    demo = copied(source, tmp_path / "demo", torch="2.14", python="3.11", backend="rocm7.2")
    terminal = asked_again(demo, "--skip-answered", "--data=torch=2.15")
    terminal.wait_for("Backend: the first")
    terminal.wait_for("rocm7.2 (choose torch 2.14; 2.15 lacks rocm7.2)")
    assert_updated(terminal)
    assert Project(demo).answers["backend"] == "cu132"


@pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: pexpect needs a pseudo-terminal")
def test_who_is_asked_for_the_skeleton_again_sees_why_the_other_is_gone(source: Path, tmp_path: Path) -> None:
    demo = copied(source, tmp_path / "demo")
    terminal = asked_again(demo, "--defaults", "--ask=skeleton")
    terminal.wait_for("None (an empty package) (keep training or copy into a new folder")
    terminal.child.send(KEYS["down"])  # which moves nowhere: the screen stays as it is
    assert_updated(terminal)
    assert Project(demo).answers["skeleton"] == "training"


# The packages that depend on torch and are used most, and other ones that people add on the first days
ADDED = [
    "accelerate",
    "bitsandbytes",
    "datasets",
    "deepspeed",
    "diffusers",
    "einops",
    "fairscale",
    "kornia",
    "lightning",
    "mteb",
    "nnunetv2",
    "open-clip-torch",
    "peft",
    "pytorch-lightning",
    "pytorch-metric-learning",
    "segmentation-models-pytorch",
    "sentence-transformers",
    "timm",
    "torch-geometric",
    "torchao",
    "torchdata",
    "torchmetrics",
    "torchsde",
    "transformers",
    "trl",
    "ultralytics",
    "vllm",
    "xformers",
    "aiohttp",
    "zarr",
]
LATER: list[dict[str, Any]] = [
    {"other_backends": ["cpu"]},
    {"companions": ["torchvision", "torchcodec"], "tracker": "wandb"},
    {"torch": "2.13", "backend": "cu126", "other_backends": ["xpu", "cpu"]},
]


def test_what_uv_adds_comes_last(tmp_path: Path) -> None:
    """So it does not meet what an answer changes, which comes first. --frozen leaves the lock alone."""
    project = Project.render(tmp_path / "demo", torch="2.14", python="3.11")
    before = (project.path / "pyproject.toml").read_text()
    for package in ADDED:
        project.uv("add", "--frozen", "--raw", package)
        assert project.pyproject["project"]["dependencies"][-1] == package
        project.uv("remove", "--frozen", package)
        assert (project.path / "pyproject.toml").read_text() == before


@pytest.mark.parametrize("first", [True, False], ids=["torch among the dependencies", "in groups"])
def test_what_is_added_does_not_meet_what_an_update_changes(first: bool, source: Path, tmp_path: Path) -> None:
    others = [] if first else ["cpu"]
    demo = copied(source, tmp_path / "demo", torch="2.14", python="3.11", other_backends=others)
    project = Project(demo)
    for options in ADDED, ["ipython", "--dev"], ["mkdocs", "--group", "docs"], ["one-too-many"]:
        project.uv("add", "--frozen", "--raw", *options)
    project.uv("remove", "--frozen", "one-too-many")
    commit(demo)
    for answers in LATER:
        update(demo, ref=copier.VcsRef.CURRENT, **answers)
        assert git(demo, "diff", "--name-only", "--diff-filter=U") == "", answers
        groups = project.pyproject["dependency-groups"]
        assert project.pyproject["project"]["dependencies"][-len(ADDED) :] == ADDED
        assert (groups["dev"][-1], groups["docs"]) == ("ipython", ["mkdocs"])
        commit(demo)
    assert set(groups) == {*Project(demo).backends, "dev", "docs"}


# What bots move: commits of actions, versions of images and of hooks
PINS = {
    "action": re.compile(r"(?<=uses: )(\S+)@[0-9a-f]{40} # v[\d.]+"),
    "image of uv": re.compile(r"(ghcr\.io/astral-sh/uv):[\d.]+"),
    "image of Docker": re.compile(r"(docker):\d+"),
    "image of Python": re.compile(r"(image: python):[\d.]+"),
}


@pytest.mark.parametrize("ci", ["github", "gitlab"])
def test_what_bots_move_stays_where_it_is(ci: str, source: Path, tmp_path: Path) -> None:
    """A release of the template changes much, but none of these lines: so there is nothing to merge."""
    demo = copied(source, tmp_path / "demo", "1.0.0", ci=ci, features=["docker", "devcontainer"])
    files = [path for path in demo.rglob("*") if path.is_file() and ".git" not in path.parts]
    moved = {}
    for path in files:
        text = path.read_bytes().decode(errors="replace")
        for pin in PINS.values():
            text = pin.sub(
                lambda match: f"{match[1]}:99" if ":" in match[0] else f"{match[1]}@{'f' * 40} # v99.0.0", text
            )
        if text != path.read_bytes().decode(errors="replace"):
            path.write_text(text, encoding="utf-8")
            moved[path] = text.count("99")
    assert len(moved) >= 2
    commit(demo)
    update(demo)
    assert git(demo, "diff", "--name-only", "--diff-filter=U") == ""
    assert {path: path.read_text(encoding="utf-8").count("99") for path in moved} == moved
