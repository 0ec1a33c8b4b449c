"""Rendered pipelines: what they run, when they fail, and what they tell of a new version of the template."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from tests.history import append, commit, copied, git, released
from tests.project import Project
from tests.table import PLATFORMS
from tests.test_copier import OLDEST

EVERYTHING = {
    "torch": "2.14",
    "platforms": list(PLATFORMS),
    "other_backends": ["cpu", "rocm7.2"],
    "companions": ["torchvision", "torchaudio"],
}


def load(project: Project, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((project.path / name).read_text())
    return loaded


@pytest.mark.parametrize("answers", [{}, EVERYTHING], ids=["default", "everything"])
def test_workflows_may_do_no_more_than_they_must(answers: dict[str, Any], render: Callable[..., Project]) -> None:
    project = render(**answers)
    for path in project.path.glob(".github/workflows/*.yml"):
        workflow = load(project, str(path.relative_to(project.path)))
        assert workflow["permissions"] in ({}, {"contents": "read"})
        for job in workflow["jobs"].values():
            for step in job["steps"]:
                assert re.search(r"@[0-9a-f]{40}$", step.get("uses", f"run@{'0' * 40}"))
        text = path.read_text()
        assert len(re.findall(r"uses: \S+@[0-9a-f]{40} # v\d+\.\d+\.\d+\n", text)) == text.count("uses:")
        assert "secrets." not in text
    jobs = load(project, ".github/workflows/template.yml")["jobs"]
    assert [job["permissions"] for job in jobs.values()] == [{"contents": "read", "issues": "write"}]


@pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: the step runs in bash, on Linux")
def test_an_issue_is_opened_once_for_each_new_version(tmp_path: Path) -> None:
    source = released(tmp_path / "template")
    project = Project(copied(source, tmp_path / "demo"))
    assert opened(project) == ""
    append(source / "template" / "pyproject.toml.jinja", "# new")
    commit(source, "1.1.0")
    issue = opened(project)
    assert issue.startswith("issue create --title Update to version 1.1.0 of the template --body ")
    assert opened(project, "Update to version 1.1.0 of the template") == ""
    append(source / "template" / "pyproject.toml.jinja", "# newer")
    commit(source, "1.2.0")
    assert "version 1.2.0" in opened(project, "Update to version 1.1.0 of the template", "Update")
    (project.path / ".copier-answers.yml").write_text("torch: '2.15'\n")
    with pytest.raises(subprocess.CalledProcessError):
        opened(project)


def opened(project: Project, *titles: str) -> str:
    """Run the step that opens an issue where there are issues with these titles, and return what it opens."""
    programs = project.path.parent / "bin"
    programs.mkdir(exist_ok=True)
    output = programs / "output"
    output.write_text("")
    for name, script in {
        "uvx": f'program=$1; shift; exec "{sys.executable}" -m "${{program%@*}}" "$@"',
        "jq": f"""exec "{sys.executable}" -c 'import json, sys; found = json.load(sys.stdin)
if found["update_available"]: print(found["latest_version"])'""",
        "gh": f'if [ "$2" = list ]; then printf "%s\\n" "$TITLES"; else echo "$@" > {output}; fi',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    steps = load(project, ".github/workflows/template.yml")["jobs"]["update"]["steps"]
    look, tell = (step for step in steps if "run" in step)
    assert "env" not in look, "a program from PyPI never sees the token"
    found = programs / "found"
    found.write_text("")
    env = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "TITLES": "\n".join(titles)}
    env |= {"GITHUB_OUTPUT": str(found)}
    subprocess.run(["bash", "-e", "-c", look["run"]], cwd=project.path, env=env, check=True)
    assert tell["if"] == f"steps.{look['id']}.outputs.version"
    if version := found.read_text().strip().removeprefix("version="):
        subprocess.run(["bash", "-e", "-c", tell["run"]], cwd=project.path, env=env | {"VERSION": version}, check=True)
    return output.read_text()


