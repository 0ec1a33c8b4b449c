"""Slurm for the tests: Debian's own, with a controller and five nodes, for as long as the tests run.

Each node is a network with a name of its own: they share the folders of this machine, and reach each other and nothing else. All
is in namespaces of their own (mounts, network, processes): nothing is installed, and what they start is gone when they end.
"""

from __future__ import annotations

import os
import platform
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.debian import INSTALLED, unpack
from tests.waiting import children, start, stop, wait_for

PACKAGES = ("slurm-wlm", "munge", "iproute2", "openmpi-bin")
NODES = [f"node{number}" for number in range(1, 6)]
CONFIGURATION = {
    # What takes two minutes, or five, takes seconds: a job that is queued again, a node that does not answer
    "slurm.conf": """
AuthInfo=socket={root}/munge.socket,cred_expire=5
SlurmdTimeout=25
KillWait=5
SchedulerParameters=sched_interval=2,bf_interval=2

ClusterName=tests
SlurmctldHost=head(10.77.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/%n
SlurmctldPidFile={root}/head.pid
SlurmdPidFile={root}/%n.pid
SlurmctldLogFile={root}/head.log
SlurmdLogFile={root}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
{nodes}
PartitionName=usual Nodes=ALL Default=YES PreemptMode=OFF
PartitionName=spare Nodes=ALL PreemptMode=REQUEUE GraceTime=60
PartitionName=urgent Nodes=ALL PriorityTier=9 PreemptMode=OFF
""",
    "gres.conf": "Name=gpu File={root}/gpu[0-1]\n",
    # It wants them mounted, and uses none
    "cgroup.conf": "CgroupPlugin=cgroup/v1\nCgroupMountpoint={root}/cgroup\nCgroupAutomount=no\n",
    "hosts": "127.0.0.1 localhost\n10.77.0.1 head\n{hosts}\n",
}
# What the first process in the namespaces does, in the folder of the files
START = """
mount -t proc proc /proc
mount -t overlay -o "lowerdir=$PWD/usr:/usr" overlay /usr
mount --bind hosts /etc/hosts
mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns
mkdir cgroup && mount -t tmpfs tmpfs cgroup
hostname head
ip link set lo up
ip link add bridge type bridge
ip address add 10.77.0.1/24 dev bridge
ip link set bridge up
dd if=/dev/urandom of=munge.key bs=128 count=1 2> /dev/null
chmod 400 munge.key
munged --force --key-file="$PWD/munge.key" --socket="$PWD/munge.socket" --pid-file="$PWD/munge.pid" \
    --seed-file="$PWD/munge.seed" --log-file="$PWD/munge.log"
slurmctld
for number in "$@"; do
    ip netns add "node$number"
    ip link add "port$number" type veth peer name eth0 netns "node$number"
    ip link set "port$number" master bridge up
    ip -netns "node$number" link set lo up
    ip -netns "node$number" address add "10.77.0.1$number/24" dev eth0
    ip -netns "node$number" link set eth0 up
    ip netns exec "node$number" unshare --uts bash -ec "hostname node$number; slurmd"
done
trap exit TERM
sleep infinity &
wait
"""


class Slurm:
    """The commands of a Slurm, by the first process in its namespaces, which the environment names."""

    def __init__(self, first: str) -> None:
        self.enter = ["nsenter", "--target", first, "--mount", "--net", "--pid", "--uts"]

    def run(self, *command: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command where Slurm is, and return what it printed and its exit code."""
        words = [*self.enter, "env", f"--chdir={cwd}", *command]
        return subprocess.run(words, env={**os.environ, **env}, capture_output=True, text=True, check=False)

    def __call__(self, *command: str, cwd: Path, **env: str) -> str:
        """Run a command that must succeed, and return what it printed."""
        done = self.run(*command, cwd=cwd, **env)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def kill(self, node: str) -> None:
        """Let a node die: its network is gone, and all of its processes."""
        script = 'ip -netns "$1" link set eth0 down; ip netns pids "$1" | xargs kill -KILL'
        subprocess.run([*self.enter, "sh", "-c", script, "sh", node], check=True)


def missing() -> str:
    """Return why there can be no Slurm here, or nothing."""
    if platform.system() != "Linux" or os.geteuid() != 0:
        return "only root on Linux can start a Slurm"
    if platform.freedesktop_os_release()["ID"] != "debian" or not shutil.which("apt-get"):
        return "this is not Debian, whose packages it takes"
    alone = ["unshare", "--mount", "--net", "--pid", "--uts", "--fork", "--mount-proc", "true"]
    if subprocess.run(alone, check=False, capture_output=True).returncode:
        return "there are no namespaces here"
    return ""


@contextmanager
def cluster() -> Iterator[dict[str, str]]:
    """Give the variables of the environment that name a Slurm, which runs while the context lasts.

    Raises:
        OSError: It cannot be started here; the message says why.
    """
    with ExitStack() as stack:
        root = Path(tempfile.mkdtemp(prefix="torch-uv-template-"))
        stack.callback(shutil.rmtree, root)
        suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
        unpack(root, suite, *PACKAGES, installed=INSTALLED.read_text())
        configure(root)
        env = {"SLURM_CONF": str(root / "slurm.conf")}
        namespaces = ["--mount", "--net", "--pid", "--uts", "--fork", "--kill-child", "--propagation", "private"]
        log = stack.enter_context((root / "start.log").open("w"))
        numbers = [node.removeprefix("node") for node in NODES]
        daemons = start(
            ["unshare", *namespaces, "bash", "-euc", START, "slurm", *numbers],
            cwd=root,
            env={**os.environ, **env},
            stdout=log,
            stderr=log,
        )
        stack.callback(stop, daemons)
        (first,) = wait_for(lambda: children(daemons), 60)
        slurm = Slurm(first)

        def answers() -> bool:
            if daemons.poll() is not None:
                raise OSError(f"no Slurm can be started here: {(root / 'start.log').read_text()[-2000:]}")
            return f"{len(NODES)} idle\n" in slurm.run("sinfo", "--format", "%D %t", cwd=root, **env).stdout

        wait_for(answers, 60)
        yield {**env, "SLURM": first}


def configure(root: Path) -> None:
    """Do what configuring the packages would do, and write what Slurm reads, to which a null device passes for a GPU."""
    for daemon in ("slurmctld", "slurmd", "slurmstepd"):
        (root / "usr" / "sbin" / daemon).symlink_to(f"{daemon}-wlm")
    (root / "usr" / "bin" / "mpirun").symlink_to("mpirun.openmpi")
    address = "10.77.0.1{}"
    hosts = [(node, address.format(node.removeprefix("node"))) for node in NODES]
    nodes = [f"NodeName={node} NodeAddr={at} NodeHostname={node} CPUs=16 Gres=gpu:2" for node, at in hosts]
    for name, text in CONFIGURATION.items():
        named = {
            "hosts": "\n".join(f"{at} {node}\n::ffff:{at} {node}" for node, at in hosts),
            "nodes": "\n".join(nodes),
        }
        (root / name).write_text(text.format(root=root, **named))
    (root / "state").mkdir()
    for number in range(2):
        os.mknod(root / f"gpu{number}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
