"""Copier, quicker: what it works out again for each render, always with the same result, is worked out once.

A render takes an eighth of the time. What is left is what depends on the answers: asking, choosing and filling in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import copier._main
import copier._template
import copier._user_data
import jinja2
import yaml

compile_template = jinja2.Environment.compile
make_template = jinja2.Environment.from_string
read_template = copier._template.load_template_config
write_files = copier._main.Worker._render_template
make_environment = copier._main.Worker.__dict__["jinja_env"].func
load_yaml = partial(yaml.load, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
compiled: dict[tuple[Any, ...], Any] = {}
questions: dict[tuple[bytes, ...], Any] = {}
environments: dict[Path, jinja2.Environment] = {}


def compile_once(environment: jinja2.Environment, source: Any, name: Any = None, file: Any = None, **rest: Any) -> Any:
    key = (source, name, *rest.items())  # the file, which may be of a clone, is for error messages alone
    if key not in compiled:
        compiled[key] = compile_template(environment, source, name, file, **rest)
    return compiled[key]


def skip_words(environment: jinja2.Environment, source: Any, *rest: Any, **options: Any) -> Any:
    if isinstance(source, str) and "{" not in source:
        return SimpleNamespace(render=lambda *_, **__: source)  # there is nothing to fill in
    return make_template(environment, source, *rest, **options)


def read_once(path: Path) -> Any:
    key = tuple(file.read_bytes() for file in sorted(path.parent.glob("*.yml")))
    if key not in questions:
        questions[key] = read_template(path)
    return questions[key]


def write_at_once(worker: copier._main.Worker) -> None:
    context, answers_file = dict(worker._render_context()), worker.answers_relpath

    def collected(_: copier._main.Worker) -> dict[str, Any]:
        return context

    with (
        mock.patch.object(copier._main.Worker, "_render_context", collected),
        mock.patch.object(copier._main.Worker, "answers_relpath", answers_file),
    ):
        write_files(worker)


@contextmanager
def once() -> Iterator[None]:
    """Let Jinja compile each text once, read the same questions once, and collect all answers once, while the context lasts.

    Copier asks Git once for a file whether it has to set an executable bit in the repository; here it does not.
    """
    find_default = copier._user_data.Question.get_default  # it may be a test's own: see tests/choosing.py

    def find_once(question: copier._user_data.Question) -> Any:
        """Find the default of a question once; Copier needs that of a computed value twice."""
        if "found" not in vars(question):
            vars(question)["found"] = find_default(question)
        return vars(question)["found"]

    with (
        mock.patch.object(jinja2.Environment, "compile", compile_once),
        mock.patch.object(jinja2.Environment, "from_string", skip_words),
        mock.patch.object(copier._user_data.Question, "get_default", find_once),
        mock.patch.object(copier._template, "load_template_config", read_once),
        mock.patch.object(yaml, "safe_load", load_yaml),
        mock.patch.object(copier._main.Worker, "_render_template", write_at_once),
        mock.patch.object(copier._main, "is_git_available", return_value=False),
    ):
        yield


def environment_once(worker: copier._main.Worker) -> jinja2.Environment:
    """Make one environment, which keeps the templates that it has read."""
    folder = worker.template.local_abspath
    if folder not in environments:
        environments[folder] = make_environment(worker)
    return environments[folder]


@contextmanager
def renders() -> Iterator[None]:
    """Render a template that is not a repository and does not change, while the context lasts."""
    with (
        once(),
        mock.patch.object(copier._template, "get_repo", return_value=None),
        mock.patch.object(copier._main.Worker, "jinja_env", property(environment_once)),
    ):
        yield
