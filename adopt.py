# /// script
# requires-python = ">=3.11"
# dependencies = ["copier>=9.19.1", "packaging>=26", "tomlkit>=0.15"]
# ///
"""Give a project that is there the right PyTorch on every platform. In its folder:

    uv run https://raw.githubusercontent.com/org/torch-uv-template/main/adopt.py
    uv run ../torch-uv-template/adopt.py --defaults --data backend=cu126 --data torch=2.14

The template is rendered with the answers, and what it says of torch is moved into pyproject.toml: requirement, sources,
indexes, environments, groups and conflicts. All else stays as it is. It shows the difference, asks, writes, locks and
checks what each platform gets; if that fails, nothing is changed. https://github.com/org/torch-uv-template/blob/main/docs/adopt.md
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import stat
import subprocess
import sys
import tempfile
import tomllib
import warnings
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import copier
import tomlkit
from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

HERE = Path(__file__).resolve().parent
ASKED = ("platforms", "backend", "torch", "python", "other_backends", "companions")
# What the template asks for the rest of a project, which is not taken over
FIXED: dict[str, Any] = {
    "project_name": "adopted",
    "package_name": "adopted",
    "description": "",
    "user_name": "",
    "user_email": "",
    "license": "none",
    "data": "digits",
    "tracker": "none",
    "features": [],
    "ci": "none",
}
# An index of PyTorch's, or a mirror of one: it is named for a backend
PYTORCH = re.compile(r"//([\w-]+\.)*pytorch\.org(/|$)|/(cpu|xpu|cu\d+|rocm[\d.]+)/?$")
# What installs torch without pyproject.toml: in any text, and in files that list packages
INSTALLS = r"pytorch\.org/whl|nvidia/pytorch:|\bpytorch/pytorch:|\b(pip3?|conda) install\b.*torch\b"
LISTS = rf"""{INSTALLS}|^\s*-\s*["']?(pytorch|torch)\b|^\s*["']?(pytorch|torch)["']?\s*="""
SEARCHED = {
    **dict.fromkeys(["", ".md", ".rst", ".txt", ".sh", ".ipynb", ".cfg"], re.compile(INSTALLS, re.MULTILINE)),
    **dict.fromkeys([".yml", ".yaml", ".toml"], re.compile(LISTS, re.MULTILINE)),
    ".py": re.compile(rf"""{INSTALLS}|^#\s+["']torch\b""", re.MULTILINE),  # a block of PEP 723
}


PINS = ("constraint", "override")


class Refused(Exception):
    """What cannot be done right, and what to do instead, in one line."""


# The template


@dataclass(frozen=True)
class Wanted:
    """What the template makes of the answers."""

    answers: dict[str, Any]  # with what it computes from them
    project: dict[str, Any]
    doctor: bytes

    @property
    def uv(self) -> dict[str, Any]:
        settings: dict[str, Any] = self.project["tool"]["uv"]
        return settings

    @property
    def backends(self) -> list[str]:
        return [self.answers["backend"], *self.answers["other_backends"]]

    def requirements(self, backend: str) -> dict[str, list[str]]:
        """Return what a backend requires: of each package one requirement, or one for each platform."""
        found: dict[str, list[str]] = {}
        for row in self.answers["wheels"]:
            if row["backend"] == backend and row["requirement"] not in found.setdefault(row["package"], []):
                found[row["package"]].append(row["requirement"])
        return found

    @cached_property
    def environments(self) -> dict[str, dict[str, str]]:
        """What markers are evaluated with on each platform."""
        systems = {"linux": ("Linux", "posix"), "darwin": ("Darwin", "posix"), "win32": ("Windows", "nt")}
        found = {}
        for row in self.answers["wheels"]:
            values = dict(re.findall(r"(\w+) == '(\w+)'", row["marker"]))
            system, os_name = systems[values["sys_platform"]]
            values |= {"platform_system": system, "os_name": os_name, "extra": ""}
            found[row["platform"]] = values
        return found

    def family(self, requirement: object) -> str:
        """Return the name of what is required, if its build is torch's or goes with it; otherwise nothing."""
        try:
            name = canonicalize_name(Requirement(requirement).name) if isinstance(requirement, str) else ""
        except InvalidRequirement:
            return ""
        return name if name in self.packages or name.startswith("rocm-sdk-") else ""

    @cached_property
    def companions(self) -> set[str]:
        releases = self.answers["builds"][0]["releases"].values()
        return {package for release in releases for patch in release["patches"].values() for package in patch}

    @cached_property
    def packages(self) -> set[str]:
        releases = self.answers["builds"][0]["releases"].values()
        return {
            "torch",
            "rocm",
            *self.companions,
            *(name for row in releases for name in row.get("triton", {}).values()),
        }

    def holds(self, requirement: str) -> bool:
        """Tell whether a requirement counts on a chosen platform, with a Python that torch has."""
        marker = Requirement(requirement).marker
        pythons = self.answers["facts"]["packages"]["torch"]["pythons"]
        return marker is None or any(
            marker.evaluate(values | {"python_version": python, "python_full_version": f"{python}.0"})
            for values in self.environments.values()
            for python in pythons
        )


def render(template: str, ref: str | None, answers: dict[str, Any], recorded: dict[str, Any], defaults: bool) -> Wanted:
    """Render the template with these answers; the others are asked for, or keep what is recorded or the default.

    Raises:
        Refused: An answer is not possible, or the template cannot be had.
    """
    with tempfile.TemporaryDirectory(prefix="adopt-") as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a clone with edits is fine
        folder = Path(name) / "adopted"
        folder.mkdir()
        (folder / ".copier-answers.yml").write_text(json.dumps(recorded))
        try:
            worker = copier.run_copy(
                template,
                folder,
                data=FIXED | answers,
                defaults=defaults,
                vcs_ref=ref,
                exclude=["*", "!/pyproject.toml", "!/tools", "!/tools/doctor.py"],
                quiet=True,
            )
        except KeyboardInterrupt:
            raise
        except Exception as error:
            raise Refused(" ".join(str(error).split("\n")[-1].split())) from error
        values = dict(worker.answers.combined)
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
        return Wanted(values, project, (folder / "tools" / "doctor.py").read_bytes())


