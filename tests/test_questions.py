"""The questions: their names and values, what they offer, and what they refuse."""

from __future__ import annotations

import keyword
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import copier
import pytest
import yaml
from copier._user_data import Question
from copier.errors import UserMessageError
from packaging.requirements import Requirement

from tests import quick
from tests.project import Project, template
from tests.replica import wheels
from tests.table import BACKENDS, PLATFORMS, RELEASES, ROOT, builds, companions, on_pypi, versions

ASKED = [
    "project_name",
    "package_name",
    "description",
    "user_name",
    "user_email",
    "license",
    "platforms",
    "backend",
    "torch",
    "python",
    "other_backends",
    "companions",
    "skeleton",
    "data",
    "tracker",
    "features",
    "ci",
]
NEWEST = next(iter(RELEASES))
LISTS = ["platforms", "other_backends", "companions", "features"]


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
    assert answers["skeleton"] == "training"


def test_the_command_line_takes_the_same_answers(tmp_path: Path) -> None:
    given = ["torch=2.10", "platforms=[linux-x86_64, windows-x86_64]", "other_backends=[cpu]", "python=3.10"]
    assert copy(tmp_path, *given).returncode == 0
    answers = Project(tmp_path / "demo").answers
    assert (answers["torch"], answers["python"], answers["other_backends"]) == ("2.10", "3.10", ["cpu"])


