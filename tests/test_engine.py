"""The engine of the page, packed as the site serves it: Copier in Pyodide, here in Node. SITE is a folder with the site."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import random
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from copier.errors import UserMessageError
from hypothesis import strategies as st

from tests.choosing import answering
from tests.files import contents, without_origin
from tests.history import append, commit, git, released
from tests.project import Project
from tests.table import PLATFORMS, RELEASES, ROOT, TABLE
from tests.test_answers import choose_by, legitimate, run, wrong

sys.path[:0] = [str(ROOT / "site"), str(ROOT / "site" / "engine")]

import build
import machines
from engine import for_cmd, for_powershell, in_units

ASSETS = Path(os.environ.get("SITE", ".")).resolve() / "assets"
SHARDS = 4
Files = dict[str, tuple[bytes, int]]


class Engine:
    """The engine of a site, which answers what the page asks."""

    def __init__(self, assets: Path) -> None:
        command = ["node", str(ROOT / "site" / "engine" / "ask.mjs"), str(assets)]
        self.node = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")

    def ask(self, **request: Any) -> Any:
        assert self.node.stdin
        assert self.node.stdout
        self.node.stdin.write(f"{json.dumps(request)}\n")
        self.node.stdin.flush()
        return json.loads(self.node.stdout.readline())

    def render(self, **answers: Any) -> Any:
        return self.ask(type="render", answers=answers)


@contextmanager
def started(assets: Path) -> Iterator[Engine]:
    engine = Engine(assets)
    with engine.node:
        yield engine
        assert engine.node.stdin
        engine.node.stdin.close()
    assert engine.node.returncode == 0


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with started(ASSETS) as found:
        yield found


def shown(reply: dict[str, Any]) -> Files | str:
    """Return the files of a reply with their modes, or the first refusal."""
    if reply["files"] is None:
        return str(next(iter(reply["refused"].values())))
    return {
        path: (file["text"].encode() if "text" in file else base64.b64decode(file["base64"]), file["mode"])
        for path, file in reply["files"].items()
    }


def written(folder: Path) -> Files:
    """Return the files in a folder with their modes."""
    return {name: (content, (folder / name).stat().st_mode & 0o777) for name, content in contents(folder).items()}


def copied(folder: Path, answers: dict[str, Any]) -> Files | str:
    """Return what Copier writes here, or the line with which it refuses."""
    try:
        return written(Project.render(folder / "myproj", **answers).path)
    except (UserMessageError, ValueError) as error:
        text = str(error).removeprefix("'dict object' has no attribute '")
        return " ".join((text.removesuffix("'") if text != str(error) else text.partition(": ")[2]).split())


def comparable(found: Files | str) -> Files | str:
    """Return files without what names the template's place and version, or the refusal as it is."""
    if isinstance(found, str):
        return found
    content, mode = found[".copier-answers.yml"]
    return {**found, ".copier-answers.yml": (without_origin(content), mode)}


