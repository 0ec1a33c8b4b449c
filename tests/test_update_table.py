"""The table writes itself: from stand-ins that have a release more than it, and from PyPI as it is."""

from __future__ import annotations

import copy
import datetime
import difflib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import update_table
from tests.network import unreached
from tests.replica import pypi
from tests.table import FILE, RELEASES, ROOT, TABLE, open_facts
from tests.yaml_edit import remove, value

DATE = "as_of: 2026-01-01"
TEXT = re.sub(r"^as_of: .*", DATE, FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
STARTED = datetime.datetime.now(datetime.UTC).date()
NEWEST, SECOND, OLD = list(RELEASES)[:3]
NEXT = f"2.{int(NEWEST.removeprefix('2.')) + 1}"
CUDA = f"cu{max(int(name.removeprefix('cu')) for name in TABLE['backends'] if name.startswith('cu')) + 2}"
GPUS = ["gfx90a", "gfx942", "gfx1201"]

SERVE = """\
import sys
from tests.replica import proxy, replica
with proxy.proxy() as packages, replica() as index:
    print(packages, index, flush=True)
    sys.stdin.read()
"""


def bumped(version: str, part: int) -> str:
    """Return the version after one: in its minor (1) or its patch (2)."""
    numbers = [int(number) for number in version.split(".")]
    return ".".join(map(str, [*numbers[:part], numbers[part] + 1, *[0] * (2 - part)]))


def ahead() -> dict[str, Any]:
    """Return the table as it will be: with a release more, and a patch more of an old release."""
    linux = ["linux-x86_64", "linux-aarch64"]
    newest, last = RELEASES[NEWEST], list(RELEASES[NEWEST]["patches"].values())[-1]
    row = {
        "source": "PyPI; index",
        "python": [*newest["python"], bumped(f"{newest['python'][-1]}.0", 1).removesuffix(".0")],
        "macos": newest["macos"],
        "patches": {f"{NEXT}.0": last | {"torchvision": bumped(last["torchvision"], 1)}},
        "triton": {"rocm": "triton-rocm", "xpu": "triton-xpu"},
        "sdk": {"rocm9.0": "rocm[device-all,libraries]==9.0.*"},
        "pypi": {**dict.fromkeys(linux, CUDA), "macos-arm64": "cpu", "windows-x86_64": "cpu"},
        "download": newest["download"],  # the stand-in gives the sizes of the release before
        "builds": {
            CUDA: [*linux, "windows-x86_64"],
            "cu126": linux,
            "rocm9.0": ["linux-x86_64"],
            "xpu": ["linux-x86_64"],
            "cpu": [*linux, "macos-arm64", "windows-x86_64"],
        },
    }
    table = copy.deepcopy(TABLE)
    patch, companions = list(table["releases"][OLD]["patches"].items())[-1]
    newer = companions | {"torchvision": bumped(companions["torchvision"], 2)}
    table["releases"][OLD]["patches"][bumped(patch, 2)] = newer
    table["releases"] = {NEXT: row, **table["releases"]}
    cuda = {CUDA: {"name": f"CUDA {CUDA[2:-1]}.{CUDA[-1]}"}}
    rocm = {"rocm9.0": {"name": "ROCm 9.0", "devices": GPUS}}
    kinds = {
        kind: {k: v for k, v in table["backends"].items() if k.startswith(kind)}
        for kind in ("cu", "rocm", "xpu", "cpu")
    }
    table["backends"] = cuda | kinds["cu"] | rocm | kinds["rocm"] | kinds["xpu"] | kinds["cpu"]
    return table


def repository(folder: Path, text: str) -> Path:
    """Copy what the tests of the table need, with another table."""
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "builds.yml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URLs of stand-ins of PyPI and of PyTorch's index that are ahead of the table."""
    folder = repository(tmp_path_factory.mktemp("ahead"), yaml.safe_dump(ahead(), sort_keys=False))
    command, pipe = [sys.executable, "-c", SERVE], subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, text=True, stdin=pipe, stdout=pipe) as server:
        assert server.stdin
        assert server.stdout
        packages, index = server.stdout.readline().split()
        yield packages, index
        server.stdin.close()


@pytest.fixture(scope="module")
def written(stand_ins: tuple[str, str]) -> str:
    return update_table.update(TEXT, *stand_ins)


def test_the_table_of_an_index_that_is_ahead_is_written(written: str) -> None:
    found, expected = yaml.safe_load(written), ahead()
    assert STARTED <= found.pop("as_of") <= datetime.datetime.now(datetime.UTC).date()  # midnight may pass
    expected.pop("as_of")
    assert list(found["releases"]) == list(expected["releases"])
    assert list(found["backends"]) == list(expected["backends"])
    assert list(found["releases"][NEXT]["builds"]) == list(expected["releases"][NEXT]["builds"])
    assert found == expected


