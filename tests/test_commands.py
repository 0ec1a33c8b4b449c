"""Commands in rendered files do what the files say: uv is asked what each `uv sync` would install."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable

import pytest

from tests.project import UV_PLATFORMS, Project

FILES = {"docker": "Dockerfile", "github": ".github/workflows/ci.yml", "gitlab": ".gitlab-ci.yml"}


def installs(project: Project, file: str, platform: str, backend: str = "") -> list[dict[str, str]]:
    """Return what each `uv sync` of a file would install on a platform, into an empty environment: names and versions."""
    text = (project.path / file).read_text().replace("\\\n", "").replace("$BACKEND", backend)
    found: list[dict[str, str]] = []
    for options in re.findall(r"\buv sync\b(.*)", text):
        dry = ["--dry-run", "--output-format", "json", "--python-platform", UV_PLATFORMS[platform]]
        changes = json.loads(project.uv("sync", *shlex.split(options), *dry))["sync"]["changes"]
        found.append({change["name"]: change.get("version", "") for change in changes})
    assert found, f"no uv sync in {file}"
    return found


@pytest.mark.parametrize("others", [[], ["cpu"]], ids=["one backend", "two"])
def test_an_image_has_the_backend_and_no_tools(others: list[str], render: Callable[..., Project], replica: str) -> None:
    project = render(torch="2.14", backend="cu126", other_backends=others)
    project.resolve_with(replica)
    project.lock()
    for backend in project.backends:
        without, everything = installs(project, FILES["docker"], "linux-x86_64", backend)
        assert without["torch"] == everything["torch"] == f"2.14.1+{backend}"
        assert "pytest" not in everything
        assert everything.keys() - without.keys() == {"demo"}


@pytest.mark.parametrize("ci", ["github", "gitlab"])
@pytest.mark.parametrize(("others", "build"), [([], "cu126"), (["cpu"], "cpu")], ids=["one backend", "two"])
def test_a_pipeline_has_the_smallest_backend_and_the_tools(
    ci: str, others: list[str], build: str, render: Callable[..., Project], replica: str
) -> None:
    project = render(torch="2.14", backend="cu126", other_backends=others, ci=ci)
    project.resolve_with(replica)
    project.lock()
    (installed,) = installs(project, FILES[ci], "linux-x86_64")
    assert installed["torch"] == f"2.14.1+{build}"
    assert {"pytest", "ruff", "mypy", "demo"} <= installed.keys()
