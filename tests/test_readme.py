"""README and docs: tables say what builds.yml has, links lead somewhere, the site loads nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urljoin
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from tests import supported
from tests.table import BACKENDS, PLATFORMS, RELEASES, ROOT, TABLE, builds, on_pypi
from tests.test_doctor import load, project_of
from tests.test_questions import ASKED

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
REPOSITORY = "https://github.com/org/torch-uv-template/blob/main/"
SPAN = r"2\.(\d+)(?: to 2\.(\d+))?"


@pytest.mark.parametrize("page", supported.TABLES)
def test_tables_are_current(page: str) -> None:
    text = supported.path(page).read_text(encoding="utf-8")
    assert text == supported.current(page), "write them anew: uv run --group tests python -m tests.supported"


def releases(first: str, last: str) -> list[str]:
    return [f"2.{minor}" for minor in range(int(first), int(last or first) + 1)]


def test_the_table_has_every_build_and_no_other() -> None:
    listed = set()
    for row in re.findall(r"^\| ((?:cu|rocm|xpu|cpu).+?) *\|$", supported.by_backend(), re.MULTILINE):
        backend, *cells = (cell.strip() for cell in row.split("|"))
        for platform, cell in zip(PLATFORMS, cells, strict=True):
            for bold, first, last in re.findall(rf"(\*\*)?{SPAN}", cell):
                listed |= {(release, platform, backend, bool(bold)) for release in releases(first, last)}
    assert listed == {
        (release, platform, backend, backend == on_pypi(release, platform))
        for release in RELEASES
        for platform in PLATFORMS
        for backend in builds(release, platform)
    }


def test_the_tables_of_cards_have_the_builds_that_the_doctor_computes_with() -> None:
    doctor = load(project_of())
    for table, platform in (
        ("nvidia_cards", "linux-x86_64"),
        ("nvidia_modules", "linux-aarch64"),
        ("amd_cards", "linux-x86_64"),
    ):
        for line in getattr(supported, table)().splitlines()[2:]:
            _, target, newest, *_, found = (cell.strip() for cell in line.strip("|").split("|"))
            listed = {
                (release, backend)
                for backend, first, last in re.findall(rf"(\S+) \({SPAN}\)", found)
                for release in releases(first, last)
            }
            gpu = doctor.Gpu("amd" if target.startswith("gfx") else "nvidia", target)
            machine = doctor.Machine("linux", platform.partition("-")[2], [gpu])
            computing = [
                (release, backend)
                for release in RELEASES
                for backend in builds(release, platform)
                if doctor.served(machine, backend, release)
            ]
            assert listed == set(computing), line
            assert newest == ("torch {}, {}".format(*computing[0]) if computing else "none")


def test_every_card_is_in_a_table() -> None:
    text = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8")
    for kinds in TABLE["cards"].values():
        for name in (name for names in kinds.values() for name in names):
            assert re.search(rf"^\|[^|]*\b{name}\b", text, re.MULTILINE), name


def test_the_table_of_drivers_has_every_cuda_build() -> None:
    names = re.findall(r"\bcu\d+", supported.by_driver())
    assert names == [name for name in BACKENDS if name.startswith("cu")]


def test_the_questions_are_those_that_are_asked() -> None:
    text = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row)] == ASKED


def test_no_block_of_the_readme_types_into_the_questions() -> None:
    blocks = re.findall(r"```\w+\n(.*?)```", README, re.DOTALL)
    asking = [block for block in blocks if "copier copy" in block and "--defaults" not in block]
    assert asking == ["uvx copier copy gh:org/torch-uv-template myproj\n"]


def links(path: Path) -> Iterator[str]:
    """Yield what a page links to, and the pictures it shows."""
    for token in MarkdownIt().enable("table").parse(path.read_text(encoding="utf-8")):
        for child in token.children or []:
            if target := child.attrs.get("href") or child.attrs.get("src"):
                yield str(target)
        if token.type == "html_block":
            yield from re.findall(r'src(?:set)?="([^"]+)"', token.content)


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    tokens = MarkdownIt().enable("table").parse(path.read_text(encoding="utf-8"))
    titles = ["".join(c.content for c in b.children or []) for a, b in pairwise(tokens) if a.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_hold_on_github(page: Path) -> None:
    for link in links(page):
        address = link if ":" in link else urljoin(REPOSITORY + page.relative_to(ROOT).as_posix(), link)
        if address.startswith(REPOSITORY):
            assert_there(address)


def test_links_from_rendered_projects_hold() -> None:
    for folder in ("template", "includes", "adopt.py"):
        for path in [ROOT / folder, *(ROOT / folder).rglob("*")]:
            if path.is_file() and path.suffix != ".gz":
                for address in re.findall(rf"{REPOSITORY}[\w./#-]+", path.read_text(encoding="utf-8")):
                    assert_there(address.rstrip("."))


def assert_there(address: str) -> None:
    name, _, anchor = unquote(address.removeprefix(REPOSITORY)).partition("#")
    path = ROOT / name
    assert path.exists(), address
    assert not anchor or anchor in anchors(path), address


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as a site. A broken link fails."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, ROOT / "site" / "documentation.py", folder], check=True)
    return folder


def test_the_site_has_every_page(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").with_suffix("")
        where = name.parent if name.name in ("index", "README") else name
        html = (site / where / "index.html").read_text(encoding="utf-8")
        title = page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        assert re.sub("[`&;]|amp", "", title) in re.sub("<[^>]+>|[&;]|amp", "", html), page


def test_no_code_on_the_site_has_a_pipe_that_markdown_escapes(site: Path) -> None:
    """In a table, GitHub shows \\| in code as a pipe, but Zensical shows both characters."""
    assert not [path for path in site.rglob("*.html") if "\\|" in path.read_text(encoding="utf-8")]


def test_the_pictures_are_small_and_load_nothing() -> None:
    pictures = [path for path in (ROOT / "docs" / "pictures").iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in pictures) < 300_000
    for path in pictures:
        if path.suffix == ".svg":
            names = {value for element in ElementTree.parse(path).iter() for value in element.attrib.values()}
            assert not [name for name in names if "//" in name], path


def test_the_site_loads_nothing_from_other_hosts(site: Path) -> None:
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]* src=\"?([^\" >]+)", text)
        loaded += re.findall(r"<link rel=\"?(?:stylesheet|icon|preconnect)[^>]* href=\"?([^\" >]+)", text)
        loaded += re.findall(r"url\(['\"]?([^)'\"]+)|@import ['\"]([^'\"]+)", text) if path.suffix == ".css" else []
        assert not [address for address in loaded if re.match(r"(?:https?:)?//", str(address))], path


def test_a_broken_link_ends_the_build(tmp_path: Path) -> None:
    for name in ("docs", "site"):
        (tmp_path / name).mkdir()
    for name in ("site/documentation.py", "zensical.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "docs" / "index.md").write_text("# One\n\n[elsewhere](two.md)\n")
    command = [sys.executable, str(tmp_path / "site" / "documentation.py"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "page does not exist" in done.stderr
