"""The matrix: in every variant uv locks the right wheel for every platform and every backend.

What is right follows from builds.yml; what is locked is read from uv.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from itertools import chain, combinations, pairwise
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from tests.project import PYTHON, Project, applies
from tests.replica.pypi import PYPI
from tests.table import (
    COMPANIONS,
    PLATFORMS,
    RELEASES,
    ROOT,
    TABLE,
    backends,
    companions,
    home,
    loads,
    on_pypi,
    plain,
    pythons,
    sdk,
    triton,
    versions,
)

NEWEST = next(iter(RELEASES))
EVERYWHERE = list(PLATFORMS)


def loadable(release: str, *chosen: str) -> list[str]:
    """Return the companions that have a build for these backends on every platform."""
    return [
        package
        for package in companions(release)
        if all(loads(release, backend, platform, package) for backend in chosen for platform in PLATFORMS)
    ]


def variants() -> Iterator[dict[str, Any]]:
    """Yield the answers of every variant worth having."""
    for release in RELEASES:
        names = backends(release)
        usual = on_pypi(release, "linux-x86_64")
        # Nothing but the release
        yield {"torch": release}
        # Each backend alone, everywhere, with all the companions that it has
        for name in names:
            yield {"torch": release, "platforms": EVERYWHERE, "backend": name, "companions": loadable(release, name)}
        # Each backend beside the CPU, and beside the next one
        for name, other in dict.fromkeys([*((name, "cpu") for name in names[:-1]), *pairwise(names)]):
            yield {"torch": release, "platforms": EVERYWHERE, "backend": name, "other_backends": [other]}
        # A mirror, in both shapes
        yield {"torch": release, "platforms": EVERYWHERE, "torch_index": "mirror"}
        others = [name for name in names if name != usual]
        yield {
            "torch": release,
            "platforms": EVERYWHERE,
            "other_backends": others,
            "companions": loadable(release, *names),
            "torch_index": "mirror",
        }
        # The platforms that have more Pythons than the others, where torch is alone and where it is not
        for platform in {on for row in RELEASES[release].get("python_on", {}).values() for on in row}:
            yield {"torch": release, "platforms": [platform]}
            yield {"torch": release, "platforms": [platform], "companions": ["torchvision"]}
            yield {"torch": release, "platforms": [platform], "companions": ["torchaudio"]}
    # Every set of platforms, in both shapes, for the releases between which PyPI's builds change
    for release in (NEWEST, "2.14", "2.10"):
        for platforms in chain.from_iterable(combinations(EVERYWHERE, size) for size in range(1, len(EVERYWHERE))):
            yield {"torch": release, "platforms": list(platforms)}
            yield {"torch": release, "platforms": list(platforms), "backend": "cpu", "companions": ["torchvision"]}


def name(answers: dict[str, Any]) -> str:
    texts = [",".join(value) if isinstance(value, list) else value for value in answers.values()]
    return "-".join(filter(None, texts)).replace(",".join(EVERYWHERE), "everywhere")


def rendered(render: Callable[..., Project], answers: dict[str, Any], replica: str) -> Project:
    """Render a variant that resolves with the replica: as the mirror, if it has one, or else in PyTorch's place."""
    mirror = {"torch_index": replica} if "torch_index" in answers else {}
    project = render(**{"python": oldest(answers)} | answers | mirror)
    project.resolve_with(replica)
    return project


def oldest(answers: dict[str, Any]) -> str:
    """Return the oldest Python that all packages of a variant have on all its platforms."""
    packages, platforms = ["torch", *answers.get("companions", [])], answers.get("platforms", EVERYWHERE[:3])
    release = answers["torch"]
    listed: list[str] = RELEASES[release]["python"]
    return next(
        python
        for python in listed
        if all(python in pythons(release, platform, package) for package in packages for platform in platforms)
    )