def test_all_other_text_stays_as_it_is(written: str) -> None:
    old, new = TEXT.splitlines(), written.splitlines()
    changes = [
        change
        for change in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
        if change[0] != "equal"
    ]
    replaced = [old[start:end] for kind, start, end, *_ in changes if kind != "insert"]
    assert replaced == [[DATE]]


def test_what_is_written_is_a_whole_table(written: str, tmp_path: Path) -> None:
    folder = repository(tmp_path, written)
    for command in (
        [
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-c",
            str(ROOT / "pyproject.toml"),
            "--rootdir=.",
            "tests/test_builds.py",
        ],
        ["yamllint", "--strict", "--config-file", str(ROOT / ".yamllint.yml"), "builds.yml"],
    ):
        done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_what_is_written_renders(written: str, tmp_path: Path) -> None:
    folder = repository(tmp_path / "template", written)
    for name in ("includes", "template"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "copier.yml", folder)
    answers = {"backend": CUDA, "platforms": "[linux-x86_64]"}
    command = ["copy", "--quiet", "--defaults", *(f"--data={name}={answer}" for name, answer in answers.items())]
    subprocess.run([sys.executable, "-m", "copier", *command, str(folder), str(tmp_path / "demo")], check=True)
    assert f'"torch~={NEXT}.0"' in (tmp_path / "demo" / "pyproject.toml").read_text()
    assert f"install driver for CUDA {CUDA[2:4]} or newer" in (tmp_path / "demo" / "README.md").read_text()


def test_what_no_index_says_is_open(written: str) -> None:
    assert open_facts(written) == [
        f"{NEXT} is open: torchcodec beside {CUDA}",
        f"{CUDA} is open: driver, gpus",
        "rocm9.0 is open: gpus",
    ]


def test_nothing_is_left_to_write(written: str, stand_ins: tuple[str, str]) -> None:
    assert update_table.update(written, *stand_ins) == written


def test_without_pytorchs_index_its_part_is_open(stand_ins: tuple[str, str]) -> None:
    text = update_table.update(TEXT, stand_ins[0], None)
    row, expected = value(text, ("releases", NEXT)), ahead()["releases"][NEXT]
    assert {key: row[key] for key in ("python", "macos", "patches", "pypi")} == {
        key: expected[key] for key in ("python", "macos", "patches", "pypi")
    }
    assert row["builds"] == {CUDA: ["linux-x86_64", "linux-aarch64"], "cpu": ["macos-arm64", "windows-x86_64"]}
    assert set(row) == {"source", "python", "macos", "patches", "pypi", "download", "builds"}
    assert open_facts(text)[0].startswith(f"{NEXT} is open: builds and triton of PyTorch's index")


def test_pypi_gives_the_newest_release_back() -> None:
    if reason := unreached(f"{pypi.PYPI}/torch/"):
        pytest.skip(f"SKIPPED: {reason}")
    text = remove(TEXT, ("releases", NEWEST))
    if "below" in RELEASES[SECOND]:
        text = remove(text, ("releases", SECOND, "below"))
    written = update_table.update(text, pypi.PYPI, None)
    row, known = value(written, ("releases", NEWEST)), dict(RELEASES[NEWEST])
    assert {NEWEST: known} | {name: value(written, ("releases", name)) for name in list(RELEASES)[1:]} == RELEASES
    # What PyPI alone does not say: the builds of PyTorch's index, and what the metadata of those has
    on_the_index = {"source", "builds", "triton", "sdk", "gpus", "plain", "left_out"}
    assert row == {key: entry for key, entry in known.items() if key not in on_the_index} | {
        "source": "PyPI",
        "builds": update_table.by_build(known["pypi"]),
    }


def message(text: str) -> Message:
    found = Message()
    found.set_payload(text)
    return found


def test_a_newer_torchcodec_takes_the_place_of_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = {"python": ["3.11"], "pypi": {"linux-x86_64": "cu130"}}
    readme = "| `main` | `main` |\n| `0.98` | `>=2.11` |\n| `0.10` | `2.10` |\n"
    monkeypatch.setattr(update_table, "uploaded", lambda *_: {"0.10.0": "2026", "0.98.0": "2026", "0.99.0": "2026"})
    monkeypatch.setattr(update_table, "metadata", lambda *_: message(readme))
    monkeypatch.setattr(update_table, "published", lambda package, version, *_: wheels)
    assert update_table.torchcodec(TEXT, NEWEST, "") == "0.99.0", "its row is that of the version before"
    assert update_table.torchcodec(TEXT, "2.10", "") == "0.10.0", "an older one stays"
    known = next(iter(TABLE["torchcodec"]))
    text = update_table.write_torchcodec(TEXT.replace(f"torchcodec: {known}", "torchcodec: 0.99.0"), "", None)
    found = value(text, ("torchcodec",))
    assert list(found) == ["0.99.0", *list(TABLE["torchcodec"])[1:]]
    assert found["0.99.0"] == {
        **wheels,
        "builds": {"cu130": ["linux-x86_64"]},
        "beside": TABLE["torchcodec"][known]["beside"],
    }
    assert open_facts(text) == [f"0.99.0 is open: beside, which is that of {known}"]


