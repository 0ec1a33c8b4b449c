"""Answers that nobody thought of: each is refused in one line, or every file holds it and looks as a person would leave it.

`--hypothesis-seed=random` looks for what the gate has not met yet.
"""

from __future__ import annotations

import json
import keyword
import random
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests.choosing import Table, answering
from tests.files import assert_fit_for_windows, assert_linted, assert_tidy, files, parse
from tests.project import Project
from tests.table import PLATFORMS, RELEASES, builds, pythons

SHARDS = 8
RENDERS = 120  # of each shard

# What of these runs breaks a file, or leaves the word where it does not belong
FRAGMENTS = [
    *[
        "'",
        '"',
        "`",
        "\\",
        '\\"',
        "\\'",
        "\\\\",
        "'''",
        '"""',
        "```",
        "~~~",
        "#",
        ":",
        "-",
        ",",
        ";",
        "&",
        "|",
        "<",
        ">",
        "=",
        "==",
        "---",
        "***",
        "***",
        "+",
        "[",
        "]",
        "[x]:",
        "(y)",
        "{",
        "}",
        "%",
        "@",
        "!",
        "?",
        "*",
        "~",
        "$",
        "^",
        ".",
        "/",
        "//",
    ],
    *("{{", "}}", "{%", "%}", "{#", "#}", "-%}", "{{ 7 * 'pwned' }}", "{% raw %}pwned", "{{ pwned }}", "{# pwned #}"),
    *("${{ secrets.pwned }}", "${pwned}", "$(touch pwned)", "`touch pwned`", "; touch pwned", "%pwned%", "$pwned"),
    *("# pwned", ": pwned", "- pwned", "!!python/object:pwned", "&a *a", '"] [pwned]', "<!-- pwned"),
    *(
        "<script>pwned",
        "</pre>",
        "&lt;",
        "\\u0041",
        "\\x41",
        "\\N{DASH}",
        "%s %(pwned)s {pwned} {0}",
        "__import__('pwned')",
    ),
    *(
        "O'Brien",
        "日本語",
        "עברית",
        "\u202eabc",
        "\u200f",
        "👩‍🔬",
        "é",
        "e\u0301",
        "ﬁ",
        "ß",
        "\u00a0",
        "\u3000",
        "\ufeff",
        "\u200b",
    ),
    *(
        "null",
        "true",
        "~",
        "1e3",
        "0x1f",
        "2026-11-21",
        "no",
        "=",
        "<<",
        "...",
        "C:\\temp\\new",
        "\U0010ffff",
        "\ud7ff",
    ),
]
WRONG = [
    "\n",
    "\r",
    "\r\n",
    "\t",
    "\0",
    "\x01",
    "\x1b[31m",
    "\x7f",
    "\x85",
    "\u2028",
    "\u2029",
    "\ud800",
    "\udfff",
    "\uffff",
]
LANDING = {"pyproject.toml", "README.md", "LICENSE", ".copier-answers.yml"}  # where free text may stand

printable = st.characters(exclude_categories=["Cc", "Cs", "Cn", "Zl", "Zp"])
pieces = st.sampled_from(FRAGMENTS) | st.text(printable, max_size=8) | st.just(" ")
texts = (
    st.lists(pieces, max_size=8).map("".join)
    | st.lists(pieces, max_size=8).map(" ".join)
    | st.tuples(pieces, st.integers(20, 400)).map(lambda pair: pair[0] * pair[1])
)
names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?", fullmatch=True)
identifiers = st.from_regex(r"[a-z][a-z0-9_]{0,39}", fullmatch=True)
emails = st.from_regex(r"[a-z.!#$%&'*+/=?^_`{|}~-]{1,20}@[a-zé0-9-]{1,20}\.org", fullmatch=True)
mirrors = st.from_regex(
    r"(https?://([a-z0-9-]{1,20}\.org|127\.0\.0\.1|\[::1\])(:[1-9][0-9]{0,3})?|file://)"
    r"(/([A-Za-z0-9._~:+=,@-]|%[0-9A-F]{2}){1,9}){1,3}/?",
    fullmatch=True,
).filter(lambda url: not re.search(r"//[^/]*@", url))


def free(name: str) -> bool:
    """Tell whether a name is certainly free: no word of what the project installs or Python brings is as odd."""
    return not re.fullmatch(r"_?[a-z]*_?[a-z]*[0-9]*_*", name.lower()) and not keyword.iskeyword(name)


