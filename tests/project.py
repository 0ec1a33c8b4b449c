"""A rendered project, and what uv makes of it."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import copier
import yaml
from packaging.markers import Marker
from packaging.specifiers import SpecifierSet
from packaging.utils import parse_wheel_filename

from tests import quick
from tests.table import RELEASES, ROOT, TABLE

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

# What sys_platform and platform_machine are, written down here once more: the markers of the table are put to the test
SYSTEMS = {
    "linux-x86_64": ("linux", "x86_64"),
    "linux-aarch64": ("linux", "aarch64"),
    "macos-arm64": ("darwin", "arm64"),
    "windows-x86_64": ("win32", "AMD64"),
}
UV_PLATFORMS = {
    "linux-x86_64": "x86_64-unknown-linux-gnu",
    "linux-aarch64": "aarch64-unknown-linux-gnu",
    "macos-arm64": "aarch64-apple-darwin",
    "windows-x86_64": "x86_64-pc-windows-msvc",
}


def environment(platform: str, python: str = PYTHON) -> dict[str, str]:
    """Return what PEP 508 markers are evaluated with on a platform."""
    system, machine = SYSTEMS[platform]
    return {
        "sys_platform": system,
        "platform_machine": machine,
        "platform_system": {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[system],
        "os_name": "nt" if system == "win32" else "posix",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "python_version": python,
        "python_full_version": f"{python}.0",
        "extra": "",
    }


@cache  # a lock has the same few at most of its packages
def applies(marker: str, platform: str, python: str) -> bool:
    """Return whether a marker holds on a platform."""
    return Marker(marker).evaluate(environment(platform, python))


@dataclass(frozen=True)
class Locked:
    """A package of a lockfile, as one platform gets it."""

    version: str
    index: str
    wheels: tuple[str, ...]

    def wheel(self, platform: str, python: str = PYTHON) -> str:
        """Return the name of the file that a Python installs on a platform."""
        machine = SYSTEMS[platform][1].lower()
        system = {"linux": "linux", "macos": "macosx", "windows": "win"}[platform.split("-")[0]]
        for name in self.wheels:
            for tag in parse_wheel_filename(name)[3]:
                fits = tag.platform == "any" or (system in tag.platform and tag.platform.endswith(machine))
                if fits and tag.interpreter in (f"cp{python.replace('.', '')}", "py3"):
                    return name
        raise LookupError(f"no wheel for Python {python} on {platform} among {self.wheels}")


def without_uv() -> dict[str, str]:
    """Return the environment of whoever runs the tests, without what it tells uv, except the cache and the tests' PyPI."""
    kept = ["UV_CACHE_DIR", *(["UV_DEFAULT_INDEX"] if "TESTS_PYPI" in os.environ else [])]
    return {name: value for name, value in os.environ.items() if not name.startswith("UV_") or name in kept}


def resolving() -> dict[str, str]:
    """Return the environment in which uv sees the packages of the day that the table of builds was read."""
    env = without_uv() | {"UV_PYTHON": sys.executable, "UV_EXCLUDE_NEWER": str(TABLE["as_of"])}
    # tests/uv/uv.toml, in the place of whoever runs the tests
    return env | {"XDG_CONFIG_HOME": str(ROOT / "tests"), "APPDATA": str(ROOT / "tests")}


@cache
def template() -> Path:
    """Return a copy of the template as it is in the working tree. Copier need not clone it, for it is no repository."""
    copy = Path(tempfile.mkdtemp(prefix="torch-uv-template-"))
    atexit.register(shutil.rmtree, copy)
    for name in ("includes", "template"):
        shutil.copytree(ROOT / name, copy / name)
    for name in ("copier.yml", "builds.yml"):
        shutil.copy(ROOT / name, copy)
    return copy


@dataclass(frozen=True)
class Project:
    """A rendered project."""

    path: Path
    _exported: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def render(cls, path: Path, **answers: object) -> Project:
        """Render the template, with default answers but for these, and no settings of whoever runs the tests.

        Raises:
            ValueError: An answer was refused.
        """
        with quick.renders():
            copier.run_copy(str(template()), path, data=answers, defaults=True, quiet=True, settings=copier.Settings())
        return cls(path)

    @cached_property
    def answers(self) -> dict[str, Any]:
        answers: dict[str, Any] = yaml.safe_load((self.path / ".copier-answers.yml").read_text())
        return answers

    @property
    def backends(self) -> list[str]:
        return [self.answers["backend"], *self.answers["other_backends"]]

    @property
    def pyproject(self) -> dict[str, Any]:
        return tomllib.loads((self.path / "pyproject.toml").read_text())

    @property
    def pythons(self) -> list[str]:
        """The Pythons that the project says it runs on."""
        return list(SpecifierSet(self.pyproject["project"]["requires-python"]).filter(f"3.{n}" for n in range(7, 20)))

    def resolve_with(self, replica: str) -> None:
        """Put the replica in the place of PyTorch's index."""
        file = self.path / "pyproject.toml"
        file.write_text(file.read_text().replace(f'"{TABLE["index"]}/', f'"{replica}/'))

    def uv(self, *arguments: str, **variables: str) -> str:
        """Run uv in the project, on the packages of the day that the table of builds was read, and return its output."""
        env = resolving() | {"MACOSX_DEPLOYMENT_TARGET": RELEASES[self.answers["torch"]]["macos"]} | variables
        done = subprocess.run(["uv", *arguments], cwd=self.path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"uv {' '.join(arguments)}\n{done.stderr}"
        return done.stdout

    def lock(self) -> None:
        self.uv("lock")

    def groups(self, backend: str) -> list[str]:
        """Return the options that choose a backend."""
        return [] if backend == self.backends[0] else ["--no-group", self.backends[0], "--group", backend]

    def exported(self, backend: str) -> list[dict[str, Any]]:
        """Return the packages of the lockfile for a backend, from a pylock.toml (PEP 751)."""
        if backend not in self._exported:
            options = ["--frozen", "--format", "pylock.toml", "--no-emit-project"]
            self._exported[backend] = tomllib.loads(self.uv("export", *options, *self.groups(backend)))["packages"]
        return self._exported[backend]

    def locked(self, backend: str, platform: str, python: str = PYTHON) -> dict[str, Locked]:
        """Return what a backend installs on a platform: names and packages."""
        return {
            package["name"]: Locked(
                package["version"],
                package.get("index", ""),
                tuple(
                    wheel.get("name") or wheel["url"].rsplit("/", 1)[1].replace("%2B", "+")
                    for wheel in package.get("wheels", [])  # an sdist has none
                ),
            )
            for package in self.exported(backend)
            if "marker" not in package or applies(package["marker"], platform, python)
        }

    def synced(self, backend: str, platform: str) -> dict[str, str]:
        """Return what `uv sync` would install for a backend on a platform: names and versions."""
        return self.would_sync(platform, "--frozen", "--no-install-project", *self.groups(backend))

    def would_sync(self, platform: str, *options: str) -> dict[str, str]:
        """Return what `uv sync` with these options would install on a platform: names and versions, if they have one."""
        dry = ["--dry-run", "--output-format", "json", "--python-platform", UV_PLATFORMS[platform]]
        changes = json.loads(self.uv("sync", *options, *dry))["sync"]["changes"]
        return {change["name"]: change.get("version", "") for change in changes}