# The files


class Line(str):
    """An item of a list that takes the place of another one, with the comment behind it."""

    origin: str
    comment: str

    def __new__(cls, text: str, origin: str = "", comment: str = "") -> Self:
        line = super().__new__(cls, text)
        line.origin, line.comment = origin, comment
        return line


@dataclass
class Document:
    """A file, as data before and after the edit."""

    root: Path
    name: str
    content: bytes = b""
    after: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.root / self.name

    def __post_init__(self) -> None:
        if self.path.exists():
            self.content = self.path.read_bytes()
        try:
            self.text = self.content.decode("utf-8-sig").replace("\r\n", "\n")
            self.before = self.parsed(self.text)
        except ValueError as error:
            raise Refused(f"{self.name} cannot be read ({error}): fix it first") from error
        self.after = deepcopy(self.before)

    def parsed(self, text: str) -> dict[str, Any]:
        return tomllib.loads(text)

    def edited(self) -> str:
        document = tomlkit.parse(self.text)
        indents = re.findall(r"^([ \t]+)\S", self.text, re.MULTILINE)
        Patch(indents[0] if indents else "  ").table(document, self.before, self.after)
        return with_blank_lines(self.text, document.as_string()).rstrip("\n") + "\n"

    def written(self) -> bytes:
        """Return the edited file: what did not change is the same to the byte.

        Raises:
            Refused: The file would not say what it should.
        """
        if self.after == self.before:
            return self.content
        try:
            text = self.edited()
            right = self.parsed(text) == self.after
        except Exception as error:  # tomlkit, or what it wrote
            raise Refused(f"{self.name} has a form that cannot be edited ({error}): write it plainer") from error
        if not right:
            raise Refused(f"{self.name} has a form that cannot be edited: write its tables plainer, each once")
        return with_line_ends(self.content, text)


class Listing(Document):
    """A requirements file that a build backend reads."""

    def parsed(self, text: str) -> dict[str, Any]:
        return {"requirements": Lines(text).items}

    def edited(self) -> str:
        lines = Lines(self.text)
        Patch().items(lines, self.before["requirements"], self.after["requirements"])
        return "\n".join(lines.lines)


