"""The questions: their names and values, what they offer, and what they refuse."""

from __future__ import annotations

import keyword
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import copier
import pytest
import yaml
from copier._template import Template
from copier._user_data import Question
from packaging.requirements import Requirement

from tests.project import Project, template
from tests.replica import wheels
from tests.table import BACKENDS, COMPANIONS, PLATFORMS, RELEASES, ROOT, backends, on_pypi, versions

ASKED = [
    "project_name",
    "package_name",
    "description",
    "user_name",
    "user_email",
    "license",
    "torch",
    "platforms",
    "python",
    "backend",
    "other_backends",
    "companions",
    "features",
    "ci",
    "tracker",
    "data",
]


def configuration() -> dict[str, Any]:
    class Loader(yaml.SafeLoader):
        """Reads copier.yml without what it includes."""

    Loader.add_constructor("!include", lambda loader, node: None)
    loaded: dict[str, Any] = yaml.load((ROOT / "copier.yml").read_text(), Loader)
    return loaded


def questions() -> dict[str, Any]:
    return {name: details for name, details in configuration().items() if not name.startswith("_")}


def settings() -> dict[str, Any]:
    return {name: value for name, value in configuration().items() if name.startswith("_")}


def test_names_and_order_are_an_interface() -> None:
    stored = [name for name, question in questions().items() if question.get("when") is not False]
    assert stored == [*ASKED, "torch_index"]
    assert questions()["torch_index"]["ask"] is False


def test_no_key_of_a_question_is_ignored() -> None:
    """Copier passes over keys that it does not know without a word."""
    known = set(Question.__dataclass_fields__)
    assert {key for question in questions().values() for key in question} <= known


def test_the_template_needs_no_trust() -> None:
    config = (ROOT / "copier.yml").read_text()
    assert not any(f"\n{setting}:" in config for setting in ("_tasks", "_migrations", "_jinja_extensions"))


def test_defaults_are_a_whole_set_of_answers(render: Callable[..., Project]) -> None:
    answers = render().answers
    assert set(answers) - {"_commit", "_src_path"} == {*ASKED, "torch_index"}
    assert answers["torch"] == next(iter(RELEASES))
    assert answers["platforms"] == ["linux-x86_64", "linux-aarch64", "macos-arm64"]
    assert answers["backend"] == on_pypi(answers["torch"], "linux-x86_64")
    assert answers["other_backends"] == answers["companions"] == []
    assert answers["features"] == ["docker", "pre-commit"]
    assert (answers["ci"], answers["tracker"], answers["data"], answers["license"]) == (
        "github",
        "none",
        "digits",
        "MIT",
    )


def test_the_command_line_takes_the_same_answers(tmp_path: Path) -> None:
    given = ["torch=2.10", "platforms=[linux-x86_64, windows-x86_64]", "other_backends=[cpu]", "python=3.10"]
    command = [sys.executable, "-m", "copier", "copy", "--quiet", "--defaults", "--vcs-ref", "HEAD"]
    subprocess.run([*command, *(f"--data={answer}" for answer in given), str(ROOT), str(tmp_path / "demo")], check=True)
    answers = Project(tmp_path / "demo").answers
    assert (answers["torch"], answers["python"], answers["other_backends"]) == ("2.10", "3.10", ["cpu"])


