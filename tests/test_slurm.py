"""The batch script of an installed project, and other ways to start its processes, on a real Slurm.

`nox -s slurm` starts the Slurm that SLURM and SLURM_CONF name, and installs the project that PROJECT names. What jobs wait for
is a minute: all are submitted first, and run at the same time.
"""

from __future__ import annotations

import os
import re
import subprocess
from functools import partial

import pytest

from tests.history import append
from tests.installed import PROJECT, SAME_WEIGHTS
from tests.slurm import Slurm
from tests.waiting import wait_for

STEPS = 150
LAST = f"step-{STEPS:010d}.pt"
# Data that take their time, as on a slow disk, and freeze one of two processes
SLOW = """

import os
import signal
import time

from .runtime import heartbeat

heartbeat.SILENCE_LIMIT = float(os.environ.get("SILENCE_LIMIT", heartbeat.SILENCE_LIMIT))


class Slow(TensorDataset):
    def __getitem__(self, index):
        time.sleep(float(os.environ.get("SECONDS_A_BATCH", "0")))
        if os.environ.get("FROZEN_RANK") == os.environ.get("RANK", "none"):
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().__getitem__(index)


def load_slowly(config, load_data=load_data):
    data = load_data(config)
    return data._replace(train=Slow(*data.train.tensors))


load_data = load_slowly
"""


class Job:
    """A job that was submitted in the project."""

    def __init__(self, slurm: Slurm, number: str) -> None:
        self.slurm, self.number = slurm, number

    @property
    def fields(self) -> dict[str, str]:
        """What Slurm knows of it."""
        shown = self.slurm("scontrol", "--oneliner", "show", "job", self.number, cwd=PROJECT)
        return dict(field.split("=", 1) for field in shown.split() if "=" in field)

    @property
    def restarts(self) -> int:
        return int(self.fields["Restarts"])

    @property
    def log(self) -> str:
        path = PROJECT / f"slurm-{self.fields['JobId']}.out"
        return path.read_text() if path.exists() else ""

    def begun(self) -> Job:
        """Wait until it trains."""
        wait_for(lambda: "step 10/" in self.log, every=0.5)
        return self

    def end(self) -> str:
        """Return how it has ended for good, if it has."""
        state = self.fields["JobState"]
        return state if state in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED") else ""

    def ended(self) -> str:
        """Wait until it has ended for good, and return how."""
        return wait_for(self.end, 240, every=0.5)


def submit(slurm: Slurm, *command: str, **env: str) -> Job:
    options = ("--parsable", "--cpus-per-task", "1")
    return Job(slurm, slurm("sbatch", *options, *command, cwd=PROJECT, OMP_NUM_THREADS="1", **env).strip())


def train(slurm: Slurm, name: str, *options: str, others: tuple[str, ...] = ()) -> Job:
    """Submit a job that trains into a folder of its name, for a minute."""
    settings = [f"--steps={STEPS}", f"--eval-every={STEPS}", "--log-every=5", "--batch-size=32", "--device=cpu"]
    command = ("slurm/train.sbatch", *settings, "--out", f"runs/{name}", *others)
    return submit(slurm, *options, *command, SECONDS_A_BATCH="0.3")


@pytest.fixture(scope="module")
def slurm() -> Slurm:
    append(PROJECT / "src" / "demo" / "data.py", SLOW)
    return Slurm(os.environ["SLURM"])


@pytest.fixture(scope="module")
def jobs(slurm: Slurm) -> dict[str, Job]:
    """Jobs that train, and what happens to them."""
    # The environment lacks a package when the first one starts
    uninstall = ["uv", "pip", "uninstall", "--quiet", "--python", ".venv", "filelock"]
    subprocess.run(uninstall, cwd=PROJECT, check=True)
    here, there = ("--nodes", "2", "--exclude", "node[3-5]"), ("--nodes", "2", "--exclude", "node[1-2]")
    limit = ("--time", "2", "--signal", "USR1@60", "--account", "research", "--partition", "usual")
    jobs = {"calm": train(slurm, "calm", *here).begun()}
    jobs["orphaned"] = train(slurm, "orphaned", *there, others=("--save-every", "5"))
    jobs["limited"] = train(slurm, "limited", *here, *limit)
    jobs["preempted"] = train(slurm, "preempted", *here, "--partition", "spare", "--gpus-per-node", "2")
    jobs["cancelled"] = train(slurm, "cancelled", *here)
    array = train(slurm, "seed-%a", "--array", "3-4", "--exclude", "node[3-5]", others=("--seed", "%a")).number
    jobs |= {f"trial {number}": Job(slurm, f"{array}_{number}") for number in (3, 4)}
    disturb(slurm, jobs)
    return jobs


