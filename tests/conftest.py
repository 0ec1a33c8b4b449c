"""Fixtures of the template's tests."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import replica as stand_in
from tests.project import Project

gc.set_threshold(50_000, 20, 20)  # a render makes many objects, and few that refer to one another: 8 % of the time


@pytest.fixture(scope="session")
def replica() -> Iterator[str]:
    """The base URL of the replica, as long as the tests run."""
    with stand_in.replica() as url:
        yield url


@pytest.fixture
def render(tmp_path: Path) -> Callable[..., Project]:
    """Render the template into a folder of the test, with these answers."""
    return lambda **answers: Project.render(tmp_path / "demo", **answers)