REFUSED = {
    "no distribution name": ({"project_name": "my project"}, '"my project" is no distribution name'),
    "a name with a dash at the end": ({"project_name": "demo-"}, "no distribution name"),
    "a name with a newline": ({"project_name": "demo\n"}, "no distribution name"),
    "a project named as one of its packages": ({"project_name": "Torch"}, "Torch is a package that the project uses"),
    "a project named as a program in its environment": ({"project_name": "python"}, "python is a package"),
    "a package, to a package index": ({"project_name": "Scikit_.learn"}, "Scikit_.learn is a package"),
    "a project as long as no file may be": ({"project_name": "x" * 101}, "too long for a file: take 100 characters"),
    "a project whose program Windows takes for a device": (
        {"project_name": "con.x"},
        "con is a name that Windows keeps",
    ),
    "a project whose program is one of the environment": ({"project_name": "activate"}, "activate is a program"),
    "a name of a thousand characters": ({"project_name": "ä" * 1000}, r"^.{,400}$"),
    "a keyword": ({"package_name": "class"}, "class is a keyword"),
    "torch": ({"package_name": "torch"}, "torch is a package that the project uses"),
    "a package with capitals": (
        {"package_name": "Torch"},
        'capital letters, and ruff refuses those: take "torch"',
    ),
    "the standard library": ({"package_name": "json"}, "json is a module of the standard library"),
    "the tests of the standard library": ({"package_name": "test"}, "test is a module of the standard library"),
    "a package, but for underscores": ({"package_name": "huggingface__hub"}, "huggingface__hub is a package"),
    "a package of the tests": ({"package_name": "tests"}, "tests is a package"),
    "a device of Windows": ({"package_name": "nul"}, "nul is a name that Windows keeps"),
    "a module of Python itself": ({"package_name": "__future__"}, "__future__ begins as Python's own modules do"),
    "no identifier": ({"package_name": "2fast"}, '"2fast" is no Python identifier'),
    "an identifier with a dash": ({"package_name": "my-package"}, "no Python identifier"),
    "an identifier too long for a line": ({"package_name": "long_" * 9}, "take 40 characters or fewer"),
    "a description of two lines": ({"description": "one\ntwo"}, r'"one\\ntwo" holds a line break, a tab or another'),
    "a description with a control character": ({"description": "a\x1bb"}, "control character: take one line without"),
    "a name with a separator of lines": ({"user_name": "a\u2028b"}, "control character"),
    "a name with half a character": ({"user_name": "a\ud800b"}, "holds what is no character: leave it out"),
    "an address with a control character": ({"user_email": "a\x01@example.org"}, "control character"),
    "no email address": ({"user_email": "me at home"}, '"me at home" is no email address'),
    "an unknown license": ({"license": "WTFPL"}, "'WTFPL' is not in"),
    "an unknown release": ({"torch": "2.3"}, "'2.3' is not in"),
    "no platform": ({"platforms": []}, "no platform was chosen"),
    "an unknown platform": ({"platforms": ["macos-x86_64"]}, "'macos-x86_64' is not in"),
    "a Python without wheels": ({"python": "3.10"}, "no wheels for Python 3.10 .* take Python 3.11 to 3.15"),
    "a Python without wheels on one platform": (
        {"torch": "2.5", "python": "3.13"},
        "no wheels for Python 3.13 on linux-aarch64, macos-arm64; take Python 3.9 to 3.12",
    ),
    "an unknown Python": ({"python": "2.7"}, "'2.7' is not in"),
    "a backend of an older release": ({"backend": "cu126"}, "torch 2.15 has no cu126 build .* take torch 2.14"),
    "a backend of another platform": (
        {"platforms": ["macos-arm64"], "backend": "cu132"},
        "no cu132 build for macos-arm64; add the platform linux-x86_64",
    ),
    "a backend that the platform never had": (
        {"torch": "2.4", "platforms": ["macos-arm64"], "backend": "xpu"},
        "no xpu build for macos-arm64; take cpu",
    ),
    "an unknown backend": ({"backend": "cu999"}, "'cu999' is not in"),
    "the same backend twice": ({"backend": "cpu", "other_backends": ["cpu"]}, "cpu is the backend already"),
    "another backend of an older release": ({"other_backends": ["cu126"]}, "no cu126 build"),
    "a companion that does not load": (
        {"companions": ["torchaudio"]},
        "torchaudio 2.11.0 has no build for cu132; take cpu, or torch 2.14 with cu130",
    ),
    "a companion that does not load with another backend": (
        {"torch": "2.14", "other_backends": ["cu132"], "companions": ["torchaudio"]},
        "torchaudio 2.11.0 has no build for cu132; take cu130, cu126, rocm7.2, xpu, cpu",
    ),
    "a companion without wheels for this Python": (
        {"backend": "cpu", "python": "3.15", "companions": ["torchaudio"]},
        "no wheels for Python 3.15; take Python 3.10 to 3.14",
    ),
    "an unknown companion": ({"companions": ["torchtext"]}, "'torchtext' is not in"),
    "a container for a Mac alone": ({"platforms": ["macos-arm64"], "features": ["docker"]}, "docker runs on Linux"),
    "a Linux pipeline for a Mac alone": ({"platforms": ["macos-arm64"], "ci": "gitlab"}, "gitlab runs on Linux"),
    "a tracker without wheels for this Python": ({"torch": "2.4", "tracker": "trackio"}, "trackio needs Python 3.10"),
    "another one": ({"torch": "2.8", "tracker": "mlflow"}, "mlflow needs Python 3.10; take that as the oldest Python"),
    "an unknown tracker": ({"tracker": "aim"}, "'aim' is not in"),
    "a mirror by ftp": ({"torch_index": "ftp://mirror.example.org"}, "no URL of an index"),
    "a mirror without a scheme": ({"torch_index": "mirror.example.org/whl"}, "no URL of an index"),
    "a mirror that ends the string": ({"torch_index": 'https://mirror.example.org/"]'}, "no URL of an index"),
    "a mirror that escapes": ({"torch_index": "https://mirror.example.org/\\u0022"}, "no URL of an index"),
    "a mirror with a quote": ({"torch_index": "https://mirror.example.org/it's"}, "no URL of an index"),
    "a mirror with a control character": ({"torch_index": "https://mirror.example.org/\x7f"}, "no URL of an index"),
    "a mirror that splits a table": ({"torch_index": "https://mirror.example.org/a|b"}, "no URL of an index"),
    "a mirror without a host": ({"torch_index": "https:///whl"}, "no URL of an index"),
    "a mirror with a newline": ({"torch_index": "https://mirror.example.org/whl\n"}, "no URL of an index"),
    "a mirror with credentials": ({"torch_index": "https://me:secret@mirror.example.org"}, "user name or a password"),
    "a mirror with a token in its query": ({"torch_index": "https://mirror.example.org/?token=secret"}, "no query"),
    "a mirror with a slash in the password": ({"torch_index": "https://me:s/secret@mirror.example.org"}, "no URL"),
    "a mirror by half a percent sign": ({"torch_index": "https://mirror.example.org/100%"}, "no URL of an index"),
    "a mirror with brackets": ({"torch_index": "https://mirror.example.org/]["}, "no URL of an index"),
    "a mirror with odd ones": ({"torch_index": "https://me:'secret\"@mirror.example.org"}, "user name or a password"),
}