class Lines:
    """The requirements in a text, to be edited as a list: options, comments and the rest of a line stay."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")

    @property
    def numbers(self) -> list[int]:
        return [number for number, line in enumerate(self.lines) if uncommented(line)]

    @property
    def items(self) -> list[str]:
        return [uncommented(self.lines[number]) for number in self.numbers]

    def __setitem__(self, index: int, item: str) -> None:
        number = self.numbers[index]
        self.lines[number] = self.lines[number].replace(uncommented(self.lines[number]), item, 1)

    def __delitem__(self, index: int) -> None:
        del self.lines[self.numbers[index]]

    def insert(self, index: int, item: str) -> None:
        self.lines.insert([*self.numbers, len(self.lines) - 1][index], item)


def text_of(path: Path) -> str:
    return path.read_bytes().decode("utf-8-sig", errors="replace").replace("\r\n", "\n")


def uncommented(line: str) -> str:
    return re.sub(r"(^|\s)#.*", "", line).strip()


@dataclass(frozen=True)
class Patch:
    """Makes what was parsed equal to other data, and touches nothing that is equal already."""

    indent: str = "  "

    def table(self, table: Any, before: dict[str, Any], after: dict[str, Any]) -> None:
        for key in [key for key in before if key not in after]:
            del table[key]
        for key, value in after.items():
            old = before.get(key)
            if old == value:
                continue
            if isinstance(value, dict) and isinstance(old, dict):
                self.table(table[key], old, value)
            elif isinstance(value, list) and isinstance(old, list) and old:
                self.items(table[key], old, value)
                line = table[key].as_string()
                if "\n" not in line and (len(value) > len(old) or len(f"{key} = {line}") > 88):
                    table[key] = self.item(value)
            else:
                table[key] = self.item(value, key)

    def items(self, items: Any, before: list[Any], after: list[Any]) -> None:
        origins = [repr(item.origin if isinstance(item, Line) and item.origin else item) for item in after]
        matcher = difflib.SequenceMatcher(None, [repr(item) for item in before], origins, autojunk=False)
        for _, start, end, first, last in reversed(matcher.get_opcodes()):
            paired = min(end - start, last - first)
            for index in reversed(range(start + paired, end)):
                del items[index]
            for index, value in enumerate(after[first : first + paired], start):
                if isinstance(value, dict) and isinstance(items, tomlkit.items.AoT):
                    self.table(items[index], before[index], value)
                elif value != before[index]:
                    items[index] = self.item(value, nested=True)
            for index, value in enumerate(after[first + paired : last], start + paired):
                items.insert(index, self.item(value, nested=not isinstance(items, tomlkit.items.AoT)))

    def item(self, value: Any, key: str = "", nested: bool = False) -> Any:
        """Return a value as a person would write it: lists with an item a line, tables within them in a line."""
        if isinstance(value, dict) and not nested:
            table = tomlkit.table(is_super_table=all(isinstance(entry, dict) for entry in value.values()))
            for name, entry in value.items():
                table[name] = self.item(entry, name)
            return table
        if isinstance(value, list) and key == "index":
            tables = tomlkit.aot()
            for entry in value:
                tables.append(self.item(entry))
            return tables
        if isinstance(value, list) and not nested:
            comments = [f"  {item.comment}" if isinstance(item, Line) and item.comment else "" for item in value]
            lines = [f"{self.indent}{inline(item)},{end}\n" for item, end in zip(value, comments, strict=True)]
            return tomlkit.value(f"[\n{''.join(lines)}]")
        return tomlkit.value(inline(value))


def inline(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {inline(entry)}' for key, entry in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(inline, value))}]"
    if isinstance(value, str) and '"' in value and "'" not in value:
        return f"'{value}'"
    return tomlkit.item(str(value) if isinstance(value, str) else value).as_string()


def with_blank_lines(old: str, new: str) -> str:
    """Return a text with an empty line before the tables that are new, and behind what is new before a table."""
    known, lines = set(old.split("\n")), new.split("\n")
    for number in reversed(range(1, len(lines))):
        line, previous = lines[number], lines[number - 1]
        if line.startswith("[") and previous and not known.issuperset((line, previous)):
            lines.insert(number, "")
    return "\n".join(lines)


def with_line_ends(content: bytes, text: str) -> bytes:
    """Return a text with the line ends and the byte order mark of the content that it comes from."""
    mark = content[:3] if content.startswith(b"\xef\xbb\xbf") else b""
    old, new = content.decode("utf-8-sig").split("\n"), text.split("\n")
    usual = "\r" if content.count(b"\r\n") * 2 > content.count(b"\n") else ""
    lines = [line + usual for line in new[:-1]] + new[-1:]
    matcher = difflib.SequenceMatcher(None, [line.removesuffix("\r") for line in old], new, autojunk=False)
    for start, first, size in matcher.get_matching_blocks():
        lines[first : first + size] = old[start : start + size]
    return mark + "\n".join(lines).encode()


# What there is: pyproject.toml, those of the members of a workspace, and requirements files


def documents(root: Path) -> list[Document]:
    """Return the files that an edit may concern: the first is the pyproject.toml of the root, which may be new.

    Raises:
        Refused: There is nothing that uv could lock.
    """
    main = Document(root, "pyproject.toml")
    uv = main.before.get("tool", {}).get("uv", {})
    refuse_foreign(root, main)
    refuse_member(root)
    if "project" not in main.before and "workspace" not in uv:
        begin(root, main)
    found = [main]
    workspace = uv.get("workspace", {})
    excluded = {path for pattern in workspace.get("exclude", []) for path in root.glob(pattern)}
    for pattern in workspace.get("members", []):
        for folder in sorted(root.glob(pattern)):
            if (folder / "pyproject.toml").exists() and folder not in excluded | {root}:
                found.append(Document(root, (folder / "pyproject.toml").relative_to(root).as_posix()))
    for document in list(found):
        found += [Listing(root, name) for name in dynamic_files(document)]
    return found


def refuse_foreign(root: Path, main: Document) -> None:
    """Refuse what uv does not read its requirements from."""
    if "project" in main.before or "workspace" in main.before.get("tool", {}).get("uv", {}):
        if "torch" in main.before.get("tool", {}).get("poetry", {}).get("dependencies", {}) and "dependencies" in (
            main.before.get("project", {}).get("dynamic", [])
        ):
            raise Refused("[tool.poetry.dependencies] is what counts here: run 'uvx migrate-to-uv', then this again")
        return
    if "poetry" in main.before.get("tool", {}):
        raise Refused("this is a Poetry project without [project]: run 'uvx migrate-to-uv', then this again")
    for name in ("setup.py", "setup.cfg"):
        if (root / name).exists():
            raise Refused(
                f"{name} holds the requirements: name them under [project] in pyproject.toml, then run this again"
            )
    if (root / "requirements.txt").exists() and "build-system" not in main.before:
        return
    for name in ("environment.yml", "environment.yaml", "pixi.toml", "Pipfile", "*.py"):
        for path in sorted(root.glob(name)):
            if SEARCHED[path.suffix].search(text_of(path)):
                raise Refused(f"{path.name} is no project that uv locks: run 'uv init --bare', then this again")
    if main.content:
        raise Refused(
            "pyproject.toml has no [project]: add it, with name, version and dependencies, then run this again"
        )
    raise Refused("there is no pyproject.toml and no requirements.txt here: run 'uv init --bare', then this again")


def refuse_member(root: Path) -> None:
    """Refuse a member of a workspace: only the root has environments, and one lock."""
    for parent in root.parents:
        if (parent / "pyproject.toml").exists():
            workspace = Document(parent, "pyproject.toml").before.get("tool", {}).get("uv", {}).get("workspace", {})
            if any(root in parent.glob(pattern) for pattern in workspace.get("members", [])):
                raise Refused(f"this is a member of the workspace in {parent}: run this there")


def dynamic_files(document: Document) -> Iterator[str]:
    """Yield the files that setuptools or a plugin of Hatch reads the requirements from."""
    tool = document.before.get("tool", {})
    if "dependencies" in document.before.get("project", {}).get("dynamic", []):
        files = tool.get("setuptools", {}).get("dynamic", {}).get("dependencies", {}).get("file", [])
        files = [files] if isinstance(files, str) else files
        files += tool.get("hatch", {}).get("metadata", {}).get("hooks", {}).get("requirements_txt", {}).get("files", [])
        yield from ((Path(document.name).parent / file).as_posix() for file in files)


def begin(root: Path, main: Document) -> None:
    """Begin a project with what is in requirements.txt."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", root.name).strip("-") or "project"
    uv = main.after.setdefault("tool", {}).setdefault("uv", {})
    uv["package"] = False
    requirements = list(carried(root / "requirements.txt", uv))
    project = {"name": name, "version": "0.1.0", "requires-python": "", "dependencies": requirements}
    main.after = {"project": project} | main.after


