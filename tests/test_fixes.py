"""An update brings fixes to an experiment that is under way, in a project of which little is left as it was rendered.

`nox -s train` renders and installs the project that PROJECT names.
"""

from __future__ import annotations

import signal
from pathlib import Path

import yaml

from tests.history import append, commit, copied, released_twice, replace, update
from tests.installed import PROJECT, SAME_WEIGHTS
from tests.test_swaps import EXACTLY, Task, swap
from tests.test_update import OLDER, rename_as_documented
from tests.waiting import wait_for

OURS = "# ours"


def take_fixes_out(source: Path) -> None:
    """Leave a template without a fix to each file of the runtime."""
    for path in runtime(source / "template"):
        append(path, OLDER)


def runtime(folder: Path) -> list[Path]:
    """Return the files of the runtime and of its tests."""
    found = [*folder.glob("src/*/runtime/*.py*"), *folder.glob("tests/runtime/*.py*")]
    assert len(found) >= 15
    return found


def test_fixes_reach_an_experiment_and_it_resumes_bit_for_bit(tmp_path: Path) -> None:
    recorded = yaml.safe_load((PROJECT / ".copier-answers.yml").read_text())
    answers = {name: value for name, value in recorded.items() if not name.startswith("_")}
    source = released_twice(tmp_path / "template", take_fixes_out)
    demo = copied(source, tmp_path / "demo", "1.0.0", **answers)
    swap(demo / "src" / "demo", "regression")
    replace(demo / "src" / "demo" / "train.py", "zero_grad()", "zero_grad(set_to_none=False)")
    for path in (*demo.glob("src/*/*.py"), *runtime(demo)):
        path.write_text(f"{OURS}\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    (demo / "exactly.py").write_text(EXACTLY.replace("demo", "other"))
    commit(demo)
    rename_as_documented(demo)

    task = Task("regression", demo)
    runs = demo / "runs"
    calm = task.train("runs/calm")
    command = ["exactly.py", "train", "--out=runs/stormy", *task.options]
    running = task.start(*command, "--save-every=10")
    wait_for(lambda: list((runs / "stormy").glob("step-*.pt")))
    running.send_signal(signal.SIGTERM)
    assert running.wait(300) == 128 + signal.SIGTERM

    before = {path: path.read_text(encoding="utf-8") for path in demo.glob("src/other/*.py")}
    update(demo)
    for path in runtime(demo):
        text = path.read_text(encoding="utf-8")
        assert OLDER not in text, f"the fix has not reached {path}"
        assert text.startswith(f"{OURS}\n"), f"an edit of {path} is lost"
    assert {path: path.read_text(encoding="utf-8") for path in demo.glob("src/other/*.py")} == before

    assert "resuming from step" in task.run(*command)
    last = f"step-{calm[-1]['step']:010d}.pt"
    task.run("-c", SAME_WEIGHTS, runs / "calm" / last, runs / "stormy" / last)
