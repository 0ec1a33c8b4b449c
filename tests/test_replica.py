"""The replica is an index that uv cannot tell from the real one."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
import tomllib
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.utils import parse_wheel_filename

from tests.project import PYTHON, without_uv
from tests.replica import JSON, proxy, pypi, wheels
from tests.table import BACKENDS, COMPANIONS, RELEASES, versions


def get(url: str, accept: str = "*/*") -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept})) as response:
        return bytes(response.read())


def test_both_forms_of_a_page_say_the_same(replica: str) -> None:
    files = json.loads(get(f"{replica}/cu118/torch/", JSON))["files"]
    links = re.findall(r'href="([^"#]+)#sha256=(\w+)".*>([^<]+)</a>', get(f"{replica}/cu118/torch/").decode())
    assert links == [(file["url"], file["hashes"]["sha256"], file["filename"]) for file in files]


def test_names_carry_the_local_version_where_the_real_ones_do(replica: str) -> None:
    names = [file["filename"] for file in json.loads(get(f"{replica}/cpu/torch/", JSON))["files"]]
    assert "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl" in names
    assert "torch-2.15.0-cp314-cp314-macosx_14_0_arm64.whl" in names
    assert "torch-2.4.1-cp38-cp38-linux_aarch64.whl" in names
    assert "torch-2.4.1+cpu-cp38-cp38-win_amd64.whl" in names


@pytest.mark.parametrize("package", COMPANIONS)
def test_companions_have_the_tags_of_pypi(package: str) -> None:
    ours = {(wheel.version, wheel.tag.rsplit("-", 1)[0]) for wheel in wheels.packages("cpu")[package] if wheel.release}
    known = {version for version, _ in ours}
    theirs = {
        (str(version), f"{tag.interpreter}-{tag.abi}")
        for name in pypi.links(pypi.PYPI, package)
        if name.endswith(".whl")
        for _, version, _, tags in [parse_wheel_filename(name)]
        for tag in tags
        if str(version) in known and not tag.abi.endswith("t")
    }
    assert ours == theirs


@pytest.mark.parametrize("package", ["torch", "torchvision", "torchaudio", "triton-rocm", "numpy"])
def test_wheels_are_whole(replica: str, package: str) -> None:
    for file in json.loads(get(f"{replica}/rocm7.2/{package}/", JSON))["files"][:3]:
        url = f"{replica.removesuffix('/whl')}{file['url']}"
        content = get(url)
        assert hashlib.sha256(content).hexdigest() == file["hashes"]["sha256"]
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            assert archive.testzip() is None
            assert get(f"{url}.metadata") == archive.read(next(name for name in names if name.endswith("/METADATA")))
            assert {name.rsplit("/", 1)[1] for name in names} - {"version.py"} == {"METADATA", "WHEEL", "RECORD"}


@pytest.mark.parametrize("path", ["cu118/nonesuch/", "cu000/torch/", "cu118/torch-9-py3-none-any.whl", "../torch/"])
def test_what_is_not_there_is_not_found(replica: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{replica}/{path}")


def test_requirements_are_those_of_the_backend() -> None:
    def required(backend: str, version: str) -> str:
        wheel = next(w for w in wheels.packages(backend)["torch"] if w.version == version)
        return "\n".join(wheels.requirements(wheel))

    assert "nvidia-cublas-cu12==12.4.5.8" in required("cu124", "2.5.1"), "PyPI's own build: as on PyPI"
    assert "nvidia-cublas-cu11; " in required("cu118", "2.5.1")
    assert "cuda-toolkit[cublas,cudart,cufft,nvrtc]==13.0.*" in required("cu130", "2.10.0")
    assert "pytorch-triton-rocm==3.1.0" in required("rocm6.2", "2.5.1")
    assert "triton-xpu==3.6.0" in required("xpu", "2.10.0")
    assert not re.search("nvidia|cuda|triton", required("cpu", "2.15.0"))


def test_the_real_wheel_stands_in_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = next(w for w in wheels.packages("cpu")["torch"] if w.version == versions(next(iter(RELEASES)), "torch")[-1])
    with zipfile.ZipFile(tmp_path / wheel.filename, "w") as archive:
        archive.writestr(f"torch-{wheel.version}+cpu.dist-info/METADATA", "Name: torch\nSummary: the real one\n")
    monkeypatch.setenv("PIP_FIND_LINKS", f"/nowhere {tmp_path}")
    for cached in (wheels.body, wheels.digest, wheels.metadata):
        cached.cache_clear()
    try:
        assert b"the real one" in wheels.metadata(wheel)
        assert wheels.digest(wheel) == hashlib.sha256((tmp_path / wheel.filename).read_bytes()).hexdigest()
    finally:
        for cached in (wheels.body, wheels.digest, wheels.metadata):
            cached.cache_clear()


def test_every_backend_has_torch() -> None:
    assert all("torch" in wheels.packages(backend) for backend in BACKENDS)


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Packages of a release that PyPI does not have yet, and their versions, as long as the table has it."""
    newest = next(iter(RELEASES))
    major, minor = map(int, newest.split("."))
    there = next(iter(reversed(RELEASES[newest]["patches"].values())))
    packages = {"torch": f"{major}.{minor + 1}.0", "torchvision": "0.999.0"}
    row = RELEASES[newest] | {"patches": {packages["torch"]: there | {"torchvision": packages["torchvision"]}}}
    monkeypatch.setitem(RELEASES, f"{major}.{minor + 1}", row)
    proxy.ahead.cache_clear()
    yield packages
    proxy.ahead.cache_clear()


def test_uv_locks_a_release_that_only_the_table_has(ahead: dict[str, str], tmp_path: Path) -> None:
    (pin,) = (line for line in wheels.real_requirements("torch", ahead["torch"]) if line.startswith("triton"))
    packages = ahead | {"triton": wheels.triton_version(pin)}
    assert all(wheels.like(package, version) != version for package, version in packages.items())
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nname = "demo"\nversion = "0"\nrequires-python = "=={PYTHON}.*"\n'
        f'dependencies = ["torch=={ahead["torch"]}", "torchvision=={ahead["torchvision"]}"]\n'
    )
    env = without_uv() | {"UV_PYTHON": sys.executable}
    with proxy.proxy() as url:
        subprocess.run(["uv", "lock", "-q", f"--default-index={url}"], cwd=tmp_path, env=env, check=True)
    locked = {package["name"]: package for package in tomllib.loads((tmp_path / "uv.lock").read_text())["package"]}
    assert {name: locked[name]["version"] for name in packages} == packages
    assert len(locked["torch"]["wheels"]) == 4
    assert locked["numpy"]["wheels"][0]["url"].startswith("https://files.pythonhosted.org/"), "the rest is PyPI's"
