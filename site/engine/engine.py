"""The template, rendered by Copier itself for whoever sends answers: the page, the build of the site, a test.

    engine = Engine(folder)
    engine.render({"platforms": ["linux-x86_64"], "torch": "2.14"})

The folder holds the template and origin.json, as site/build.py writes them. Where Copier would ask a person in a
terminal, a `Form` answers, and keeps what the person would have seen.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import io
import json
import marshal
import re
import shlex
import sys
import tempfile
import tomllib
import types
import zipfile
from collections.abc import Callable, Iterator
from functools import cache, cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any

import copier._main
import copier._user_data
import machines
import menu
from copier._main import Worker
from copier._settings import SettingsModel
from copier._template import Template
from copier._types import Phase
from copier._user_data import Question, parse_yaml_string
from jinja2 import Environment, UndefinedError
from jinja2.runtime import Context

import adopt

FOLDER = "myproj"  # as in the README; it is the name of the project, if none is given
# What a command says even of a default, which differs by system and follows from the other answers
NAMED = ("platforms", "backend", "torch", "python")
TEXTS = {"project_name", "package_name", "description", "user_name", "user_email", "torch_index"}
LARGE = ("builds", "reserved")  # computed values, not for a page
DATE = (2026, 1, 1, 0, 0, 0)  # of all files in a zip
PLAIN = r"[\w./:=+-]+"  # what no shell reads in another way
ADOPT = "https://raw.githubusercontent.com/org/torch-uv-template/main/adopt.py"

get_default, get_structure = Question.get_default, Question.get_questionary_structure


class All(list[Any]):
    """Holds everything: for includes/choices.jinja, which has a reason ready for what is given, but not offered."""

    def __contains__(self, _: object) -> bool:
        return True


class Form:
    """Answers the questions with what is given, otherwise with the default, and keeps them with what is refused."""

    def __init__(self, choices: dict[str, Any]) -> None:
        self.choices = choices  # that earlier forms have worked out
        self.given: dict[str, Any] = {}
        self.questions: list[dict[str, Any]] = []
        self.refused: dict[str, str] = {}

    def prompt(self, structures: list[dict[str, Any]], answers: dict[str, Any]) -> dict[str, Any]:
        """Answer a question, in the place of questionary's function of this form."""
        structure = structures[0]
        if "type" not in structure:
            return answers
        question: Question = structure["filter"].__self__
        name = question.var_name
        value = default = answers[name]
        if name in self.given:
            try:
                value = question.parse_answer(self.given[name])
                question.validate_answer(value)
                self.refused.pop(name, None)  # if the default was
            except Exception as error:  # noqa: BLE001 - Copier, too, shows any
                self.refuse(name, error)
                value = default
        choices = structure.get("choices", [])
        self.questions.append(
            {
                "name": name,
                "type": structure["type"],
                "message": structure["message"].strip(),
                "kind": question.get_type_name(),
                "default": default,
                "value": value,
                "asked": question.get_ask(),
                "choices": [{"title": c.title, "value": c.value, "disabled": c.disabled or ""} for c in choices],
            }
        )
        return {name: value}

    def structure(self, question: Question) -> dict[str, Any]:
        """Return what is shown of a question: of a computed value nothing."""
        return get_structure(question) if question.get_when() else {"filter": question.cast_answer}

    def default(self, question: Question) -> Any:
        """Return the default of a question, which Copier asks for several times, even one that is refused."""
        if "default_value" not in vars(question):
            if question.choices:
                self.fill_in_choices(question)
            question.context["_copier_conf"]["data"] = self.given
            try:
                vars(question)["default_value"] = get_default(question)
            except ValueError as error:
                self.refuse(question.var_name, error)
                vars(question)["default_value"] = question.cast_answer(question.render_value(question.default))
        return vars(question)["default_value"]

    def fill_in_choices(self, question: Question) -> None:
        """Let the template list all choices, those that are not offered with the reason.

        A backend is chosen among those of all releases: the release follows, and a person may change it.
        """
        name, conf = question.var_name, question.context["_copier_conf"]
        given = self.given.get(name)
        seen = {**self.given, name: All(given if isinstance(given, list) else [])}
        if name == "backend":
            seen.pop("torch", None)
        # They follow from what else is chosen, not from texts
        before = [(one["name"], one["value"]) for one in self.questions]
        key = repr((name, [pair for pair in (*before, *seen.items()) if pair[0] not in TEXTS]))
        if key not in self.choices:
            conf["data"] = seen
            self.choices[key] = question._formatted_choices
        vars(question)["_formatted_choices"] = self.choices[key]

    def refuse(self, name: str, error: Exception) -> None:
        self.refused[name] = one_line(str(error).partition(": ")[2] or str(error))


