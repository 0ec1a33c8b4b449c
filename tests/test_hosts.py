"""A rendered project that is installed trains on two hosts, one of which dies, and its processes end.

`nox -s train` renders and installs the project that PROJECT names.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installed import PROJECT, SAME_WEIGHTS, ranks
from tests.waiting import wait_for

ETC = Path("/etc/netns")  # what lies here takes the place of /etc in a namespace
HOSTS = {"one": "10.77.0.1", "two": "10.77.0.2"}

# One of two processes, which says how many models there are when it leaves the network
LEAVES = """
import gc, sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from demo.runtime.rendezvous import join_processes

def leave(leave=dist.destroy_process_group):
    print("models:", sum(type(one) is DistributedDataParallel for one in gc.get_objects()))
    leave()

def act(process, fails):
    model = process.wrap(torch.nn.Linear(2, 2))
    if fails:
        raise ValueError("it fails")

gc.disable()
dist.destroy_process_group = leave
try:
    with join_processes("cpu") as process:
        act(process, sys.argv[1:] == ["fails"])
except ValueError as error:
    print(error)
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def namespaces() -> None:
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("SKIPPED: another network needs Linux, root and iproute2")


@pytest.fixture(scope="module")
def hosts(namespaces: None) -> Iterator[None]:
    """Two hosts on one machine: network namespaces with a cable between them, and names that both know."""
    names = "".join(f"{address} {host}\n" for host, address in HOSTS.items())
    for host in HOSTS:
        subprocess.run(["ip", "netns", "delete", host], check=False, capture_output=True)
        ip("netns", "add", host)
        (ETC / host).mkdir(parents=True, exist_ok=True)
        (ETC / host / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
    try:
        ip("link", "add", "eth-one", "netns", "one", "type", "veth", "peer", "eth-two", "netns", "two")
        for host, address in HOSTS.items():
            ip("-netns", host, "address", "add", f"{address}/24", "dev", f"eth-{host}")
            for device in ("lo", f"eth-{host}"):
                ip("-netns", host, "link", "set", device, "up")
        yield
    finally:
        for host in HOSTS:
            kill(host)
            ip("netns", "delete", host)
            shutil.rmtree(ETC / host)


def start(host: str, out: Path) -> subprocess.Popen[bytes]:
    """Start the command that the rendered README has for several hosts, on one of them."""
    launcher = [".venv/bin/torchrun", "--nnodes", "2", "--nproc-per-node", "1"]
    launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "one:29500", "--rdzv-id", out.name]
    command = ["-m", "demo", "train", "--device", "cpu", "--out", str(out)]
    command += ["--steps", "400", "--save-every", "20", "--log-every", "20"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    named = ["unshare", "--uts", "sh", "-c", f'hostname {host} && exec "$@"', "sh"]
    with (out.parent / f"{out.name}-{host}.log").open("ab") as log:
        return subprocess.Popen(
            ["ip", "netns", "exec", host, *named, *launcher, *command],
            cwd=PROJECT,
            env=environ,
            stdout=log,
            stderr=log,
        )


def kill(host: str) -> None:
    """Let a host die: all its processes at once."""
    found = subprocess.run(["ip", "netns", "pids", host], check=True, capture_output=True, text=True)
    for pid in found.stdout.split():
        os.kill(int(pid), signal.SIGKILL)


@pytest.mark.usefixtures("hosts")
def test_a_host_that_dies_and_comes_back_changes_nothing(tmp_path: Path) -> None:
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    for running in [start(host, calm) for host in HOSTS]:
        assert running.wait(300) == 0

    first, second = (start(host, stormy) for host in HOSTS)
    wait_for(lambda: list(stormy.glob("step-*.pt")))
    kill("two")
    assert second.wait(300) != 0
    assert first.wait(300) != 0, "alone, a host does not go on"
    for running in [start(host, stormy) for host in HOSTS]:
        assert running.wait(300) == 0
    assert "resuming from step" in "".join(log.read_text() for log in tmp_path.glob("stormy-*.log"))

    last = "step-0000000400.pt"
    subprocess.run([PROJECT / ".venv/bin/python", "-c", SAME_WEIGHTS, calm / last, stormy / last], check=True)


@pytest.mark.usefixtures("namespaces")
def test_a_machine_whose_name_nobody_knows_has_several_processes(tmp_path: Path) -> None:
    """As in a container without a network, by the command of the README."""
    section = (PROJECT / "README.md").read_text().split("### Several GPUs")[1]
    command = re.sub(r"--nproc-per-node \S+", "--nproc-per-node 2", section.split("```sh\n")[1].split("\n```")[0])
    words = [*command.replace("uv run ", ".venv/bin/").split(), "--device=cpu", "--steps=2", f"--out={tmp_path}"]
    alone = ["unshare", "--net", "--uts", "sh", "-c", 'ip link set lo up && hostname nobody && exec "$@"', "sh"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*alone, *words], cwd=PROJECT, env=environ, check=True, timeout=100)
    assert (tmp_path / "step-0000000002.pt").exists()


@pytest.mark.parametrize(("how", "said"), [("ends", []), ("fails", ["it fails"])])
def test_no_model_outlives_its_network(how: str, said: list[str]) -> None:
    """Otherwise gloo aborts up to half of such processes (pytorch#190489), as many as the machine's timing lets it.

    A model is in a reference cycle if it is the first one of its process, for which DDP imports the compiler.
    """
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [str(PROJECT / ".venv/bin/python"), "-c", LEAVES, how]
    running = [subprocess.Popen(command, env=environ | rank, text=True, stdout=subprocess.PIPE) for rank in ranks(2)]
    for output, _ in [process.communicate(timeout=300) for process in running]:
        assert [line for line in output.splitlines() if not line.startswith("device")] == ["models: 0", *said]
    assert [process.returncode for process in running] == [0, 0]
