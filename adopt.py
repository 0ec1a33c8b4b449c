# /// script
# requires-python = ">=3.11"
# dependencies = ["copier>=9.19.1", "packaging>=26", "tomlkit>=0.15"]
# ///
"""Give an existing project the right PyTorch on every platform. In its folder:

    uv run https://raw.githubusercontent.com/org/torch-uv-template/main/adopt.py
    uv run ../torch-uv-template/adopt.py --defaults --data backend=cu126 --data torch=2.14

This renders the template and moves what it says about torch into pyproject.toml: requirements, sources, indexes,
environments, groups and conflicts. Everything else stays as it is. It shows the difference, asks, writes, locks and
checks what each platform gets; if that fails, nothing is changed.
https://github.com/org/torch-uv-template/blob/main/docs/adopt.md
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import tomllib
import warnings
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import copier
import tomlkit
from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from tomlkit.exceptions import TOMLKitError

HERE = Path(__file__).resolve().parent
ASKED = ("platforms", "backend", "torch", "python", "other_backends", "companions")
# The template's other questions: what they add to a project is not moved
FIXED: dict[str, Any] = {
    **dict.fromkeys(("project_name", "package_name"), "adopted"),
    **dict.fromkeys(("description", "user_name", "user_email"), ""),
    **dict.fromkeys(("license", "skeleton", "tracker", "ci"), "none"),
    "data": "digits",
    "features": [],
}
# An index of PyTorch, or a mirror of one, whose last part is a backend
PYTORCH = re.compile(r"//([\w-]+\.)*pytorch\.org(/|$)|/(cpu|xpu|cu\d+|rocm[\d.]+)/?$")
# Settings of uv that name torch after the edit, and others that may keep torch back or may have been there for it
EDITED = ("sources", "index", "constraint-dependencies", "override-dependencies", "dev-dependencies")
LEFT = ("exclude-newer", "index-strategy", "prerelease", "resolution")
# Other places that install torch: in any text, and in files that list packages
INSTALLS = r"pytorch\.org/whl|nvidia/pytorch:|\bpytorch/pytorch:|\b(pip3?|conda) install\b.*torch\b"
LISTS = rf"""{INSTALLS}|^\s*-\s*["']?(pytorch|torch)\b|^\s*["']?(pytorch|torch)["']?\s*="""
SEARCHED = {
    **dict.fromkeys(["", ".md", ".rst", ".txt", ".sh", ".ipynb", ".cfg"], re.compile(INSTALLS, re.MULTILINE)),
    **dict.fromkeys([".yml", ".yaml", ".toml"], re.compile(LISTS, re.MULTILINE)),
    ".py": re.compile(rf"""{INSTALLS}|^#\s+["']torch\b""", re.MULTILINE),  # a block of PEP 723
}


class Refused(Exception):
    """What cannot be done right, and what to do instead, in one line."""


# The template


@dataclass(frozen=True)
class Wanted:
    """What the template renders for the answers."""

    answers: dict[str, Any]  # computed ones too
    project: dict[str, Any]
    doctor: bytes

    @property
    def uv(self) -> dict[str, Any]:
        uv: dict[str, Any] = self.project["tool"]["uv"]
        return uv

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
    def companions(self) -> set[str]:
        releases = self.answers["builds"][0]["releases"].values()
        return {package for release in releases for patch in release["patches"].values() for package in patch}

    @cached_property
    def packages(self) -> set[str]:
        """All packages whose build is torch's, or that only a build of torch requires."""
        releases = self.answers["builds"][0]["releases"].values()
        return {"torch", "rocm", *self.companions}.union(*(row.get("triton", {}).values() for row in releases))

    def family(self, requirement: object) -> str:
        """Return the name of what is required if it is one of these packages, otherwise nothing."""
        try:
            name = canonicalize_name(Requirement(requirement).name) if isinstance(requirement, str) else ""
        except InvalidRequirement:
            return ""
        return name if name in self.packages or name.startswith("rocm-sdk-") else ""

    def environment(self, platform: str, python: str) -> dict[str, str]:
        """Return what markers are evaluated with on a platform."""
        row = next(row for row in self.answers["wheels"] if row["platform"] == platform)
        values = dict(re.findall(r"(\w+) == '(\w+)'", row["marker"]))
        systems = {"linux": ("Linux", "posix"), "darwin": ("Darwin", "posix"), "win32": ("Windows", "nt")}
        system, os_name = systems[values["sys_platform"]]
        versions = {"python_version": python, "python_full_version": f"{python}.0"}
        return values | versions | {"platform_system": system, "os_name": os_name, "extra": ""}

    def holds(self, requirement: str) -> bool:
        """Tell whether a requirement applies on a chosen platform, with a Python that torch has."""
        marker, pythons = Requirement(requirement).marker, self.answers["facts"]["packages"]["torch"]["pythons"]
        pairs = ((platform, python) for platform in self.answers["platforms"] for python in pythons)
        return marker is None or any(marker.evaluate(self.environment(*pair)) for pair in pairs)