REFUSED = {
    "no distribution name": ({"project_name": "my project"}, '"my project" is not a valid distribution name'),
    "a name with a dash at the end": ({"project_name": "demo-"}, "not a valid distribution name"),
    "a name with a newline": ({"project_name": "demo\n"}, "not a valid distribution name"),
    "a project named as one of its packages": ({"project_name": "Torch"}, "Torch is a package that the project uses"),
    "a project named as a program in its environment": ({"project_name": "python"}, "python is a package"),
    "a package, to a package index": ({"project_name": "Scikit_.learn"}, "Scikit_.learn is a package"),
    "a project as long as no file may be": ({"project_name": "x" * 101}, "too long for a file: use 100 characters"),
    "a project whose program Windows takes for a device": (
        {"project_name": "con.x"},
        "con is a name that Windows reserves",
    ),
    "a project whose program is one of the environment": ({"project_name": "activate"}, "activate is a program"),
    "a project whose program is a Python": ({"project_name": "python3.11"}, "python3 is a program"),
    "a project whose program activates the environment": ({"project_name": "activate.csh"}, "activate is a program"),
    "a project whose program uv takes for a script": ({"project_name": "demo.py"}, "demo.py ends like a script"),
    "a name of a thousand characters": ({"project_name": "ä" * 1000}, r"^.{,400}$"),
    "a keyword": ({"package_name": "class"}, "class is a keyword"),
    "torch": ({"package_name": "torch"}, "torch is a package that the project uses"),
    "a package with capitals": (
        {"package_name": "Torch"},
        'capital letters, which ruff refuses: use "torch"',
    ),
    "the standard library": ({"package_name": "json"}, "json is a module of the standard library"),
    "the tests of the standard library": ({"package_name": "test"}, "test is a module of the standard library"),
    "a package, but for underscores": ({"package_name": "huggingface__hub"}, "huggingface__hub is a package"),
    "a package of the tests": ({"package_name": "tests"}, "tests is a package"),
    "a device of Windows": ({"package_name": "nul"}, "nul is a name that Windows reserves"),
    "a module of Python itself": ({"package_name": "__future__"}, "__future__ begins like Python's own modules"),
    "no identifier": ({"package_name": "2fast"}, '"2fast" is not a valid Python identifier'),
    "an identifier with a dash": ({"package_name": "my-package"}, "not a valid Python identifier"),
    "an identifier too long for a line": ({"package_name": "long_" * 9}, "use 40 characters or fewer"),
    "a description of two lines": ({"description": "one\ntwo"}, r'"one\\ntwo" contains a line break, a tab or another'),
    "a description with a control character": ({"description": "a\x1bb"}, "control character: use one line without"),
    "a name with a separator of lines": ({"user_name": "a\u2028b"}, "control character"),
    "a name with half a character": ({"user_name": "a\ud800b"}, "contains an invalid character: leave it out"),
    "an address with a control character": ({"user_email": "a\x01@example.org"}, "control character"),
    "no email address": ({"user_email": "me at home"}, '"me at home" is not a valid email address'),
    "an unknown license": ({"license": "WTFPL"}, "'WTFPL' is not in"),
    "an unknown release": ({"torch": "2.3"}, "'2.3' is not in"),
    "no platform": ({"platforms": []}, "choose at least one of linux-x86_64, "),
    "an unknown platform": ({"platforms": ["macos-x86_64"]}, "'macos-x86_64' is not in"),
    "a Python without wheels": (
        {"torch": "2.15", "python": "3.10"},
        "choose Python 3.11 to 3.15 or torch 2.14; 2.15 has no wheels for 3.10",
    ),
    "a Python without wheels on one platform": (
        {"torch": "2.5", "backend": "cpu", "python": "3.13"},
        f"choose Python 3.9 to 3.12 or torch {NEWEST}; 2.5 has no wheels for 3.13",
    ),
    "an unknown Python": ({"python": "2.7"}, "'2.7' is not in"),
    "a release without the backend": (
        {"torch": "2.15", "backend": "cu126"},
        "choose torch 2.14 or backend cu132; 2.15 lacks cu126",
    ),
    "a release without the backend on the platform": (
        {"torch": "2.15", "platforms": ["windows-x86_64"], "backend": "cu132"},
        "choose torch 2.14; 2.15 lacks cu132 on windows-x86_64",
    ),
    "a backend of another platform": (
        {"platforms": ["macos-arm64"], "backend": "cu132"},
        "choose cpu; no release has cu132 for macos-arm64",
    ),
    "a backend that another of the same maker comes near": (
        {"platforms": ["linux-aarch64"], "backend": "cu124", "torch": "2.11"},
        "choose cu130; no release has cu124 for linux-aarch64",
    ),
    "an unknown backend": ({"backend": "cu999"}, "'cu999' is not in"),
    "the same backend twice": ({"backend": "cpu", "other_backends": ["cpu"]}, "drop cpu; it is the backend"),
    "another backend of an older release": ({"torch": "2.15", "other_backends": ["xpu"]}, "drop xpu; 2.15 lacks xpu"),
    "a companion that does not load": (
        {"torch": "2.12", "backend": "cu132", "companions": ["torchaudio"]},
        r"choose torch 2\.\d+ or drop torchaudio; it lacks cu132",
    ),
    "a companion that does not load with another backend": (
        {"torch": "2.14", "other_backends": ["cu132"], "companions": ["torchaudio"]},
        "drop torchaudio; it lacks cu132",
    ),
    "a companion without wheels for this Python": (
        {"torch": "2.15", "backend": "cpu", "python": "3.15", "companions": ["torchcodec"]},
        "choose Python 3.11 to 3.14 or drop torchcodec; it lacks Python 3.15",
    ),
    "a companion that the release lacks": (
        {"torch": "2.7", "backend": "cpu", "companions": ["torchcodec"]},
        f"choose torch {NEWEST} or drop torchcodec; it lacks torch 2.7",
    ),
    "a companion that another backend excludes": (
        {"torch": "2.14", "backend": "rocm7.2", "companions": ["torchcodec"]},
        "drop torchcodec; it lacks rocm7.2",
    ),
    "a companion for a Python that one platform lacks": (
        {"torch": "2.14", "platforms": ["windows-x86_64"], "python": "3.10", "companions": ["torchcodec"]},
        "choose Python 3.11 to 3.14 or drop torchcodec; it lacks Python 3.10",
    ),
    "an unknown companion": ({"companions": ["torchtext"]}, "'torchtext' is not in"),
    "an unknown skeleton": ({"skeleton": "lightning"}, "'lightning' is not in"),
    "a container for a Mac alone": (
        {"platforms": ["macos-arm64"], "features": ["docker"]},
        "add the platform linux-x86_64; docker runs on Linux",
    ),
    "a Linux pipeline for a Mac alone": (
        {"platforms": ["macos-arm64"], "ci": "gitlab"},
        "add the platform linux-x86_64; gitlab runs on Linux",
    ),
    "a tracker without wheels for this Python": (
        {"torch": "2.4", "tracker": "trackio"},
        "choose Python 3.10; trackio needs it",
    ),
    "another one": ({"torch": "2.8", "tracker": "mlflow"}, "choose Python 3.10; mlflow needs it"),
    "an unknown tracker": ({"tracker": "aim"}, "'aim' is not in"),
    "a mirror by ftp": ({"torch_index": "ftp://mirror.example.org"}, "not a valid URL of an index"),
    "a mirror without a scheme": ({"torch_index": "mirror.example.org/whl"}, "not a valid URL of an index"),
    "a mirror that ends the string": ({"torch_index": 'https://mirror.example.org/"]'}, "not a valid URL of an index"),
    "a mirror that escapes": ({"torch_index": "https://mirror.example.org/\\u0022"}, "not a valid URL of an index"),
    "a mirror with a quote": ({"torch_index": "https://mirror.example.org/it's"}, "not a valid URL of an index"),
    "a mirror with a control character": (
        {"torch_index": "https://mirror.example.org/\x7f"},
        "not a valid URL of an index",
    ),
    "a mirror that splits a table": ({"torch_index": "https://mirror.example.org/a|b"}, "not a valid URL of an index"),
    "a mirror without a host": ({"torch_index": "https:///whl"}, "not a valid URL of an index"),
    "a mirror with a newline": ({"torch_index": "https://mirror.example.org/whl\n"}, "not a valid URL of an index"),
    "a mirror with credentials": ({"torch_index": "https://me:secret@mirror.example.org"}, "user name or a password"),
    "a mirror with a token in its query": (
        {"torch_index": "https://mirror.example.org/?token=secret"},
        "leave out a query",
    ),
    "a mirror with a slash in the password": (
        {"torch_index": "https://me:s/secret@mirror.example.org"},
        "not a valid URL",
    ),
    "a mirror by half a percent sign": (
        {"torch_index": "https://mirror.example.org/100%"},
        "not a valid URL of an index",
    ),
    "a mirror with brackets": ({"torch_index": "https://mirror.example.org/]["}, "not a valid URL of an index"),
    "a mirror with odd ones": ({"torch_index": "https://me:'secret\"@mirror.example.org"}, "user name or a password"),
}


