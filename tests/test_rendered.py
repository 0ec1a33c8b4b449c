"""Rendered files: they hold what was answered, every one parses, and their formatters would leave them as they are."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from tests.files import assert_linted, assert_tidy, files, parse
from tests.project import Project
from tests.table import PLATFORMS, RELEASES, on_pypi

DEFAULT = on_pypi(next(iter(RELEASES)), "linux-x86_64")
EVERYTHING = {
    "torch": "2.14",
    "platforms": list(PLATFORMS),
    "other_backends": ["cpu", "rocm7.2"],
    "companions": ["torchvision", "torchaudio"],
    "features": ["docker", "devcontainer", "slurm", "kubernetes", "pre-commit", "agents"],
    "ci": "gitlab",
    "tracker": "mlflow",
    "data": "huggingface",
    "license": "Apache-2.0",
    "user_name": "Ada Lovelace",
    "user_email": "ada@example.org",
}
NOTHING = {"platforms": ["macos-arm64"], "features": [], "ci": "none", "license": "none", "description": ""}
ANSWERS: dict[str, dict[str, Any]] = {
    "default": {},
    "everything": EVERYTHING,
    "nothing": NOTHING,
    "oldest": {"torch": "2.4", "backend": "cu118", "license": "BSD-3-Clause", "user_name": "Ada Lovelace"},
    "text": {"data": "text", "platforms": ["linux-x86_64", "linux-aarch64"], "ci": "none"},
    "text, the oldest": {"data": "text", "torch": "2.4", "tracker": "wandb", "project_name": 12 * "long-" + "name"},
    "tensorboard": {"tracker": "tensorboard", "data": "cifar10", "user_email": "ada@example.org"},
    "wandb": {"tracker": "wandb", "platforms": ["linux-x86_64"], "backend": "cpu", "other_backends": [DEFAULT]},
    "trackio": {"tracker": "trackio", "platforms": ["windows-x86_64"], "features": ["pre-commit"], "torch": "2.14"},
    "a package of another name": {"project_name": "My.Project", "package_name": "other"},
    "a long name": {
        "project_name": "a-project-whose-name-goes-on-and-on-and-does-not-come-to-an-end-for-quite-a-while"
    },
}

RUNTIME = [
    "__init__",
    "checkpoint",
    "command",
    "curves",
    "device",
    "dist",
    "evaluation",
    "heartbeat",
    "launch",
    "loader",
    "order",
    "performance",
    "progress",
    "rendezvous",
    "report",
    "settings",
    "shard",
    "state",
    "steps",
    "weights",
]


def test_types_are_checked_strictly(render: Callable[..., Project]) -> None:
    settings = render().pyproject["tool"]["mypy"]
    assert settings["strict"]
    assert {"src", "tests"} <= {*settings["files"]}


HOSTILE = {
    "quotes": "It's \"quoted\" and 'quoted' and `quoted`",
    "backslashes": '\\ \\n \\\\ \\" \\u0041 C:\\temp',
    "emoji": "🎉 été 漢字",
    "templates": "{{ 1 / 0 }} {% raw %} {# #} ${{ secrets.X }} ${HOME} $(touch pwned)",
    "comments": "# one # two",
    "markup": "<b>&amp;</b> | table | --- ```",
    "toml": 'x" }]\u3000[tool.uv] index-url = "https://example.org',
    "yaml": "- a: b ? *alias &anchor !!tag %",
    "triple quotes": "\"\"\"'''",
    "separators": "\u00a0\u3000\u200b\ufeff",
    "blank": "  around  ",
}


@pytest.mark.parametrize("answers", list(ANSWERS.values()), ids=list(ANSWERS))
def test_every_file_is_as_a_person_would_leave_it(answers: dict[str, Any], render: Callable[..., Project]) -> None:
    project = render(**answers)
    for path, text in files(project).items():
        parse(path.name, text)
        assert_tidy(path.name, text)
    assert_linted(project.path.parent)


@pytest.mark.parametrize("text", list(HOSTILE.values()), ids=list(HOSTILE))
@pytest.mark.parametrize("answers", [{}, EVERYTHING], ids=["default", "everything"])
def test_free_text_breaks_nothing(answers: dict[str, Any], text: str, render: Callable[..., Project]) -> None:
    project = render(**answers | {"description": text, "user_name": text})
    for path, content in files(project).items():
        parse(path.name, content)
    metadata = project.pyproject["project"]
    assert metadata["authors"][0]["name"] == metadata["description"] == text.strip()
    assert text.strip() in (project.path / "README.md").read_text()
    assert project.answers["description"] == project.answers["user_name"] == text
    assert set(project.pyproject["tool"]["uv"]) == set(
        render_once(answers, project.path.parent).pyproject["tool"]["uv"]
    )


def render_once(answers: dict[str, Any], folder: Path) -> Project:
    return Project.render(folder / "plain", project_name="demo", **answers)


@pytest.mark.parametrize("answers", list(ANSWERS.values()), ids=list(ANSWERS))
def test_every_dependency_has_a_lower_bound(answers: dict[str, Any], render: Callable[..., Project]) -> None:
    pyproject = render(**answers).pyproject
    groups = [pyproject["project"]["dependencies"], *pyproject["dependency-groups"].values()]
    for requirement in (Requirement(line) for group in groups for line in group):
        bounds = {clause.operator for clause in requirement.specifier}
        assert bounds & {">=", "~="} or "triton" in requirement.name, "torch says which triton"


def test_a_hostile_project_still_builds(render: Callable[..., Project], tmp_path: Path) -> None:
    project = render(description=HOSTILE["toml"], user_name=HOSTILE["quotes"], user_email="ada@example.org")
    project.uv("build", "--quiet", "--wheel", "--out-dir", str(tmp_path / "dist"))
    assert [path.name for path in (tmp_path / "dist").glob("*.whl")] == ["demo-0.1.0-py3-none-any.whl"]


@pytest.mark.parametrize(
    ("project_name", "answers", "package"),
    [
        ("A-.b", {}, "a_b"),
        ("a__b", {}, "a_b"),
        ("a_-b", {"package_name": "a__b"}, "a__b"),
        ("a-b", {"package_name": "a__b"}, "a__b"),
        ("2fast", {}, "_2fast"),
    ],
)
def test_a_project_builds_under_any_name(
    project_name: str, answers: dict[str, str], package: str, render: Callable[..., Project], tmp_path: Path
) -> None:
    project = render(project_name=project_name, **answers)
    project.uv("build", "--quiet", "--wheel", "--out-dir", str(tmp_path / "dist"))
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert f"{package}/__main__.py" in archive.namelist()
        entry_points = archive.read(next(name for name in archive.namelist() if name.endswith("/entry_points.txt")))
    assert f"{project_name} = {package}.__main__:main" in entry_points.decode().splitlines()


def test_the_default_project_has_these_files(render: Callable[..., Project]) -> None:
    package, tests = Path("src/demo"), Path("tests")
    assert set(files(render())) == {
        *map(Path, ("pyproject.toml", "README.md", "LICENSE", ".python-version", ".copier-answers.yml")),
        *map(Path, (".gitignore", ".gitattributes", ".pre-commit-config.yaml")),
        *map(Path, ("Dockerfile", ".dockerignore", "compose.yaml", "compose.gpu.yaml")),
        *map(Path, (".github/workflows/ci.yml", ".github/workflows/image.yml", ".github/workflows/template.yml")),
        Path(".github/dependabot.yml"),
        *(package / f"{name}.py" for name in ("__init__", "__main__", "config", "data", "model", "train")),
        package / "digits.csv.gz",
        Path("tools/doctor.py"),
        *(package / "runtime" / f"{name}.py" for name in RUNTIME),
        *(tests / f"test_{name}.py" for name in ("config", "data", "main", "train")),
        *(tests / "runtime" / f"test_{name}.py" for name in RUNTIME[1:] if name not in ("steps", "weights")),
    }


def test_the_names_of_tests_are_unique(render: Callable[..., Project]) -> None:
    """Otherwise pytest cannot collect those of the runtime together with the others."""
    names = [path.name for path in files(render(**EVERYTHING)) if path.name.startswith("test_")]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("answers", list(ANSWERS.values()), ids=list(ANSWERS))
def test_the_runtime_knows_neither_the_rest_of_the_package_nor_a_task(
    answers: dict[str, Any], render: Callable[..., Project]
) -> None:
    project = render(**answers)
    package = project.answers["package_name"]
    source = {path: text for path, text in files(project).items() if path.parts[0] == "src"}
    loop = {path: text for path, text in source.items() if "runtime" in path.parts or path.name == "train.py"}
    assert len(loop) > 10
    for path, text in loop.items():
        words = set(re.findall(r"[a-z]+", text.lower()))
        assert not words & {"image", "images", "label", "labels", "accuracy", "digits", "classes"}, path
        if "runtime" in path.parts:
            names = "config|data|model|train|generate|__main__"
            assert not re.search(rf"from (\.\.|{package}) import|from (\.\.|{package}\.)({names})\b", text), path


@pytest.mark.parametrize(
    ("data", "own"),
    [
        ("cifar10", ["pyproject.toml", "tests/conftest.py"]),
        ("huggingface", ["pyproject.toml", "tests/conftest.py"]),
        (
            "text",
            [
                *(f"src/demo/{name}" for name in ("__main__.py", "generate.py", "shakespeare.txt.gz")),
                "tests/test_model.py",
            ],
        ),
    ],
)
def test_the_loop_does_not_depend_on_the_data(data: str, own: list[str], tmp_path: Path) -> None:
    one, other = (files(Project.render(tmp_path / answer / "demo", data=answer)) for answer in ("digits", data))
    changed = {path.as_posix() for path in one.keys() | other.keys() if one.get(path) != other.get(path)}
    assert changed == {
        ".copier-answers.yml",
        "README.md",
        *(f"src/demo/{name}" for name in ("config.py", "data.py", "digits.csv.gz", "model.py")),
        *(f"tests/{name}" for name in ("test_data.py", "test_main.py", "test_train.py")),
        *own,
    }


@pytest.mark.parametrize(
    ("answers", "limit"), [({}, 248), ({"data": "cifar10"}, 291), ({"data": "text"}, 420)], ids=str
)
def test_the_code_of_a_user_is_short(answers: dict[str, str], limit: int, render: Callable[..., Project]) -> None:
    package = render(**answers).path / "src" / "demo"
    own = list(package.glob("*.py"))
    assert sum(map(code_lines, own)) <= limit
    for path in (*own, *package.glob("runtime/*.py")):
        assert code_lines(path) <= 150, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno <= 60, f"{path}: {node.name}"


def code_lines(path: Path) -> int:
    """Count the lines of code: no blank lines, comments or docstrings."""
    text = path.read_text()
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in skipped
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def test_what_was_not_chosen_leaves_no_trace(render: Callable[..., Project]) -> None:
    project = render(**NOTHING)
    # The doctor knows all machines
    everything = "\n".join(text for path, text in files(project).items() if path.name != "doctor.py")
    for trace in (
        "docker",
        "devcontainer",
        "slurm",
        "kubernetes",
        "pre-commit",
        "wandb",
        "mlflow",
        "cu132",
        "rocm",
        "LICENSE",
    ):
        assert trace not in everything, trace
    assert {"index", "sources", "conflicts", "default-groups"}.isdisjoint(project.pyproject["tool"]["uv"])
    metadata = project.pyproject["project"]
    assert {"authors", "license", "license-files"}.isdisjoint(metadata)


def test_authors_are_left_out_not_invented(render: Callable[..., Project], tmp_path: Path) -> None:
    assert "authors" not in render().pyproject["project"]
    for number, (answers, author) in enumerate(
        [
            ({"user_name": "Ada"}, {"name": "Ada"}),
            ({"user_email": "ada@example.org"}, {"email": "ada@example.org"}),
            ({"user_name": "Ada", "user_email": "ada@example.org"}, {"name": "Ada", "email": "ada@example.org"}),
        ]
    ):
        assert Project.render(tmp_path / str(number), **answers).pyproject["project"]["authors"] == [author]


def test_the_message_after_copying_names_the_next_commands(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import copier

    from tests.project import template

    data = {"project_name": "demo", "other_backends": ["cpu"]}
    copier.run_copy(str(template()), tmp_path / "my demo", data=data, defaults=True, settings=copier.Settings())
    message = capfd.readouterr().err
    assert f"cd '{tmp_path / 'my demo'}'" in message
    assert "uv run demo train" in message
    assert f"how a machine uses cpu instead of {DEFAULT}" in message


def test_pipelines_run_where_the_project_does(render: Callable[..., Project]) -> None:
    workflow = yaml.safe_load((render(platforms=list(PLATFORMS)).path / ".github/workflows/ci.yml").read_text())
    job = workflow["jobs"]["check"]
    assert job["strategy"]["matrix"]["runner"] == ["ubuntu-24.04", "ubuntu-24.04-arm", "macos-15", "windows-2025"]
    assert job["runs-on"] == "${{ matrix.runner }}"
    assert all(re.search(r"@[0-9a-f]{40}$", step["uses"]) for step in job["steps"] if "uses" in step)


@pytest.mark.parametrize("ci", ["github", "gitlab"])
def test_pipelines_take_the_cpu_build_if_there_is_one(ci: str, tmp_path: Path) -> None:
    name = {"github": ".github/workflows/ci.yml", "gitlab": ".gitlab-ci.yml"}[ci]
    plain, switched = (
        (Project.render(tmp_path / str(others), ci=ci, other_backends=others).path / name).read_text()
        for others in ([], ["cpu"])
    )
    assert "uv sync --locked\n" in plain
    assert f"uv sync --locked --no-group {DEFAULT} --group cpu\n" in switched


@pytest.mark.parametrize(
    ("torch", "api"), [("2.6", "torch.cuda.device_count()"), ("2.7", "torch.accelerator.device_count()")]
)
def test_devices_are_found_with_what_the_release_has(torch: str, api: str, render: Callable[..., Project]) -> None:
    code = (render(torch=torch).path / "src/demo/runtime/device.py").read_text()
    assert api in code
    assert ("torch.accelerator" in code) == (torch == "2.7")