def render(template: str, ref: str | None, answers: dict[str, str], recorded: dict[str, Any], defaults: bool) -> Wanted:
    """Render the template with these answers. The others are asked, or are as recorded, or keep their default.

    Raises:
        Refused: An answer is not possible, or there is no such template.
    """
    with tempfile.TemporaryDirectory(prefix="adopt-") as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a clone with edits is fine
        folder = Path(name) / "adopted"
        folder.mkdir()
        (folder / ".copier-answers.yml").write_text(json.dumps(recorded))
        only = ["*", "!/pyproject.toml", "!/tools", "!/tools/doctor.py"]
        try:
            worker = copier.run_copy(
                template, folder, FIXED | answers, vcs_ref=ref, defaults=defaults, exclude=only, quiet=True
            )
        except KeyboardInterrupt:
            raise
        except Exception as error:
            message = " ".join(str(error).split("\n")[-1].split())
            raise Refused(re.sub(r"^Stderr: \| |^'dict object' has no attribute '(.+)'$", r"\1", message)) from error
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
        return Wanted(dict(worker.answers.combined), project, (folder / "tools" / "doctor.py").read_bytes())


# The files


class Line(str):
    """An item of a list that takes the place of another one, and keeps the comment behind it."""

    origin: str

    def __new__(cls, text: str, origin: str) -> Self:
        line = super().__new__(cls, text)
        line.origin = origin
        return line


@dataclass
class Document:
    """A TOML file, as data before and after the edit."""

    root: Path
    name: str
    content: bytes = b""

    def __post_init__(self) -> None:
        if self.path.exists():
            self.content = self.path.read_bytes()
        try:
            self.text = self.content.decode("utf-8-sig").replace("\r\n", "\n")
            self.before = self.parsed(self.text)
        except ValueError as error:
            raise Refused(f"{self.name} cannot be read ({error}): fix it first") from error
        self.after = deepcopy(self.before)

    @property
    def path(self) -> Path:
        return self.root / self.name

    @property
    def uv(self) -> dict[str, Any]:
        """What the file tells uv."""
        uv: dict[str, Any] = self.after.setdefault("tool", {}).setdefault("uv", {})
        return uv

    def parsed(self, text: str) -> dict[str, Any]:
        return tomllib.loads(text)

    def edited(self) -> str:
        # To tomlkit, the comment above a table belongs to the table before it: meanwhile, it is below the header
        text = re.sub(r"(?m)^((?:#.*\n)+)(\[.*\n)", lambda match: match[2] + match[1].replace("#", "#^"), self.text)
        document = tomlkit.parse(text)
        indents = re.findall(r"^([ \t]+)\S", self.text, re.MULTILINE)
        Patch(indents[0] if indents else "  ").table(document, self.before, self.after)
        text = with_blank_lines(text, document.as_string())
        text = re.sub(r"(?m)^(\[.*\n)((?:#\^.*\n)+)", lambda match: match[2].replace("#^", "#") + match[1], text)
        return text.rstrip("\n") + "\n"

    def written(self) -> bytes:
        """Return the edited file.

        Raises:
            Refused: It would not say what it should.
        """
        self.after = pruned(self.after, self.before)
        if self.after == self.before:
            return self.content
        try:
            text = self.edited()
            right = self.parsed(text) == self.after
        except (AttributeError, LookupError, TypeError, ValueError, TOMLKitError):
            right = False
        if not right:
            raise Refused(f"{self.name} has a form that cannot be edited: write each table once, as [table]")
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
    """The requirements in a text as a list: options, comments and the rest of each line stay."""

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
        self.lines[number] = self.lines[number].replace(self.items[index], item, 1)

    def __delitem__(self, index: int) -> None:
        del self.lines[self.numbers[index]]

    def insert(self, index: int, item: str) -> None:
        self.lines.insert([*self.numbers, len(self.lines) - 1][index], item)


def uncommented(line: str) -> str:
    return re.sub(r"(^|\s)#.*", "", line).strip()


def text_of(path: Path) -> str:
    content = path.read_bytes()
    # What > of PowerShell writes has a mark, too
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    return content.decode(encoding, errors="replace").replace("\r\n", "\n")


def pruned(after: dict[str, Any], before: Any) -> dict[str, Any]:
    """Return a table without what the edit has emptied."""
    result = {}
    for key, value in after.items():
        old = before.get(key) if isinstance(before, dict) else None
        new = pruned(value, old) if isinstance(value, dict) else value
        if new or new == old or not isinstance(new, dict | list) or key == "default-groups":
            result[key] = new
    return result


@dataclass(frozen=True)
class Patch:
    """Makes what tomlkit has parsed equal to other data, without touching what is equal already."""

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
                line = f"{key} = {table[key].as_string()}"
                if "\n" not in line and (len(value) > len(old) or len(line) > 88):
                    table[key] = self.item(value)
            else:
                table[key] = self.item(value, key)

    def items(self, items: Any, before: list[Any], after: list[Any]) -> None:
        origins = [repr(item.origin if isinstance(item, Line) else item) for item in after]
        matcher = difflib.SequenceMatcher(None, list(map(repr, before)), origins, autojunk=False)
        tables = isinstance(items, tomlkit.items.AoT)
        for _, start, end, first, last in reversed(matcher.get_opcodes()):
            paired = min(end - start, last - first)
            for index in reversed(range(start + paired, end)):
                del items[index]
            for index, value in enumerate(after[first : first + paired], start):
                if tables:
                    self.table(items[index], before[index], value)
                elif value != before[index]:
                    items[index] = tomlkit.value(inline(value))
            for index, value in enumerate(after[first + paired : last], start + paired):
                items.insert(index, self.item(value) if tables else tomlkit.value(inline(value)))

    def item(self, value: Any, key: str = "") -> Any:
        """Return a new value: tables by header, lists with an item a line."""
        if isinstance(value, dict):
            table = tomlkit.table(is_super_table=all(isinstance(entry, dict) for entry in value.values()))
            for name, entry in value.items():
                table[name] = self.item(entry, name)
            return table
        if isinstance(value, list) and key == "index":
            tables = tomlkit.aot()
            for entry in value:
                tables.append(self.item(entry))
            return tables
        if isinstance(value, list):
            return tomlkit.value("".join(["[\n", *(f"{self.indent}{inline(item)},\n" for item in value), "]"]))
        return tomlkit.value(inline(value))