@pytest.mark.parametrize(("answers", "message"), list(REFUSED.values()), ids=list(REFUSED))
def test_refused(answers: dict[str, Any], message: str, render: Callable[..., Project], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        render(**answers)
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "demo").exists(), "nothing is written"


def test_refused_on_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "copier", "copy", "--defaults", "--vcs-ref", "HEAD", "--data", "backend=cu126"]
    done = subprocess.run([*command, str(ROOT), str(tmp_path / "demo")], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].endswith("take torch 2.14, or cu132, cpu")
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/whl",
        "https://mirror.example.org/pytorch/whl/",
        "file:///srv/mirror/whl",
        "https://[::1]/whl",
        "https://mirror.example.org/a%20b+c=d,e~f@g/whl",
    ],
)
def test_mirrors(url: str, render: Callable[..., Project]) -> None:
    project = render(torch_index=url, backend="cpu")
    indexes = {index["url"] for index in project.pyproject["tool"]["uv"]["index"]}
    assert indexes == {f"{url.rstrip('/')}/cpu"}


def test_reserved_names_are_those_of_python() -> None:
    reserved = yaml.safe_load((ROOT / "includes" / "reserved.yml").read_text())
    assert set(reserved["keyword"].split()) >= {name.lower() for name in keyword.kwlist}
    public = {name.lower().replace("_", "-") for name in sys.stdlib_module_names if not name.startswith("_")}
    assert set(reserved["module of the standard library"].split()) >= public


@pytest.mark.parametrize("answer", ["project_name", "package_name"])
def test_names_of_what_the_project_installs_are_refused(answer: str, tmp_path: Path) -> None:
    lines = set()
    for tracker in ("none", "tensorboard", "wandb", "trackio", "mlflow"):
        project = Project.render(tmp_path / tracker, tracker=tracker, companions=["torchvision"]).pyproject
        lines |= {*project["project"]["dependencies"], *project["build-system"]["requires"]}
        lines |= {line for group in project["dependency-groups"].values() for line in group}
    for package in ("torch", *COMPANIONS):
        lines |= {*wheels.real_requirements(package, versions(next(iter(RELEASES)), package)[-1])}
    names = {requirement.name for requirement in map(Requirement, lines) if "extra" not in str(requirement.marker)}
    assert {"torch", "filelock", "mypy"} < names
    for name in names:
        with pytest.raises(ValueError, match="is a package that the project uses"):
            Project.render(tmp_path / "refused", **{answer: name.replace("-", "_")})