def test_a_scheduled_job_fails_once_there_is_a_new_version(tmp_path: Path) -> None:
    source = released(tmp_path / "template")
    project = Project(copied(source, tmp_path / "demo", ci="gitlab"))
    job = load(project, ".gitlab-ci.yml")["template"]
    assert job["rules"] == [{"if": '$CI_PIPELINE_SOURCE == "schedule"'}]
    install, *commands = job["script"]
    assert install == f"pip install copier=={OLDEST}"

    def run() -> list[int]:
        programs = ([sys.executable, "-m", *command.split()] for command in commands)
        return [subprocess.run(program, cwd=project.path, check=False).returncode for program in programs]

    assert run() == [0, 0]
    git(source, "commit", "--allow-empty", "--message=new")
    commit(source, "1.1.0")
    assert run() == [0, 2]


@pytest.mark.parametrize("ci", ["github", "gitlab"])
def test_a_pipeline_checks_what_the_readme_says(ci: str, render: Callable[..., Project]) -> None:
    project = render(ci=ci)
    if ci == "github":
        steps = [step.get("run") for step in load(project, ".github/workflows/ci.yml")["jobs"]["check"]["steps"]]
    else:
        steps = load(project, ".gitlab-ci.yml")["check"]["script"]
    (block,) = re.findall(
        r"^## Check\n\n```sh\n(.*?)```", (project.path / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert block.splitlines() == ["uv run ruff format", "uv run ruff check", "uv run mypy", "uv run pytest"]
    assert {line.replace("ruff format", "ruff format --check") for line in block.splitlines()} <= {*steps}


def test_the_template_is_looked_at_each_week(render: Callable[..., Project]) -> None:
    workflow = yaml.load((render().path / ".github/workflows/template.yml").read_text(), yaml.BaseLoader)
    (schedule,) = workflow["on"]["schedule"]
    minute, hour, day, month, weekday = schedule["cron"].split()
    assert (day, month) == ("*", "*")
    assert int(minute) < 60
    assert int(hour) < 24
    assert int(weekday) < 7


@pytest.mark.parametrize("ci", ["github", "gitlab"])
def test_a_stale_lock_stops_a_pipeline(ci: str, render: Callable[..., Project]) -> None:
    project = render(ci=ci)
    if ci == "github":
        steps = load(project, ".github/workflows/ci.yml")["jobs"]["check"]["steps"]
        commands = [step["run"] for step in steps if "run" in step]
    else:
        job = load(project, ".gitlab-ci.yml")["check"]
        commands = [line for line in [*job["before_script"], *job["script"]] if line.startswith("uv ")]
    first = commands[0].removeprefix("uv ").split()
    assert first == ["lock", "--check"], "before anything is installed"
    with pytest.raises(AssertionError, match="Unable to find lockfile"):
        project.uv(*first)
    project.lock()
    project.uv(*first)
    pyproject = project.path / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('"filelock>=3.12"', '"filelock>=3.13"'))
    with pytest.raises(AssertionError, match="needs to be updated"):
        project.uv(*first)


@pytest.mark.parametrize(
    ("platforms", "tags"),
    [(["linux-aarch64"], ["$AARCH64_RUNNER"]), (["linux-x86_64", "linux-aarch64"], None)],
    ids=["aarch64", "both"],
)
def test_gitlab_runs_on_a_platform_of_the_project(
    platforms: list[str], tags: list[str] | None, render: Callable[..., Project]
) -> None:
    pipeline = load(render(ci="gitlab", platforms=platforms), ".gitlab-ci.yml")
    assert pipeline["check"].get("tags") == tags
    assert pipeline["variables"] == {"AARCH64_RUNNER": "saas-linux-medium-arm64"}, "a runner that GitLab.com has"


@pytest.mark.parametrize(("backend", "device"), [("cu132", "cuda"), ("rocm7.2", "cuda"), ("xpu", "xpu"), ("cpu", "")])
def test_gpus_are_tested_where_there_is_a_runner(backend: str, device: str, tmp_path: Path) -> None:
    """It is off until a variable names the runner, runs no stranger's code, and fails where torch finds no GPU."""
    projects = {ci: Project.render(tmp_path / ci, backend=backend, ci=ci) for ci in ("github", "gitlab")}
    github = load(projects["github"], ".github/workflows/ci.yml")["jobs"].get("gpu", {})
    gitlab = load(projects["gitlab"], ".gitlab-ci.yml").get("gpu", {})
    if not device:
        assert github == gitlab == {}
        return
    assert github["if"] == "vars.GPU_RUNNER && github.event_name == 'push'"
    assert github["runs-on"] == "${{ vars.GPU_RUNNER }}"
    assert gitlab["rules"] == [{"if": "$GPU_RUNNER && $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"}]
    assert gitlab["tags"] == ["$GPU_RUNNER"]
    commands = [step["run"] for step in github["steps"] if "run" in step]
    assert commands == ["uv sync --locked", *gitlab["script"]] == [*gitlab["before_script"][1:], *gitlab["script"]]
    assert f"device='{device}'" in commands[1]
    assert commands[2] == "uv run pytest -m gpu"


@pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: the hooks run in a shell")
def test_a_hook_in_a_fresh_clone_says_what_installs_it(render: Callable[..., Project]) -> None:
    project = render()
    (local,) = load(project, ".pre-commit-config.yaml")["repos"]
    project.lock()
    programs = project.path / "bin"  # without the ruff of whoever runs the tests
    programs.mkdir()
    (programs / "uv").symlink_to(str(shutil.which("uv")))
    for hook in local["hooks"][:2]:
        with pytest.raises(AssertionError, match="Failed to spawn"):
            project.uv(*hook["entry"].removeprefix("uv ").split(), PATH=str(programs))
        assert "uv sync" in hook["name"]


@pytest.mark.parametrize("platforms", [["linux-x86_64"], ["linux-aarch64"], list(PLATFORMS)], ids=" ".join)
def test_an_image_is_pushed_for_a_tag_alone(platforms: list[str], render: Callable[..., Project]) -> None:
    """No pull request builds 3 GB, and nothing is pushed that nobody asked for."""
    project = render(platforms=platforms)
    for path in project.path.glob(".github/workflows/*.yml"):
        text = path.read_text()
        workflow = yaml.load(text, yaml.BaseLoader)
        pushes = "push=true" in text or "imagetools" in text or "packages: write" in text
        assert pushes == (path.name == "image.yml")
        if pushes:
            assert workflow["on"] == {"push": {"tags": ["v*"]}}
        else:
            assert "docker" not in text
        for job in workflow["jobs"].values():
            assert 0 < int(job["timeout-minutes"]) <= 60
    ci = yaml.load((project.path / ".github/workflows/ci.yml").read_text(), yaml.BaseLoader)
    assert ci["concurrency"]["cancel-in-progress"] == "${{ github.event_name == 'pull_request' }}"
    assert_gitlab_pushes_for_a_tag(Project.render(project.path / "gitlab", platforms=platforms, ci="gitlab"))


def assert_gitlab_pushes_for_a_tag(project: Project) -> None:
    jobs = load(project, ".gitlab-ci.yml")
    jobs.pop("variables", None)
    reserved = {"image", "services", "stages", "before_script", "after_script", "cache", "include"}
    assert not reserved & set(jobs), "names that GitLab keeps for itself"
    pushing = {name for name, job in jobs.items() if "push=true" in str(job) or "imagetools" in str(job)}
    assert pushing
    for name in (*pushing, *(name for name, job in jobs.items() if job.get("extends") in pushing)):
        (rule,) = jobs[name]["rules"]
        assert rule["if"].split(" && ")[0] == "$CI_COMMIT_TAG =~ /^v/"
    assert jobs["check"]["timeout"]


@pytest.mark.skipif(sys.platform == "win32", reason="SKIPPED: the steps run in bash, on Linux")
@pytest.mark.parametrize("ci", ["github", "gitlab"])
@pytest.mark.parametrize(
    ("platforms", "pushed"),
    [
        (["linux-x86_64"], ["v1.0.0"]),
        (["linux-x86_64", "linux-aarch64"], ["v1.0.0-x86_64", "v1.0.0-aarch64", "v1.0.0"]),
    ],
    ids=["one", "two"],
)
@pytest.mark.parametrize("runner", ["saas-linux-medium-arm64", ""])
def test_each_machine_pushes_its_image_and_the_last_job_joins_them(
    ci: str, platforms: list[str], pushed: list[str], runner: str, render: Callable[..., Project]
) -> None:
    """With a variable, GitLab does without a runner on aarch64."""
    project = render(ci=ci, platforms=platforms)
    programs = project.path / "bin"
    programs.mkdir()
    for name, script in {"docker": 'echo "$@" >> "$PUSHED"', "uname": 'echo "$MACHINE"'}.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    output = project.path / "pushed.txt"
    shared = {"PUSHED": str(output), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "TOKEN": "t"}
    shared |= {"GITHUB_REPOSITORY": "Org/Demo", "GITHUB_REF_NAME": "v1.0.0", "GITHUB_ACTOR": "a", "GITHUB_SHA": "0"}
    shared |= {"CI_REGISTRY_IMAGE": "ghcr.io/org/demo", "CI_COMMIT_TAG": "v1.0.0", "CI_COMMIT_SHA": "0"}
    shared |= {"AARCH64_RUNNER": runner, "CI_REGISTRY": "r", "CI_REGISTRY_USER": "u", "CI_REGISTRY_PASSWORD": "p"}

    def run(commands: list[str], machine: str) -> None:
        env = os.environ | shared | {"MACHINE": machine}
        subprocess.run(["bash", "-eu", "-c", "\n".join(commands)], cwd=project.path, env=env, check=True)

    if ci == "github":
        jobs = load(project, ".github/workflows/image.yml")["jobs"]
        scripts = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
        build, join = scripts["image"], scripts.get("manifest")
    else:
        jobs = load(project, ".gitlab-ci.yml")
        build, join = jobs["docker"]["script"], jobs["manifest"]["script"] if "manifest" in jobs else None
    for platform in platforms:
        run(build, platform.removeprefix("linux-"))
    waits_for = {need["job"] if isinstance(need, dict) else need for need in listed(jobs, "manifest")}
    pushing = {"image"} if ci == "github" else {"docker", "docker on aarch64"}
    assert waits_for == (pushing if join else set())
    if join:
        run(join, "x86_64")
    text = output.read_text()
    assert ("demo:v1.0.0-aarch64\n" in text) == (ci == "gitlab" and bool(join and runner)) or ci == "github"
    assert re.findall(r"name=ghcr\.io/org/demo:(\S+?),push=true|--tag ghcr\.io/org/demo:(\S+)", text) == [
        (tag, "") if "-" in tag or len(platforms) == 1 else ("", tag) for tag in pushed
    ]


def listed(jobs: dict[str, Any], name: str) -> list[Any]:
    """Return what a job waits for, if there is such a job."""
    needs = jobs.get(name, {}).get("needs", [])
    return [needs] if isinstance(needs, str) else list(needs)


ANSWERS = [{}, EVERYTHING, {"torch": "2.14", "backend": "xpu", "companions": ["torchvision"]}]


@pytest.mark.parametrize("answers", ANSWERS, ids=["default", "everything", "xpu"])
def test_dependabot_leaves_the_release_of_torch_alone(answers: dict[str, Any], render: Callable[..., Project]) -> None:
    project = render(**answers)
    uv, actions = load(project, ".github/dependabot.yml")["updates"]
    assert (uv["package-ecosystem"], actions["package-ecosystem"]) == ("uv", "github-actions")
    assert uv["versioning-strategy"] == "lockfile-only", "the ranges are the template's"
    patches_only, held = {}, set()
    for rule in uv["ignore"]:
        if "update-types" in rule:
            patches_only[rule["dependency-name"]] = {name.rsplit("-", 1)[1] for name in rule["update-types"]}
        else:
            held.add(rule["dependency-name"])
    pinned = {"torch", *project.answers["companions"]}
    assert patches_only == {package: {"major", "minor"} for package in pinned}
    assert held == {name for name in direct(project) if "triton" in name}
    groups = uv.get("groups", {"torch": {"patterns": ["torch"]}})
    assert set(groups["torch"]["patterns"]) == pinned


@pytest.mark.parametrize("answers", ANSWERS, ids=["default", "everything", "xpu"])
def test_renovate_does_so_too(answers: dict[str, Any], render: Callable[..., Project]) -> None:
    project = render(ci="gitlab", **answers)
    every, group = json.loads((project.path / "renovate.json").read_text())["packageRules"]
    assert (every["matchManagers"], every["rangeStrategy"]) == (["pep621"], "in-range-only")
    assert set(group["matchPackageNames"]) == {
        name for name in direct(project) if fnmatch.fnmatch(name, "torch*") or "triton" in name
    }
    assert group["groupName"] == "torch"


def direct(project: Project) -> set[str]:
    """Return the packages that a project names itself."""
    pyproject = project.pyproject
    groups = [pyproject["project"]["dependencies"], *pyproject["dependency-groups"].values()]
    return {Requirement(line).name for group in groups for line in group}