legitimate = st.fixed_dictionaries(
    {
        "project_name": st.sampled_from(["demo", "My.Project", "a-b_c"])
        | names.filter(lambda n: re.search("[0-9][a-z]", n)),
        "description": texts,
        "user_name": texts,
    },
    optional={
        "package_name": st.sampled_from(["demo", "other", "nested_name", "x" * 40]) | identifiers.filter(free),
        "user_email": emails,
        "torch_index": mirrors,
    },
)
devices = ["con", "NUL", "com1", "lpt9.x", "aux.tar"]
odd_names = st.sampled_from(
    ["torch", "Torch", "json", "test", "class", "activate", "pip", "é", "x" * 101, "-", *devices]
)
anything = texts | st.sampled_from(WRONG) | st.tuples(texts, st.sampled_from(WRONG), texts).map("".join)
secret = st.sampled_from(
    ["https://me:{}@host/whl", "https://{}@host", "https://me:a/{}@host", "https://host/?token={}"]
)
wrong = st.one_of(
    st.fixed_dictionaries({"project_name": odd_names | anything}),
    st.fixed_dictionaries({"project_name": st.just("demo"), "package_name": odd_names | anything}),
    *(
        st.fixed_dictionaries({"project_name": st.just("demo"), name: anything})
        for name in ("description", "user_name")
    ),
    st.fixed_dictionaries({"project_name": st.just("demo"), "user_email": anything | anything.map("a@{}".format)}),
    st.fixed_dictionaries(
        {"project_name": st.just("demo"), "torch_index": anything | secret.map(lambda url: url.format("hunter2"))}
    ),
)


def choose_by(data: st.DataObject) -> Callable[[str, list[str], bool], Any]:
    """Let hypothesis choose from what is offered."""

    def choose(name: str, offered: list[str], several: bool) -> Any:
        if not several:
            return data.draw(st.sampled_from(offered), label=name)
        some = [value for value in offered if data.draw(st.booleans(), label=f"{name}: {value}")]
        return some or (offered[:1] if name == "platforms" else [])

    return choose


def text_in_license(text: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith("Copyright ")).strip()