def refused(engine: Engine, answers: dict[str, Any], copy: Files | str) -> bool:
    """Compare what the engine gives with what Copier writes, and tell whether the answers were refused."""
    assert comparable(shown(engine.render(**answers))) == comparable(copy), answers
    return isinstance(copy, str)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_what_is_offered_is_rendered_byte_for_byte(
    shard: int, engine: Engine, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    numbers = count()

    def compare(data: st.DataObject, answers: dict[str, str]) -> None:
        with answering(choose_by(data)) as chosen:
            copy = copied(tmp_path / str(next(numbers)), answers)
        assert not refused(engine, chosen | answers, copy)

    run(request, shard, 35, st.data(), legitimate)(compare)
    assert next(numbers) >= 35


@pytest.mark.parametrize("shard", range(SHARDS))
def test_any_text_is_refused_in_the_same_words(
    shard: int, engine: Engine, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    found: list[bool] = []

    def compare(answers: dict[str, str]) -> None:
        found.append(refused(engine, answers, copied(tmp_path / str(len(found)), answers)))

    run(request, shard, 20, wrong)(compare)
    assert sum(found) >= 5


def any_choice(dice: random.Random) -> dict[str, Any]:
    """Return some answers that may not fit one another, or be no answers."""
    pythons = sorted({python for entry in RELEASES.values() for python in entry["python"]})
    choices: dict[str, Any] = {
        "torch": [*RELEASES, "1.0"],
        "backend": [*TABLE["backends"], "cuda"],
        "python": [*pythons, "2.7"],
        "license": ["MIT", "GPL"],
        "data": ["text", "digits", "mnist"],
        "ci": ["gitlab", "none"],
        "skeleton": ["none", "training"],
        "tracker": ["mlflow", "trackio", 1],
        "unknown": ["x"],
    }
    lists: dict[str, Any] = {
        "platforms": [*PLATFORMS, "solaris"],
        "other_backends": list(TABLE["backends"]),
        "companions": ["torchvision", "torchaudio", "torchcodec"],
        "features": ["docker", "kubernetes", "slurm", "agents"],
    }
    answers = {name: dice.choice(values) for name, values in choices.items() if dice.random() < 0.2}
    return answers | {
        name: dice.sample(values, dice.randrange(len(values) + 1) // 2)
        for name, values in lists.items()
        if dice.random() < 0.3
    }


@pytest.mark.parametrize("shard", range(SHARDS))
def test_any_choice_is_rendered_or_refused_as_copier_does(shard: int, engine: Engine, tmp_path: Path) -> None:
    dice = random.Random(shard)
    sets = [any_choice(dice) for _ in range(20)]
    found = [refused(engine, one, copied(tmp_path / str(n), one)) for n, one in enumerate(sets)]
    assert 3 <= sum(found) <= 17, "some of both"


def test_everything_that_is_not_offered_says_why(engine: Engine) -> None:
    reply = engine.render(backend="rocm7.2", python="3.8")
    form = {question["name"]: question for question in reply["form"]}
    reasons = {choice["value"]: choice["disabled"] for choice in form["torch"]["choices"]}
    assert reasons["2.14"] == ""
    assert reasons["2.15"].startswith("choose torch 2.14")
    assert set(reasons) == set(RELEASES)
    assert {choice["value"] for choice in form["backend"]["choices"]} == set(TABLE["backends"])
    assert list(reply["refused"]) == ["python"]
    assert form["python"]["value"] == form["python"]["default"], "so that the rest of the form fits"


def test_what_is_prepared_is_what_the_engine_says(engine: Engine) -> None:
    (first,) = (json.loads(path.read_text(encoding="utf-8")) for path in ASSETS.glob("first-*.json"))
    reply = engine.render()
    for file in reply["files"].values():
        file.pop("base64", None)
    assert {name: first[name] for name in reply} == reply
    assert [system["platform"] for system in first["systems"]] == list(PLATFORMS)


@pytest.mark.parametrize(
    "request_",
    [{}, {"type": "render"}, {"type": "render", "answers": 1}, {"type": "zip", "answers": {"torch": "1"}}],
    ids=["nothing", "no answers", "a number", "refused"],
)
def test_nonsense_is_an_error_in_one_line(request_: dict[str, Any], engine: Engine) -> None:
    reply = engine.ask(**request_)
    assert set(reply) == {"error"}
    assert len(reply["error"].splitlines()) == 1
    assert engine.render()["files"]


# Advice


@pytest.mark.parametrize(
    ("machine", "backend"),
    [
        ({"system": "linux", "machine": "x86_64", "gpus": [{"vendor": "nvidia", "target": "8.9"}]}, "cu132"),
        ({"system": "linux", "machine": "aarch64", "gpus": [{"vendor": "nvidia", "target": "12.1"}]}, "cu132"),
        ({"system": "darwin", "machine": "arm64"}, "cpu"),
        ({"system": "win32", "machine": "AMD64"}, "cpu"),
    ],
    ids=PLATFORMS,
)
def test_the_download_of_a_build_on_pypi_is_said(
    machine: dict[str, Any], backend: str, engine: Engine, request: pytest.FixtureRequest
) -> None:
    platform = request.node.callspec.id
    advice = engine.ask(type="advise", machines=[machine])
    assert advice["answers"]["backend"] == backend
    size = RELEASES[advice["answers"]["torch"]]["download"][platform]
    assert advice["downloads"] == [f"uv sync downloads about {in_units(size)} for torch"]


def test_what_is_not_known_of_a_download_is_not_said(engine: Engine) -> None:
    card = {"vendor": "nvidia", "target": "9.0"}
    on_the_index = {"system": "linux", "machine": "x86_64", "gpus": [card], "cuda": "12.4"}
    without_wheels = {"system": "linux", "machine": "riscv64"}
    advice = engine.ask(type="advise", machines=[on_the_index, without_wheels])
    assert advice["answers"]["backend"] == "cu126"
    assert advice["downloads"] == ["how much uv sync downloads for torch is not measured", ""]


def test_each_machine_downloads_its_own_build(engine: Engine) -> None:
    machine = {"system": "linux", "machine": "x86_64"}
    machines = [machine | {"gpus": [{"vendor": "nvidia", "target": target}]} for target in ("10.0", "6.1")]
    advice = engine.ask(type="advise", machines=machines)
    assert advice["answers"] | {"torch": "2.14", "backend": "cu130", "other_backends": ["cu126"]} == advice["answers"]
    known, unknown = advice["downloads"]
    assert in_units(RELEASES["2.14"]["download"]["linux-x86_64"]) in known
    assert "not measured" in unknown


def test_a_machine_without_a_gpu_does_not_download_the_build_of_the_others(engine: Engine) -> None:
    machine = {"system": "linux", "machine": "x86_64"}
    advice = engine.ask(type="advise", machines=[machine | {"gpus": [{"vendor": "nvidia", "target": "9.0"}]}, machine])
    assert (advice["answers"]["backend"], advice["answers"]["other_backends"]) == ("cu132", ["cpu"])
    known, unknown = advice["downloads"]
    assert "GB" in known
    assert "not measured" in unknown


@pytest.mark.parametrize(("megabytes", "text"), [(98, "98 MB"), (3000, "3 GB"), (4100, "4.1 GB")])
def test_a_size_is_in_megabytes_or_gigabytes(megabytes: int, text: str) -> None:
    assert in_units(megabytes) == text


# A project from the page


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as a repository, with a release."""
    return released(tmp_path_factory.mktemp("history") / "template")


@pytest.fixture(scope="session")
def released_engine(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine of a site that is built from that repository."""
    template, folder = tmp_path_factory.mktemp("template"), tmp_path_factory.mktemp("assets")
    build.write_template(template, source, str(source))
    build.pack_template(template, folder)
    for path in ASSETS.iterdir():
        if not path.name.startswith(("template", "text")):
            (folder / path.name).symlink_to(path)
    with started(folder) as found:
        yield found


def unzipped(content: str) -> tuple[zipfile.ZipFile, Files]:
    archive = zipfile.ZipFile(io.BytesIO(base64.b64decode(content)))
    return archive, {one.filename: (archive.read(one), one.external_attr >> 16) for one in archive.infolist()}


@pytest.mark.parametrize(
    "text",
    [
        "| 0 x" + " " * 200_000,
        "GPU 0: x" + " " * 200_000 + "y",
        "Product Name : x" + " y" * 200_000,
        "\n" * 200_000 + "x",
    ],
    ids=["row", "listed", "asked", "lines"],
)
def test_a_long_text_is_read_at_once(text: str) -> None:
    begin = time.process_time()
    found, problems = machines.read(text, {})
    assert time.process_time() - begin < 20, "a pattern that goes back and forth takes an hour"
    assert not found
    assert problems


def test_numbers_without_end_are_no_version() -> None:
    found, _ = machines.read(f"GPU 0: NVIDIA A100\nDriver Version: {'9' * 5000}.1", {})
    assert found[0]["cuda"] == ""


def test_of_many_machines_one_of_each_kind_is_asked_for() -> None:
    one = {"machine": {"system": "linux", "machine": "x86_64", "gpus": []}}
    assert len(machines.read(json.dumps([one] * 32), {})[0]) == 32
    found, problems = machines.read(json.dumps([one] * 60_000), {})
    assert (found, problems) == ([], ["these are 60000 machines: paste at most 32, one of each kind"])


def test_a_zip_holds_the_project_in_one_folder(engine: Engine) -> None:
    answers = {"project_name": "My.Project", "features": ["docker", "slurm"], "data": "text"}
    found, packed = shown(engine.render(**answers)), engine.ask(type="zip", answers=answers)
    assert isinstance(found, dict)
    _, entries = unzipped(packed["zip"])
    assert entries == {f"My.Project/{path}": (content, 0o100000 | mode) for path, (content, mode) in found.items()}


def test_copier_updates_a_project_from_a_zip(source: Path, released_engine: Engine, tmp_path: Path) -> None:
    packed = released_engine.ask(type="zip", answers={"project_name": "demo", "torch": "2.14"})
    unzipped(packed["zip"])[0].extractall(tmp_path)
    project = tmp_path / "demo"
    append(project / "README.md", "Our own words.")
    git(project, "init")
    commit(project)
    newer = shutil.copytree(source, tmp_path / "template")
    answers_file = project / ".copier-answers.yml"
    answers_file.write_text(answers_file.read_text().replace(str(source), str(newer)))
    commit(project)
    append(newer / "template" / "tools" / "doctor.py.jinja", "# of a newer version")
    commit(newer, "1.1.0")
    command = [sys.executable, "-m", "copier", "update", "--defaults"]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    assert "_commit: 1.1.0\n" in answers_file.read_text()
    assert (project / "tools" / "doctor.py").read_text().endswith("# of a newer version\n")
    assert (project / "README.md").read_text().endswith("Our own words.\n")
    assert Project(project).answers["torch"] == "2.14"


ODD = 'It\'s: a "test" [1] of $HOME, `id`, 100%, \\ and {x} & <y> | ö 🎉; # !'


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"torch": "2.14", "other_backends": ["cpu"], "companions": ["torchvision", "torchaudio"], "features": []},
        {
            "project_name": "a-b",
            "description": ODD,
            "user_name": ODD,
            "license": "BSD-3-Clause",
            "platforms": ["macos-arm64"],
        },
    ],
    ids=["default", "lists", "odd"],
)
def test_the_command_for_bash_renders_the_same(
    answers: dict[str, Any], released_engine: Engine, tmp_path: Path
) -> None:
    uvx = tmp_path / "bin" / "uvx"
    uvx.parent.mkdir()
    uvx.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m "$@"\n')
    uvx.chmod(0o755)
    reply = released_engine.render(**answers)
    env = {**os.environ, "PATH": f"{uvx.parent}:{os.environ['PATH']}"}
    folder = tmp_path / "work"
    folder.mkdir()
    subprocess.run(["bash", "-c", reply["command"]["bash"]], cwd=folder, env=env, check=True, capture_output=True)
    assert written(folder / answers.get("project_name", "myproj")) == shown(reply)