def carried(path: Path, uv: dict[str, Any]) -> Iterator[Line]:
    """Yield the requirements in a file, and put its indexes into the settings of uv."""
    names = {"-i": "index-url", "-f": "find-links"}
    for line in text_of(path).replace("\\\n", " ").splitlines():
        bare = uncommented(line)
        option, _, value = (*re.split(r"(=|\s+)", bare, maxsplit=1), "", "")[:3]
        key = names.get(option, option.removeprefix("--"))
        if key in ("index-url", "extra-index-url", "find-links"):
            uv[key] = value if key == "index-url" else [*uv.get(key, []), value]
        elif option in ("-r", "--requirement"):
            yield from carried(path.parent / value, uv)
        elif bare:
            try:
                Requirement(bare)
            except InvalidRequirement as error:
                raise Refused(f"{path.name}: '{bare}' has no form in pyproject.toml: take it out first") from error
            yield Line(bare, comment=line.removeprefix(bare).strip() if line.startswith(bare) else "")


# The plan: what changes, on plain data


@dataclass(frozen=True)
class Place:
    """A list of requirements."""

    document: Document
    owner: dict[str, Any]
    key: str
    kind: str  # as sources and conflicts name it

    @property
    def items(self) -> list[Any]:
        items: list[Any] = self.owner[self.key]
        return items

    def __str__(self) -> str:
        name = f"{self.kind} {self.key}" if self.kind in ("extra", "group") else self.key
        if isinstance(self.document, Listing):
            return self.document.name
        return name if self.document.name == "pyproject.toml" else f"{self.document.name}: {name}"


def places(document: Document) -> list[Place]:
    """Return all lists of requirements in a file."""
    data = document.after
    owners = [
        (data, "", ["requirements"]),
        (data.get("project", {}), "", ["dependencies"]),
        (data.get("project", {}).get("optional-dependencies", {}), "extra", None),
        (data.get("dependency-groups", {}), "group", None),
        (data.get("tool", {}).get("uv", {}), "", ["dev-dependencies"]),
    ]
    return [
        Place(document, owner, key, kind)
        for owner, kind, keys in owners
        for key in (keys or list(owner))
        if isinstance(owner.get(key), list)
    ]


def settings(document: Document) -> dict[str, Any]:
    """Return what a file says to uv."""
    uv: dict[str, Any] = document.after.get("tool", {}).get("uv", {})
    return uv