@pytest.mark.parametrize("answers", list(variants()), ids=name)
def test_every_platform_gets_its_build(answers: dict[str, Any], render: Callable[..., Project], replica: str) -> None:
    mirrored = "torch_index" in answers
    project = rendered(render, answers, replica)
    assert_markers(project)
    assert_pythons(project)
    project.uv("lock")
    for backend in project.backends:
        for platform in project.answers["platforms"]:
            assert_installs(project, backend, platform, replica, mirrored)


def assert_installs(project: Project, backend: str, platform: str, replica: str, mirrored: bool) -> None:
    """Check all that uv would install for a backend on a platform."""
    release = project.answers["torch"]
    built = loads(release, backend, platform)
    assert built

    # torch and its companions, for every Python: the version, the local part, the index and a file that fits
    by_python = {python: project.locked(backend, platform, python) for python in project.pythons}
    for package in ("torch", *project.answers["companions"]):
        version = versions(release, package)[-1]
        wheel = loads(release, backend, platform, package)
        if on_pypi(release, platform, package) == wheel and not mirrored:
            index = PYPI
        else:
            index = f"{replica}/{wheel}"
            if package not in plain(home(release, package), platform):
                version += f"+{wheel}"
        for python, packages in by_python.items():
            assert (packages[package].version, packages[package].index) == (version, index)
            assert packages[package].wheel(platform, python).startswith(f"{package}-{version}-")

    # CUDA packages and triton: where they belong, of the right CUDA, and nowhere else
    locked = by_python[PYTHON]
    cuda = {package for package in locked if package.startswith(("nvidia-", "cuda-"))}
    linux, major = platform.startswith("linux"), built[2:4]
    if linux and built.startswith("cu") and (platform == "linux-x86_64" or int(major) >= 13):
        assert {f"nvidia-cudnn-cu{major}", f"nvidia-nccl-cu{major}"} <= cuda
        assert not [package for package in cuda if package[-5:-2] == "-cu" and package[-2:] != major]
    else:
        assert not cuda
    own = triton(release, built)
    if linux and built.startswith("cu") and (platform == "linux-x86_64" or int(release[2:]) >= 11):
        own = "triton"
    assert {package for package in locked if "triton" in package} == {own} - {None}

    # Everything else is PyPI's
    from_pytorch = {"torch", *COMPANIONS, triton(release, built), *sdk(release, built)}
    assert {package.index for package_name, package in locked.items() if package_name not in from_pytorch} == {PYPI}

    # And uv, asked to install it there, takes just that
    assert project.synced(backend, platform) == {package: each.version for package, each in locked.items()}


def assert_pythons(project: Project) -> None:
    """Check that the project takes the Pythons for which every platform has every package, and no others."""
    release = project.answers["torch"]
    everywhere = [
        set(pythons(release, platform, package))
        for package in ("torch", *project.answers["companions"])
        for platform in project.answers["platforms"]
    ]
    assert set(project.pythons) == set.intersection(*everywhere)


def assert_markers(project: Project) -> None:
    """Check that the markers tell the chosen platforms apart, and leave none of them out."""
    uv = project.pyproject["tool"]["uv"]
    chosen = project.answers["platforms"]
    for platform in PLATFORMS:
        for table in ("environments", "required-environments"):
            fitting = [marker for marker in uv[table] if applies(marker, platform, PYTHON)]
            assert len(fitting) == (platform in chosen)
    for backend in project.backends:
        for package, sources in uv.get("sources", {}).items():
            for platform in chosen:
                fitting = [
                    source["index"].removeprefix("pytorch-")
                    for source in sources
                    if source.get("group", backend) == backend and applies(source["marker"], platform, PYTHON)
                ]
                name = package if package in COMPANIONS else "torch"
                expected = loads(project.answers["torch"], backend, platform, name)
                assert fitting in ([], [expected]), (package, platform)