@pytest.mark.parametrize("text", ["plain-1.0", "two words", "[a,b]", ODD, "a\\", '\\"', "\u2018\u2019"])
@pytest.mark.parametrize(
    ("shell", "options", "quoted"),
    [("pwsh", ["-NoProfile", "-Command"], for_powershell), ("cmd", ["/d", "/c"], for_cmd)],
)
def test_other_shells_pass_a_text_on(shell: str, options: list[str], quoted: Callable[[str], str], text: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"SKIPPED: there is no {shell} here")
    code = "import sys; print(ascii(sys.argv[1]))"
    command = f"{'& ' if shell == 'pwsh' else ''}{quoted(sys.executable)} -c {quoted(code)} {quoted(text)}"
    done = subprocess.run([shell, *options, command], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == ascii(text)


@pytest.mark.parametrize(
    ("text", "powershell", "cmd"),
    [
        ("plain-1.0", "plain-1.0", "plain-1.0"),
        ("a=[b,c]", "'a=[b,c]'", '"a=[b,c]"'),
        ("It's", "'It''s'", '"It\'s"'),
        ("It\u2019s", "'It\u2019\u2019s'", '"It\u2019s"'),
        ("$HOME", "'$HOME'", '"$HOME"'),
        ("50%", "'50%'", '^"50^%^"'),
        ('a "b" & c', "'a \"b\" & c'", '^"a \\^"b\\^" ^& c^"'),
        ("a\\ b\\", "'a\\ b\\'", '^"a\\ b\\\\^"'),
    ],
)
def test_texts_are_quoted_for_other_shells(text: str, powershell: str, cmd: str) -> None:
    assert (for_powershell(text), for_cmd(text)) == (powershell, cmd)


# What a visitor loads


def test_what_is_loaded_up_to_the_first_project_is_small() -> None:
    """Not the text, which one answer needs, nor what the worker for offline use asks for later."""
    site = ASSETS.parent
    later = ("text-", "sw.mjs")
    files = [
        path for path in (*site.glob("*"), *ASSETS.rglob("*")) if path.is_file() and not path.name.startswith(later)
    ]
    sizes = {path.name: len(gzip.compress(path.read_bytes(), 9)) for path in files}
    assert sum(sizes.values()) <= 9_000_000, sizes
