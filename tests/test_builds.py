"""builds.yml is complete, and agrees with itself."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from tests.table import BACKENDS, COMPANIONS, PLATFORMS, RELEASES, TABLE, backends, builds, home, versions, words


def test_releases_are_the_newest_first_without_a_gap() -> None:
    newest = int(next(iter(RELEASES)).removeprefix("2."))
    assert list(RELEASES) == [f"2.{minor}" for minor in range(newest, 3, -1)]


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_says_everything(release: str) -> None:
    entry = RELEASES[release]
    assert entry["source"]
    assert set(entry["platforms"]) == set(PLATFORMS)
    assert [patch.rsplit(".", 1) for patch in entry["patches"]] == [
        [release, str(n)] for n in range(len(entry["patches"]))
    ]
    for patch in entry["patches"].values():
        assert set(patch) == set(COMPANIONS)
    for platform, row in entry["platforms"].items():
        assert row.count("*") == 1, "PyPI carries one build for each platform"
        built = builds(release, platform)
        assert "cpu" in built, "the CPU build is what other platforms fall back to"
        assert built == [name for name in BACKENDS if name in built], "in the order of the backends"
    for row in (entry["python"], *entry.get("more_python", {}).values()):
        assert all(re.fullmatch(r"3\.\d+", python) for python in words(row))
    assert set(words(entry.get("plain", ""))) <= {"torch", *COMPANIONS}
    assert re.fullmatch(r"\d+\.0", entry["macos"])


def test_no_key_of_a_release_is_mistyped() -> None:
    known = [
        "source",
        "python",
        "more_python",
        "macos",
        "patches",
        "below",
        "triton",
        "gpus",
        "plain",
        "left_out",
        "platforms",
    ]
    assert {key for entry in RELEASES.values() for key in entry} == set(known)


@pytest.mark.parametrize("release", RELEASES)
def test_rocm_and_xpu_name_their_triton(release: str) -> None:
    kinds = {kind for kind in ("rocm", "xpu") for name in backends(release) if name.startswith(kind)}
    assert set(RELEASES[release].get("triton", {})) == kinds


def test_a_companion_ends_below_the_next_release() -> None:
    for package in COMPANIONS:
        for newer, older in pairwise(RELEASES):
            ours, theirs = versions(older, package), versions(newer, package)[0]
            goes_on = theirs not in ours and theirs.rsplit(".", 1)[0] == ours[0].rsplit(".", 1)[0]
            assert RELEASES[older].get("below", {}).get(package) == (theirs if goes_on else None)


@pytest.mark.parametrize("release", RELEASES)
def test_companions_were_built_with_a_release_of_the_table(release: str) -> None:
    for package in COMPANIONS:
        assert versions(release, package)[0] in versions(home(release, package), package)


def test_cuda_backends_have_a_driver_and_known_gpus() -> None:
    tables = [*(backend.get("gpus", {}) for backend in BACKENDS.values())]
    tables += [gpus for entry in RELEASES.values() for gpus in entry.get("gpus", {}).values()]
    for gpus in tables:
        for capabilities in gpus.values():
            for capability in capabilities.split():
                assert capability in TABLE["architectures"] or capability.startswith("gfx")
    for name, backend in BACKENDS.items():
        assert ("driver" in backend) == name.startswith("cu")