# Three configurations that teams work with, by their answers and the wheels that they lock
WILD = {
    "torch 2.4.0 and torchvision 0.19: cu118 on Linux x86_64, CPU elsewhere": (
        {"torch": "2.4", "backend": "cu118", "companions": ["torchvision"]},
        {"torch": "2.4.0", "torchvision": "0.19.0"},
        "cu118",
    ),
    "torch 2.5.0: cu124 on Linux x86_64 from an explicit index, CPU elsewhere": (
        {"torch": "2.5", "backend": "cu124", "torch_index": "mirror"},
        {"torch": "2.5.0"},
        "cu124",
    ),
    "torch 2.4.0 and torchvision 0.19: cu124 on Linux x86_64, CPU elsewhere": (
        {"torch": "2.4", "backend": "cu124", "companions": ["torchvision"]},
        {"torch": "2.4.0", "torchvision": "0.19.0"},
        "cu124",
    ),
}


@pytest.mark.parametrize(("answers", "wanted", "backend"), list(WILD.values()), ids=list(WILD))
def test_configurations_from_the_wild(
    answers: dict[str, Any], wanted: dict[str, str], backend: str, render: Callable[..., Project], replica: str
) -> None:
    project = rendered(render, answers, replica)
    project.uv("lock", *(f"--upgrade-package={package}=={version}" for package, version in wanted.items()))
    project.uv("lock", "--check")
    indexes = {index["name"]: index for index in project.pyproject["tool"]["uv"]["index"]}
    assert indexes[f"pytorch-{backend}"]["explicit"] is True
    for package, version in wanted.items():
        cuda = project.locked(backend, "linux-x86_64")[package]
        assert cuda.index == f"{replica}/{backend}"
        assert cuda.wheel("linux-x86_64").startswith(f"{package}-{version}+{backend}-")
        for platform in ("linux-aarch64", "macos-arm64"):
            cpu = project.locked(backend, platform)
            assert cpu[package].wheel(platform).startswith(f"{package}-{version}-")
            assert not [name for name in cpu if name.startswith("nvidia-")]


def test_pypi_carries_the_build_of_the_second_configuration(render: Callable[..., Project]) -> None:
    """Without a mirror it needs no index at all: PyPI's wheel of torch 2.5.0 for Linux x86_64 is the cu124 build."""
    project = render(torch="2.5", backend="cu124")
    assert "index" not in project.pyproject["tool"]["uv"]
    project.uv("lock", "--upgrade-package=torch==2.5.0")
    cuda = project.locked("cu124", "linux-x86_64")
    assert cuda["torch"].version == "2.5.0"
    assert cuda["nvidia-cuda-runtime-cu12"].version.startswith("12.4.")


def test_the_default_answers_need_pypi_alone(render: Callable[..., Project]) -> None:
    project = render()
    assert {"index", "sources"}.isdisjoint(project.pyproject["tool"]["uv"])
    assert TABLE["index"] not in (project.path / "pyproject.toml").read_text()


@pytest.mark.parametrize("release", [NEWEST, list(RELEASES)[-1]])
@pytest.mark.parametrize("data", ["digits", "text", "cifar10"])
def test_no_project_takes_the_name_of_a_package_that_it_locks(
    release: str, data: str, render: Callable[..., Project]
) -> None:
    project = render(torch=release, data=data)
    project.uv("lock")
    locked = {package["name"] for package in tomllib.loads((project.path / "uv.lock").read_text())["package"]}
    reserved = yaml.safe_load((ROOT / "includes" / "reserved.yml").read_text())
    assert locked - {"demo"} <= set(reserved["package that the project uses"].split())


@pytest.mark.parametrize(
    ("tracker", "python"), [("tensorboard", "3.8"), ("wandb", "3.8"), ("trackio", "3.10"), ("mlflow", "3.10")]
)
@pytest.mark.parametrize("resolution", ["highest", "lowest-direct"])
def test_trackers_lock_from_the_oldest_python_on(
    tracker: str, python: str, resolution: str, render: Callable[..., Project]
) -> None:
    project = render(torch="2.4", python=python, tracker=tracker)
    project.uv("lock", "--resolution", resolution)
    locked = project.locked("cu121", "linux-x86_64", python)
    (floor,) = (line for line in project.pyproject["project"]["dependencies"] if line.startswith(tracker))
    assert locked[tracker].version in Requirement(floor).specifier