def test_a_minor_that_continues_in_a_later_release_ends_below_it() -> None:
    table = "releases:\n  '2.3':\n    patches:\n      2.3.0: {torchvision: 0.4.1, torchaudio: 2.3.0}\n"
    table += "  '2.2':\n    patches:\n      2.2.0: {torchvision: 0.4.0, torchaudio: 2.2.0}\n    pypi: {}\n"
    assert update_table.write_below(table, "2.3") == table
    assert update_table.write_below(table, "2.2") == table.replace(
        "    pypi", "    below: {torchvision: 0.4.1}\n    pypi"
    )


def test_a_python_that_came_to_all_platforms_is_no_longer_partly_there() -> None:
    row = {"python": TABLE["releases"]["2.5"]["python"], "patches": {}, "builds": {}}
    text = update_table.change_release(TEXT, "2.5", row)
    assert text == TEXT.replace("    python_on: {'3.13': [linux-x86_64]}\n", "")


@pytest.mark.parametrize(
    ("backend", "name"), [("cu134", "CUDA 13.4"), ("cu99", "CUDA 9.9"), ("rocm8.0.1", "ROCm 8.0.1"), ("xpu", "XPU")]
)
def test_a_backend_is_named(backend: str, name: str) -> None:
    assert update_table.name_of(backend) == name


def test_backends_are_in_the_order_of_the_table() -> None:
    # Those of AMD's SDK come after the ones without it
    names = [name for name, row in TABLE["backends"].items() if "devices" not in row]
    assert sorted(names, key=update_table.place) == names


def proposed(folder: Path, *open_ones: str) -> list[str]:
    """Run the step of the workflow that opens a pull request in a clone, where these are open, and return what gh is told."""
    programs, log = folder / "bin", folder / "log"
    programs.mkdir(exist_ok=True)
    script = f'#!/bin/sh\nif [ "$2" = list ]; then echo {len(open_ones)}; else echo "$@" >> {log}; fi\n'
    (programs / "gh").write_text(script)
    (programs / "gh").chmod(0o755)
    (folder / "differences.txt").write_text("torch 2.99.0 is on PyPI, but not in builds.yml\n")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "builds.yml").read_text())
    (step,) = (step["run"] for step in workflow["jobs"]["propose"]["steps"] if "gh pr create" in step.get("run", ""))
    env = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "RUNNER_TEMP": str(folder),
        "LOCK": "failure",
        "LOG": "URL",
    }
    log.write_text("")
    subprocess.run(["bash", "-e", "-o", "pipefail", "-c", step], cwd=folder / "clone", env=os.environ | env, check=True)
    return log.read_text().splitlines()


def test_the_workflow_opens_one_pull_request(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments]
        return subprocess.run(command, cwd=tmp_path / "clone", check=True, capture_output=True, text=True).stdout

    (tmp_path / "clone").mkdir()
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "origin"], check=True)
    git("init", "--quiet", "--initial-branch=main")
    git("remote", "add", "origin", str(tmp_path / "origin"))
    table = tmp_path / "clone" / "builds.yml"
    table.write_text("as_of: 1\n")
    git("add", ".")
    git("commit", "--quiet", "--message=first")
    assert proposed(tmp_path) == [], "nothing is new"
    table.write_text("as_of: 2\n")
    assert [line.split()[:3] for line in proposed(tmp_path)] == [["auth", "setup-git"], ["pr", "create", "--head"]]
    assert (tmp_path / "body.md").read_text() == (
        "- torch 2.99.0 is on PyPI, but not in builds.yml\n- nox -s lock: failure, URL\n"
    )
    git("switch", "--quiet", "main")
    git("branch", "-D", "builds")
    table.write_text("as_of: 3\n")
    assert [line.split()[:3] for line in proposed(tmp_path, "the one")][1:] == [["pr", "edit", "builds"]]
    assert git("show", "origin/builds:builds.yml") == "as_of: 3\n"
    assert git("rev-list", "--count", "main..origin/builds") == "1\n"