def inline(value: Any) -> str:
    """Return a value as TOML in a line."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {inline(entry)}' for key, entry in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(inline, value))}]"
    if isinstance(value, str) and '"' in value and "'" not in value:
        return f"'{value}'"
    return tomlkit.item(str(value) if isinstance(value, str) else value).as_string()


def with_blank_lines(old: str, new: str) -> str:
    """Return a text with an empty line before each table that does not follow the same line as before."""
    lines = new.split("\n")
    blocks = difflib.SequenceMatcher(None, old.split("\n"), lines, autojunk=False).get_matching_blocks()
    as_before = {number for _, first, size in blocks for number in range(first + 1, first + size)}
    for number in reversed(range(1, len(lines))):
        if lines[number].startswith("[") and lines[number - 1] and number not in as_before:
            lines.insert(number, "")
    return "\n".join(lines)


def with_line_ends(content: bytes, text: str) -> bytes:
    """Return a text with the line ends and the byte order mark of the content that it comes from."""
    *old, _ = content.decode("utf-8-sig").split("\n")
    *new, last = text.split("\n")
    usual = "\r" if content.count(b"\r\n") * 2 > content.count(b"\n") else ""
    lines = [line + usual for line in new]
    matcher = difflib.SequenceMatcher(None, [line.removesuffix("\r") for line in old], new, autojunk=False)
    for start, first, size in matcher.get_matching_blocks():
        lines[first : first + size] = old[start : start + size]
    mark = content[:3] if content.startswith(b"\xef\xbb\xbf") else b""
    return mark + "\n".join([*lines, last]).encode()


# What there is: pyproject.toml, those of the members of a workspace, and requirements files


def documents(root: Path) -> list[Document]:
    """Return the files to edit: first the pyproject.toml of the root, which may be new.

    Raises:
        Refused: There is nothing that uv could lock.
    """
    main = Document(root, "pyproject.toml")
    folders = ""
    if "project" in main.before or "workspace" in main.uv:  # uv also checks the form of what follows
        home = uv(root, "workspace", "dir").strip()
        if not root.samefile(home):
            raise Refused(f"this is a member of the workspace in {home}: run this there")
        folders = uv(root, "workspace", "list", "--paths")
    else:
        refuse_foreign(root, main)
        begin(root, main)
    members = [Path(os.path.relpath(folder, root)) for folder in sorted(folders.splitlines())]
    names = [(member / "pyproject.toml").as_posix() for member in members if member != Path()]
    found = [main, *(Document(root, name) for name in names)]
    return found + [Listing(root, name) for document in found for name in dynamic_files(document)]


def refuse_foreign(root: Path, main: Document) -> None:
    """Refuse what uv does not lock."""
    tool, again = main.before.get("tool", {}), "then run this again"
    if "poetry" in tool:
        local = re.search(r"\+(cpu|xpu|cu\d+|rocm[\d.]+)", main.text)  # which it cannot migrate
        first = f"remove every {local[0]}, " if local else ""
        raise Refused(f"this is Poetry without [project]: {first}run 'uvx migrate-to-uv --skip-lock', {again}")
    for name in ("setup.py", "setup.cfg"):
        if (root / name).exists():
            raise Refused(f"{name} lists the requirements: list them under [project] in pyproject.toml, {again}")
    if (root / "requirements.txt").exists() and "build-system" not in main.before:
        return
    if main.content:
        raise Refused(f"pyproject.toml has no [project]: add it, with name, version and dependencies, {again}")
    for pattern in ("environment.y*ml", "pixi.toml", "Pipfile", "*.py"):
        for path in sorted(root.glob(pattern)):
            if SEARCHED[".toml" if path.name == "Pipfile" else path.suffix].search(text_of(path)):
                raise Refused(f"{path.name} is not a project that uv locks: run 'uv init --bare', {again}")
    raise Refused(f"there is no pyproject.toml and no requirements.txt: run 'uv init --bare', {again}")


def dynamic_files(document: Document) -> Iterator[str]:
    """Yield the files from which setuptools or a plug-in of Hatch reads the dependencies."""
    if "dependencies" in document.before.get("project", {}).get("dynamic", []):
        tool = document.before.get("tool", {})
        files = tool.get("setuptools", {}).get("dynamic", {}).get("dependencies", {}).get("file", [])
        hooks = tool.get("hatch", {}).get("metadata", {}).get("hooks", {})
        files = ([files] if isinstance(files, str) else files) + hooks.get("requirements_txt", {}).get("files", [])
        yield from ((Path(document.name).parent / file).as_posix() for file in files)


def begin(root: Path, main: Document) -> None:
    """Begin a project with what is in requirements.txt."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", root.name).strip("-") or "project"
    uv: dict[str, Any] = {"package": False}
    requirements = list(carried((root / "requirements.txt").resolve(), uv))
    project = {"name": name, "version": "0.1.0", "requires-python": "", "dependencies": requirements}
    main.after = {"project": project, **main.after}
    main.uv.update(uv)