@pytest.mark.parametrize(("answers", "message"), list(REFUSED.values()), ids=list(REFUSED))
def test_refused(answers: dict[str, Any], message: str, render: Callable[..., Project], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        render(**answers)
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "demo").exists(), "nothing is written"


def test_refused_on_the_command_line(tmp_path: Path) -> None:
    done = copy(tmp_path, "torch=2.15", "backend=cu126")
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].endswith("choose torch 2.14 or backend cu132; 2.15 lacks cu126")
    assert not (tmp_path / "demo").exists()


def copy(folder: Path, *answers: str) -> subprocess.CompletedProcess[str]:
    """Run `copier copy` with answers in the form that the command line takes."""
    command = [sys.executable, "-m", "copier", "copy", "--defaults", *(f"--data={answer}" for answer in answers)]
    paths = [str(template()), str(folder / "demo")]
    return subprocess.run([*command, *paths], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("plattforms=[linux-x86_64]", "plattforms is not a question; the questions are project_name, "),
        ("wheels=[]", "wheels is not a question"),
        ("platforms=linux-x86_64", 'platforms takes a list: --data "platforms=[linux-x86_64]"'),
        ("features=docker,slurm", 'features takes a list: --data "features=[docker,slurm]"'),
        ("companions=", 'companions takes a list: --data "companions=[]"'),
        ("companions=[torchcodec", 'companions takes a list: --data "companions=[torchcodec]"'),
    ],
)
def test_what_copier_would_pass_over_is_refused_in_one_line(answer: str, message: str, tmp_path: Path) -> None:
    done = copy(tmp_path, answer)
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1
    assert message in done.stderr
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"torch": 2.12}, "torch takes a text: put 2.12 in quotes"),
        ({"python": 3.1}, "python takes a text: put 3.1 in quotes"),
        ({"backend": ["cpu"]}, "backend takes a text"),
        ({"platforms": None}, "platforms takes a list"),
        ({"features": False}, "features takes a list"),
        ({"companions": {"torchvision": True}}, "companions takes a list"),
    ],
)
def test_an_answer_of_another_type_is_refused(answers: dict[str, Any], message: str, tmp_path: Path) -> None:
    """A number would be looked up in the table, not be found, and end in a CPU project."""
    with pytest.raises(UserMessageError, match=message):
        Project.render(tmp_path / "demo", **answers)
    assert not (tmp_path / "demo").exists()


def test_the_names_that_are_given_are_compared_with_all_questions() -> None:
    text = (ROOT / "includes" / "given.jinja").read_text()
    names = re.findall(r"'(\w+)'", text.split("endfor")[0].split("{%- for")[0])
    assert sorted(names) == sorted([*ASKED, "torch_index"])
    assert {name for name, question in questions().items() if question.get("multiselect")} == set(LISTS) <= set(names)


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
    for package in ("torch", *companions(next(iter(RELEASES)))):
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


@pytest.mark.parametrize("name", ["2026", "1e3", "0x1f", "null", "True", "yes", "on"])
def test_a_name_that_looks_like_another_type_is_text(name: str, render: Callable[..., Project]) -> None:
    """YAML 1.2, which Docker reads, knows numbers that PyYAML does not: 1e3."""
    compose = (render(project_name=name).path / "compose.yaml").read_text()
    assert f'    image: "{name.lower()}"\n' in compose
    assert yaml.safe_load(compose)["services"]["train"]["image"] == name.lower()