@dataclass
class Plan:
    """The edit of all files, and what it changes, by name."""

    documents: list[Document]
    wanted: Wanted
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root = self.documents[0]
        self.several = len(self.wanted.backends) > 1
        self.own = self.wanted.requirements(self.wanted.backends[0])
        self.switches = {id(document): self.switches_of(document) for document in self.documents}
        self.refuse_impossible()
        if not self.root.content:
            self.notes.append("requirements.txt stays, but uv does not read it: from now on, pyproject.toml counts")
        for document in self.documents:
            self.remove_switched(document)
        if self.several:
            self.write_groups()
        else:
            self.write_requirements()
        for document in self.documents:
            self.write_python(document)
            self.write_pins(document)
            self.write_conflicts(document)
            self.write_sources(document)
            self.write_indexes(document)
        self.write_root()
        for document in self.documents:
            tool = document.after.get("tool", {})
            if "tool" in document.before and not tool.get("uv", True):
                del tool["uv"]
            if "tool" in document.before and not tool:
                del document.after["tool"]

    def holding(self) -> list[Place]:
        """Return the lists that require torch, or what goes with it."""
        found = [place for document in self.documents for place in places(document)]
        return [place for place in found if any(map(self.wanted.family, place.items))]

    def switches_of(self, document: Document) -> set[tuple[str, str]]:
        """Return the extras and groups that choose between builds of torch: they exclude one another, or sources name them."""
        uv, found = settings(document), set()
        for name, sources in uv.get("sources", {}).items():
            for source in sources if isinstance(sources, list) else [sources]:
                found |= {
                    (kind, source[kind]) for kind in ("extra", "group") if kind in source and self.wanted.family(name)
                }
        holding = {(place.kind, place.key) for place in self.holding() if place.document is document}
        for entries in uv.get("conflicts", []):
            if holding.issuperset(map(member, entries)):
                found |= set(map(member, entries))
        return found if len(found) > 1 else set()  # a single one chooses nothing: torch is optional

    def refuse_impossible(self) -> None:
        """Refuse what would be wrong, or would look right and have no effect."""
        for document in self.documents:
            uv = settings(document)
            kept_out = [
                item
                for item in uv.get("override-dependencies", [])
                if self.wanted.family(item) and not self.wanted.holds(item)
            ]
            kept_out += [item for item in uv.get("exclude-dependencies", []) if self.wanted.family(item)]
            if kept_out:
                raise Refused(
                    f"'{kept_out[0]}' keeps torch out of the lock, as for an image that has its own: take it out first"
                )
        if self.several and any(
            isinstance(document, Document) and document is not self.root and not isinstance(document, Listing)
            for document in self.documents
        ):
            raise Refused(
                "other_backends are groups, which no other member of a workspace can require: choose one backend"
            )
        if self.several and "project" not in self.root.after:
            raise Refused(
                "other_backends are groups of a project: add [project] to pyproject.toml, or choose one backend"
            )
        companions = {self.wanted.family(item) for place in self.holding() for item in place.items}
        missing = (companions & self.wanted.companions) - set(self.own)
        if missing:
            raise Refused(f"{missing.pop()} is required here: choose it as a companion too, or take it out first")

    # Requirements

    def remove_switched(self, document: Document) -> None:
        """Take torch out of the extras and groups that chose a build, or out of all lists where groups will."""
        gone: set[tuple[str, str]] = set()
        for place in places(document):
            kept = [item for item in place.items if not self.wanted.family(item)]
            switch = (place.kind, place.key) in self.switches[id(document)]
            written = self.several and place.kind == "group" and place.key in self.wanted.backends
            if kept == place.items or written or not (self.several or switch):
                continue
            lines = ", ".join(item for item in place.items if self.wanted.family(item))
            if kept or not switch:
                self.notes.append(f"{place}: {lines} is removed")
                place.owner[place.key] = kept
            else:
                self.notes.append(f"{place} ({lines}) is removed")
                del place.owner[place.key]
                gone.add((place.kind, canonicalize_name(place.key)))
        project = document.after.get("project", {})
        if not project.get("optional-dependencies", True):
            del project["optional-dependencies"]
        self.refuse_references(document, gone)

    def refuse_references(self, document: Document, gone: set[tuple[str, str]]) -> None:
        """Refuse to remove an extra or a group that another one includes."""
        own = canonicalize_name(document.after.get("project", {}).get("name", ""))
        chosen = gone | ({("group", name) for name in self.wanted.backends} if self.several else set())
        for place in places(document):
            for item in place.items:
                names: set[tuple[str, str]] = set()
                if isinstance(item, dict) and "include-group" in item:
                    names = {("group", canonicalize_name(item["include-group"]))}
                elif isinstance(item, str) and canonicalize_name(re.split(r"[^\w.-]", item)[0]) == own:
                    names = {("extra", canonicalize_name(extra)) for extra in Requirement(item).extras}
                for kind, name in names & chosen:
                    raise Refused(
                        f"{place} includes {kind} {name}, which chooses a build of torch: take that out first"
                    )

    def write_groups(self) -> None:
        """Write a group for each backend."""
        groups = self.root.after.setdefault("dependency-groups", {})
        for backend in self.wanted.backends:
            wanted = self.wanted.requirements(backend)
            groups.setdefault(backend, [])
            place = Place(self.root, groups, backend, "group")
            if not place.items:
                self.notes.append(f"{place} is new: {', '.join(line for lines in wanted.values() for line in lines)}")
            self.revise(place, wanted, wanted)
        uv = self.root.after.setdefault("tool", {}).setdefault("uv", {})
        others = {name for kind, name in self.switches[id(self.root)] if kind == "group"} | set(self.wanted.backends)
        usual = ["dev"] if "dev" in groups or "dev-dependencies" in uv else []
        default = uv.get("default-groups", usual)
        default = list(groups) if default == "all" else default
        uv["default-groups"] = [name for name in default if name not in others] + self.wanted.backends[:1]
        if uv["default-groups"] != default:
            self.notes.append(f"default-groups: {', '.join(default) or 'none'} -> {', '.join(uv['default-groups'])}")

    def write_requirements(self) -> None:
        """Write the requirements where torch is required already, or into the dependencies."""
        holding = self.holding()
        required = {self.wanted.family(item) for place in holding for item in place.items}
        with_torch = [place for place in holding if "torch" in map(self.wanted.family, place.items)]
        if not with_torch:
            with_torch = [self.first_place()]
            holding.append(with_torch[0])
            self.notes.append(f"{with_torch[0]}: {', '.join(self.own['torch'])} is new")
        for place in holding:
            of_torch = [name for name in self.own if name not in self.wanted.companions and name != "torch"]
            new = [name for name in self.own if name not in required] if place == with_torch[0] else []
            self.revise(place, self.own, new + (of_torch if place in with_torch else []))

    def first_place(self) -> Place:
        """Return the dependencies, which may be new."""
        for document in self.documents:
            if isinstance(document, Listing):
                return places(document)[0]
        if "project" not in self.root.after:
            raise Refused(
                "no member of the workspace requires torch: 'uv add torch' in the one that should, then run this again"
            )
        if "dependencies" in self.root.after["project"].get("dynamic", []):
            raise Refused(
                "the dependencies are dynamic, and in no file that can be read: name them in [project], then run this again"
            )
        self.root.after["project"].setdefault("dependencies", [])
        return next(place for place in places(self.root) if place.key == "dependencies")

    def revise(self, place: Place, wanted: dict[str, list[str]], new: Iterable[str]) -> None:
        """Replace what is torch's where it stands, and put new requirements behind torch, or first."""
        items = place.items
        kept: dict[str, str] = {}
        result: list[Any] = []
        for item in items:  # the line that stays is one that counts here
            name = self.wanted.family(item)
            if name and (name not in kept or not self.wanted.holds(kept[name])):
                kept[name] = item
        for item in items:
            name = self.wanted.family(item)
            if not name:
                result.append(item)
                continue
            lines = with_extras(wanted.get(name, []), [item for item in items if self.wanted.family(item) == name])
            if kept.get(name) is item and lines:
                result += [Line(lines[0], origin=item), *lines[1:]]
                if item != lines[0]:
                    self.notes.append(f"{place}: {item} -> {lines[0]}")
            elif item not in lines:
                where = "" if self.wanted.holds(item) else ", which holds on none of the platforms,"
                self.notes.append(f"{place}: {item}{where} is removed")
        at = next((index + 1 for index, item in enumerate(result) if self.wanted.family(item) == "torch"), 0)
        result[at:at] = [line for name in dict.fromkeys(new) if name not in kept for line in wanted[name]]
        place.owner[place.key] = result

    def write_python(self, document: Document) -> None:
        """Raise the lowest Python to what torch has."""
        project, ours = document.after.get("project"), self.wanted.project["project"]["requires-python"]
        if project is None or "requires-python" in project.get("dynamic", []):
            return
        if not project.get("requires-python"):
            project["requires-python"] = ours
            self.notes.append(f"requires-python: {ours} is new")
            return
        theirs = project["requires-python"]
        try:
            both, first = lowest(theirs, ours), lowest(theirs)
        except InvalidSpecifier as error:
            raise Refused(f"requires-python = '{theirs}' is not valid: fix it first") from error
        if not both:
            release = self.wanted.answers["torch"]
            raise Refused(f"requires-python = '{theirs}' leaves no Python that torch {release} has ({ours})")
        if both != first:
            rest = [clause.strip() for clause in theirs.split(",") if clause.strip()[0] not in ">~"]
            rest += ["<4"] if "~=" in theirs else []
            project["requires-python"] = ",".join([f">={both}", *rest])
            self.notes.append(f"requires-python: {theirs} -> {project['requires-python']}, for torch has no older one")

    @property
    def python(self) -> str:
        """The lowest Python that all files admit."""
        projects = [document.after.get("project", {}) for document in self.documents]
        ours = self.wanted.project["project"]["requires-python"]
        return lowest(ours, *(project.get("requires-python", "") for project in projects))

    # Settings of uv

    def write_pins(self, document: Document) -> None:
        """Let constraints and overrides follow, and name what else may hold torch back."""
        uv = settings(document)
        for key in (f"{kind}-dependencies" for kind in PINS):
            if any(map(self.wanted.family, uv.get(key, []))):
                self.revise(Place(document, uv, key, ""), self.own, [])
                if not uv[key]:
                    del uv[key]
        for key in ("exclude-newer", "index-strategy", "prerelease"):
            if key in uv:
                self.notes.append(
                    f"{key} = {inline(uv[key])} is left: it may keep torch back, or have been for torch alone"
                )

    def write_conflicts(self, document: Document) -> None:
        """Take the extras and groups of torch out of the conflicts, and put those of the backends in."""
        uv, at = settings(document), None
        kept: list[Any] = []
        for entries in uv.get("conflicts", []):
            rest = [entry for entry in entries if member(entry) not in self.switches[id(document)]]
            if rest != entries and at is None:
                at = len(kept)
            kept += [rest] if len(rest) > 1 else []
        if self.several and document is self.root:
            kept.insert(len(kept) if at is None else at, self.wanted.uv["conflicts"][0])
        if kept:
            uv["conflicts"] = kept
        else:
            uv.pop("conflicts", None)
        if not self.several and isinstance(uv.get("default-groups"), list):
            groups = document.after.get("dependency-groups", {})
            uv["default-groups"] = [name for name in uv["default-groups"] if name in groups or name == "dev"]

    def write_sources(self, document: Document) -> None:
        """Write the sources of torch into the root alone: those of a member would count before them."""
        sources, ours = settings(document).get("sources", {}), self.wanted.uv.get("sources", {})
        for name in [name for name in sources if self.wanted.family(name)]:
            source = sources.pop(name)
            if document is not self.root or source != ours.get(name):
                self.notes.append(f"source of {name}: {inline(source)} is removed")
        if document is self.root and ours:
            self.root.after.setdefault("tool", {}).setdefault("uv", {}).setdefault("sources", {}).update(deepcopy(ours))
        elif not sources:
            settings(document).pop("sources", None)

    def write_indexes(self, document: Document) -> None:
        """Write the indexes that the sources name, and take out others of PyTorch's."""
        uv = settings(document)
        ours = {index["name"]: index for index in self.wanted.uv.get("index", []) if document is self.root}
        users: dict[str, str] = {}
        for name, sources in uv.get("sources", {}).items():
            for source in sources if isinstance(sources, list) else [sources]:
                users |= {source["index"]: name} if "index" in source and not self.wanted.family(name) else {}
        kept: list[Any] = []
        for index in uv.get("index", []):
            name, url = index.get("name", ""), index["url"]
            if name in ours:
                if users.get(name) and url != ours[name]["url"]:
                    raise Refused(f"index {name} is {url}, for {users[name]}: give it another name first")
                if index != ours[name]:
                    self.notes.append(f"index {name} ({url}) -> {ours[name]['url']}, explicit")
                kept.append(ours.pop(name))
            elif self.pytorch(url) and name not in users:
                self.notes.append(f"index {name or 'without a name'} ({url}) is removed")
            else:
                kept.append(index)
                if self.pytorch(url):
                    self.notes.append(f"index {name} ({url}) is left for {users[name]}, whose build may not be torch's")
        uv |= {"index": kept + list(ours.values())}
        for key in ("index", "extra-index-url", "find-links", "index-url"):
            urls = uv.get(key, [])
            if key != "index" and urls:
                gone = [url for url in ([urls] if isinstance(urls, str) else urls) if self.pytorch(url)]
                self.notes += [f"{key} {url} is removed" for url in gone]
                uv[key] = (
                    urls if not gone else [url for url in urls if url not in gone] if isinstance(urls, list) else ""
                )
            if not uv.get(key, True):
                del uv[key]

    def pytorch(self, url: str) -> bool:
        return bool(PYTORCH.search(url)) or url.startswith(self.wanted.answers["torch_index"])

    def write_root(self) -> None:
        """Write the platforms, which count in the root alone."""
        uv = self.root.after.setdefault("tool", {}).setdefault("uv", {})
        for key in ("environments", "required-environments"):
            if uv.get(key, self.wanted.uv[key]) != self.wanted.uv[key]:
                self.notes.append(f"{key}: {inline(uv[key])} is replaced")
            uv[key] = list(self.wanted.uv[key])
        if self.wanted.uv.get("index") and (self.root.path.parent / "uv.toml").exists():
            raise Refused("uv.toml hides the indexes in pyproject.toml: move its settings to [tool.uv] first")


