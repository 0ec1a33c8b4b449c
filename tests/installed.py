"""The project that `nox -s train` renders and installs, for the tests that use it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from tests.project import Project

PROJECT = Path(os.environ.get("PROJECT", ".")).resolve()

# Compares the weights in two checkpoints
SAME_WEIGHTS = """
import sys, torch
one, two = (torch.load(path, weights_only=True)["model"] for path in sys.argv[1:])
assert one.keys() == two.keys()
assert all(torch.equal(one[name], two[name]) for name in one)
"""


def ranks(processes: int) -> list[dict[str, str]]:
    """Return the variables of each process of a run, as torchrun would set them, with a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def rendered_again(project: Path, folder: Path, **answers: object) -> Path:
    """Render a project once more, with other answers, and return where it is."""
    kept = {name: answer for name, answer in Project(project).answers.items() if not name.startswith("_")}
    return Project.render(folder, **kept | answers).path
