"""An installed project in the hands of its users: what they change, kill, close, forget and type.

`nox -s train` renders and installs the project that PROJECT names.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.history import replace
from tests.installed import PROJECT
from tests.waiting import foreground, wait_for

PYTHON = PROJECT / ".venv/bin/python"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: Windows has neither such signals nor limits")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the package, to change."""
    shutil.copytree(PROJECT / "src", tmp_path / "src")
    return tmp_path


Start = Callable[..., "subprocess.Popen[str]"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def start(project: Path) -> Start:
    """Start the command of the project with these arguments, in a group of its own."""

    def start(*arguments: str, prefix: str = "", **variables: str) -> subprocess.Popen[str]:
        environ = {**os.environ, "PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1", **variables}
        command = " ".join([prefix, str(PYTHON), "-m demo", *arguments])
        return subprocess.Popen(
            ["/bin/bash", "-c", f"exec {command}" if not prefix else command],
            cwd=project,
            env=environ,
            stdout=-1,
            stderr=-1,
            text=True,
            start_new_session=True,
            preexec_fn=foreground,  # noqa: PLW1509 - there are no threads here
        )

    return start


@pytest.fixture
def run(start: Start) -> Run:
    """Run the command of the project, and return what it printed."""

    def run(*arguments: str, code: int = 0, **options: str) -> subprocess.CompletedProcess[str]:
        running = start(*arguments, **options)
        try:
            output, errors = running.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            raise
        assert running.returncode == code, output + errors
        return subprocess.CompletedProcess(arguments, code, output, errors)

    return run


TRAIN = ("train", "--device=cpu", "--out=run", "--log-every=10", "--save-every=20", "--eval-every=20")


def until_step(running: subprocess.Popen[str]) -> None:
    """Wait until a run has logged a step."""
    assert running.stdout
    assert any(line.startswith("step ") for line in running.stdout)


FIELDS = """
    root: Path = Path("data")
    betas: Tuple[float, float] = (0.9, 0.95)
    limit: Optional[float] = None
    color: Color = Color.RED
    log_every: PositiveInt = 50
"""


def test_settings_of_any_kind_are_kept(project: Path, run: Run) -> None:
    config = project / "src" / "demo" / "config.py"
    replace(config, "    log_every: PositiveInt = 50\n", FIELDS)
    replace(
        config, "from typing import Literal\n", "from enum import Enum\nfrom typing import Literal, Optional, Tuple\n"
    )
    color = 'class Color(Enum):\n    RED = "red"\n    BLUE = "blue"\n\n\n'
    first = "@dataclass(frozen=True)\nclass TrainConfig"
    replace(config, first, color + first)
    run(*TRAIN, "--steps=20", "--root=elsewhere", "--color=BLUE")
    resumed = run(*TRAIN, "--steps=40", "--root=elsewhere", "--color=BLUE").stdout
    assert "resuming from step 20" in resumed
    assert re.findall(r"(\w+) changed from", resumed) == ["steps"]
    run("evaluate", "--checkpoint=run")
    run("export", "--checkpoint=run")
    assert (project / "run" / "model.safetensors").exists()


def test_a_model_that_has_changed_names_its_first_difference(project: Path, run: Run) -> None:
    run(*TRAIN, "--steps=10")
    replace(project / "src" / "demo" / "model.py", "width: int = 32", "width: int = 16")
    for command in (TRAIN, ("evaluate", "--checkpoint=run"), ("export", "--checkpoint=run")):
        error = run(*command, code=2).stderr
        assert "features.0.weight is 32 x 1 x 3 x 3 there and 16 x 1 x 3 x 3 here" in error
        assert ("use another --out" in error) == (command is TRAIN)
    tuned = run("train", "--device=cpu", "--out=other", "--steps=2", "--init-from=run", "--init-partly").stdout
    assert "left out: features.0.weight" in tuned


def test_a_finished_run_is_not_taken_for_another(run: Run) -> None:
    first = run(*TRAIN, "--steps=20").stdout
    again = run(*TRAIN, "--steps=20", "--workers=1").stdout
    assert "the run is finished" in again
    assert first.splitlines()[-4] == again.splitlines()[-4], "the same figures"
    assert (
        "finished, and lr changed from 0.003 to 0.1: use another --out"
        in run(*TRAIN, "--steps=20", "--lr=0.1", code=2).stderr
    )
    refused = run(*TRAIN, "--steps=5", code=2)
    assert "the run in run is at step 20 of 20, and --steps is 5: use another --out" in refused.stderr
    assert "test set" not in refused.stdout


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("death", ["a worker", "the trainer", "a signal to all"])
def test_no_process_stays_or_waits(method: str, death: str, project: Path, start: Start) -> None:
    start_method = f"    import multiprocessing\n\n    multiprocessing.set_start_method({method!r})\n"
    main = project / "src" / "demo" / "__main__.py"
    replace(main, "    sys.exit(main())", f"{start_method}    sys.exit(main())")
    running = start(*TRAIN, "--steps=1000000", "--workers=2")
    until_step(running)
    group = members(running.pid)
    assert len(group) >= 3
    if death == "a signal to all":
        os.killpg(running.pid, signal.SIGTERM)
    else:
        os.kill(running.pid if death == "the trainer" else group[-1], signal.SIGKILL)
    output, errors = running.communicate(timeout=300)
    wait_for(lambda: not members(running.pid))
    if death == "a worker":
        assert running.returncode == 2
        assert errors.splitlines()[-1].startswith("error: no data from the workers")
    elif death == "a signal to all":
        assert (running.returncode, errors) == (128 + signal.SIGTERM, "")
        assert "the same command resumes the run" in output


def members(group: int) -> list[int]:
    """Return the processes of a group, without those that have ended, and without multiprocessing's own."""
    found = subprocess.run(["ps", "-eo", "pid=,pgid=,stat=,args="], check=True, capture_output=True, text=True)
    rows = [line.split(None, 3) for line in found.stdout.splitlines()]
    return [
        int(pid)
        for pid, pgid, stat, *command in rows
        if int(pgid) == group and not stat.startswith("Z") and "resource_tracker" not in " ".join(command)
    ]


HANGING = """def hang(samples: object) -> object:
    import os, time
    from torch.utils.data import default_collate
    if os.environ["RANK"] == "1" and os.path.exists("hang"):
        time.sleep(600)
    return default_collate(samples)


def load_data"""


@pytest.mark.skipif(sys.platform != "linux", reason="SKIPPED: the rank of a process is read in /proc")
@pytest.mark.parametrize(
    ("what", "processes", "line"),
    [
        ("freezes", 2, "no sign of life from rank 1 on {host} for 8 s"),
        ("hangs", 3, "the others waited 25 s for rank 1 on {host}"),
        ("dies", 3, "lost contact with rank 1 on {host}: "),
    ],
)
def test_a_rank_that_keeps_the_others_waiting_is_named(
    what: str, processes: int, line: str, project: Path, start: Start
) -> None:
    data, heartbeat = (project / "src" / "demo" / name for name in ("data.py", "runtime/heartbeat.py"))
    replace(data, "def load_data", HANGING)
    replace(data, "        collate=None,  # a TensorDataset can read a whole batch\n", "        collate=hang,\n")
    replace(heartbeat, "PERIOD = 1.0", "PERIOD = 0.2")
    replace(heartbeat, "SILENCE_LIMIT, WAIT_LIMIT = 300.0, 600.0", "SILENCE_LIMIT, WAIT_LIMIT = 8.0, 25.0")
    torchrun = f"{PROJECT}/.venv/bin/torchrun --standalone --nproc-per-node {processes} --no-python"
    running = start(*TRAIN, "--steps=1000000", "--batch-size=126", prefix=torchrun)
    until_step(running)
    rank = process_of(1, project)
    if what == "hangs":
        (project / "hang").touch()
    else:
        os.kill(rank, signal.SIGKILL if what == "dies" else signal.SIGSTOP)
    assert running.stderr
    first = next(text for text in iter(running.stderr.readline, "") if text.startswith("error: "))
    assert first.startswith("error: " + line.format(host=socket.gethostname()))
    if what == "freezes":
        os.kill(rank, signal.SIGKILL)  # torchrun would give it half a minute
    rest = running.communicate(timeout=300)[1]
    assert running.returncode == 1
    assert not [text for text in rest.splitlines() if text.startswith("error: ")], "once"
    wait_for(lambda: not members(running.pid))


def process_of(rank: int, project: Path) -> int:
    """Return the process of a rank that torchrun started, which is not in the group of torchrun."""
    wanted = {f"RANK={rank}".encode(), f"PYTHONPATH={project / 'src'}".encode()}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted <= {*(folder / "environ").read_bytes().split(b"\0")}:
                return int(folder.name)
    raise LookupError(f"there is no rank {rank}")


def test_too_few_files_for_the_workers(run: Run) -> None:
    error = run(*TRAIN, "--workers=8", prefix="ulimit -n 32;", code=2).stderr
    assert "error: cannot start 8 workers ([Errno 24] Too many open files): use fewer --workers" in error


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="SKIPPED: needs root")
def test_too_little_shared_memory_for_the_workers(run: Run) -> None:
    prefix = "unshare --mount bash -c 'mount -t tmpfs -o size=64k tmpfs /dev/shm; exec \"$@\"' -"
    error = run(*TRAIN, "--workers=1", "--batch-size=512", prefix=prefix, code=2).stderr.splitlines()[-1]
    assert error.startswith("error: no data from the workers")
    assert "enlarge /dev/shm" in error


