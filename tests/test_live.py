"""The comparison with live indexes finds what is missing, gone or new. Stand-ins play PyPI and PyTorch's index."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from tests import downloads, live, table
from tests.replica import JSON, Handler, serving
from tests.replica.wheels import platform_tag, python_tags
from tests.table import BACKENDS, PLATFORMS, RELEASES, on_pypi, versions


class Ranges(SimpleHTTPRequestHandler):
    """Serves a folder, and parts of its files."""

    def do_GET(self) -> None:
        if span := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            self.send_response(206)
            self.end_headers()
            self.wfile.write(Path(self.translate_path(self.path)).read_bytes()[int(span[1]) : int(span[2]) + 1])
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """Keep quiet: pytest shows what fails."""


@pytest.fixture(autouse=True)
def another_table() -> Iterator[None]:
    """Forget what followed from the table before and after a test that changes it."""
    table.home.cache_clear()
    yield
    table.home.cache_clear()


@pytest.fixture
def pypi(tmp_path: Path) -> Iterator[str]:
    """An index that has of PyPI's what the table says, as files in a folder."""
    for release, package in live.homes():
        for version in versions(release, package):
            for platform in PLATFORMS:
                if backend := on_pypi(release, platform, package):
                    for tag in python_tags(release, platform, package, version):
                        name = f"{package}-{version}-{tag}-{platform_tag(release, platform)}.whl"
                        add_wheel(tmp_path, name, backend)
    with serving(partial(Ranges, directory=tmp_path)) as url:
        yield url


def add_wheel(folder: Path, name: str, backend: str) -> None:
    package, version, *_ = name.split("-")
    (folder / package).mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / package / name, "w") as archive:
        archive.writestr(f"{package}/version.py", f"__version__ = '{version}+{backend}'\n")


def test_pypi_like_the_table_has_no_difference(pypi: str, tmp_path: Path) -> None:
    add_wheel(tmp_path, "torch-2.3.1-cp311-cp311-win_amd64.whl", "cpu")  # older than the table
    add_wheel(tmp_path, "torch-2.13.0-cp314-cp314t-win_amd64.whl", "cpu")  # a Python without a GIL
    assert list(live.compare_pypi(pypi)) == []