def carried(path: Path, uv: dict[str, Any], *above: Path) -> Iterator[str]:
    """Yield the requirements in a file, without hashes, and put its indexes into the settings of uv."""
    if path in above:
        raise Refused(f"{path.name} includes itself: remove that line first")
    names = {"-i": "index-url", "-f": "find-links"}
    text = re.sub(r"\s+--hash[= ]\S+", "", text_of(path).replace("\\\n", " "))
    for line in map(uncommented, text.splitlines()):
        bare = re.sub(r"^-[rif](?=\S)", r"\g<0> ", line)
        option, _, value = (*re.split(r"(=|\s+)", bare, maxsplit=1), "", "")[:3]
        key = names.get(option, option.removeprefix("--"))
        if key in ("index-url", "extra-index-url", "find-links"):
            uv[key] = value if key == "index-url" else [*uv.get(key, []), value]
        elif option in ("-r", "--requirement"):
            yield from carried((path.parent / value).resolve(), uv, *above, path)
        elif bare:
            try:
                Requirement(bare)
            except InvalidRequirement as error:
                raise Refused(f"{path.name}: '{bare}' has no form in pyproject.toml: remove it first") from error
            yield bare


# The plan: what changes, on plain data


@dataclass(frozen=True)
class Place:
    """A list of requirements."""

    document: Document
    owner: dict[str, Any]
    key: str
    kind: str = ""  # extra or group, as sources and conflicts name it

    @property
    def items(self) -> list[Any]:
        items: list[Any] = self.owner[self.key]
        return items

    def __str__(self) -> str:
        if isinstance(self.document, Listing):
            return self.document.name
        where = "" if self.document.name == "pyproject.toml" else f"{self.document.name}: "
        return f"{where}{self.kind} {self.key}" if self.kind else f"{where}{self.key}"


def places(document: Document) -> list[Place]:
    """Return all lists of requirements in a file."""
    project = document.after.get("project", {})
    extras, groups = project.get("optional-dependencies", {}), document.after.get("dependency-groups", {})
    lists = [(document.after, "requirements", ""), (project, "dependencies", ""), (document.uv, "dev-dependencies", "")]
    lists += [(extras, key, "extra") for key in extras] + [(groups, key, "group") for key in groups]
    return [Place(document, owner, key, kind) for owner, key, kind in lists if isinstance(owner.get(key), list)]


def pins(document: Document) -> list[Place]:
    """Return the lists that restrict what others require."""
    keys = ("constraint-dependencies", "override-dependencies")
    return [Place(document, document.uv, key) for key in keys if key in document.uv]


