"""Every refusal says what to choose instead, in 70 columns, and who follows it to the letter gets what was asked for."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import Any

import pytest

from tests.choosing import answers_to
from tests.project import Project
from tests.table import BACKENDS, COMPANIONS, PLATFORMS, RELEASES, builds, loads, pythons

SETS = [["linux-aarch64"], ["windows-x86_64"], ["linux-x86_64", "linux-aarch64", "macos-arm64"]]
PYTHONS = list(dict.fromkeys(python for row in RELEASES.values() for python in row["python"]))


def outcomes(answers: dict[str, Any], steps: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Follow each way that a refusal suggests until nothing is refused, and yield the answers and how many steps it took."""
    whole, message = asked(json.dumps(answers))
    if not message:
        yield whole, steps
        return
    assert len(message) <= 70, message
    assert steps < 5, f"{answers} lead in circles: {message}"
    suggestion, reason = message.split("; ")
    assert reason
    for way in suggestion.split(" or "):
        for changed in follow(answers, way):
            yield from outcomes(changed, steps + 1)


@cache
def asked(answers: str) -> tuple[dict[str, Any], str]:
    """Return the answers with all others, or what they are refused with."""
    try:
        return answers_to(**json.loads(answers)), ""
    except ValueError as error:
        return {}, str(error).split(": ", 1)[1]


def follow(answers: dict[str, Any], way: str) -> Iterator[dict[str, Any]]:
    """Yield the answers that one way of a suggestion gives: 'choose torch 2.14 with cu130', 'drop cpu'."""
    if way.startswith("drop "):
        value = way.removeprefix("drop ")
        kept = {name: [each for each in answers[name] if each != value] for name in ("other_backends", "companions")}
        assert any(kept[name] != answers[name] for name in kept), f"there is no {value} to drop"
        yield answers | kept
    elif way.startswith("add the platform "):
        yield answers | {"platforms": [*answers["platforms"], way.removeprefix("add the platform ")]}
    elif way == "add docker":
        yield answers | {"features": [*answers["features"], "docker"]}
    elif " to " in way:
        ends = way.removeprefix("choose ").removeprefix("Python ").split(" to ")
        yield from (answers | {"python": end} for end in ends)
    else:
        parts = [part.split(" ") for part in way.removeprefix("choose ").split(" with ")]
        yield answers | {(name[0].lower() if name else "backend"): value for *name, value in parts}


def assert_right(answers: dict[str, Any]) -> None:
    """Check that a chosen platform gets the backend, and that all of it is in the table."""
    torch, backend, platforms = answers["torch"], answers["backend"], answers["platforms"]
    for name in (backend, *answers["other_backends"]):
        assert any(name in builds(torch, platform) for platform in platforms)
        assert all(loads(torch, name, platform, package) for package in answers["companions"] for platform in platforms)
    for package in ("torch", *answers["companions"]):
        assert all(answers["python"] in pythons(torch, platform, package) for platform in platforms)


def assert_followed(given: list[dict[str, Any]], render: Callable[..., Project]) -> Counter[int]:
    """Follow what each of these answers is refused with, and return how often it took how many steps."""
    taken: Counter[int] = Counter()
    for answers in given:
        wanted = any(answers.get("backend") in builds(torch, on) for torch in RELEASES for on in answers["platforms"])
        found = list(outcomes({"other_backends": [], "companions": []} | answers))
        assert not wanted or answers["backend"] in {each["backend"] for each, _ in found}
        for each, steps in found:
            assert_right(each)
            taken[steps] += 1
    each, _ = found[0]
    assert render(**{name: each[name] for name in ("platforms", "backend", "torch", "python")}).backends == [
        each["backend"]
    ]
    return taken


@pytest.mark.parametrize("platforms", SETS, ids=" ".join)
def test_each_backend_with_each_release(platforms: list[str], render: Callable[..., Project]) -> None:
    pairs = product(BACKENDS, RELEASES)
    taken = assert_followed([{"platforms": platforms, "backend": b, "torch": t} for b, t in pairs], render)
    assert taken[0] == sum(any(b in builds(t, on) for on in platforms) for b, t in product(BACKENDS, RELEASES))
    assert taken[1] > 0.7 * taken.total() - taken[0], "most take one step"


@pytest.mark.parametrize("platforms", SETS, ids=" ".join)
def test_each_python_with_each_release(platforms: list[str], render: Callable[..., Project]) -> None:
    pairs = product(PYTHONS, RELEASES)
    assert_followed([{"platforms": platforms, "backend": "cpu", "torch": t, "python": p} for p, t in pairs], render)


@pytest.mark.parametrize("seed", range(4))
def test_answers_to_everything(seed: int, render: Callable[..., Project]) -> None:
    draw = random.Random(seed)
    given = []
    for _ in range(40):
        optional = {
            "torch": draw.choice(list(RELEASES)),
            "python": draw.choice(PYTHONS),
            "other_backends": draw.sample(list(BACKENDS), draw.choice([0, 1, 2])),
            "companions": draw.sample(COMPANIONS, draw.choice([0, 1, 2])),
        }
        named = {name: value for name, value in optional.items() if draw.random() < 0.8}
        given.append({"platforms": draw.choice(SETS), "backend": draw.choice(list(BACKENDS)), **named})
    assert_followed(given, render)


@pytest.mark.parametrize("platforms", [[name] for name in PLATFORMS], ids=" ".join)
def test_a_platform_and_a_backend_alone_are_never_refused(platforms: list[str]) -> None:
    for backend in BACKENDS:
        if any(backend in builds(torch, platform) for torch in RELEASES for platform in platforms):
            assert_right(answers_to(platforms=platforms, backend=backend))


def test_what_runs_on_linux_says_which_platform_to_add(render: Callable[..., Project]) -> None:
    features: list[dict[str, Any]] = [{"features": [name]} for name in ("docker", "slurm", "devcontainer")]
    for given in (*features, {"features": ["docker", "kubernetes"]}, {"ci": "gitlab"}):
        for platform in ("macos-arm64", "windows-x86_64"):
            ((answers, steps),) = outcomes({"platforms": [platform], **given})
            assert steps == 1
            assert set(answers["platforms"]) == {platform, "linux-x86_64"}


def test_what_runs_an_image_says_which_feature_makes_it() -> None:
    ((answers, steps),) = outcomes({"features": ["kubernetes"]})
    assert (answers["features"], steps) == (["docker", "kubernetes"], 1)


@pytest.mark.parametrize("tracker", ["trackio", "mlflow"])
@pytest.mark.parametrize("torch", ["2.4", "2.8"])
def test_a_tracker_says_which_python_it_needs(tracker: str, torch: str) -> None:
    ((answers, steps),) = outcomes({"torch": torch, "tracker": tracker})
    assert (answers["python"], answers["tracker"], steps) == ("3.10", tracker, 1)