def assert_whole(project: Project, given: dict[str, Any]) -> None:
    """Check the files of a project one by one, and that they hold what was given, and nothing else that came of it."""
    found = files(project)
    assert_fit_for_windows(found)
    for path, text in found.items():
        parse(path.name, text)
        assert_tidy(path.name, text)
        assert "pwned" not in text or path.as_posix() in LANDING or "pwned" not in text.replace("https://pwned", ""), (
            path
        )
    texts = {path.as_posix(): text for path, text in found.items()}
    answers = yaml.load(texts[".copier-answers.yml"], getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    assert answers.items() >= given.items()
    name, description, author = answers["project_name"], answers["description"].strip(), answers["user_name"].strip()
    metadata = project.pyproject["project"]
    assert (metadata["name"], metadata["description"]) == (name, description)
    email = {"email": answers["user_email"]} if answers["user_email"] else {}
    expected = ({"name": author} if author else {}) | email
    assert metadata.get("authors", []) == ([expected] if expected else [])
    package = f"src/{answers['package_name']}"
    if trains := answers["skeleton"] == "training":
        assert metadata["scripts"] == {name: f"{answers['package_name']}.__main__:main"}
        assert f"{package}/__main__.py" in texts
    else:
        assert "scripts" not in metadata
        assert [path for path in texts if path.startswith("src/")] == [f"{package}/__init__.py"]
    assert_in_readme(texts["README.md"], name, description)
    if answers["license"] in ("MIT", "BSD-3-Clause"):
        assert text_in_license(texts["LICENSE"]).endswith(author or f"the {name} authors")
    if "Dockerfile" in texts:
        *_, last = texts["Dockerfile"].splitlines()
        assert json.loads(last.split(" ", 1)[1]) == ([name] if trains else ["python"])
    if ".devcontainer/devcontainer.json" in texts:
        assert json.loads(texts[".devcontainer/devcontainer.json"])["name"] == name
    for index in project.pyproject["tool"]["uv"].get("index", []):
        assert index["url"].startswith(answers["torch_index"].rstrip("/") + "/")


def assert_in_readme(text: str, name: str, description: str) -> None:
    """The description is one paragraph, below the title and above the first section, whatever it looks like."""
    tokens = MarkdownIt().parse(text)
    blocks = [(token.type, token.content) for token in tokens if token.type in ("inline", "fence", "html_block", "hr")]
    start = next(i for i, (_, content) in enumerate(blocks) if content == "Start")
    assert blocks[0] == ("inline", name)
    above = [("inline", content.removeprefix("\\").strip()) for kind, content in blocks[1:start] if kind == "inline"]
    assert len(blocks[1:start]) == len(above), "nothing but a paragraph"
    assert above in ([("inline", description)], [("inline", description.removeprefix("\\").strip())]) or not description
    types = [token.type for token in tokens]
    before = types[: next(i for i, token in enumerate(tokens) if token.content == "Start")]
    assert before[:3] == ["heading_open", "inline", "heading_close"]
    assert set(before[3:]) <= {"paragraph_open", "inline", "paragraph_close", "heading_open"}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for thousands of projects, which nobody wants to keep."""
    with tempfile.TemporaryDirectory(prefix="torch-uv-template-answers-") as name:
        yield Path(name)


def run(
    request: pytest.FixtureRequest, shard: int, examples: int, *strategies: st.SearchStrategy[Any]
) -> Callable[[Callable[..., None]], None]:
    """Run a property for a number of examples; other ones for each shard, and with --hypothesis-seed."""
    given_seed = request.config.getoption("--hypothesis-seed")
    base = random.random() if given_seed == "random" else given_seed
    options = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )

    def repeat(test: Callable[..., None]) -> None:
        repeated: Callable[[], None] = seed(f"{base} {shard}")(options(given(*strategies)(test)))
        repeated()

    return repeat


@pytest.mark.parametrize("shard", range(SHARDS))
def test_every_file_holds_legitimate_answers(shard: int, request: pytest.FixtureRequest, folder: Path) -> None:
    numbers = count()

    def render(data: st.DataObject, answers: dict[str, str]) -> None:
        path = folder / str(next(numbers))
        with answering(choose_by(data)) as chosen:
            project = Project.render(path, **answers)
        assert "platforms" in chosen, "nobody was asked"
        assert_whole(project, chosen | answers)

    run(request, shard, RENDERS, st.data(), legitimate)(render)
    assert next(numbers) >= RENDERS
    assert_linted(folder)


@pytest.mark.parametrize(
    "description",
    [
        "```",
        "~~~ x",
        "<!-- x",
        "<script>",
        "[x]: y",
        "---",
        "* * *",
        "# x",
        "- x",
        "> x",
        "=",
        "| x |",
        "**x** y",
        "_x_",
        "\\",
    ],
)
def test_a_description_is_a_paragraph(description: str, folder: Path) -> None:
    project = Project.render(folder / "demo", description=description)
    assert_whole(project, {"description": description})


@pytest.mark.parametrize(
    "name", ["O'Brien", 'Jane "J" Doe, Jr.', "日本語", "עברית", "Ⅷ & Sons <us>", "  Ada  ", " \u3000"]
)
def test_a_name_is_taken_as_it_is(name: str, folder: Path) -> None:
    project = Project.render(folder / "demo", user_name=name, license="BSD-3-Clause")
    assert_whole(project, {"user_name": name})


@pytest.mark.parametrize("shard", range(SHARDS))
def test_any_answer_is_refused_in_one_line_or_written(shard: int, request: pytest.FixtureRequest, folder: Path) -> None:
    numbers = count()

    def render(answers: dict[str, str]) -> None:
        path = folder / str(next(numbers))
        try:
            project = Project.render(path, **answers)
        except ValueError as error:
            message = str(error)
            assert re.fullmatch(r"[^\n\r]{20,700}", message), "one line"
            assert message.isprintable()
            assert "hunter2" not in message
            assert not path.exists(), "nothing is written"
        else:
            for text in answers.values():
                assert not {"Cc", "Cs", "Zl", "Zp"} & set(map(unicodedata.category, text))
            assert "hunter2" not in answers.get("torch_index", "")
            assert_whole(project, answers)

    run(request, shard, 60, wrong)(render)
    assert_linted(folder)


def test_every_pair_of_choices_is_rendered(folder: Path) -> None:
    table = Table()
    for number, answers in enumerate(table.rows):
        project = Project.render(folder / str(number), project_name="demo", **answers)
        assert_whole(project, answers)
    assert_linted(folder)
    print(f"{len(table.rows)} projects have {len(table.covered)} pairs")
    for release, platform in product(RELEASES, PLATFORMS):
        values = [("platforms", platform), *(("python", python) for python in pythons(release, platform))]
        values += [("backend", backend) for backend in builds(release, platform)]
        assert {frozenset({("torch", release), value}) for value in values} <= table.covered
        assert {frozenset({("platforms", platform), value}) for value in values[1:]} <= table.covered