class Plan:
    """The edit of all files, and what it changes, by name."""

    def __init__(self, found: list[Document], wanted: Wanted) -> None:
        self.documents, self.wanted, self.root = found, wanted, found[0]
        self.notes: list[str] = []
        self.several = len(wanted.backends) > 1
        self.own = wanted.requirements(wanted.backends[0])
        self.switches = {document.name: self.switches_of(document) for document in found}
        self.refuse_impossible()
        for document in found:
            self.remove_switched(document)
        if self.several:
            self.write_groups()
        else:
            self.write_requirements()
        for document in found:
            self.write_python(document)
            self.write_settings(document)
            self.write_sources(document)
            self.write_indexes(document)
            self.write_urls(document)
        self.write_root()

    def holding(self) -> list[Place]:
        """Return the lists that require torch or one of its packages."""
        found = [place for document in self.documents for place in places(document)]
        return [place for place in found if any(map(self.wanted.family, place.items))]

    def switches_of(self, document: Document) -> set[tuple[str, str]]:
        """Return the extras and groups that choose a build: a source names them, or they exclude one another."""
        found = set()
        for name, sources in document.uv.get("sources", {}).items():
            if self.wanted.family(name):
                found |= set(map(member, listed(sources)))
        holding = {(place.kind, place.key) for place in self.holding() if place.document is document}
        for entries in document.uv.get("conflicts", []):
            members = set(map(member, entries))
            found |= members if members <= holding else set()
        found.discard(("", ""))
        return found if len(found) > 1 else set()  # one alone chooses nothing: torch is optional

    def refuse_impossible(self) -> None:
        """Refuse what would be wrong, or would have no effect."""
        for document in self.documents:
            kept_out = [item for item in document.uv.get("exclude-dependencies", []) if self.wanted.family(item)]
            for item in document.uv.get("override-dependencies", []):
                kept_out += [item] if self.wanted.family(item) and not self.wanted.holds(item) else []
            if kept_out:
                raise Refused(
                    f"'{kept_out[0]}' keeps torch out of the lock, as for an image that has it: remove it first"
                )
        members = [document for document in self.documents[1:] if not isinstance(document, Listing)]
        if self.several and (members or "project" not in self.root.after):
            raise Refused("several backends are groups, which members of a workspace cannot require: choose one")
        required = {self.wanted.family(item) for place in self.holding() for item in place.items}
        for name in sorted(required & self.wanted.companions - self.own.keys()):
            raise Refused(f"{name} is required here: choose it as a companion, or remove it first")

    # Requirements

    def remove_switched(self, document: Document) -> None:
        """Remove torch from the extras and groups that chose a build; for several backends, from every list."""
        groups = {("group", name) for name in self.wanted.backends if self.several}
        removed = set()
        for place in places(document):
            torches = [item for item in place.items if self.wanted.family(item)]
            switch = (place.kind, place.key) in self.switches[document.name]
            if torches and (self.several or switch) and (place.kind, place.key) not in groups:
                place.owner[place.key] = [item for item in place.items if item not in torches]
                self.notes.append(f"{place}: {', '.join(torches)} is removed")
                removed |= set() if place.items else {(place.kind, canonicalize_name(place.key))}
        own = canonicalize_name(document.after.get("project", {}).get("name", ""))
        for place in places(document):
            for kind, name in [pair for item in place.items for pair in includes(item, own)]:
                if (kind, name) in removed | groups:
                    raise Refused(f"{place} includes {kind} {name}, which chooses a build of torch: remove that first")

    def write_groups(self) -> None:
        """Write a group for each backend."""
        groups = self.root.after.setdefault("dependency-groups", {})
        for backend in self.wanted.backends:
            if backend not in groups:
                groups[backend] = []
                self.notes.append(f"group {backend} is new")
            wanted = self.wanted.requirements(backend)
            self.revise(Place(self.root, groups, backend, "group"), wanted, wanted)

    def write_requirements(self) -> None:
        """Write the requirements where torch is required already, otherwise into the dependencies."""
        holding = self.holding()
        required = {self.wanted.family(item) for place in holding for item in place.items}
        with_torch = [place for place in holding if "torch" in map(self.wanted.family, place.items)]
        if not with_torch:
            with_torch = [self.dependencies()]
            holding += [place for place in with_torch if place not in holding]
            self.notes.append(f"{with_torch[0]}: {self.own['torch'][0]} is new")
        for place in holding:
            new = [name for name in self.own if name not in required] if place is with_torch[0] else []
            # What only a build of torch requires is needed wherever torch is
            new += [name for name in self.own if name not in {"torch", *self.wanted.companions} and place in with_torch]
            self.revise(place, self.own, new)

    def dependencies(self) -> Place:
        """Return the list of dependencies, which may be new."""
        for document in self.documents:
            if isinstance(document, Listing):
                return places(document)[0]
        project = self.root.after.get("project")
        if project is None:
            raise Refused("no member requires torch: 'uv add --package MEMBER torch', then run this again")
        if "dependencies" in project.get("dynamic", []):
            raise Refused("the dependencies are dynamic: list them in [project], then run this again")
        project.setdefault("dependencies", [])
        return Place(self.root, project, "dependencies")

    def revise(self, place: Place, wanted: dict[str, list[str]], new: Iterable[str]) -> None:
        """Replace the requirements of torch where they are; put new ones after torch, otherwise first."""
        family, items = self.wanted.family, place.items
        kept: dict[str, int] = {}
        for number, item in enumerate(items):  # of several lines for a package, one that applies here
            name = family(item)
            if name and (name not in kept or not self.wanted.holds(items[kept[name]])):
                kept[name] = number
        result: list[Any] = []
        for number, item in enumerate(items):
            name = family(item)
            lines = with_extras(wanted.get(name, []), [other for other in items if family(other) == name])
            if not name:
                result.append(item)
            elif lines and number == kept[name]:
                result += [Line(lines[0], origin=item), *lines[1:]]
                self.notes += [f"{place}: {item} -> {lines[0]}"] if item != lines[0] else []
            elif item not in lines:
                where = "" if self.wanted.holds(item) else ", which applies on none of the platforms,"
                self.notes.append(f"{place}: {item}{where} is removed")
        at = next((index + 1 for index, item in enumerate(result) if family(item) == "torch"), 0)
        result[at:at] = [line for name in dict.fromkeys(new) if name not in kept for line in wanted[name]]
        place.owner[place.key] = result

    def write_python(self, document: Document) -> None:
        """Raise the lowest Python to one that torch has."""
        project, ours = document.after.get("project", {}), self.wanted.project["project"]["requires-python"]
        holding = [place.document for place in self.holding()]
        if not project or "requires-python" in project.get("dynamic", []):
            return
        if document is not self.root and document not in holding:
            return
        theirs = project.get("requires-python") or ours
        first, both = lowest(theirs), lowest(theirs, ours)
        if not both:
            raise Refused(f"requires-python = '{theirs}' excludes all that torch has, {ours}: choose another release")
        if both != first:
            rest = [clause.strip() for clause in theirs.split(",") if clause.strip()[0] not in ">~"]
            theirs = ",".join([f">={both}", *rest, *(["<4"] if "~=" in theirs else [])])
        if project.get("requires-python") != theirs:
            self.notes.append(f"requires-python: {project.get('requires-python') or 'none'} -> {theirs}")
        project["requires-python"] = theirs

    # Settings of uv

    def write_settings(self, document: Document) -> None:
        """Update constraints, overrides, conflicts and default groups."""
        uv, groups, root = document.uv, document.after.get("dependency-groups", {}), document is self.root
        for place in pins(document):
            self.revise(place, self.own, [])
        self.notes += [f"{key} = {inline(uv[key])} is left as it is" for key in LEFT if key in uv]
        others = self.wanted.backends if self.several and root else []
        left = {(place.kind, place.key) for place in places(document) if place.items and place.key not in others}
        switches = self.switches[document.name] - left
        sets = [[entry for entry in entries if member(entry) not in switches] for entries in uv.get("conflicts", [])]
        ours = deepcopy(self.wanted.uv["conflicts"]) if others else []
        uv["conflicts"] = ours + [entries for entries in sets if len(entries) > 1]
        usual = [name for name in ["dev"] if name in groups or "dev-dependencies" in uv]
        default = listed(uv.get("default-groups", usual))
        default = list(groups) if default == ["all"] else default
        chosen = [name for name in default if ("group", name) not in switches and name not in others] + others[:1]
        if chosen != default:
            uv["default-groups"] = chosen
            if chosen == usual:
                del uv["default-groups"]
            self.notes.append(f"default-groups: {', '.join(default) or 'none'} -> {', '.join(chosen) or 'none'}")

    def write_sources(self, document: Document) -> None:
        """Write the sources into the root alone: those of a member would override them."""
        sources = document.uv.setdefault("sources", {})
        ours = self.wanted.uv.get("sources", {}) if document is self.root else {}
        for name in [name for name in sources if self.wanted.family(name)]:
            source = sources.pop(name)
            self.notes += [f"source of {name}: {inline(source)} is removed"] if source != ours.get(name) else []
        sources |= deepcopy(ours)

    def write_indexes(self, document: Document) -> None:
        """Write the indexes that the sources name, and remove PyTorch's others."""
        ours = {index["name"]: index for index in self.wanted.uv.get("index", []) if document is self.root}
        users: dict[str, str] = {}
        for each in self.documents:  # a member may use the indexes of the root
            for name, sources in each.uv.get("sources", {}).items():
                if not self.wanted.family(name):
                    users |= {source["index"]: name for source in listed(sources) if "index" in source}
        kept: list[Any] = []
        there = document.uv.get("index", [])
        new = [name for name in ours if name not in [index.get("name") for index in there]]
        for index in there:
            name, url = index.get("name", ""), index["url"]
            if name in ours and name in users and url != ours[name]["url"]:
                raise Refused(f"index {name} is {url}, for {users[name]}: give it another name first")
            if name in ours:
                self.notes += [f"index {name}: {url} -> {ours[name]['url']}, explicit"] if index != ours[name] else []
                kept.append(ours.pop(name))
            elif self.pytorch(url) and name not in users:
                self.notes.append(f"index {name or 'without a name'} ({url}) is removed")
                kept += [ours.pop(new.pop(0))] if new else []
            else:
                self.notes += [f"index {name} ({url}) is left, for {users[name]}"] if self.pytorch(url) else []
                kept.append(index)
        document.uv["index"] = kept + list(ours.values())

    def write_urls(self, document: Document) -> None:
        """Remove PyTorch's URLs from the older settings for indexes, which hold for all packages."""
        for key in ("index-url", "extra-index-url", "find-links"):
            urls = listed(document.uv.get(key, []))
            gone = [url for url in urls if self.pytorch(url)]
            self.notes += [f"{key} {url} is removed" for url in gone]
            if gone:
                document.uv[key] = [url for url in urls if url not in gone]

    def pytorch(self, url: str) -> bool:
        return bool(PYTORCH.search(url)) or url.startswith(self.wanted.answers["torch_index"])

    def write_root(self) -> None:
        """Write the platforms, which only the root can name."""
        for key in ("environments", "required-environments"):
            old, new = self.root.uv.get(key), list(self.wanted.uv[key])
            self.notes += [f"{key}: {inline(old)} is replaced"] if old and old != new else []
            self.root.uv[key] = new
        if self.wanted.uv.get("index") and (self.root.root / "uv.toml").exists():
            raise Refused("uv.toml hides the indexes in pyproject.toml: move its settings to [tool.uv] first")
        if not self.root.content:
            self.notes.append("requirements.txt stays, but uv does not read it: pyproject.toml counts from now on")

    @property
    def python(self) -> str:
        """The lowest Python that all files admit."""
        projects = [document.after.get("project", {}) for document in self.documents]
        ours = self.wanted.project["project"]["requires-python"]
        return lowest(ours, *(project.get("requires-python", "") for project in projects))


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def member(entry: dict[str, str]) -> tuple[str, str]:
    """Return the extra or group that a source or an entry of a conflict names."""
    return next(((kind, entry[kind]) for kind in ("extra", "group") if kind in entry), ("", ""))


