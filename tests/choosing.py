"""Answers to the questions that have choices, taken from what the template itself offers after the answers before."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations
from typing import Any
from unittest import mock

import copier
from copier._user_data import Question

from tests import quick
from tests.project import template

# A function that is told a question, what it offers and whether several may be taken, and takes one or some
Choose = Callable[[str, list[str], bool], Any]
Pair = frozenset[tuple[str, str]]


@contextmanager
def answering(choose: Choose) -> Iterator[dict[str, Any]]:
    """Let a function answer what is not answered yet, while the context lasts. It gives the answers as they come."""
    get_default = Question.get_default
    taken: dict[str, Any] = {}

    def answer(question: Question) -> Any:
        name = question.var_name
        if not question.choices or name in question.answers.init or not question.get_when():
            return get_default(question)
        if name not in taken:
            offered = [str(choice.value) for choice in question._formatted_choices if not choice.disabled]
            chosen = choose(name, offered, bool(question.multiselect))
            if "kubernetes" in chosen and "docker" not in chosen:  # it runs the image
                chosen = [*chosen, "docker"]
            taken[name] = question.parse_answer(chosen)
            question.validate_answer(taken[name])
        return taken[name]

    with mock.patch.object(Question, "get_default", answer):
        yield taken


def ask(choose: Choose) -> dict[str, Any]:
    """Return the answers that a function gives, without a project."""
    unwritten = mock.patch.object(copier._main.Worker, "_render_template")
    with quick.renders(), unwritten, answering(choose) as taken:
        data, settings = {"project_name": "demo"}, copier.Settings()
        copier.run_copy(str(template()), "demo", data, defaults=True, quiet=True, pretend=True, settings=settings)
    return taken


def answers_to(**answers: Any) -> dict[str, Any]:
    """Return all answers that there are after these and the defaults, without a project.

    Raises:
        ValueError: An answer was refused.
    """
    unwritten = mock.patch.object(copier._main.Worker, "_render_template")
    data = {"project_name": "demo", **answers}
    with quick.renders(), unwritten:
        worker = copier.run_copy(
            str(template()), "demo", data, defaults=True, quiet=True, pretend=True, settings=copier.Settings()
        )
    return dict(worker.answers.combined)


def values(answers: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the questions and values of a set of answers. Of several values, each counts; of none, `none`."""
    return [
        (name, value)
        for name, answer in answers.items()
        for value in (answer if isinstance(answer, list) else [answer]) or ["none"]
    ]


def pairs(answers: dict[str, Any]) -> set[Pair]:
    return {frozenset(pair) for pair in combinations(values(answers), 2) if pair[0][0] != pair[1][0]}


class Table:
    """Sets of answers which together have every pair of values that the template offers beside one another.

    What is possible is found on the way: a value that is offered makes a pair with each answer before it. Each row goes the
    way that led to a missing pair, takes it, and goes on with what brings in the most pairs. The table is whole once a
    hundred ways at random bring in no more.
    """

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.covered: set[Pair] = set()
        self.missing: dict[Pair, dict[str, Any]] = {}  # and the answers that lead there
        rows: list[dict[str, Any]] = []
        in_vain = 0
        while in_vain < 100:
            known = len(self.covered)
            rows.append(self.row(self.random.choice(list(self.missing.values())) if self.missing else {}))
            in_vain = in_vain + 1 if len(self.covered) == known else 0
        self.rows = needed(rows)

    def row(self, way: dict[str, Any]) -> dict[str, Any]:
        """Answer all questions once, the first of them with these answers."""
        before: dict[str, Any] = {}

        def new(name: str, value: str, several: bool) -> int:
            beside = [frozenset({(name, value), other}) for other in values(before)]
            beside = [pair for pair in beside if pair not in self.covered]
            for pair in beside:
                self.missing.setdefault(pair, before | {name: [value] if several else value})
            return len(beside)

        def choose(name: str, offered: list[str], several: bool) -> Any:
            worth = {value: (new(name, value, several), self.random.random()) for value in offered}
            ranked = sorted(offered, key=lambda value: worth[value], reverse=True)
            # What is offered later hangs on how many are taken: one, two, all that bring something new, or none
            number = self.random.choice([0, 1, 2, sum(count > 0 for count, _ in worth.values())])
            taken = ranked[: max(number, name == "platforms")] if several else ranked[0]
            before[name] = way.get(name, taken)
            return before[name]

        answers = ask(choose)
        self.covered |= pairs(answers)
        for pair in pairs(answers):
            self.missing.pop(pair, None)
        return answers


def needed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows without those whose pairs are all in the others, the poorest looked at first."""
    count = Counter(pair for row in rows for pair in pairs(row))
    kept = []
    for row in sorted(rows, key=lambda row: len(pairs(row))):
        if all(count[pair] > 1 for pair in pairs(row)):
            count.subtract(pairs(row))
        else:
            kept.append(row)
    return kept