def test_a_companion_that_a_newer_one_took_the_place_of_is_no_difference(
    pypi: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch = RELEASES["2.9"]["patches"]["2.9.0"]
    assert patch["torchvision"] == "0.24.0"
    monkeypatch.setitem(patch, "torchvision", "0.24.1")
    assert list(live.compare_pypi(pypi)) == []


def test_each_difference_of_pypi_is_found(pypi: str, tmp_path: Path) -> None:
    def gone(pattern: str) -> None:
        paths = list(tmp_path.rglob(pattern))
        assert paths
        for path in paths:
            path.unlink()

    add_wheel(tmp_path, "torch-2.13.9-cp311-cp311-win_amd64.whl", "cpu")
    gone("torch-2.12.0-*")
    gone("torch-2.12.1-cp314-*-win_amd64.whl")
    add_wheel(tmp_path, "torch-2.11.0-cp314-cp314-macosx_15_0_arm64.whl", "cpu")
    add_wheel(tmp_path, "torchvision-0.999.0-py3-none-win_amd64.whl", "cpu")
    gone("torchaudio-2.8.0-*-manylinux_2_28_aarch64.whl")
    for path in tmp_path.rglob("torchvision-0.25.0-*_x86_64.whl"):
        add_wheel(tmp_path, path.name, "cu130")
    add_wheel(tmp_path, "torchcodec-0.10.0-cp314-cp314-manylinux_2_28_aarch64.whl", "cu130")
    assert sorted(live.compare_pypi(pypi)) == [
        "PyPI's torchvision 0.25.0 for linux-x86_64 is the cu130 build, not cu128",
        "torch 2.11.0 needs macOS 15.0, not 11.0",
        "torch 2.12.0 is in builds.yml, but not on PyPI",
        "torch 2.12.1 has wheels for Python 3.10 3.11 3.12 3.13 on windows-x86_64, not 3.10 3.11 3.12 3.13 3.14",
        "torch 2.13.9 is on PyPI, but not in builds.yml",
        "torchaudio 2.8.0 has wheels for no Python on linux-aarch64, not 3.9 3.10 3.11 3.12 3.13",
        "torchcodec 0.10.0 has wheels for Python 3.14 on linux-aarch64, not for any",
        "torchvision 0.999.0 is on PyPI, but not in builds.yml",
    ]


SIZED = {
    "torch-2.0.0-cp311-cp311-manylinux_2_28_x86_64.whl": 1_000_000_000,
    "torch-2.0.0-cp311-cp311-manylinux_2_28_aarch64.whl": 100_000_000,
    "torch-2.0.0-cp311-cp311-macosx_14_0_arm64.whl": 80_000_000,
    "torch-2.0.0-cp311-cp311-win_amd64.whl": 123_456_789,
    "torch-2.0.0-cp312-cp312-win_amd64.whl": 999_999_999,
    "cuda-1.0-py3-none-any.whl": 1_000,
    "libs-1.0-py3-none-manylinux_2_17_x86_64.whl": 2_000_000_000,
    "libs-1.0-py3-none-manylinux_2_17_aarch64.whl": 0,
    "libs-2.0-py3-none-manylinux_2_17_x86_64.whl": 5_000_000_000,
    "fast-1.0-py3-none-any.whl": 90_000_000,
    "fast-1.1-py3-none-any.whl": 2_000_000,
    "fast-2.0-py3-none-any.whl": 90_000_000,
}
REQUIRED = {
    "torch": ["cuda[libs]==1.0; platform_system == 'Linux'", "fast<2; platform_machine != 'AMD64'"],
    "cuda": ["libs==1.*; extra == 'libs'", "nothing; extra == 'other'"],
}


class Sized(Handler):
    """An index of wheels that are not there, but have sizes and metadata."""

    def do_GET(self) -> None:
        name = self.path.strip("/").rpartition("/")[2]
        if name.endswith(".metadata"):
            package, version = name.split("-")[:2]
            lines = ["Metadata-Version: 2.1", f"Name: {package}", f"Version: {version}", "Provides-Extra: libs"]
            lines += [f"Requires-Dist: {line}" for line in REQUIRED.get(package, [])]
            self.reply("\n".join([*lines, ""]).encode(), "application/octet-stream")
        else:
            files = [
                {
                    "filename": file,
                    "url": file,
                    "hashes": {"sha256": hashlib.sha256(file.encode()).hexdigest()},
                    "size": size,
                    "core-metadata": True,
                }
                for file, size in SIZED.items()
                if file.startswith(f"{name}-")
            ]
            self.reply(json.dumps({"meta": {"api-version": "1.1"}, "name": name, "files": files}).encode(), JSON)


def test_a_download_is_all_that_uv_would_install() -> None:
    with serving(Sized) as url:
        assert downloads.of_version(url, "2.0.0", "3.11", "14.0") == {
            "linux-x86_64": 3000,
            "linux-aarch64": 100,
            "macos-arm64": 82,
            "windows-x86_64": 120,
        }


def test_a_download_of_another_size_is_a_difference(pypi: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {version: row["download"] for row in RELEASES.values() for version in row["patches"]}
    monkeypatch.setattr(downloads, "of_version", lambda _, version, *rest: rows[version])
    assert list(live.compare_downloads(pypi)) == []
    newer = {"linux-x86_64": 2900, "linux-aarch64": 3300, "macos-arm64": 150}
    monkeypatch.setitem(rows, "2.13.0", rows["2.13.0"] | newer)
    assert list(live.compare_downloads(pypi)) == [
        "torch 2.13.0 takes 3300 MB on linux-aarch64, not 2900",
        "torch 2.13.0 takes 150 MB on macos-arm64, not 120",
    ]


def test_an_index_like_the_table_has_no_difference(replica: str) -> None:
    assert list(live.compare_index(replica)) == []


def test_a_build_that_is_new_is_a_difference(replica: str, monkeypatch: pytest.MonkeyPatch) -> None:
    list(live.compare_index(replica))  # let the replica read the table as it is
    builds = {name: on for name, on in RELEASES["2.14"]["builds"].items() if name != "xpu"}
    monkeypatch.setitem(RELEASES["2.14"], "builds", builds)
    assert list(live.compare_index(replica)) == [
        "torch 2.14.1 has a xpu build for linux-x86_64, which is new",
        "torchvision 0.29.1 has a xpu build for linux-x86_64, which is new",
    ]


def test_a_build_that_is_missing_is_a_difference(replica: str, monkeypatch: pytest.MonkeyPatch) -> None:
    list(live.compare_index(replica))  # let the replica read the table as it is
    monkeypatch.setitem(RELEASES["2.8"]["builds"], "rocm6.2", ["linux-x86_64"])
    assert list(live.compare_index(replica)) == [
        "torch 2.8.0 has no rocm6.2 build for linux-x86_64: it is missing, or gone",
        "torchvision 0.23.0 has no rocm6.2 build for linux-x86_64: it is missing, or gone",
        "torchaudio 2.8.0 has no rocm6.2 build for linux-x86_64: it is missing, or gone",
        "pytorch-triton-rocm 3.4.0 has no rocm6.2 build for linux-x86_64: it is missing, or gone",
    ]


def test_a_backend_or_a_release_that_is_new_is_a_difference(replica: str, monkeypatch: pytest.MonkeyPatch) -> None:
    list(live.compare_index(replica))  # let the replica read the table as it is
    monkeypatch.setattr(live, "BACKENDS", [name for name in BACKENDS if name != "cu129"])
    newest = next(iter(RELEASES))
    monkeypatch.setattr(live, "RELEASES", {name: entry for name, entry in RELEASES.items() if name != newest})
    assert list(live.new_builds(replica)) == [
        "torch 2.8 has a cu129 build, which is new",
        f"torch {newest} has a cpu build, which is new",
        f"torch {newest} has a cu132 build, which is new",
    ]


def test_a_backend_that_is_gone_is_a_difference(replica: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (live, table):
        monkeypatch.setattr(module, "BACKENDS", {**BACKENDS, "cu999": {}})
    monkeypatch.setitem(RELEASES["2.14"]["builds"], "cu999", ["linux-x86_64"])
    gone = [text for text in live.compare_index(replica) if "cu999" in text]
    assert gone == [
        f"{name} is gone from the index of cu999: HTTP Error 404: Not Found" for name in ("torch", "torchvision")
    ]


def test_an_index_out_of_reach_is_skipped_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable() -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(live, "compare_pypi", list)
    monkeypatch.setattr(live, "compare_downloads", list)
    monkeypatch.setattr(live, "compare_index", unreachable)
    assert live.main() == 0
    assert (
        "SKIPPED https://download.pytorch.org/whl: it cannot be reached (no route to host)" in capsys.readouterr().out
    )


def test_differences_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "compare_pypi", lambda: ["torch 2.99.0 is on PyPI, but not in builds.yml"])
    monkeypatch.setattr(live, "compare_downloads", list)
    monkeypatch.setattr(live, "compare_index", list)
    assert live.main() == 1
