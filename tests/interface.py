"""What projects rest on, in any version of the template: its questions and their values, and the runtime."""

from __future__ import annotations

import ast
import io
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from copier._main import Worker
from copier._template import Template
from copier._user_data import Question
from jinja2 import Environment, meta, nodes
from packaging.version import InvalidVersion, Version

Interface = set[tuple[str, ...]]
SETTINGS = ("includes", "copier.yml", "builds.yml")


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def tags(folder: Path) -> list[str]:
    """Return the versions of a template that Copier sees, oldest first.

    Raises:
        LookupError: The clone is shallow, so it may lack some.
    """
    if git(folder, "rev-parse", "--is-shallow-repository").strip() == "true":
        raise LookupError("a shallow clone may lack tags: git fetch --unshallow --tags")
    return sorted(filter(is_version, git(folder, "tag", "--list").split()), key=Version)


def is_version(tag: str) -> bool:
    try:
        Version(tag)
    except InvalidVersion:
        return False
    return True


@contextmanager
def plain(folder: Path, tag: str | None, *paths: str) -> Iterator[Path]:
    """Give some files of the template in a folder, as they are there or as a tag has them, outside of a repository."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "template"
        if tag is None:
            for path in paths:
                (shutil.copytree if (folder / path).is_dir() else shutil.copy)(folder / path, copy / path)
        else:
            archive = subprocess.run(["git", "archive", tag, *paths], cwd=folder, check=True, capture_output=True)
            with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
                tar.extractall(copy, filter="data")
        yield copy


def interface(folder: Path, tag: str | None = None) -> Interface:
    """Return the questions and values of the template in a folder, as it is there or as a tag has it.

    A question is its name alone, a value that and itself, a build its release, platform and backend.
    """
    # Of a repository, Copier would use the last tag
    with plain(folder, tag, *SETTINGS) as copy:
        builds = yaml.safe_load((copy / "builds.yml").read_text())
        return questions(copy, list(builds["platforms"])) | table(builds)


# Whose values come from builds.yml: which of them are offered depends on the release
FROM_TABLE = ("backend", "torch", "python", "other_backends", "companions")


def questions(folder: Path, platforms: list[str]) -> Interface:
    """Return what Copier asks, and the values that copier.yml itself offers where all platforms are chosen."""
    found: Interface = set()
    with Worker(src_path=str(folder), dst_path=folder / "none", data={"platforms": platforms}, defaults=True) as worker:
        worker._ask()
        for name, details in worker.template.questions_data.items():
            question = Question(
                answers=worker.answers,
                context=worker._render_context(),
                jinja_env=worker.jinja_env,
                var_name=name,
                **details,
            )
            if question.get_when():
                values = [] if name in FROM_TABLE else question._formatted_choices
                found |= {(name,), *((name, str(choice.value)) for choice in values)}
    return found


def unanswered(folder: Path, tag: str) -> set[str]:
    """Return what `_exclude` uses, as it is there, that a tag has no answer to.

    An update renders it with the answers to the version that it comes from.
    """
    with plain(folder, tag, *SETTINGS) as then, plain(folder, None, *SETTINGS) as now:
        known = set(Template(str(then)).questions_data)
        return set().union(*map(needed, Template(str(now)).exclude)) - known


def needed(text: str) -> set[str]:
    """Return the names that a text of Jinja cannot do without: neither Copier's own nor those that have a default."""
    tree = Environment().parse(text)
    defaults = {id(each.node) for each in tree.find_all(nodes.Filter) if each.name == "default"}
    names = {each.name for each in tree.find_all(nodes.Name) if id(each) not in defaults}
    return {name for name in names & meta.find_undeclared_variables(tree) if not name.startswith("_")}


def table(builds: dict[str, Any]) -> Interface:
    """Return what builds.yml offers with each release: backends, Pythons and companions."""
    found: Interface = {("torch", release) for release in builds["releases"]}
    for release, entry in builds["releases"].items():
        for backend, platforms in entry["builds"].items():
            found |= {("backend", backend), *((release, platform, backend) for platform in platforms)}
        for python in entry["python"]:
            platforms = entry.get("python_on", {}).get(python, builds["platforms"])
            found |= {(release, platform, "Python", python) for platform in platforms}
        found |= {(release, package) for patch in entry["patches"].values() for package in patch}
    return found


class Call(NamedTuple):
    """The parameters of a function, and those of them that a call must give."""

    parameters: list[str]
    required: set[str]


RUNTIME = "template/src/{{ package_name }}/runtime"


def runtime(folder: Path, tag: str | None = None) -> dict[str, Call]:
    """Return what the code of a user may call or read in the runtime: functions, methods, fields and attributes."""
    found: dict[str, Call] = {}
    with plain(folder, tag, RUNTIME) as copy:
        for path in sorted((copy / RUNTIME).iterdir()):
            module = re.sub(r"{%.*?%}|\.py.*", "", path.name) or "tracker"
            text = re.sub(r"{%.*?%}|{#.*?#}|{{.*?}}", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
            for name, node in members(ast.parse(text)):
                found[f"{module}.{name}"] = call(node)
    return found


def members(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield what is public in a module or a class: names, and where they are defined."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield prefix + node.name, node
            yield from members(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            if not node.name.startswith("_"):
                yield prefix + node.name, node
            elif node.name == "__init__":
                yield prefix + node.name, node
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store) and inner.attr[0] != "_":
                        yield prefix + inner.attr, inner
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for inner in ast.walk(target):
                    if isinstance(inner, ast.Name) and not inner.id.startswith("_"):
                        yield prefix + inner.id, inner


def call(node: ast.AST) -> Call:
    """Return how something is called; what is not a function has no parameters."""
    if not isinstance(node, ast.FunctionDef):
        return Call([], set())
    arguments = node.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    optional = names[len(names) - len(arguments.defaults) :] if arguments.defaults else []
    return Call(names, set(names) - set(optional))


def broken(before: dict[str, Call], now: dict[str, Call]) -> list[str]:
    """Return what code that uses an earlier runtime no longer finds, or can no longer call as it does."""
    found = []
    for name, earlier in before.items():
        if name not in now:
            found.append(f"{name} is gone")
            continue
        later = now[name]
        if later.parameters[: len(earlier.parameters)] != earlier.parameters:
            found.append(f"{name} takes {', '.join(later.parameters)}, and took {', '.join(earlier.parameters)}")
        found += [f"{name} requires {new}" for new in sorted(later.required - earlier.required)]
    return found
