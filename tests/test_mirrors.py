"""Mirrors: uv locks with whatever takes the place of PyTorch's index, and a password stays with uv."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import replica as stand_in
from tests.files import files
from tests.project import Project
from tests.table import PLATFORMS, RELEASES, TABLE

NEWEST = next(iter(RELEASES))
ANSWERS = {"platforms": list(PLATFORMS), "backend": "cpu", "companions": ["torchvision"]}


def assert_from(project: Project, mirror: str) -> None:
    """torch and its companion come from the mirror on every platform, and nothing else does."""
    for platform in PLATFORMS:
        locked = project.locked("cpu", platform)
        indexes = {name for name, package in locked.items() if package.index.rstrip("/") == f"{mirror.rstrip('/')}/cpu"}
        assert indexes == {"torch", "torchvision"}
        assert locked["torch"].wheel(platform).startswith(f"torch-{NEWEST}")


def test_a_server(replica: str, render: Callable[..., Project]) -> None:
    project = render(**ANSWERS, torch_index=replica)
    project.lock()
    assert_from(project, replica)


def test_a_slash_at_the_end_changes_nothing(render: Callable[..., Project], tmp_path: Path) -> None:
    url = "https://mirror.example.org/whl"
    pyproject = render(**ANSWERS, torch_index=url).path / "pyproject.toml"
    slashed = Project.render(tmp_path / "slashed" / "demo", **ANSWERS, torch_index=f"{url}/").path / "pyproject.toml"
    assert slashed.read_text() == pyproject.read_text()


def test_pytorchs_own_index_with_a_slash_is_no_mirror(render: Callable[..., Project]) -> None:
    """What PyPI carries still comes from there."""
    assert "index" not in render(torch_index=f"{TABLE['index']}/").pyproject["tool"]["uv"]


@pytest.mark.parametrize("name", ["whl", "a mirror"])
def test_a_folder(name: str, tmp_path: Path, render: Callable[..., Project]) -> None:
    folder = tmp_path / name
    stand_in.write(folder, "cpu", NEWEST)
    project = render(**ANSWERS, torch_index=folder.as_uri())
    project.lock()
    assert_from(project, folder.as_uri())


class Guarded(stand_in.Handler):
    """Asks for a name and a password."""

    def do_GET(self) -> None:
        if self.headers.get("Authorization") == f"Basic {base64.b64encode(b'reader:hunter2').decode()}":
            super().do_GET()
        else:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="here"')
            self.send_header("Content-Length", "0")
            self.end_headers()

    do_HEAD = do_GET


@pytest.mark.parametrize("backend", ["cpu", "rocm7.2"])
def test_a_password_is_given_to_uv_and_stands_in_no_file(backend: str, render: Callable[..., Project]) -> None:
    with stand_in.serving(Guarded) as url:
        project = render(torch="2.14", platforms=["linux-x86_64"], backend=backend, torch_index=f"{url}/whl")
        with pytest.raises(AssertionError, match=r"401|credentials"):
            project.lock()
        name = f"UV_INDEX_PYTORCH_{backend.upper().replace('.', '_')}"
        project.uv("lock", **{f"{name}_USERNAME": "reader", f"{name}_PASSWORD": "hunter2"})
        assert project.locked(backend, "linux-x86_64")["torch"].index.startswith(f"{url}/whl/{backend}")
    assert (project.path / "uv.lock").exists()
    assert not [path for path, text in files(project).items() if "hunter2" in text]