@pytest.mark.parametrize("platforms", [list(PLATFORMS), *([name] for name in PLATFORMS)], ids=" ".join)
def test_labels_fit_a_terminal(platforms: list[str]) -> None:
    """A terminal of 80 columns has 76 for a label, and 74 where several can be chosen; a person sees no refusal."""
    having = {b: [t for t in RELEASES if any(b in builds(t, on) for on in platforms)] for b in BACKENDS}
    labels = choices("backend", platforms=platforms)
    offered = [backend for backend in BACKENDS if having[backend]]
    assert list(labels) == (offered if len(offered) > 1 else []), "where there is one, it is not asked for"
    assert all(len(label) <= 76 and not refusal for label, refusal in labels.values())
    for backend in offered:
        torches = choices("torch", platforms=platforms, backend=backend)
        assert list(torches) == having[backend]
        assert all(len(label) <= 76 and not refusal for label, refusal in torches.values())
    for torch in RELEASES:
        others = choices("other_backends", platforms=platforms, backend="cpu", torch=torch)
        assert all(len(label) <= 74 and not refusal for label, refusal in others.values())


def test_labels_say_what_to_choose_by() -> None:
    labels = {backend: label for backend, (label, _) in choices("backend", platforms=list(PLATFORMS)).items()}
    assert labels["cu126"] == "CUDA 12.6: GTX 900 to RTX 40, M40 to H100, driver 528+, torch 2.6-2.14"
    assert labels["cu118"] == "CUDA 11.8: NVIDIA GPUs before RTX 50, driver 452+, torch 2.4-2.7"
    assert labels["rocm7.1"] == "ROCm 7.1: AMD RX 6800 to RX 9070, MI50 to MI350, torch 2.10-2.13"
    assert labels["rocm6.0"] == "ROCm 6.0: AMD GPUs, torch 2.4"
    assert labels["xpu"].startswith("XPU: Intel Arc A and B, Core Ultra, Data Center GPU Max, torch 2.6-2.")
    assert labels["cpu"] == "CPU: any machine; a Mac computes on its GPU with it"


def test_the_label_of_a_backend_is_that_of_the_chosen_platforms() -> None:
    label, _ = choices("backend", platforms=["linux-x86_64"])["cu126"]
    assert "driver 525+" in label, "Windows needs 528"
    label, _ = choices("backend", platforms=["linux-aarch64"])["cu126"]
    assert label == "CUDA 12.6: NVIDIA GPUs, driver 525+, torch 2.6-2.14", "of 2.6 it is not documented which"
    label, _ = choices("backend", platforms=["linux-aarch64"])["cu132"]
    assert label.startswith("CUDA 13.2: A100, GH200, GB200, Thor, DGX Spark, driver 580+, torch 2.12-2.")
    label, _ = choices("backend", platforms=["linux-x86_64"])["cu128"]
    assert label.startswith("CUDA 12.8: GTX 16 to RTX 50, T4 to B200"), "Volta is not in every release"


def test_the_label_of_a_release_says_where_it_falls_back_to_the_cpu() -> None:
    labels = choices("torch", platforms=list(PLATFORMS), backend="cu130")
    assert labels["2.14"] == ("2.14, Python 3.10 to 3.14", "")
    labels = choices("torch", platforms=list(PLATFORMS), backend="xpu")
    assert labels["2.14"][0].endswith(", CPU build on Linux aarch64 and Windows x86_64")
    assert labels["2.13"][0].endswith(", CPU build on Linux aarch64")


def test_a_person_who_names_a_release_is_offered_what_it_has() -> None:
    offered = choices("backend", platforms=["linux-x86_64"], torch="2.6")
    assert list(offered) == ["cu126", "cu124", "cu118", "rocm6.2.4", "rocm6.1", "xpu", "cpu"]


def choices(name: str, **answers: Any) -> dict[str, tuple[str, str]]:
    """Return what a question offers a person: labels and refusals by value; nothing if it is not asked."""
    seen: dict[str, tuple[str, str]] = {}
    original = Question.get_questionary_structure

    class Seen(Exception):
        """The question was reached, or passed over."""

    def look(question: Question) -> Any:
        if question.var_name == name:
            choices = question._formatted_choices
            seen.update({str(choice.value): (str(choice.title), choice.disabled or "") for choice in choices})
        if question.var_name in ASKED[ASKED.index(name) :]:
            raise Seen
        return original(question)

    earlier = {question: "" for question in ("description", "user_name", "user_email")}
    earlier |= {"project_name": "demo", "package_name": "demo", "license": "MIT", "python": "3.11"}
    with quick.renders(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Question, "get_questionary_structure", look)
        with pytest.raises(Seen):
            copier.run_copy(str(template()), "/nowhere", data=earlier | answers, quiet=True, settings=copier.Settings())
    return seen
