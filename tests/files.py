"""What holds for every rendered project, whatever the answers: its files parse, and look as a person would leave them."""

from __future__ import annotations

import ast
import gzip
import json
import re
import shutil
import subprocess
import tomllib
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path, PurePath

import yaml

from tests.project import Project
from tests.table import ROOT


def files(project: Project) -> dict[Path, str]:
    """Return the rendered files: their paths in the project, and their text, that of compressed data too."""
    return {
        path.relative_to(project.path): (decompressed if path.suffix == ".gz" else bytes.decode)(path.read_bytes())
        for path in sorted(project.path.rglob("*"))
        if path.is_file()
    }


def contents(folder: Path) -> dict[str, bytes]:
    """Return what the files in a folder hold, except Git's."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }


def without_origin(answers_file: bytes) -> bytes:
    """Return the answers alone, without the template's place and version."""
    return b"\n".join(line for line in answers_file.splitlines() if not line.startswith((b"_commit", b"_src_path")))


@cache
def decompressed(content: bytes) -> str:
    """Return the text of a compressed file, which many projects have alike."""
    return gzip.decompress(content).decode()


@cache  # which many projects have alike, in other folders
def parse(name: str, text: str) -> None:
    """Parse a file by its kind; shell scripts and the Dockerfile are left to their linters.

    Raises:
        ValueError, SyntaxError, yaml.YAMLError: The text does not parse.
    """
    suffix = PurePath(name).suffix
    if suffix == ".toml":
        tomllib.loads(text)
    elif suffix in (".yml", ".yaml"):
        list(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    elif suffix == ".json":
        json.loads(text)
    elif suffix == ".py":
        ast.parse(text, feature_version=(3, 8))


@cache
def assert_tidy(name: str, text: str) -> None:
    """Check what no formatter is asked about: line endings, blanks at the end of lines, blank lines."""
    if name == "shakespeare.txt.gz":
        return  # to be learned as it is
    assert "\r" not in text, name
    assert not re.search(r"[ \t]$", text, re.MULTILINE), f"{name}: blanks at the end of a line"
    assert "\n\n\n" not in text or name.endswith(".py") or name == "LICENSE", f"{name}: two blank lines"
    assert not text.startswith("\n"), f"{name}: a blank line at the start"
    assert re.search(r"[^\n]\n\Z", text) or not text, f"{name}: one newline at the end"


def assert_fit_for_windows(paths: Iterable[PurePath]) -> None:
    """Check that Windows, and a file system that knows no case, can have these files in a folder of a hundred characters."""
    spelled: dict[str, str] = {}
    for path in paths:
        for part in path.parts:
            assert not re.search(r'[<>:"\\|?*\x00-\x1f]|[. ]$', part), f"{path}: a character that Windows forbids"
            stem = part.split(".")[0].rstrip(" ").lower()
            assert not re.fullmatch(r"con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]", stem), f"{path}: a device"
        assert len(path.as_posix()) <= 150, f"{path}: too long"
        for folder in (path, *path.parents):
            name = folder.as_posix()
            other = spelled.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
            assert other == name, f"{name} and {other} are one"


def assert_linted(folder: Path) -> None:
    """Check all the projects in a folder, each by its own settings, with the linters of what lies there.

    The slow ones, which look at a file by itself, are shown it once, in however many projects it is.
    """

    def check(*command: str | Path, cwd: Path = folder) -> None:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command[0]} {command[1]}:\n{done.stdout}{done.stderr}"

    def found(pattern: str) -> list[str]:
        paths = [path.relative_to(folder) for path in folder.glob(pattern)]
        return list({(*path.parts[1:], (folder / path).read_bytes()): str(path) for path in paths}.values())

    check("ruff", "format", "--check", "--no-cache", "--quiet", ".")
    check("ruff", "check", "--no-cache", "--quiet", ".")
    check("tombi", "format", "--check", "--offline", "--quiet", folder, cwd=ROOT)  # by the settings in tombi.toml
    lengths = "rules: {line-length: disable}"  # a user's text has any
    yamllint = ["yamllint", "--strict", "--config-data", f"{{extends: {ROOT / '.yamllint.yml'}, {lengths}}}"]
    for command, pattern in (
        (yamllint, "**/*.yml"),
        (yamllint, "**/*.yaml"),
        (["shellcheck"], "*/slurm/*"),
        (["hadolint", "--failure-threshold", "warning", "--ignore", "DL3008"], "**/Dockerfile"),
        (["zizmor", "--offline", "--quiet"], "*/.github/**/*.yml"),
        (["actionlint"], "*/.github/workflows/*"),
    ):
        if (paths := found(pattern)) and (command[0] != "actionlint" or shutil.which("actionlint")):
            check(*command, *paths)