def lowest(*specifiers: str) -> str:
    """Return the lowest Python that all these versions admit, or nothing."""
    sets = [SpecifierSet(specifier) for specifier in specifiers if specifier]
    for minor in range(50):
        if sets and any(all(f"3.{minor}.{patch}" in each for each in sets) for patch in range(30)):
            return f"3.{minor}"
    return ""


def member(entry: dict[str, str]) -> tuple[str, str]:
    """Return the extra or group that an entry of a conflict names."""
    return next(((kind, entry[kind]) for kind in ("extra", "group") if kind in entry), ("package", ""))


def with_extras(requirements: list[str], old: list[str]) -> list[str]:
    """Return requirements with the extras that old ones had: torch[opt-einsum]."""
    extras = sorted({extra for item in old for extra in Requirement(item).extras})
    return [re.sub(r"^[\w.-]+", f"\\g<0>[{','.join(extras)}]", item) if extras else item for item in requirements]


# Other places that install torch: they are named, and left alone


def others(root: Path, documents: list[Document]) -> Iterator[str]:
    """Yield where torch is named but by uv."""
    for name, table in documents[0].after.get("tool", {}).items():
        for tables in mentions(table, name) if name != "uv" else ():
            yield f"[tool.{tables}]"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=False
    )
    files = [root / name for name in listed.stdout.splitlines()] or sorted(root.glob("*"))
    edited = {document.path for document in documents if document.after != document.before}
    for path in files:
        pattern = SEARCHED.get(path.suffix)
        if pattern and path.is_file() and path not in edited and path.stat().st_size < 1_000_000:
            for number, line in enumerate(text_of(path).splitlines(), 1):
                if pattern.search(line):
                    yield f"{path.relative_to(root).as_posix()}:{number}"
                    break


