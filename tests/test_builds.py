"""builds.yml is complete, and agrees with itself."""

from __future__ import annotations

import re
from typing import Any

import pytest
from packaging.version import Version

from tests.table import (
    BACKENDS,
    COMPANIONS,
    PLATFORMS,
    RELEASES,
    TABLE,
    backends,
    companions,
    entry,
    home,
    loads,
    on_pypi,
    open_facts,
    versions,
)


def test_releases_are_the_newest_first_without_a_gap() -> None:
    newest = int(next(iter(RELEASES)).removeprefix("2."))
    assert list(RELEASES) == [f"2.{minor}" for minor in range(newest, 3, -1)]


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_says_everything(release: str) -> None:
    row = RELEASES[release]
    assert row["source"]
    assert [patch.rsplit(".", 1) for patch in row["patches"]] == [[release, str(n)] for n in range(len(row["patches"]))]
    for patch in row["patches"].values():
        assert {"torchvision", "torchaudio"} <= set(patch) <= set(COMPANIONS)
    assert_builds(row)
    assert set(row["pypi"]) == set(row["builds"]["cpu"]) == set(PLATFORMS), "other platforms fall back to the CPU build"
    assert list(row["download"]) == list(PLATFORMS)
    assert set(row.get("plain", [])) <= {"torch", *COMPANIONS}
    assert re.fullmatch(r"\d+\.0", row["macos"])


@pytest.mark.parametrize("version", TABLE["torchcodec"])
def test_a_torchcodec_says_everything(version: str) -> None:
    row = TABLE["torchcodec"][version]
    assert_builds(row)
    assert version in {number for release in RELEASES for number in versions(release, "torchcodec")}
    assert set(row["beside"]) <= set(BACKENDS)
    assert {name for names in row["beside"].values() for name in names} <= set(row["builds"])


def assert_builds(row: dict[str, Any]) -> None:
    """Check the Pythons and the builds of torch or torchcodec."""
    assert list(row["builds"]) == [name for name in BACKENDS if name in row["builds"]], "in the order of the backends"
    for platforms in row["builds"].values():
        assert platforms == [name for name in PLATFORMS if name in platforms]
    for platform, build in row["pypi"].items():
        assert platform in row["builds"][build]
    assert all(re.fullmatch(r"3\.\d+", python) for python in row["python"])
    assert set(row.get("python_on", {})) <= set(row["python"])
    for platforms in row.get("python_on", {}).values():
        assert set(platforms) < set(PLATFORMS), "where not all of them have it"


def test_no_key_is_mistyped() -> None:
    known = [
        "source",
        "python",
        "python_on",
        "macos",
        "patches",
        "below",
        "triton",
        "sdk",
        "gpus",
        "plain",
        "pypi",
        "download",
        "builds",
    ]
    assert {key for row in RELEASES.values() for key in row} == {*known, "left_out"}
    of_torchcodec = {"python", "python_on", "pypi", "builds", "beside"}
    assert {key for row in TABLE["torchcodec"].values() for key in row} == of_torchcodec


@pytest.mark.parametrize("release", RELEASES)
def test_rocm_and_xpu_name_their_triton(release: str) -> None:
    kinds = {kind for kind in ("rocm", "xpu") for name in backends(release) if name.startswith(kind)}
    assert set(RELEASES[release].get("triton", {})) == kinds


def test_a_companion_ends_below_that_of_a_later_release() -> None:
    for package in ("torchvision", "torchaudio"):
        for position, release in enumerate(RELEASES):
            ours = versions(release, package)
            later = [version for newer in list(RELEASES)[:position] for version in versions(newer, package)]
            rest = [name for name in later if name not in ours and name.rsplit(".", 1)[0] == ours[0].rsplit(".", 1)[0]]
            assert RELEASES[release].get("below", {}).get(package) == min(rest, key=Version, default=None)


@pytest.mark.parametrize("release", RELEASES)
def test_companions_were_published_with_a_release_of_the_table(release: str) -> None:
    for package in companions(release):
        assert versions(release, package)[0] in versions(home(release, package), package)
        assert entry(release, package)["python"]


def test_what_loads_beside_a_build_is_looked_up() -> None:
    assert loads("2.14", "cu130", "linux-x86_64", "torchaudio") == "cu130"
    assert loads("2.14", "cu132", "linux-x86_64", "torchaudio") is None, "torchaudio 2.11.0 has no such build"
    assert loads("2.15", "cu132", "linux-x86_64", "torchcodec") == "cu130"
    assert loads("2.15", "cu132", "windows-x86_64", "torchcodec") == "cpu", "where torch itself falls back"
    assert loads("2.14", "rocm7.2", "linux-x86_64", "torchcodec") is None
    assert loads("2.10", "cpu", "linux-aarch64", "torchcodec") is None
    assert on_pypi("2.11", "linux-aarch64", "torchcodec") == "cu130"


def test_cuda_backends_have_a_driver_and_known_gpus() -> None:
    tables = [row.get("gpus", {}) for row in BACKENDS.values()]
    tables += [gpus for row in RELEASES.values() for gpus in row.get("gpus", {}).values()]
    capabilities = [capability for gpus in tables for row in gpus.values() for capability in row]
    assert {name for name in capabilities if not name.startswith("gfx")} <= set(TABLE["cards"])
    assert {name for name in TABLE["cards"] if name.startswith("gfx")} <= set(capabilities)
    unknown = [fact.split(" ")[0] for fact in open_facts() if "driver" in fact]
    for name, row in BACKENDS.items():
        assert ("driver" in row) == (name.startswith("cu") and name not in unknown)
        assert ("cards" in row) == (name in ("cu118", "xpu", "cpu")), "what has no kernels to name cards by"
