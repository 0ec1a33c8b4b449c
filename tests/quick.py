"""Copier, quicker: what it works out again for each render, always with the same result, is worked out once.

A render takes an eighth of the time. What is left is what depends on the answers: asking, choosing and filling in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import copier._main
import copier._template
import jinja2

compile_template = jinja2.Environment.compile
read_questions = cache(copier._template.load_template_config)
compiled: dict[tuple[Any, ...], Any] = {}


def compile_once(environment: jinja2.Environment, source: Any, *arguments: Any, **options: Any) -> Any:
    key = (source, *arguments, *options.items())
    if key not in compiled:
        compiled[key] = compile_template(environment, source, *arguments, **options)
    return compiled[key]


@contextmanager
def renders(template: Path) -> Iterator[None]:
    """Render one template, which does not change, into folders of no repository, while the context lasts.

    Jinja compiles each text once, and the questions are read once. Copier asks Git once for a file whether it has to set
    an executable bit in the repository; here it does not.
    """
    with (
        mock.patch.object(jinja2.Environment, "compile", compile_once),
        mock.patch.object(copier._template, "load_template_config", read_questions),
        mock.patch.object(copier._main, "is_git_available", return_value=False),
        mock.patch.object(copier._template, "get_repo", return_value=None),
    ):
        yield