def includes(item: Any, project: str) -> list[tuple[str, str]]:
    """Return the extras and groups of a project that an item of a list includes."""
    if isinstance(item, dict):
        return [("group", canonicalize_name(item["include-group"]))] if "include-group" in item else []
    match = re.match(r"([\w.-]+)\s*\[(.*?)\]", item)
    own = match and canonicalize_name(match[1]) == project
    return [("extra", canonicalize_name(extra.strip())) for extra in match[2].split(",")] if match and own else []


def with_extras(requirements: list[str], old: list[str]) -> list[str]:
    """Return requirements with the extras of the old ones, as torch[opt-einsum]."""
    extras = sorted({extra for item in old for extra in Requirement(item).extras})
    if not extras or any("[" in item for item in requirements):
        return requirements
    return [re.sub(r"^[\w.-]+", f"\\g<0>[{','.join(extras)}]", item) for item in requirements]


def lowest(*specifiers: str) -> str:
    """Return the lowest Python that all these values of requires-python admit, or nothing."""
    sets = [SpecifierSet(specifier) for specifier in specifiers if specifier]
    for minor in range(50):
        if any(all(f"3.{minor}.{patch}" in each for each in sets) for patch in range(30)):
            return f"3.{minor}"
    return ""


# Other places that install torch: they are named, and left alone


