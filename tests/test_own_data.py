"""docs/data.md: what it says to write and to type, in an installed project that is the default one otherwise.

`nox -s train` renders and installs the project that PROJECT names.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.history import replace
from tests.installed import PROJECT
from tests.project import without_uv
from tests.table import ROOT

PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
PYTHON = PROJECT / ".venv/bin/python"

# Photos of several sizes: cats are dark, dogs are bright
PHOTOS = """
import random, sys
from pathlib import Path
from PIL import Image
random.seed(0)
for split, count in (("train", 40), ("test", 10)):
    for number in range(count):
        for name, low in (("cat", 0), ("dog", 130)):
            file = Path(sys.argv[1], split, name, f"{number}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            size, color = (random.randint(20, 90), random.randint(20, 90)), tuple(random.randint(low, low + 120) for _ in "RGB")
            Image.new("RGB", size, color).save(file)
"""


def block(name: str) -> str:
    """Return a block of code of the page."""
    (found,) = re.findall(rf"<!-- {name} -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, to change."""
    for name in ("src", ".mypy_cache"):
        shutil.copytree(PROJECT / name, tmp_path / "demo" / name)
    shutil.copy(PROJECT / "pyproject.toml", tmp_path / "demo")
    return tmp_path / "demo" / "src" / "demo"


def follow(package: Path, kind: str, *options: str, path: str = "") -> float:
    """Do what a section says, with its command and these options, and return the last figure of the result."""
    (package / "data.py").write_text(block(f"{kind}: data.py"))
    replace(package / "config.py", "    workers: ", block(f"{kind}: config.py") + "    workers: ")
    folder = package.parents[1]
    for command in ("format --check", "check"):
        subprocess.run([PROJECT / ".venv/bin/ruff", *command.split(), "src"], cwd=folder, check=True)
    (command,) = re.findall(rf"^uv run demo (train --out runs/{kind} .*)$", PAGE, re.MULTILINE)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "src"), path]), "OMP_NUM_THREADS": "1"}
    run = [str(PYTHON), "-m", "demo", *shlex.split(command), *options, "--device=cpu"]
    done = subprocess.run(run, cwd=folder, env=environ, stdout=subprocess.PIPE, text=True, check=True)
    result = next(line for line in done.stdout.splitlines() if line.startswith("test set"))
    return float(result.split()[-1])


def test_a_table(package: Path) -> None:
    rows = "".join(f"{a},{b},{3 * a - b * b / 40}\n" for a in range(20) for b in range(20))
    (package.parents[2] / "table.csv").write_text("a,b,target\n" + rows)
    (package / "model.py").write_text(block("table: model.py"))
    assert follow(package, "table", "--steps=200", "--batch-size=32") < 0.05
    subprocess.run([PROJECT / ".venv/bin/mypy", "src"], cwd=package.parents[1], check=True)


def test_images_of_several_sizes(package: Path, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    install = ["uv", "pip", "install", "--quiet", f"--python={PYTHON}", f"--target={packages}", "pillow"]
    subprocess.run(install, env=without_uv(), check=True)
    environ = {**os.environ, "PYTHONPATH": str(packages)}
    subprocess.run([PYTHON, "-c", PHOTOS, tmp_path / "photos"], env=environ, check=True)
    replace(package / "model.py", "    return Net()\n", block("images: model.py"))
    options = ["--steps=20", "--batch-size=16", "--size=16", "--warmup=5", "--workers=1"]
    assert follow(package, "images", *options, path=str(packages)) > 0.8
