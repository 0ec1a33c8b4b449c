"""`uv lock` of rendered projects, beside the configurations of uv's own PyTorch guide for the same targets.

The guide is https://docs.astral.sh/uv/guides/integration/pytorch/. Everything else is the same on both sides: the
dependencies, the platforms, the replica in the place of PyTorch's index, PyPI behind a warm cache.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from paired import compare

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.project import Project
from tests.replica import replica

INDEXES = """
[[tool.uv.index]]
name = "pytorch-cpu"
url = "{replica}/cpu"
explicit = true

[[tool.uv.index]]
name = "pytorch-cu126"
url = "{replica}/cu126"
explicit = true
"""

# "Configuring accelerators with environment markers"
MARKERS = """
[tool.uv.sources]
torch = [
  { index = "pytorch-cpu", marker = "sys_platform != 'linux'" },
  { index = "pytorch-cu126", marker = "sys_platform == 'linux'" },
]
"""

# "Configuring accelerators with optional dependencies"
EXTRAS = """
[tool.uv.sources]
torch = [
  { index = "pytorch-cpu", extra = "cpu" },
  { index = "pytorch-cu126", extra = "cu126" },
]
"""


def seconds(project: Project) -> float:
    (project.path / "uv.lock").unlink(missing_ok=True)
    start = time.perf_counter()
    project.uv("lock")
    return time.perf_counter() - start


def guide(project: Project, folder: Path, sources: str, replica: str) -> Project:
    """Write the project that the guide would have for these targets, with what is not PyTorch as in ours."""
    text = (project.path / "pyproject.toml").read_text()
    text = re.sub(r"required-environments = \[.*?\]\n", "", text, flags=re.DOTALL)
    text = re.sub(r"\n# From PyTorch's index.*?(?=\n\[tool\.ruff\])", "", text, flags=re.DOTALL)
    if "default-groups" in text:
        extras = '[project.optional-dependencies]\ncpu = ["torch~=2.14.0"]\ncu126 = ["torch~=2.14.0"]\n\n'
        text = re.sub(r"# The same torch.*?(?=\n\[build-system\])", "", text, flags=re.DOTALL)
        text = re.sub(r"default-groups.*?\n", "", text).replace("{ group =", "{ extra =")
        text = text.replace("[project.scripts]", f"{extras}[project.scripts]")
    folder.mkdir()
    for name in (".copier-answers.yml", "README.md", "LICENSE"):
        (folder / name).write_bytes((project.path / name).read_bytes())
    (folder / "pyproject.toml").write_text(text + sources + INDEXES.format(replica=replica))
    return Project(folder)


def main() -> None:
    targets = {"project_name": "demo", "torch": "2.14", "backend": "cu126"}
    linux = ["linux-x86_64", "linux-aarch64"]  # the guide's extras do not lock for macOS
    with tempfile.TemporaryDirectory() as name, replica() as url:
        for title, answers, sources in (
            ("uv lock, one backend", {}, MARKERS),
            ("uv lock, two backends", {"other_backends": ["cpu"], "platforms": linux}, EXTRAS),
        ):
            folder = Path(name) / title
            ours = Project.render(folder / "ours", **targets, **answers)
            ours.resolve_with(url)
            theirs = guide(ours, folder / "guide", sources, url)
            compare(f"{title}, compared with the guide's", partial(seconds, ours), partial(seconds, theirs))


if __name__ == "__main__":
    main()