def test_what_reads_the_output_may_end(project: Path, run: Run) -> None:
    run(*TRAIN, "--steps=1000000", "| head -1; exit ${PIPESTATUS[0]}", prefix="true;", code=141)
    assert list((project / "run").glob("step-*.pt"))


def test_there_may_be_no_output(project: Path, run: Run) -> None:
    assert run(*TRAIN, "--steps=20", ">&-").stderr == ""
    assert (project / "run" / "best.pt").exists()


def test_letters_that_a_terminal_lacks(run: Run) -> None:
    for _ in range(2):
        output = run("train", "--device=cpu", "--steps=2", "--out=für-später", PYTHONIOENCODING="ascii").stdout
    assert "f\\xfcr-sp\\xe4ter" in output


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP"])
def test_a_signal_ends_a_run_with_a_checkpoint(name: str, project: Path, start: Start) -> None:
    running = start(*TRAIN, "--steps=1000000")
    until_step(running)
    number = getattr(signal, name)
    running.send_signal(number)
    if name == "SIGTERM":  # and once more, as from uv or torchrun
        time.sleep(0.05)
        running.send_signal(number)
    output, errors = running.communicate(timeout=300)
    assert (running.returncode, errors) == (128 + number, "")
    step = re.search(r"stopped at step (\d+)", output)
    assert step
    assert (project / "run" / f"step-{int(step[1]):010d}.pt").exists()