def others(root: Path, found: list[Document]) -> Iterator[str]:
    """Yield where torch is named, except what this command edits."""
    uv = {key: value for key, value in found[0].uv.items() if key not in EDITED}
    for name, table in {**found[0].after["tool"], "uv": uv}.items():
        yield from dict.fromkeys(f"[tool.{path}]" for path in mentions(table, name))
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    listing = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", check=False).stdout
    files = [root / name for name in listing.splitlines()] or sorted(root.glob("*"))
    edited = [each.path for each in found]
    for file in files:
        pattern = SEARCHED.get(file.suffix) if file not in edited and os.access(file, os.R_OK) else None
        if pattern and file.is_file() and file.stat().st_size < 1_000_000:
            match = pattern.search(text := text_of(file))
            if match:
                yield f"{file.relative_to(root).as_posix()}:{text.count(chr(10), 0, match.end()) + 1}"


def mentions(table: Any, path: str) -> Iterator[str]:
    """Yield the tables in which torch, or an index of PyTorch, is named."""
    if isinstance(table, list):
        for entry in table:
            yield from mentions(entry, path)
    elif isinstance(table, dict):
        texts = [text for value in table.values() for text in listed(value) if isinstance(text, str)]
        named = any(re.match(r"torch\b(?!-)", text) or PYTORCH.search(text) for text in texts)
        if named or {"torch", "pytorch"} & table.keys():
            yield path
        for key, value in table.items():
            yield from mentions(value, f"{path}.{key}")


# Writing, locking, checking


