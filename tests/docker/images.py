"""The images that rendered Dockerfiles begin with: the real ones, or stand-ins of the same names where no registry answers."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

from tests.debian import DEBIAN, unpack
from tests.docker import LABEL, SUITE, Docker

BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
PYTHONS = {"3.11": "bookworm", "3.13": "trixie"}  # what Debian has
STAND_IN = """
FROM {raw}
COPY ca-certificates.crt /etc/ssl/certs/
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
RUN ln -s /usr/bin/python{python} /usr/local/bin/python3 && ln -s python3 /usr/local/bin/python \\
    && echo 'APT::Sandbox::User "root"; Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";' \\
    'DPkg::Post-Invoke {{ "rm -f /var/cache/apt/archives/*.deb"; }};' > /etc/apt/apt.conf.d/docker
"""


def bases(dockerfile: str) -> list[str]:
    """Return the images that a Dockerfile takes from a registry."""
    stages = re.findall(r"^FROM .* AS (\S+)", dockerfile, re.MULTILINE)
    return [image for image in re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE) if image not in stages]


def provide(docker: Docker, image: str) -> None:
    """Have an image: the one that is there, the real one, or a stand-in."""
    if any(docker.run(*command, image).returncode == 0 for command in (("image", "inspect"), ("pull", "--quiet"))):
        return
    name, tag = image.split(":")
    if name == "python":
        stand_in_for_python(docker, image, tag.removesuffix("-slim"))
    else:
        stand_in_for_uv(docker, image, tag)


def stand_in_for_python(docker: Docker, image: str, python: str) -> None:
    """Make Debian with its own Python, the certificates that this machine trusts, and no shared libraries of torch."""
    with tempfile.TemporaryDirectory() as name:
        folder, raw = Path(name), f"{image}-raw"
        unpack(folder / "tools", SUITE, "mmdebstrap")
        packages = f"ca-certificates,python{python},libpython{python}-dev"
        options = ["--quiet", "--variant=minbase", f"--include={packages}", '--aptopt=APT::Sandbox::User "root"']
        unneeded = ["*/libpython*.a", *(f"/usr/share/{what}/*" for what in ("doc", "info", "locale", "man"))]
        options += [f"--dpkgopt=path-exclude={what}" for what in unneeded]
        tar = folder / "base.tar"
        mmdebstrap = ["perl", str(folder / "tools/usr/bin/mmdebstrap"), *options, PYTHONS[python], str(tar), DEBIAN]
        env = {**os.environ, "PATH": f"{os.environ['PATH']}:{folder / 'tools/usr/bin'}"}
        done = subprocess.run(mmdebstrap, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        docker("import", "--change", f"LABEL {LABEL}=", tar, raw)
        (folder / "context").mkdir()
        (folder / "context" / BUNDLE.name).write_bytes(Path(os.environ.get("SSL_CERT_FILE", BUNDLE)).read_bytes())
        (folder / "context" / "Dockerfile").write_text(STAND_IN.format(raw=raw, python=python))
        docker("build", "--quiet", "--tag", image, folder / "context")
        docker("image", "rm", raw)


def stand_in_for_uv(docker: Docker, image: str, version: str) -> None:
    """Make an image of the program alone, out of PyPI's wheel for musl."""
    with tempfile.TemporaryDirectory() as name:
        install = ["--quiet", "--no-deps", "--target", name, "--python-platform", "x86_64-unknown-linux-musl"]
        subprocess.run(["uv", "pip", "install", *install, f"uv=={version}"], check=True)
        tar = Path(name, "uv.tar")
        subprocess.run(["tar", "--create", "--file", tar, "--directory", Path(name, "bin"), "uv", "uvx"], check=True)
        docker("import", "--change", f"LABEL {LABEL}=", tar, image)