def freeze(slurm: Slurm) -> Job:
    """Submit a job with a process that freezes, and less patience."""
    script = PROJECT / "slurm" / "frozen.sbatch"
    script.write_text((PROJECT / "slurm" / "train.sbatch").read_text().replace("--wait=600", "--wait=10"))
    command = ("--ntasks-per-node", "2", "--nodelist", "node2", str(script), "--device=cpu", "--out=runs/frozen")
    return submit(slurm, *command, SILENCE_LIMIT="5", FROZEN_RANK="1")


def disturb(slurm: Slurm, jobs: dict[str, Job]) -> None:
    """Let a node die, let another job come first, cancel one, stop one of an array, and give a short one time to end."""
    hosts = slurm("scontrol", "show", "hostnames", jobs["orphaned"].begun().fields["NodeList"], cwd=PROJECT)
    slurm.kill(hosts.split()[1])
    everything = ("--gpus-per-node", "2", "--nodelist", "node[1-2]")
    jobs["preempted"].begun()
    submit(slurm, "--partition", "urgent", *everything, "--wrap", "true")
    slurm("scancel", jobs["cancelled"].begun().number, cwd=PROJECT)
    slurm("scancel", "--signal", "USR1", jobs["trial 4"].begun().number, cwd=PROJECT)
    wait_for(lambda: jobs["limited"].restarts or jobs["limited"].end(), every=0.5)
    slurm.run("scontrol", "update", f"JobId={jobs['limited'].number}", "TimeLimit=60", cwd=PROJECT)


def assert_same_weights(name: str) -> None:
    calm, other = (PROJECT / "runs" / run / LAST for run in ("calm", name))
    subprocess.run([PROJECT / ".venv/bin/python", "-c", SAME_WEIGHTS, calm, other], check=True)


def test_a_job_trains_on_two_nodes_after_one_sync(jobs: dict[str, Job]) -> None:
    job = jobs["calm"]
    assert job.ended() == "COMPLETED"
    assert "on 2 processes" in job.log
    assert job.log.count("Installed 1 package") == 1, "the nodes share the environment"
    assert "error" not in job.log


@pytest.mark.parametrize("name", ["limited", "preempted"])
def test_a_job_that_must_stop_goes_on_later_as_if_it_had_not(name: str, jobs: dict[str, Job]) -> None:
    job = jobs[name]
    assert job.ended() == "COMPLETED"
    assert job.restarts > 0
    stopped = re.findall(r"^stopped at step (\d+): the same command resumes the run$", job.log, re.MULTILINE)
    assert len(stopped) == job.restarts
    assert re.findall(r"^resuming from step (\d+) ", job.log, re.MULTILINE) == stopped
    assert_same_weights(name)


def test_a_job_that_stops_says_so_in_one_line(jobs: dict[str, Job]) -> None:
    assert jobs["limited"].ended()
    end = jobs["limited"].log.split("the same command resumes the run\n")[1].split("device")[0]
    assert re.fullmatch(
        r"srun: error: node\d: task \d: Exited with exit code 138\n(slurmstepd.* DUE TO JOB REQUEUE \*\*\*\n)?", end
    )


def test_a_job_keeps_its_account_and_partition(jobs: dict[str, Job]) -> None:
    job = jobs["limited"]
    assert job.ended() == "COMPLETED"
    assert (job.fields["Account"], job.fields["Partition"]) == ("research", "usual")


def test_a_job_whose_node_dies_goes_on_on_another(jobs: dict[str, Job]) -> None:
    job = jobs["orphaned"]
    assert job.ended() == "COMPLETED"
    assert job.restarts == 1
    assert "resuming from step" in job.log
    assert_same_weights("orphaned")


def test_a_job_that_is_cancelled_does_not_go_on(jobs: dict[str, Job]) -> None:
    job = jobs["cancelled"]
    assert job.ended() == "CANCELLED"
    assert job.restarts == 0


def test_the_jobs_of_an_array_are_trials_that_stop_and_go_on_alone(jobs: dict[str, Job]) -> None:
    for number, restarts in ((3, 0), (4, 1)):
        job = jobs[f"trial {number}"]
        assert job.ended() == "COMPLETED"
        assert job.restarts == restarts
        assert f"seed={number}" in job.log
        assert (PROJECT / "runs" / f"seed-{number}" / LAST).exists()


SHORT = "demo train --device cpu --steps 2 --out runs"
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
RANK = "from demo.runtime.launch import launched; print('local rank', launched()['LOCAL_RANK'])"