class Visit(Worker):
    """Copier, for somebody who fills in a form."""

    form: Form
    context: dict[str, Any] | None = None
    """What files are rendered with, once all is answered."""

    @cached_property
    def answers_relpath(self) -> Path:
        return super().answers_relpath

    def _render_context(self) -> Any:
        if self.context:
            return self.context
        context = super()._render_context()
        # The template sees what is given as if by --data; Copier itself asks. It runs on no system that torch is for
        context["_copier_conf"]["data"] = self.form.given
        context["_copier_conf"]["os"] = None
        return context


class Engine:
    """The template, and what all renders share."""

    def __init__(self, folder: Path) -> None:
        self.origin = json.loads((folder / "origin.json").read_text(encoding="utf-8"))
        commit, modes = self.origin["commit"], self.origin["modes"]
        self.template = Template(url=self.origin["url"], ref=commit)
        # What Copier would ask Git for
        vars(self.template).update(
            local_abspath=folder,
            commit=commit,
            commit_hash=self.origin["hash"],
            vcs=None,
            version=None,
            git_index_modes={PurePosixPath(path): int(mode, 8) for path, mode in modes.items()},
        )
        self.choices: dict[str, Any] = {}
        self.env = self.visitor(Form({}), Path(FOLDER)).jinja_env
        compiled = folder / "compiled"  # as the build of the site has left it
        self.codes: dict[bytes, Any] = marshal.loads(compiled.read_bytes()) if compiled.exists() else {}
        vars(self.env)["compile"] = self.compile_once
        vars(self.env)["from_string"] = cache(self.from_string)
        # Copier's sandbox is for templates of strangers; its checks are a tenth of the time
        vars(self.env).update({name: partial(getattr(Environment, name), self.env) for name in ("getattr", "getitem")})
        vars(self.env)["call"] = Context.call
        facts = self.env.get_template("includes/facts.jinja")
        facts.root_render_func = by_release(facts.root_render_func)

    def compile_once(self, source: str, name: str | None = None, *rest: Any) -> Any:
        """Compile a template, unless it is compiled: half of the time of the first render."""
        key = hashlib.sha256(f"{name}\0{source}".encode()).digest()
        if key not in self.codes:
            self.codes[key] = Environment.compile(self.env, source, name, *rest)
        return self.codes[key]

    def from_string(self, source: str) -> Any:
        """Return a template; of a text without anything to fill in, that text."""
        if "{" in source:
            return Environment.from_string(self.env, source)
        return types.SimpleNamespace(render=lambda *_, **__: source)

    def visitor(self, form: Form, folder: Path) -> Visit:
        """Return a worker that asks all questions, also those that are not asked by default."""
        options: dict[str, Any] = {"settings": SettingsModel(), "quiet": True, "overwrite": True, "ask": ["*"]}
        visitor = Visit(src_path=self.template.url, dst_path=folder, **options)
        visitor.form = form
        vars(visitor)["template"] = self.template
        if "env" in vars(self):
            vars(visitor)["jinja_env"] = self.env
        return visitor

    def form(self, given: dict[str, Any]) -> Form:
        """Return a form with what is given, without what no question takes: includes/given.jinja says why."""
        form, check = Form(self.choices), self.env.get_template("includes/given.jinja")
        for name, value in given.items():
            try:
                check.render(_copier_conf={"data": {name: value}})
                form.given[name] = value
            except UndefinedError as error:
                form.refused[name] = re.sub(r"^'dict object' has no attribute '(.+)'$", r"\1", one_line(str(error)))
        return form

    def render(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the form, and the project unless an answer is refused."""
        form, name = self.form(given), str(given.get("project_name", ""))
        folder = Path(name if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) else FOLDER)
        visitor = self.visitor(form, folder)
        files = message = None
        with elsewhere(), questionnaire(form):
            with Phase.use(Phase.PROMPT):
                visitor._ask()
            if not form.refused:
                with Phase.use(Phase.RENDER):
                    visitor.context = visitor._render_context()
                    visitor._render_template()
                    message = visitor._render_string(self.template.message_after_copy).strip()
                files = dict(sorted(contents(folder)))
        answers = visitor.answers
        return {
            "form": form.questions,
            "hidden": {key: answers.combined[key] for key in sorted(answers.hidden) if key not in LARGE},
            "refused": form.refused,
            "files": files,
            "message": message,
            "command": self.command(form, folder) if files else None,
            "adopt": adopting(form) if files else None,
            "torch": torch_part(dict(answers.combined), files) if files else None,
        }

    def command(self, form: Form, folder: Path) -> dict[str, str]:
        """Return what renders the same with Copier, for each shell."""
        ref = ["--vcs-ref", self.origin["ref"]] if self.origin["ref"] else []
        data = [one for one in form.questions if one["name"] in NAMED or one["value"] != one["default"]]
        return in_shells("uvx", "copier", "copy", "--defaults", *ref, *options(data), self.origin["url"], str(folder))

    def zip(self, given: dict[str, Any]) -> bytes:
        """Return the project as a zip with one folder at its top.

        Raises:
            ValueError: An answer is refused.
        """
        reply = self.render(given)
        if reply["refused"]:
            raise ValueError("; ".join(reply["refused"].values()))
        top = next(one["value"] for one in reply["form"] if one["name"] == "project_name")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, file in reply["files"].items():
                entry = zipfile.ZipInfo(f"{top}/{path}", DATE)
                entry.create_system = 3  # Unix, which has modes
                entry.external_attr = (0o100000 | file["mode"]) << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, data_of(file))
        return buffer.getvalue()

    @cached_property
    def table(self) -> dict[str, Any]:
        """The table of builds."""
        table: dict[str, Any] = self.template.questions_data["builds"]["default"][0]
        return table

    @cached_property
    def doctor(self) -> types.ModuleType:
        """The doctor of a rendered project, as a module."""
        module = types.ModuleType("doctor")
        module.__file__ = str(Path("tools", "doctor.py").absolute())
        sys.modules[module.__name__] = module  # where its dataclasses look
        exec(self.render({})["files"]["tools/doctor.py"]["text"], vars(module))  # noqa: S102 - the template's own
        return module

    def advise(self, text: str = "", machines_: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        """Return what the doctor advises for machines: those that a text tells of, and those that are described."""
        found, problems = machines.read(text, self.doctor.BACKENDS) if text.strip() else ([], [])
        described = [*found, *map(machines.checked, machines_ or [])]
        made = [
            self.doctor.Machine(**{**one, "gpus": [self.doctor.Gpu(**gpu) for gpu in one["gpus"]]}) for one in described
        ]
        nothing: dict[str, Any] = {"answers": {}, "reasons": [], "computing": 0}
        advice = self.doctor.advise(made) if made else nothing
        downloads = [self.download(one, advice["answers"]) for one in made]
        hints = list(map(self.hint, made))
        return {**advice, "hints": hints, "downloads": downloads, "machines": described, "problems": problems}

    def hint(self, machine: Any) -> str:
        """Return what a newer driver gives a machine that does not compute on its GPU with the one it has."""
        if not machine.cuda or self.doctor.advise([machine])["computing"]:
            return ""
        newer = dataclasses.replace(machine, cuda="")
        advice = self.doctor.advise([newer])
        backend, torch = (advice["answers"][name] for name in ("backend", "torch"))
        driver = self.doctor.oldest_driver(newer, backend)
        return f"driver {driver} or newer runs the {backend} build of torch {torch}" if advice["computing"] else ""

    def download(self, machine: Any, answers: dict[str, Any]) -> str:
        """Return how much `uv sync` downloads for torch, which is known of the build that PyPI carries for a machine."""
        release, platform = answers["torch"], machine.platform
        if not self.doctor.installs(machine, release):
            return ""
        backends = [answers["backend"], *answers["other_backends"]]
        otherwise = "cpu" if "cpu" in backends and not machine.gpus else backends[0]
        chosen = next((one for one in backends if self.doctor.served(machine, one, release)), otherwise)
        row = self.table["releases"][release]
        if self.doctor.gets(chosen, platform, release) != row["pypi"][platform]:
            return "how much uv sync downloads for torch is not measured"
        return f"uv sync downloads about {in_units(row['download'][platform])} for torch"

    def first(self) -> dict[str, Any]:
        """Return what the page shows before Python is there: the default project, and what can be chosen by name."""
        reply = self.render({})
        for file in reply["files"].values():
            file.pop("base64", None)  # not for the eye
        return {**reply, "systems": menu.menu(self.table), "named": NAMED}

    def reply(self, request: str) -> str | bytes:
        """Answer a message of the page, which is JSON."""
        try:
            message = json.loads(request)
            if message["type"] == "zip":
                return self.zip(message["answers"])
            if message["type"] == "first":
                return json.dumps(self.first())
            if message["type"] == "advise":
                return json.dumps(self.advise(message.get("text", ""), message.get("machines")))
            return json.dumps(self.render(message["answers"]))
        except ValueError as error:
            return json.dumps({"error": one_line(str(error))})
        except Exception as error:  # noqa: BLE001 - the page shows it
            return json.dumps({"error": one_line(f"{type(error).__name__}: {error}")})


def by_release(render: Callable[[Any], Iterator[str]]) -> Callable[[Any], Iterator[str]]:
    """Render includes/facts.jinja once for a release and platforms: the reasons for all choices include it 600 times."""
    known: dict[tuple[str, ...], list[str]] = {}

    def render_once(context: Any) -> Iterator[str]:
        key = (context["version"], *context["platforms"])
        if key not in known:
            known[key] = list(render(context))
        yield from known[key]

    return render_once


@contextlib.contextmanager
def elsewhere() -> Iterator[None]:
    """Work in an empty folder."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        yield


@contextlib.contextmanager
def questionnaire(form: Form) -> Iterator[None]:
    """Put a form in the place of the terminal, and of Git, which is not asked about each file."""
    token = copier._main._operation.set("copy")
    try:
        with (
            replaced(copier._main, unsafe_prompt=form.prompt, is_git_available=lambda: False),
            replaced(copier._user_data, parse_yaml_string=parse),
            # Not bound methods: the question is what they are given
            replaced(Question, get_default=lambda question: form.default(question)),
            replaced(Question, get_questionary_structure=lambda question: form.structure(question)),
        ):
            yield
    finally:
        copier._main._operation.reset(token)


def parse(text: str) -> Any:
    """Parse YAML. What the template itself writes is JSON, which is read much faster."""
    try:
        return json.loads(text)
    except ValueError:
        return parse_yaml_string(text)


@contextlib.contextmanager
def replaced(owner: Any, **members: Any) -> Iterator[None]:
    before = {name: getattr(owner, name) for name in members}
    try:
        for name, member in members.items():
            setattr(owner, name, member)
        yield
    finally:
        for name, member in before.items():
            setattr(owner, name, member)


def contents(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the files in a folder: text where it is UTF-8, otherwise base64, and the mode."""
    for path in folder.rglob("*"):
        if path.is_file():
            content, mode = path.read_bytes(), path.stat().st_mode & 0o777
            try:
                file = {"text": content.decode(), "mode": mode}
            except UnicodeDecodeError:
                file = {"base64": base64.b64encode(content).decode(), "mode": mode}
            yield path.relative_to(folder).as_posix(), file


def data_of(file: dict[str, Any]) -> bytes:
    return file["text"].encode() if "text" in file else base64.b64decode(file["base64"])


def torch_part(answers: dict[str, Any], files: dict[str, Any]) -> str:
    """Return what adopt.py would write into an empty pyproject.toml."""
    wanted = adopt.Wanted(answers, tomllib.loads(files["pyproject.toml"]["text"]), b"")
    document = adopt.Document(Path("nowhere"), "pyproject.toml")
    document.after = {"project": {"requires-python": "", "dependencies": []}, "dependency-groups": {}}
    adopt.Plan([document], wanted)
    return document.written().decode()


def options(questions: list[dict[str, Any]]) -> list[str]:
    """Return the options of Copier that give these answers."""
    pairs = ((one["name"], one["value"]) for one in questions)
    texts = (f"{name}=[{','.join(value)}]" if isinstance(value, list) else f"{name}={value}" for name, value in pairs)
    return [part for text in texts for part in ("--data", text)]


def adopting(form: Form) -> dict[str, str]:
    """Return what gives an existing project the same torch, for each shell."""
    asked = [one for one in form.questions if one["name"] in adopt.ASKED]
    data = [one for one in asked if one["name"] in NAMED or one["value"] != one["default"]]
    return in_shells("uv", "run", ADOPT, "--defaults", *options(data))


def in_shells(*command: str) -> dict[str, str]:
    """Return a command as bash, PowerShell and cmd take it."""
    return {
        "bash": shlex.join(command),
        "powershell": " ".join(map(for_powershell, command)),
        "cmd": " ".join(map(for_cmd, command)),
    }


def for_powershell(text: str) -> str:
    """Quote a text for PowerShell. One with double quotes needs 7.3 or newer: older ones pass them on wrongly."""
    if re.fullmatch(PLAIN, text, re.ASCII):
        return text
    return "'" + re.sub("(['\u2018-\u201b])", r"\1\1", text) + "'"


def for_cmd(text: str) -> str:
    """Quote a text first for the program, as the C runtime reads it, then for cmd, which reads it before."""
    if re.fullmatch(PLAIN, text, re.ASCII):
        return text
    if re.fullmatch(r'[^"%^&|<>!()]*[^"%^&|<>!()\\]', text):
        return f'"{text}"'
    quoted = re.sub(r'(\\*)"', r'\1\1\\"', text)
    quoted = '"' + re.sub(r"(\\+)$", r"\1\1", quoted) + '"'
    return re.sub(r'(["%^&|<>!()])', r"^\1", quoted)


def in_units(megabytes: int) -> str:
    return f"{megabytes} MB" if megabytes < 1000 else f"{megabytes / 1000:g} GB"


def one_line(text: str) -> str:
    return " ".join(text.split())
