"""Docker for the tests: the engine that is there, or else Debian's own, for as long as the tests run.

The engine lives in namespaces of its own (mounts, network, processes): its bridge, its firewall rules, its mounts and all that it
starts are gone when it ends, and nothing is installed. It reaches the network through slirp4netns.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.debian import unpack
from tests.waiting import children, start, stop, wait_for

# Of each image that this run and its processes make: another run may use the same engine
LABEL = os.environ.setdefault("TORCH_UV_TEMPLATE_LABEL", f"torch-uv-template-{os.getpid()}")
SUITE = "forky"  # its engine has `docker build --check`
PACKAGES = ("docker.io", "docker-cli", "docker-buildx", "docker-compose", "slirp4netns", "dash", "mount")
# What the first process in the namespaces does, in the folder of Debian's files. Containers may mount temporary folders
START = """
mount --bind . . && cd "$PWD"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mkdir -p ".$2" && mount --bind "$2" ".$2"
mkdir -p old && pivot_root . old
exec dash -euc 'umount --lazy /old; exec dockerd --host unix:///docker.sock --group root --cgroup-parent "$1"' \
  dockerd "$1"
"""


class Docker:
    """The commands of an engine, which variables of the environment name."""

    def __init__(self, **env: str) -> None:
        self.env = env

    def run(self, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command, and return what it printed and its exit code."""
        command = ["docker", *map(str, arguments)]
        if command[1] == "build":
            command[2:2] = ["--label", LABEL]
        env = {**os.environ, **self.env}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, **options)

    def __call__(self, *arguments: str | Path, **options: Any) -> str:
        """Run a command that must succeed, and return what it printed."""
        done = self.run(*arguments, **options)
        assert done.returncode == 0, f"docker {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()


def missing() -> str:
    """Return why there can be no engine here, or nothing."""
    if there():
        return ""
    if platform.system() != "Linux":
        return "there is no Docker"
    if not shutil.which("apt-get"):
        return "there is no Docker, and no apt-get to get Debian's from"
    if os.geteuid() != 0:
        return "there is no Docker, and only root can start one"
    return ""


def there() -> bool:
    """Say whether an engine answers that has BuildKit's checks and Compose."""
    return bool(shutil.which("docker")) and all(
        Docker().run(*command.split()).returncode == 0 for command in ("info", "buildx version", "compose version")
    )


@contextmanager
def engine() -> Iterator[Docker]:
    """Give the engine that is there, or else start one, where none is `missing`. The images that are made end with the context.

    Raises:
        OSError: None can be started here; the message says why.
    """
    if there():
        docker = Docker()
        try:
            yield docker
        finally:
            docker.run("image", "prune", "--all", "--force", "--filter", f"label={LABEL}")
        return
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="torch-uv-template-"))
        stack.callback(remove_engine, folder)
        unpack(folder, SUITE, *PACKAGES)
        configure(folder)
        yield stack.enter_context(running(folder))


@contextmanager
def running(root: Path) -> Iterator[Docker]:
    """Run Debian's engine out of a folder while the context lasts."""
    with ExitStack() as stack:
        stack.callback(remove_cgroups, root.name)
        log = stack.enter_context((root / "dockerd.log").open("w"))
        namespaces = [
            "unshare",
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--propagation",
            "private",
            "bash",
            "-euc",
        ]
        daemon = start(
            [*namespaces, START, "dockerd", root.name, tempfile.gettempdir()],
            cwd=root,
            stdout=log,
            stderr=log,
        )
        stack.callback(stop, daemon)
        (first,) = wait_for(lambda: children(daemon), 60)
        loader = next((root / "usr").glob("lib*/ld-linux*"))
        libraries = next((root / "usr" / "lib").glob("*-linux-gnu"))
        network = [str(loader), "--library-path", str(libraries), str(root / "usr" / "bin" / "slirp4netns")]
        tap = start([*network, "--configure", "--mtu=65520", first, "tap0"], stdout=log, stderr=log)
        stack.callback(stop, tap)
        docker = Docker(
            PATH=f"{root / 'client'}:{os.environ['PATH']}",
            DOCKER_HOST=f"unix://{root}/docker.sock",
            DOCKER_CONFIG=str(root / "config"),
        )

        def answers() -> bool:
            if daemon.poll() is not None or tap.poll() is not None:
                raise OSError(f"no engine can be started here: {(root / 'dockerd.log').read_text()[-2000:]}")
            return docker.run("info").returncode == 0

        wait_for(answers, 60)
        yield docker


def configure(root: Path) -> None:
    """Do what configuring the engine's packages would do."""
    for folder in ("proc", "sys", "dev", "run", "tmp", "client", "config"):
        (root / folder).mkdir(exist_ok=True)
    for command in ("", "-save", "-restore"):
        for family in ("iptables", "ip6tables"):
            (root / "usr" / "sbin" / f"{family}{command}").symlink_to("xtables-nft-multi")
    (root / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\n")
    # It would drop what it has built on a disk of which less than a fifth is free
    (root / "etc" / "docker" / "daemon.json").write_text('{"builder": {"gc": {"enabled": false}}}')
    (root / "etc" / "resolv.conf").write_text("nameserver 10.0.2.3\n")  # of slirp4netns
    (root / "client" / "docker").symlink_to("../usr/bin/docker")
    (root / "config" / "cli-plugins").symlink_to("../usr/libexec/docker/cli-plugins")
    if Path("/etc/ssl/certs").exists():
        shutil.copytree("/etc/ssl", root / "etc" / "ssl", dirs_exist_ok=True, ignore_dangling_symlinks=True)


def remove_cgroups(name: str) -> None:
    """Remove the control groups of the engine, which are empty now."""
    for top in Path("/sys/fs/cgroup").glob(f"**/{name}"):
        for folder, _, _ in os.walk(top, topdown=False):
            os.rmdir(folder)


def remove_engine(folder: Path) -> None:
    """Remove the folder of an engine, which processes have just let go of: its layers, of many files, beside one another."""

    remove = partial(shutil.rmtree, ignore_errors=True)

    def gone() -> bool:
        with ThreadPoolExecutor() as pool:
            pool.map(remove, folder.glob("var/lib/docker/overlay2/*"))
        remove(folder)
        return not folder.exists()

    wait_for(gone, 60)