def uv(root: Path, *arguments: str) -> str:
    """Run uv in a folder, and return its output.

    Raises:
        Refused: It failed; its message has been printed.
    """
    command = [os.environ.get("UV", "uv"), *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        raise Refused(f"'uv {arguments[0]}' failed, for the reason above: nothing is changed")
    return done.stdout


def replace(path: Path, content: bytes | None) -> None:
    """Replace a file in one step, or remove it."""
    path = path.resolve()  # what a link leads to may be on another disk
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
    finally:
        Path(name).unlink(missing_ok=True)


def settle(root: Path, plan: Plan, files: dict[Path, bytes]) -> list[str]:
    """Write the files, lock, and return what each platform gets. If that is wrong, restore everything."""
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
    """Yield what a backend brings to each platform, as uv.lock says.

    Raises:
        Refused: It is not what was asked for.
    """
    places = [Place(plan.root, {}, backend, "group")] if plan.several else plan.holding()
    chosen = {f"--{place.kind}={place.key}" for place in places if place.kind}
    chosen |= {"--group=dev" for place in places if place.key == "dev-dependencies"}
    options = ["--frozen", "--format=pylock.toml", "--all-packages", "--no-emit-workspace", "--no-default-groups"]
    packages = tomllib.loads(uv(root, "export", *options, *sorted(chosen)))["packages"]
    urls = {index["name"]: index["url"] for index in plan.wanted.uv.get("index", [])}
    for platform in plan.wanted.answers["platforms"]:
        environment = plan.wanted.environment(platform, plan.python)
        here = {
            package["name"]: package
            for package in packages
            if "marker" not in package or Marker(package["marker"]).evaluate(environment)
        }
        rows = [
            row for row in plan.wanted.answers["wheels"] if (row["backend"], row["platform"]) == (backend, platform)
        ]
        for row in rows:
            package = here.get(row["package"], {"version": "0"})
            if not fits(package, row, urls.get(f"pytorch-{row['index']}", "")):
                got = f"{row['package']} {package['version']} from {package['index']}" if "index" in package else "none"
                raise Refused(f"{platform} would get {got}, not {row['build']} for {backend}: nothing is changed")
        versions = ", ".join(f"{row['package']} {here[row['package']]['version']}" for row in rows)
        build = rows[0]["build"]
        yield f"{platform:15} {build if build == backend else f'{build} (for {backend})':18} {versions}"


def fits(package: dict[str, Any], row: dict[str, str], url: str) -> bool:
    """Tell whether a locked package is what a row of the template asks for."""
    index, version = package.get("index", "").rstrip("/"), Version(package["version"])
    right = index == url.rstrip("/") if url else index and not PYTORCH.search(index)
    local = version.local in (None, row["build"])
    return bool(right) and local and Version(version.public) in Requirement(row["requirement"]).specifier


# The command


def recorded(found: list[Document], table: Wanted) -> dict[str, Any]:
    """Return the answers that the files show: the companions and, after an earlier run, all others."""
    lists = [place.items for document in found for place in places(document) + pins(document)]
    lines = [item for items in lists for item in items if isinstance(item, str)]
    answers: dict[str, Any] = {"companions": sorted({*map(table.family, lines)} & table.companions)}
    uv, builds = found[0].uv, table.answers["builds"][0]
    platforms = {row["marker"]: name for name, row in builds["platforms"].items()}
    markers = uv.get("environments", [])
    releases = [match[1] for match in map(re.compile(r"torch(?:\[.*\])?~=(\d+\.\d+)\.0$").match, lines) if match]
    if not (markers and platforms.keys() >= {*markers} and builds["releases"].keys() >= {*releases[:1]} > set()):
        return answers
    sources = {each.get("marker"): each.get("index", "") for each in listed(uv.get("sources", {}).get("torch", []))}
    usual = builds["releases"][releases[0]]["pypi"]
    here = [sources.get(marker, usual[platforms[marker]]).removeprefix("pytorch-") for marker in markers]
    if not builds["backends"].keys() >= {*here}:
        return answers
    sets = [[entry.get("group") for entry in entries] for entries in uv.get("conflicts", [])]
    backends = next((names for names in sets if builds["backends"].keys() >= {*names}), [])
    backends = backends or [name for name in here if name != "cpu"][:1] or ["cpu"]
    bases = [index["url"].rpartition("/")[0] for index in uv.get("index", []) if index.get("name") in sources.values()]
    answers |= {"platforms": [platforms[marker] for marker in markers], "torch": releases[0]}
    answers |= {"backend": backends[0], "other_backends": backends[1:], "torch_index": (bases or [builds["index"]])[0]}
    return answers


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line. What Copier has too is called as there."""
    summary, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser("adopt.py", None, summary, rest, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("-d", "--data", action="append", default=[], metavar="NAME=VALUE", help=f"answer one of {', '.join(ASKED)}")
    add("-l", "--defaults", action="store_true", help="ask no questions: use the defaults, or what an earlier run used")
    add("-y", "--yes", action="store_true", help="write without asking")
    add("--doctor", action="store_true", help="add tools/doctor.py, which examines an installation")
    add("--template", help="the template's path or URL (default: this clone of it, or GitHub)")
    add("-r", "--vcs-ref", help="the template's version (default: the clone as it is, or the newest release)")
    return parser


def adopt(root: Path, options: argparse.Namespace) -> None:
    """Edit the project in a folder, after asking.

    Raises:
        Refused: It cannot be done, or was not wanted; then nothing has changed.
    """
    given, person = dict(item.partition("=")[::2] for item in options.data), sys.stdin.isatty()
    for name in given.keys() - {*ASKED, "torch_index"}:
        raise Refused(f"{name} is not asked here; the questions are {', '.join(ASKED)}")
    if not person and not options.defaults and not given.keys() >= {*ASKED}:
        raise Refused("there is no terminal to ask in: add --defaults, and --data name=value for other answers")
    found = documents(root)
    clone = (HERE / "copier.yml").exists() and not options.template
    source = options.template or (str(HERE) if clone else "gh:org/torch-uv-template")
    ref = options.vcs_ref or ("HEAD" if clone else None)
    table = render(source, ref, {}, {}, True)
    plan = Plan(found, render(source, ref, given, recorded(found, table), options.defaults))

    files = {document.path: document.written() for document in found}
    if options.doctor:
        final = plan.wanted.answers | {"python": plan.python}
        answers = {name: final[name] for name in (*ASKED, "torch_index")}
        files[root / "tools" / "doctor.py"] = render(source, ref, answers, {}, True).doctor
    files = {path: content for path, content in files.items() if not path.exists() or path.read_bytes() != content}
    if files and not os.access(root, os.W_OK):
        raise Refused(f"{root} is read-only: make it writable first")
    show(root, plan, files)
    if files and not options.yes and not person:
        raise Refused("nothing is changed, because there is no terminal to confirm in: add --yes")
    if files and not options.yes and input("Write this? [y/N] ").strip().lower() not in ("y", "yes"):
        raise Refused("nothing is changed")
    print("\n".join(settle(root, plan, files)))


def show(root: Path, plan: Plan, files: dict[Path, bytes]) -> None:
    """Print what changes: by name, then line by line."""
    places = list(others(root, plan.documents))
    left = [f"also names torch, and is left as it is: {', '.join(places[:20])}"] if places else []
    for note in [*dict.fromkeys(plan.notes), *left] if files else ["nothing to change"]:
        print(f"- {note}")
    for path, content in files.items():
        name, old = path.relative_to(root).as_posix(), text_of(path) if path.exists() else ""
        if path.exists() and not path.stat().st_mode & stat.S_IWUSR:
            raise Refused(f"{name} is read-only: make it writable first")
        lines = old.splitlines(), content.decode("utf-8-sig").splitlines()
        for line in difflib.unified_diff(*lines, name, name, lineterm="") if path.suffix != ".py" else [f"+++ {name}"]:
            print(line)


def main(given: list[str] | None = None) -> int:
    options = arguments().parse_args(given)
    try:
        adopt(Path.cwd(), options)
    except (Refused, OSError) as error:
        print(f"adopt: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, EOFError):
        print("\nadopt: stopped: nothing is changed", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    for stop in {"SIGHUP", "SIGTERM"} & vars(signal).keys():  # as at Ctrl-C, everything is restored
        signal.signal(getattr(signal, stop), signal.default_int_handler)
    sys.exit(main())