@pytest.mark.parametrize("folder", ["torch", "My Project!", "json", "test", "2fast", "été", "---"])
def test_any_folder_gives_a_project(folder: str, tmp_path: Path) -> None:
    project = Project.render(tmp_path / folder)
    package, source = project.answers["package_name"], project.path / "src"
    found = PathFinder.find_spec(package, [*sys.path, str(source)])
    assert found
    assert found.origin == str(source / package / "__init__.py"), "nothing else goes by the name of the package"


@pytest.mark.parametrize("release", RELEASES)
def test_labels_say_what_to_choose_by(release: str) -> None:
    labels = choices("backend", torch=release, platforms=list(PLATFORMS))
    assert [value for value, (_, refusal) in labels.items() if not refusal] == backends(release)
    assert set(labels) == set(BACKENDS)
    for name, (label, refusal) in labels.items():
        if name.startswith("cu") and not refusal:
            assert " - driver " in label


def test_the_label_of_the_default_backend() -> None:
    labels = choices("backend", torch="2.15", platforms=list(PLATFORMS))
    assert labels["cu132"] == ("CUDA 13.2 - driver 580 or newer - Turing to Blackwell - CPU on Windows x86_64", "")
    assert choices("backend", torch="2.14", platforms=["linux-aarch64"])["cu126"][0].endswith("Ampere to Hopper")


@pytest.mark.parametrize("question", ["backend", "other_backends"])
def test_labels_say_where_a_backend_comes_down_to_the_cpu(question: str) -> None:
    given = {"backend": "cu130"} if question == "other_backends" else {}
    labels = choices(question, torch="2.14", platforms=list(PLATFORMS), **given)
    assert labels["cu126"][0].endswith(" - Maxwell to Hopper")
    assert labels["xpu"][0] == "XPU - Intel GPUs - CPU on Linux aarch64, Windows x86_64"
    assert labels["cpu"][0] == "CPU"
    assert choices(question, torch="2.14", platforms=["linux-x86_64"], **given)["xpu"][0] == "XPU - Intel GPUs"


def test_labels_name_gpus_only_where_they_are_known() -> None:
    labels = {release: choices("backend", torch=release, platforms=["linux-aarch64"]) for release in ("2.11", "2.6")}
    assert labels["2.11"]["cu128"][0].endswith(" - driver 525 or newer - Ampere to Blackwell")
    assert labels["2.6"]["cu126"][0].endswith(" - driver 525 or newer")


def choices(name: str, **answers: Any) -> dict[str, tuple[str, str]]:
    """Return what a question offers a person: labels and refusals by value."""
    seen: dict[str, tuple[str, str]] = {}
    original = Question.get_questionary_structure

    class Seen(Exception):
        """The question was reached."""

    def look(question: Question) -> Any:
        if question.var_name != name:
            assert not question.get_when(), f"{question.var_name} has no answer"
            return original(question)
        seen.update(
            {str(choice.value): (str(choice.title), choice.disabled or "") for choice in question._formatted_choices}
        )
        raise Seen

    earlier = {question: "" for question in ("description", "user_name", "user_email")}
    earlier |= {"project_name": "demo", "package_name": "demo", "license": "MIT", "python": "3.11"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Question, "get_questionary_structure", look)
        with pytest.raises(Seen):
            copier.run_copy(str(template()), "/nowhere", data=earlier | answers, quiet=True, settings=copier.Settings())
    return seen


@pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: pexpect needs a pseudo-terminal")
def test_pressing_enter_throughout_ends_in_the_default_project(tmp_path: Path, render: Callable[..., Project]) -> None:
    import pexpect

    command = [sys.executable, "-m", "copier", "copy", str(template()), str(tmp_path / "asked")]
    terminal = pexpect.spawn(command[0], command[1:], dimensions=(50, 200), timeout=60, encoding="utf-8")
    questions = Template(str(template())).questions_data
    for name in ASKED:
        terminal.expect_exact(questions[name]["help"][:30])
        terminal.send("\r")
    terminal.expect("Next:")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
    asked = Project(tmp_path / "asked").answers
    assert asked == render(project_name="asked").answers | {"_src_path": asked["_src_path"]}