def mentions(value: Any, path: str) -> Iterator[str]:
    """Yield the tables in which torch or an index of PyTorch's is named."""
    if isinstance(value, dict):
        if {"torch", "pytorch"} & value.keys() or any(
            isinstance(entry, str) and PYTORCH.search(entry) for entry in value.values()
        ):
            yield path
        for key, entry in value.items():
            yield from mentions(entry, f"{path}.{key}")
    elif isinstance(value, list):
        if any(isinstance(entry, str) and re.match(r"torch\b(?!-)", entry) for entry in value):
            yield path
        for entry in value:
            yield from mentions(entry, path) if isinstance(entry, dict) else ()


# Writing, locking, checking


def uv(root: Path, *arguments: str) -> str:
    """Run uv in a folder, and return what it prints.

    Raises:
        Refused: It failed; what it said has been printed.
    """
    done = subprocess.run(
        [os.environ.get("UV", "uv"), *arguments], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        raise Refused(f"'uv {arguments[0]}' fails, for the reason above: nothing is changed")
    return done.stdout


def replace(path: Path, content: bytes | None) -> None:
    """Replace a file at once: it is never there by half."""
    if content is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".adopt-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, path.stat().st_mode if path.exists() else 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def settle(root: Path, plan: Plan, files: dict[Path, bytes]) -> list[str]:
    """Write the files, lock, and return what each platform gets; if that is not what was asked for, put all back."""
    before = {path: path.read_bytes() if path.exists() else None for path in [*files, root / "uv.lock"]}
    try:
        for path, content in files.items():
            replace(path, content)
        uv(root, "lock")
        return [line for backend in plan.wanted.backends for line in checked(root, plan, backend)]
    except BaseException:
        for path, old in before.items():
            replace(path, old)
        raise


def checked(root: Path, plan: Plan, backend: str) -> Iterator[str]:
    """Yield what a backend's packages are on each platform, as the lock has them.

    Raises:
        Refused: A platform does not get what was asked for.
    """
    wanted = plan.wanted
    options = ["--frozen", "--format=pylock.toml", "--all-packages", "--no-emit-workspace", "--no-default-groups"]
    if plan.several:
        options += ["--group", backend]
    else:
        chosen = {
            (place.kind or "group", "dev" if place.key == "dev-dependencies" else place.key) for place in plan.holding()
        }
        options += [f"--{kind}={name}" for kind, name in chosen if name not in ("dependencies", "requirements")]
    packages = tomllib.loads(uv(root, "export", *options))["packages"]
    urls = {index["name"]: index["url"] for index in wanted.uv.get("index", [])}
    for platform, values in wanted.environments.items():
        python = plan.python
        environment = values | {"python_version": python, "python_full_version": f"{python}.0"}
        here = {
            package["name"]: package
            for package in packages
            if "marker" not in package or Marker(package["marker"]).evaluate(environment)
        }
        found = []
        for row in wanted.answers["wheels"]:
            if (row["backend"], row["platform"]) != (backend, platform):
                continue
            package = here.get(row["package"], {"version": "nothing"})
            where = urls.get(f"pytorch-{row['index']}", "")
            if not fits(package, row, where):
                raise Refused(
                    f"{platform} would get {row['package']} {package['version']} from {package.get('index', 'nowhere')}, not {row['build']}: nothing is changed"
                )
            found.append(f"{row['package']} {package['version']}")
        yield f"{platform:15} {backend:9} {', '.join(found)}"


def fits(package: dict[str, Any], row: dict[str, str], where: str) -> bool:
    """Tell whether a locked package is what a row of the template's table asks for."""
    if "index" not in package:
        return False
    version, index = Version(package["version"]), package["index"].rstrip("/")
    right = index == where.rstrip("/") if where else not PYTORCH.search(index)
    return (
        right
        and version.local in (None, row["build"])
        and Version(version.public) in Requirement(row["requirement"]).specifier
    )


# The command


def recorded(found: list[Document], table: Wanted) -> dict[str, Any]:
    """Return the answers that the files show: the companions, and after an earlier run all others, of which it keeps no record."""
    lists = [place.items for document in found for place in places(document)]
    lists += [settings(document).get(f"{kind}-dependencies", []) for document in found for kind in PINS]
    lines = [item for items in lists for item in items if isinstance(item, str)]
    names = set(map(table.family, lines))
    answers: dict[str, Any] = {"companions": sorted(names & table.companions)}
    uv, builds = settings(found[0]), table.answers["builds"][0]
    platforms = {row["marker"]: name for name, row in builds["platforms"].items()}
    markers = uv.get("environments", [])
    releases = [match[1] for match in map(re.compile(r"torch(?:\[.*\])?~=(\d+\.\d+)\.0$").match, lines) if match]
    if not (markers and releases and platforms.keys() >= set(markers) and releases[0] in builds["releases"]):
        return answers
    sources = {source.get("marker"): source["index"] for source in uv.get("sources", {}).get("torch", [])}
    usual = builds["releases"][releases[0]]["pypi"]
    here = [sources.get(marker, usual[platforms[marker]]).removeprefix("pytorch-") for marker in markers]
    sets = [[entry.get("group") for entry in entries] for entries in uv.get("conflicts", [])]
    backends = next((names for names in sets if builds["backends"].keys() >= set(names)), [])
    backends = backends or [name for name in here if name != "cpu"][:1] or ["cpu"]
    bases = [index["url"].rpartition("/")[0] for index in uv.get("index", []) if index.get("name") in sources.values()]
    python = lowest(found[0].before.get("project", {}).get("requires-python", ""))
    return answers | {
        "platforms": [platforms[marker] for marker in markers],
        "backend": backends[0],
        "torch": releases[0],
        "other_backends": backends[1:],
        "torch_index": (bases or [builds["index"]])[0],
        **({"python": python} if python else {}),
    }


def arguments() -> argparse.ArgumentParser:
    """Return what reads the command line: options that Copier has too are called as there."""
    usage = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=usage[0], epilog=usage[2], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "-d",
        "--data",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"an answer: {', '.join(ASKED)}, torch_index",
    )
    parser.add_argument(
        "-l", "--defaults", action="store_true", help="ask no questions: what is not given keeps its default"
    )
    parser.add_argument("-y", "--yes", action="store_true", help="write without asking")
    parser.add_argument(
        "--doctor", action="store_true", help="write tools/doctor.py too, which examines an installation"
    )
    parser.add_argument("--template", help="where the template is (default: the clone that this file is in, or GitHub)")
    parser.add_argument("-r", "--vcs-ref", help="its version (default: the clone as it is, or the newest release)")
    return parser


