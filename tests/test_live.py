"""The comparison with live indexes finds what is missing, gone or new. The replica plays PyTorch's index."""

from __future__ import annotations

import pytest

from tests import live
from tests.table import BACKENDS, RELEASES


def test_an_index_like_the_table_has_no_difference(replica: str) -> None:
    assert list(live.compare_index(replica)) == []


@pytest.mark.parametrize(
    ("release", "platform", "row", "difference"),
    [
        (
            "2.14",
            "linux-x86_64",
            "cu132 cu130* cu126 rocm7.2 cpu",
            "torch 2.14 has a xpu build for linux-x86_64, which is new",
        ),
        (
            "2.8",
            "linux-aarch64",
            "cu129 cu118 cpu*",
            "torch 2.8 has no cu118 build for linux-aarch64: it is missing, or gone",
        ),
    ],
)
def test_a_build_that_is_new_or_missing_is_a_difference(
    release: str, platform: str, row: str, difference: str, replica: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(live.compare_index(replica))  # let the replica read the table as it is
    monkeypatch.setitem(RELEASES[release]["platforms"], platform, row)
    assert list(live.compare_index(replica)) == [difference]


def test_a_backend_that_is_gone_is_a_difference(replica: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "BACKENDS", [*BACKENDS, "cu999"])
    assert [text for text in live.compare_index(replica) if text.startswith("cu999 is gone")]


def test_an_index_out_of_reach_is_skipped_in_so_many_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable() -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(live, "compare_pypi", list)
    monkeypatch.setattr(live, "compare_index", unreachable)
    assert live.main() == 0
    assert (
        "SKIPPED https://download.pytorch.org/whl: it cannot be reached (no route to host)" in capsys.readouterr().out
    )


def test_differences_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "compare_pypi", lambda: ["torch 2.99.0 is on PyPI, but not in builds.yml"])
    monkeypatch.setattr(live, "compare_index", list)
    assert live.main() == 1
