"""Packages of Debian that the tests run without installing them."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

DEBIAN = "http://deb.debian.org/debian"
INSTALLED = Path("/var/lib/dpkg/status")
APT = """\
Dir::Cache "{0}";
Dir::Etc::sourcelist "{0}/sources.list";
Dir::Etc::sourceparts "/nonexistent";
Dir::State::lists "{0}/lists";
Dir::State::status "{0}/status";
Acquire::Languages "none";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
"""


def unpack(root: Path, suite: str, *packages: str, installed: str = "") -> None:
    """Unpack packages of Debian, and all that they need, into a folder.

    Args:
        installed: What need not be unpacked, as dpkg records it.

    Raises:
        ConnectionError: They cannot be had.
    """
    with tempfile.TemporaryDirectory() as name:
        apt = Path(name)
        for folder in ("lists/partial", "archives/partial"):
            (apt / folder).mkdir(parents=True)
        (apt / "status").write_text(installed)
        (apt / "sources.list").write_text(f"deb {DEBIAN} {suite} main\n")
        (apt / "apt.conf").write_text(APT.format(apt))
        for command in (["update"], ["install", "--yes", "--download-only", *packages]):
            done = subprocess.run(
                ["apt-get", "--quiet", "--quiet", *command],
                env={**os.environ, "APT_CONFIG": str(apt / "apt.conf")},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise ConnectionError(f"Debian's packages cannot be had: {done.stderr.strip()}")
        root.mkdir(parents=True, exist_ok=True)
        for folder in ("bin", "sbin", "lib", "lib64"):
            (root / folder).symlink_to(f"usr/{folder}")
        for package in (apt / "archives").glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", str(package), str(root)], check=True)
