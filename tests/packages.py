"""docs/packages.md: what `uv add` makes of the packages that need torch, in three projects, on PyPI as it is today.

uvx nox -s packages
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import parse_sdist_filename, parse_wheel_filename
from packaging.version import Version

from tests.network import unreached
from tests.project import Locked, Project
from tests.replica import pypi, replica
from tests.supported import markdown
from tests.table import COMPANIONS, RELEASES, ROOT, loads, on_pypi, versions

PAGE = ROOT / "docs" / "packages.md"
BETWEEN = re.compile(r"(?<=<!-- packages -->\n).*?(?=<!-- /packages -->)", re.DOTALL)
PACKAGES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "tests" / "packages.yml").read_text())
NEWEST, _, OLDER = list(RELEASES)[:3]
PROJECTS: dict[str, dict[str, Any]] = {
    NEWEST: {"torch": NEWEST},
    f"{NEWEST} + cpu": {"torch": NEWEST, "other_backends": ["cpu"]},
    OLDER: {"torch": OLDER},
}
STABLE = Version("0.12")  # from there on, torchcodec works with every later torch
TODAY = {"UV_EXCLUDE_NEWER": str(date.today())}  # in the place of the day of builds.yml
files = cache(partial(pypi.files, pypi.PYPI))  # of a package; torch's are looked at for every other one
STATES = ("right without a recipe", "right with a recipe", "not at all", "not tried")


class Wrong(Exception):
    """What is wrong with a lock, in words."""


@dataclass(frozen=True)
class Result:
    """What came of a package in a project: its version, if it can be had, and what is wrong without the recipe."""

    version: str
    wrong: str = ""
    tried: bool = True

    @property
    def state(self) -> str:
        return STATES[3 if not self.tried else 2 if not self.version else 1 if self.wrong else 0]

    def __str__(self) -> str:
        """As a cell of the table."""
        if not self.version:
            return "no" if self.tried else "not tried"
        return f"**{self.version}**" if self.wrong else self.version


def tried(name: str, base: Project, index: str, folder: Path) -> Result:
    """Add a package to a project as one would at first and, if that is wrong, by its recipe."""
    entry, release = PACKAGES[name], base.answers["torch"]
    if "needs" in entry and unreached(entry["needs"]):
        return Result("", f"{entry['needs']} could not be reached", tried=False)
    flaws = entry.get("flaws", {})
    flaw = flaws.get(release, flaws.get("all", ""))
    try:
        version = added(name, base, index, folder / "plain" / "demo", {"add": entry.get("plain", name)})
        if not flaw:
            return Result(version)
    except Wrong as wrong:
        flaw = flaw or str(wrong)
    try:
        if "recipe" in entry:
            return Result(added(name, base, index, folder / "recipe" / "demo", entry["recipe"]), flaw)
    except Wrong:
        pass
    return Result("", wanted(name, release) or flaw)


def added(name: str, base: Project, index: str, folder: Path, recipe: dict[str, Any]) -> str:
    """Follow a recipe in a project, and return the versions of the package that are then locked.

    Raises:
        Wrong: They are not right.
    """
    if "companions" in recipe:
        try:
            project = rendered(folder, index, **base.answers | {"companions": recipe["companions"]})
        except ValueError as refused:
            raise Wrong(str(refused)) from None
    else:
        project = Project(shutil.copytree(base.path, folder))
    with (project.path / "pyproject.toml").open("a") as file:
        file.write(f"\n{lines(name)}" if "lines" in recipe else "")
    try:
        project.uv(*(["add", "--no-sync", recipe["add"]] if "add" in recipe else ["lock"]), **TODAY)
    except AssertionError as failure:
        raise Wrong(reason(str(failure))) from failure
    return judged(name, base, project)


def lines(name: str) -> str:
    """Return what the page has under the name of a package for pyproject.toml."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n### {name}\n")[2]
    return section.partition("```toml\n")[2].partition("```")[0]


def rendered(folder: Path, index: str, **answers: object) -> Project:
    """Render a project that takes from the replica what PyTorch's index has."""
    given = {name: answer for name, answer in answers.items() if not name.startswith("_")}
    project = Project.render(folder, **given)
    project.resolve_with(index)
    return project


def reason(message: str) -> str:
    """Return in few words why uv did not lock."""
    if "No module named 'torch'" in message:
        return "its build needs torch"
    built = re.search("Failed to (download and )?build", message)
    return "an old version that cannot be built" if built else "no version fits"


def judged(name: str, before: Project, after: Project) -> str:
    """Return the versions of a package that a project has locked.

    Raises:
        Wrong: torch is not as before, a companion does not fit it, or a version is too old to know this torch.
    """
    release, found = before.answers["torch"], set()
    for backend in before.backends:
        for platform in before.answers["platforms"]:
            for python in {after.pythons[0], after.pythons[-1]}:
                locked = after.locked(backend, platform, python)
                torch, earlier = locked["torch"], before.locked(backend, platform, python)["torch"]
                if (torch.version, torch.index) != (earlier.version, earlier.index):
                    raise Wrong(f"torch {torch.version}")
                if name in locked:
                    found.add(Version(Version(locked[name].version).public))
                    if min(found) < oldest(name, release, python):
                        raise Wrong(f"{min(found)}, too old for this torch")
                for companion in (companion for companion in COMPANIONS if companion in locked):
                    check(companion, locked[companion], release, backend, platform)
    if not found:
        raise Wrong("nothing is installed")
    return ", ".join(map(str, sorted(found, reverse=True)))


