"""Rendering the default answers, compared with an empty template and with one that only has the same files to copy.

Two ways, as whole processes: with `uvx copier`, as the README has it, and with Copier alone.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from paired import compare, seconds

ROOT = Path(__file__).parents[1]


def repository(folder: Path) -> Path:
    """Make a Git repository of a folder, with one tag, as a template is published."""
    for command in (
        "init --quiet",
        "add --all",
        "commit --quiet --message=1",
        "tag --annotate --message=1 v1",
        "gc --quiet",
    ):
        identity = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@example.org"]
        subprocess.run(["git", *identity, *command.split()], cwd=folder, check=True)
    return folder


def bare(folder: Path) -> Path:
    """Make a template that asks nothing, and has no file but the answers."""
    (folder / "template").mkdir(parents=True)
    (folder / "copier.yml").write_text("_subdirectory: template\n")
    answers_file = folder / "template" / "{{ _copier_conf.answers_file }}.jinja"
    answers_file.write_text("{{ _copier_answers | to_nice_yaml -}}\n")
    return folder


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours, empty, same = folder / "ours", bare(folder / "empty"), bare(folder / "same")
        files = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for file in files.splitlines():
            (ours / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, ours / file)
        subprocess.run(["copier", "copy", "--quiet", "--defaults", repository(ours), folder / "demo"], check=True)
        (folder / "demo" / ".copier-answers.yml").unlink()
        shutil.copytree(folder / "demo", same / "template", dirs_exist_ok=True)
        repository(empty), repository(same)

        for title, program in {"uvx copier": ["uvx", "copier"], "copier": ["copier"]}.items():

            def render(template: Path, program: list[str] = program) -> float:
                shutil.rmtree(folder / "demo", ignore_errors=True)
                return seconds([*program, "copy", "--quiet", "--defaults", str(template), str(folder / "demo")], folder)

            compare(f"{title} copy, compared with an empty template", lambda: render(ours), lambda: render(empty))
            compare(
                f"{title} copy, compared with one that has the same files", lambda: render(ours), lambda: render(same)
            )


if __name__ == "__main__":
    main()