def test_a_folder_that_goes_away_costs_no_step(project: Path, start: Start) -> None:
    running = start(*TRAIN, "--steps=1000000")
    until_step(running)
    (project / "run").rename(project / "moved")
    wait_for(lambda: list((project / "run").glob("step-*.pt")))
    (project / "run" / "metrics.jsonl").unlink(missing_ok=True)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=300)
    assert running.returncode == 128 + signal.SIGTERM


def test_a_checkpoint_is_saved_before_metrics_fail(project: Path, start: Start) -> None:
    running = start(*TRAIN, "--steps=1000000", "--save-every=1000000")
    until_step(running)
    (project / "run" / "metrics.jsonl").unlink()
    (project / "run" / "metrics.jsonl").mkdir()
    _, errors = running.communicate(timeout=300)
    assert running.returncode == 2
    assert "metrics.jsonl" in errors
    assert list((project / "run").glob("step-*.pt"))


def test_a_folder_that_cannot_be(project: Path, run: Run) -> None:
    (project / "run").symlink_to(project / "nowhere" / "at all")
    assert "error: cannot write to run: File exists" in run(*TRAIN, code=2).stderr
    assert "out is the current folder" in run("train", "--out=''", code=2).stderr


def test_the_home_folder(project: Path, run: Run) -> None:
    run("train", "--device=cpu", "--steps=2", "--out='~/run'", HOME=str(project / "home"))
    assert (project / "home" / "run" / "best.pt").exists()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"RANK": "1", "WORLD_SIZE": "2"},
            "WORLD_SIZE is 2, but this is one process: start all with torchrun",
        ),
        ({"SLURM_NTASKS": "2"}, "SLURM_NTASKS is 2, but this is one process: start all with srun"),
    ],
)
def test_processes_that_a_launcher_counts_and_torchrun_does_not(
    variables: dict[str, str], message: str, run: Run
) -> None:
    (line,) = run(*TRAIN, code=2, **variables).stderr.splitlines()
    assert line.startswith(f"error: {message}")