def check(companion: str, locked: Locked, release: str, backend: str, platform: str) -> None:
    """Compare a companion with what the table has for a build of torch.

    Raises:
        Wrong: It is another version, or another build.
    """
    version = locked.version.partition("+")[0]
    known = versions(release, companion)
    compatible = companion == "torchcodec" and STABLE <= Version(version) <= Version(known[-1])
    if version not in known and not compatible:
        raise Wrong(f"{companion} {version}, for another torch")
    build = locked.index.rpartition("/")[2] if "/whl/" in locked.index else on_pypi(release, platform, companion)
    if build != loads(release, backend, platform, companion):
        raise Wrong(f"{companion} is built for {build}")


def wanted(name: str, release: str) -> str:
    """Return what the newest wheel of a package requires of torch, if a release is not that."""
    wheels: dict[Version, str] = {}
    for file in files(name):
        version = version_of(str(file["filename"]))
        if version and not version.is_prerelease and str(file["filename"]).endswith(".whl"):
            wheels[version] = str(file["url"])
    required = pypi.metadata(wheels[max(wheels)]).get_all("Requires-Dist", []) if wheels else []
    for requirement in map(Requirement, required):
        own = requirement.name == "torch" and "extra" not in str(requirement.marker)
        if own and versions(release, "torch")[-1] not in requirement.specifier:
            return f"{max(wheels)} requires torch{requirement.specifier}"
    return ""


@cache
def oldest(name: str, release: str, python: str) -> Version:
    """Return the version that was the newest when the release of torch before this one came out.

    What is older, while newer ones are there, cannot have been tried with this torch.
    """
    names = list(RELEASES)
    first = f"torch-{versions(names[names.index(release) + 1], 'torch')[0]}-"
    day = min(str(file["upload-time"]) for file in files("torch") if str(file["filename"]).startswith(first))
    return max((version for version, time in published(name, python) if time < day), default=Version("0"))


@cache
def published(name: str, python: str) -> list[tuple[Version, str]]:
    """Return the versions of a package that a Python may install, other than previews, and when they came out."""
    found = []
    for file in files(name):
        allowed = SpecifierSet(file.get("requires-python") or "").contains(f"{python}.99")
        version = version_of(str(file["filename"]))
        if version and allowed and not version.is_prerelease and not file.get("yanked"):
            found.append((version, str(file["upload-time"])))
    return found


def version_of(filename: str) -> Version | None:
    """Return the version of a wheel or an sdist; eggs and installers have none."""
    try:
        parse = parse_wheel_filename if filename.endswith(".whl") else parse_sdist_filename
        return parse(filename)[1]
    except ValueError:
        return None


def counted(results: dict[str, list[Result]]) -> str:
    """Return how many results there are of each kind, and how many packages by the worst of theirs."""
    every = Counter(result.state for some in results.values() for result in some)
    worst = Counter(max((result.state for result in some), key=STATES.index) for some in results.values())
    return "; ".join(
        f"{sum(count.values())} {what}: " + ", ".join(f"{count[state]} {state}" for state in STATES)
        for what, count in {"results": every, "packages, by their worst result": worst}.items()
    )


def table(results: dict[str, list[Result]]) -> str:
    """Return the results in Markdown: a row a package, in bold what only the recipe gives."""
    rows = []
    for name, some in results.items():
        wrong: dict[str, list[str]] = {}
        for title, result in zip(PROJECTS, some, strict=True):
            if result.wrong:
                wrong.setdefault(result.wrong, []).append(title)
        otherwise = [text + f" ({', '.join(on)})" * (len(on) < len(some)) for text, on in wrong.items()]
        rows.append([f"`{name}`", typed(name), *map(str, some), "; ".join(otherwise)])
    head = ["package", "type", *(f"torch {title}" for title in PROJECTS), "otherwise, or why not"]
    return f"{date.today()}. {counted(results)}.\n\n{markdown(head, rows)}"


def typed(name: str) -> str:
    """Return what is to be typed for a package."""
    entry = PACKAGES[name]
    recipe = entry.get("recipe", {"add": entry.get("plain", name)})
    parts = [f"`companions=[{','.join(recipe['companions'])}]`"] if "companions" in recipe else []
    parts += [f"[lines](#{name})"] if "lines" in recipe else []
    if "add" in recipe:
        quote = "" if re.fullmatch(r"[\w.-]+", recipe["add"]) else '"'
        parts += [f"`uv add {quote}{recipe['add']}{quote}`"]
    return ", then ".join(parts)


def run() -> dict[str, list[Result]]:
    """Add every package to every project."""
    with tempfile.TemporaryDirectory() as name, replica() as index, ProcessPoolExecutor(2) as pool:
        bases = [rendered(Path(name) / title / "demo", index, **answers) for title, answers in PROJECTS.items()]
        for base in bases:
            base.uv("lock", **TODAY)
        jobs = {
            package: [pool.submit(tried, package, base, index, base.path.parent / package) for base in bases]
            for package in PACKAGES
        }
        return {package: [job.result() for job in some] for package, some in jobs.items()}


def main() -> None:
    """Write the page's table."""
    results = run()
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(BETWEEN.sub(lambda _: table(results), text), encoding="utf-8", newline="\n")
    print(counted(results))


if __name__ == "__main__":
    main()