@pytest.fixture(scope="module", autouse=True)
def short(slurm: Slurm, jobs: dict[str, Job], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    """Jobs that end soon, which run while the others do."""
    empty = tmp_path_factory.mktemp("empty") / "venv"
    at_once, endless = ("--exclude", "node[3-5]", "--time", "1", "--signal", "USR1@60"), ("--steps=100000",)
    gpus = ("--ntasks-per-node", "2", "--gpus-per-node", "2", "--nodelist", "node3")
    two = partial(submit, slurm, "--nodes", "2", "--exclude", "node[3-5]", **AS_ROOT)
    elsewhere = "-x MASTER_ADDR=node1 -x MASTER_PORT=29501"
    return {
        "frozen": freeze(slurm),
        "hasty": train(slurm, "hasty", *at_once, others=endless),
        "wrong": two("slurm/train.sbatch", "--device", "cuda"),
        # Several backends: the script does not sync
        "empty": submit(slurm, "slurm/train.sbatch", UV_NO_SYNC="1", UV_PROJECT_ENVIRONMENT=str(empty)),
        "gpus": submit(slurm, *gpus, "slurm/train.sbatch", *SHORT.split()[2:-1], "runs/gpus"),
        "bound": submit(slurm, *gpus, "--wrap", f'uv run srun -n 2 --gpus-per-task 1 python -c "{RANK}"'),
        "srun": two("--wrap", f"uv run srun {SHORT}/srun"),
        "mpirun": submit(slurm, "--ntasks", "2", "--wrap", f"uv run mpirun {SHORT}/mpirun", **AS_ROOT),
        "mpirun elsewhere": two("--wrap", f"uv run mpirun {elsewhere} {SHORT}/elsewhere"),
        "mpirun nowhere": two("--wrap", f"uv run mpirun {SHORT}/nowhere"),
        "alone": submit(slurm, "--ntasks", "2", "--wrap", f"uv run {SHORT}/alone"),
    }


def test_a_process_that_freezes_is_named_and_does_not_hold_the_nodes(short: dict[str, Job]) -> None:
    job = short["frozen"]
    assert job.ended() == "FAILED"
    assert "error: no sign of life from rank 1 on node2 for 5 s\n" in job.log
    assert job.restarts == 0


def test_a_job_whose_time_is_always_up_is_not_queued_for_ever(short: dict[str, Job]) -> None:
    job = short["hasty"]
    assert job.ended() == "FAILED"
    assert job.log.endswith("error: the time limit was near right after the start, five times: use a longer --time\n")
    assert job.restarts >= 4


def test_a_job_that_fails_says_why_and_is_not_queued_again(short: dict[str, Job]) -> None:
    job = short["wrong"]
    assert job.ended() == "FAILED"
    assert job.fields["ExitCode"] == "2:0"
    error, srun = job.log.splitlines()
    assert error.startswith("error: no device 'cuda'")
    assert srun.endswith("Exited with exit code 2")


def test_a_job_whose_environment_is_empty_says_so(short: dict[str, Job]) -> None:
    assert short["empty"].ended() == "FAILED"
    assert "error: execve(): demo: No such file or directory\n" in short["empty"].log


def test_a_job_has_a_process_for_each_task(short: dict[str, Job]) -> None:
    """The build is for a CPU: another backend of the same project may not be."""
    job = short["gpus"]
    assert job.ended() == "COMPLETED"
    assert "on 2 processes" in job.log


def test_a_process_takes_the_gpu_that_srun_gives_it(short: dict[str, Job]) -> None:
    job = short["bound"]
    assert job.ended() == "COMPLETED"
    assert job.log == "local rank 0\nlocal rank 0\n"


@pytest.mark.parametrize("launcher", ["srun", "mpirun", "mpirun elsewhere"])
def test_other_launchers_start_the_processes_of_a_run(launcher: str, short: dict[str, Job]) -> None:
    assert short[launcher].ended() == "COMPLETED", short[launcher].log
    assert "on 2 processes" in short[launcher].log


@pytest.mark.parametrize(
    ("launcher", "error"),
    [
        ("mpirun nowhere", "MASTER_ADDR is '': use mpirun -x MASTER_ADDR=HOST -x MASTER_PORT=29500"),
        ("alone", "SLURM_NTASKS is 2, but this is one process: start all with srun, or unset SLURM_NTASKS"),
    ],
)
def test_a_process_that_does_not_know_the_others_is_refused(launcher: str, error: str, short: dict[str, Job]) -> None:
    assert short[launcher].ended() == "FAILED"
    assert f"error: {error}\n" in short[launcher].log