def answers(data: list[str]) -> dict[str, str]:
    given = dict(item.partition("=")[::2] for item in data)
    for name in given:
        if name not in (*ASKED, "torch_index"):
            raise Refused(f"{name} is not asked here; the questions are {', '.join(ASKED)}")
    return given


def adopt(root: Path, options: argparse.Namespace) -> None:
    given, person = answers(options.data), sys.stdin.isatty()
    if not person and not options.defaults and not given.keys() >= set(ASKED):
        raise Refused("there is no terminal to ask in: add --defaults, and --data name=value for other answers")
    found = documents(root)
    clone = (HERE / "copier.yml").exists() and not options.template
    template = options.template or (str(HERE) if clone else "gh:org/torch-uv-template")
    ref = options.vcs_ref or ("HEAD" if clone else None)

    table = render(template, ref, {}, {}, defaults=True)
    wanted = render(template, ref, given, recorded(found, table), options.defaults)
    plan = Plan(found, wanted)
    files = {document.path: document.written() for document in found if document.after != document.before}
    if options.doctor:
        files[root / "tools" / "doctor.py"] = wanted.doctor
    files = {path: content for path, content in files.items() if not path.exists() or path.read_bytes() != content}
    show(root, plan, files)
    if files and not options.yes:
        if not person:
            raise Refused("nothing is written, for there is no terminal to confirm it in: add --yes")
        if input("Write this? [y/N] ").strip().lower() not in ("y", "yes"):
            raise Refused("nothing is changed")
    print("\n".join(settle(root, plan, files)))


def show(root: Path, plan: Plan, files: dict[Path, bytes]) -> None:
    """Print what changes: by name, then line by line."""
    for note in dict.fromkeys(plan.notes):
        print(f"- {note}")
    elsewhere = list(others(root, plan.documents))
    if elsewhere:
        print(f"- also named, and left as it is: {', '.join(elsewhere[:20])}{' …' if len(elsewhere) > 20 else ''}")
    for path, content in files.items():
        if path.exists() and not path.stat().st_mode & stat.S_IWUSR:
            raise Refused(f"{path.name} is read-only: make it writable first")
        name = path.relative_to(root).as_posix()
        old = text_of(path).splitlines() if path.exists() else []
        if path.name != "doctor.py":
            print("\n".join(difflib.unified_diff(old, content.decode().splitlines(), name, name, lineterm="")))
    if not files:
        print("Nothing to change.")


def main(given: list[str] | None = None) -> int:
    options = arguments().parse_args(given)
    try:
        adopt(Path.cwd(), options)
    except Refused as error:
        print(f"adopt: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"adopt: {error}: nothing is changed", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, EOFError):
        print("\nadopt: stopped: nothing is changed", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