def test_a_process_says_whom_it_cannot_reach(start: Start) -> None:
    ranks = {
        "RANK": "1",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "no-such-host.invalid",
        "MASTER_PORT": "29500",
    }
    running = start(*TRAIN, **ranks)
    assert running.stdout
    line = running.stdout.readline()
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert re.match(r"waiting for no-such-host\.invalid:29500 \(.+\)$", line)


def test_a_run_in_a_thread(project: Path) -> None:
    code = (
        "import threading; from pathlib import Path; from demo.train import train; from demo.config import TrainConfig\n"
        "config = TrainConfig(out=Path('run'), device='cpu', steps=3, workers=1)\n"
        "thread = threading.Thread(target=train, args=[config]); thread.start(); thread.join()"
    )
    environ = {**os.environ, "PYTHONPATH": str(project / "src")}
    subprocess.run([PYTHON, "-c", code], cwd=project, env=environ, check=True)
    assert (project / "run" / "best.pt").exists()


def test_nothing_to_train(project: Path, run: Run) -> None:
    replace(project / "src" / "demo" / "model.py", "    return Net()", "    return Net().requires_grad_(False)")
    assert "error: no parameter of the model is trainable" in run(*TRAIN, code=2).stderr


def test_a_method_of_the_model_on_two_processes(project: Path, run: Run) -> None:
    model = project / "src" / "demo" / "model.py"
    replace(
        model,
        'return F.cross_entropy(model(images), labels, reduction="sum"), len(labels)',
        'net = getattr(model, "module", model)\n'
        "    logits = net.classify(net.features(images))\n"
        '    return F.cross_entropy(logits, labels, reduction="sum"), len(labels)',
    )
    run(*TRAIN, "--steps=10")
    torchrun = f"{PROJECT}/.venv/bin/torchrun --standalone --nproc-per-node 2 --no-python"
    error = run(*TRAIN, "--steps=20", prefix=torchrun, code=1).stderr
    assert "error: the gradients of the processes differ: in training_loss, call the model itself" in error


def test_without_a_compiler(run: Run) -> None:
    (line,) = run(*TRAIN, "--compile", code=2, PATH="/nowhere").stderr.splitlines()
    assert line == "error: --compile needs g++: install it (in a Dockerfile: in its stage base), or leave out --compile"


def test_a_slow_precision_is_named(run: Run) -> None:
    assert "fp16 is very slow on a CPU" in run(*TRAIN, "--steps=1", "--precision=fp16", "--batch-size=8").stderr


def test_an_error_of_the_data_is_shown_whole(project: Path, run: Run) -> None:
    data = project / "src" / "demo" / "data.py"
    replace(data, "        collate=None,  # a TensorDataset can read a whole batch\n", "        collate=broken,\n")
    replace(
        data, "def load_data", "def broken(samples: object) -> None:\n    raise KeyError('image')\n\n\ndef load_data"
    )
    for workers in ("0", "1"):
        error = run(*TRAIN, f"--workers={workers}", code=1).stderr
        assert "KeyError: 'image'" in error
        assert "in broken" in error
