"""Rendered files for containers, as far as they can be tested without an engine. test_images.py builds and runs them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.project import Project


def instructions(project: Project, stage: str = "") -> list[tuple[str, str]]:
    """Return the instructions of a stage of the Dockerfile, of the last one if none is named, without comments and mounts."""
    text = re.sub(r"<<\"END\".*?^END$", "", (project.path / "Dockerfile").read_text(), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^#.*\n|--mount=\S+ ", "", text.replace("\\\n", " "), flags=re.MULTILINE)
    stages = re.split(r"^(?=FROM )", text, flags=re.MULTILINE)
    (lines,) = [lines for lines in stages if re.match(rf"FROM \S+ AS {stage}\n", lines)] if stage else stages[-1:]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in lines.splitlines() if line.strip()]


def lists(project: Project) -> dict[str, set[str]]:
    """Run what the stage `lock` runs, and return the names of the packages in each list."""
    (command,) = (value for name, value in instructions(project, "lock") if name == "RUN" and "uv export" in value)
    export, *cuts = re.split(r"\s*&& (?=awk)", command)
    project.uv(*shlex.split(export)[1:])
    for cut in cuts:
        subprocess.run(["bash", "-e", "-c", cut], cwd=project.path, check=True)
    found = {path.name: tomllib.loads(path.read_text()) for path in project.path.glob("pylock.*toml")}
    return {name: {package["name"] for package in table.get("packages", [])} for name, table in found.items()}


@pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: the stage runs on Linux")
@pytest.mark.parametrize(
    ("torch", "backend", "companions", "own", "libraries"),
    [
        ("2.14", "cu130", ["torchvision", "torchaudio", "torchcodec"], {"triton"}, r"(cuda|nvidia)-"),
        ("2.14", "rocm7.2", ["torchvision", "torchaudio"], {"triton-rocm"}, None),
        ("2.14", "cpu", ["torchvision"], set(), None),
    ],
)
def test_the_layers_of_an_image_have_the_packages_that_move_together(
    torch: str,
    backend: str,
    companions: list[str],
    own: set[str],
    libraries: str | None,
    render: Callable[..., Project],
    replica: str,
) -> None:
    project = render(torch=torch, backend=backend, companions=companions, platforms=["linux-x86_64"])
    project.resolve_with(replica)
    with pytest.raises(AssertionError, match="Unable to find lockfile"):
        lists(project)
    project.lock()
    found = lists(project)
    assert found["pylock.torch.toml"] == {"torch", *companions} | own
    assert found["pylock.toml"] > found["pylock.torch.toml"]
    assert ("pylock.libraries.toml" in found) == (libraries is not None)
    if libraries:
        assert found["pylock.libraries.toml"] == {name for name in found["pylock.toml"] if re.match(libraries, name)}


@pytest.mark.parametrize("features", [["docker"], ["docker", "devcontainer"], ["devcontainer"]], ids=" ".join)
def test_no_container_runs_as_root(features: list[str], render: Callable[..., Project]) -> None:
    project = render(features=features)
    stages = [instructions(project)] if "docker" in features else []
    if features == ["docker", "devcontainer"]:
        stages.append(instructions(project, "dev"))
    if features == ["devcontainer"]:
        text = (project.path / ".devcontainer" / "Dockerfile").read_text()
        stages.append([("USER", user) for user in re.findall(r"^USER (.+)$", text, re.MULTILINE)])
    for stage in stages:
        assert [value for name, value in stage if name == "USER"] == ["1000"]


@pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: the stage runs on Linux")
@pytest.mark.parametrize(("machine", "code"), [("aarch64", 0), ("x86_64", 1)])
def test_an_image_of_one_platform_is_refused_on_the_other(
    machine: str, code: int, render: Callable[..., Project]
) -> None:
    project = render(platforms=["linux-aarch64", "macos-arm64"])
    first = next(value for name, value in instructions(project, "lock") if name == "RUN")
    programs = project.path / "bin"
    programs.mkdir()
    (programs / "uname").write_text(f"#!/bin/sh\necho {machine}\n")
    (programs / "uname").chmod(0o755)
    env = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", first], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert ("--platform linux/arm64" in done.stderr) == bool(code)


@pytest.mark.parametrize(
    ("backend", "service"),
    [
        ("cu132", {"gpus": "all"}),
        ("rocm7.2", {"devices": ["/dev/kfd", "/dev/dri"], "security_opt": ["seccomp=unconfined"]}),
        ("xpu", {"devices": ["/dev/dri"]}),
    ],
)
def test_compose_passes_the_gpus_on(backend: str, service: dict[str, Any], render: Callable[..., Project]) -> None:
    project = render(backend=backend)
    load = {name: yaml.safe_load((project.path / name).read_text()) for name in ("compose.yaml", "compose.gpu.yaml")}
    found = load["compose.gpu.yaml"]["services"]["train"]
    groups = found.pop("group_add", [])
    assert found == service
    assert [group.split(":")[0] for group in groups] == (["video", "${RENDER_GROUP"] if "devices" in service else [])
    assert load["compose.yaml"]["services"]["train"]["shm_size"] == "8gb", "workers need more than Docker's 64 MB"


def test_an_editor_takes_the_environment_of_the_development_container(tmp_path: Path) -> None:
    for features in (["docker", "devcontainer"], ["devcontainer"]):
        project = Project.render(tmp_path / "-".join(features), features=features)
        settings = yaml.safe_load((project.path / ".devcontainer" / "devcontainer.json").read_text())
        dockerfile = (project.path / ".devcontainer" / settings["build"]["dockerfile"]).read_text()
        python = settings["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
        assert (
            f"UV_PROJECT_ENVIRONMENT={python.removesuffix('/bin/python')}" in dockerfile.replace(" ", "\n").splitlines()
        )
