"""The page, in a browser: what a person does with it, and what they get."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests import browser as browsers
from tests.browser import WIDTHS, Pages, served, settled, site
from tests.choosing import ask
from tests.files import contents, without_origin
from tests.project import Project
from tests.table import BACKENDS, PLATFORMS, ROOT, TABLE, on_pypi
from tests.test_questions import ASKED, questions
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(bool(browsers.missing()), reason=f"SKIPPED: {browsers.missing()}")

AXE = ROOT / "site" / "node_modules" / "axe-core" / "axe.min.js"
SMI = ROOT / "tests" / "nvidia_smi"
COMMAND = "uvx copier copy gh:org/torch-uv-template myproj"
LIMIT = 60_000  # in ms, for what hangs
expect.set_options(timeout=LIMIT)


@pytest.fixture(scope="module")
def built() -> Iterator[Path]:
    with site() as folder:
        yield folder


@pytest.fixture(scope="module")
def url(built: Path) -> Iterator[str]:
    with served(built) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with ExitStack() as stack:
        try:
            chromium = stack.enter_context(browsers.chromium())
        except ConnectionError as problem:
            pytest.skip(f"SKIPPED: {problem}")
        yield chromium


@pytest.fixture(scope="module")
def console() -> list[str]:
    """What the console shows of errors."""
    return []


def visit(context: BrowserContext, errors: list[str]) -> Page:
    """Open a page whose errors are kept."""
    page = context.new_page()
    page.set_default_timeout(LIMIT)
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    return page


@contextmanager
def without(pattern: str, browser: Browser, url: str) -> Iterator[Page]:
    """A page that cannot load what matches a pattern, until its context has no such route."""
    context = browser.new_context(service_workers="block")
    context.route(pattern, lambda route: route.abort())
    page = context.new_page()
    page.goto(url)
    yield page
    context.close()


@pytest.fixture(scope="module")
def opened(browser: Browser, url: str, console: list[str]) -> Iterator[Page]:
    """A page with Python in it, which takes seconds to start, for most of the tests."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=url.rstrip("/"))
    page = visit(context, console)
    page.goto(url)
    settled(page)
    yield page
    context.close()


@pytest.fixture
def page(opened: Page, console: list[str]) -> Iterator[Page]:
    """The page as it is at first. After a test, the console holds no error."""
    while (remove := opened.locator("#machines button")).count():
        remove.first.click()
        settled(opened)
    if opened.locator("#tree .mark").count():
        follow(opened, "license=MIT")
    follow(opened)
    opened.locator("#tree button", has_text="pyproject.toml").click()
    yield opened
    assert console == []


def follow(page: Page, fragment: str = "", **answers: Any) -> None:
    """Follow a link with answers."""
    texts = {name: ",".join(value) if isinstance(value, list) else value for name, value in answers.items()}
    change = "fragment => { result.ariaBusy = 'true'; location.hash = fragment }"
    if page.url.partition("#")[2] != (fragment or urlencode(texts)):
        page.evaluate(change, fragment or urlencode(texts))
    settled(page)


def write(page: Page, name: str, text: str) -> None:
    """Answer a question with a text, which counts after a pause."""
    page.locator(f"#q-{name}").fill(text)
    page.wait_for_timeout(300)
    settled(page)


def paste(page: Page, text: str) -> None:
    page.locator(".paste").evaluate("details => details.open = true")
    page.get_by_label("Output of nvidia-smi").fill(text)
    page.get_by_role("button", name="Read it").click()


def add(page: Page, system: str, gpu: str = "", driver: str = "") -> None:
    """Add a machine by name."""
    page.get_by_label("System", exact=True).select_option(label=system)
    if gpu:
        page.get_by_label("GPU", exact=True).select_option(label=gpu)
    if driver:
        page.get_by_label("NVIDIA driver").select_option(label=driver)
    page.get_by_role("button", name="Add machine").click()
    settled(page)


def answers(page: Page) -> dict[str, Any]:
    """The answers to the questions with choices, as they are ticked."""
    found: dict[str, Any] = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("fieldset.question")].map((question) => {
          const inputs = [...question.querySelectorAll("input")];
          const chosen = inputs.filter((input) => input.checked).map((input) => input.value);
          return [inputs[0].name, inputs[0].type === "checkbox" ? chosen : chosen[0]];
        }))"""
    )
    return found


def shown(page: Page) -> str:
    """The text of the file that is shown, without the lines that have gone."""
    return str(
        page.evaluate("[...document.querySelectorAll('#code > :not(del)')].map(line => line.textContent).join('')")
    )


def clipboard(page: Page) -> str:
    return str(page.evaluate("navigator.clipboard.readText()"))


def downloaded(page: Page) -> zipfile.ZipFile:
    with page.expect_download() as download:
        page.get_by_role("button", name="Download zip").click()
    return zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes()))


# -- The questions ---------------------------------------------------------------------------------


def test_all_questions_come_in_the_order_and_words_of_copier(page: Page) -> None:
    names = page.locator("#questions .tag").all_text_contents()
    assert names == [*ASKED, "torch_index"]
    words = page.locator("#questions .asked > span").all_text_contents()
    for name, text in zip(names, words, strict=True):
        assert text.startswith(questions()[name]["help"].replace("`", "").split("{")[0].strip()), name


def test_an_answer_changes_what_is_asked_after_it(page: Page) -> None:
    page.get_by_label("None (an empty package)").check()
    settled(page)
    assert not page.locator("#question-data, #question-tracker").count()
    assert page.get_by_label("None (an empty package)").evaluate("input => input === document.activeElement")
    page.get_by_label("Training, on one device or many").check()
    settled(page)
    assert page.locator("#question-data, #question-tracker").count() == 2


def test_a_choice_that_is_not_available_stays_and_says_why(page: Page) -> None:
    for platform in ("Linux x86_64", "Linux aarch64 (Grace, DGX Spark)"):
        page.locator("#question-platforms").get_by_label(platform).uncheck()
        settled(page)
    docker = page.locator("#question-features").get_by_label("Docker image")
    assert docker.is_disabled()
    expect(page.locator("#question-features label", has_text="Docker image")).to_contain_text("docker runs on Linux")


def test_a_refusal_is_in_the_words_of_copier_and_leads_back(page: Page, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="project_name") as refused:
        Project.render(tmp_path / "demo", project_name="a b/")
    write(page, "project_name", "a b/")
    refusal = page.locator("#project_name-refusal")
    assert refusal.text_content() == str(refused.value).partition(": ")[2].strip()
    expect(page.get_by_text("An answer is refused")).to_be_visible()
    assert 'name = "myproj"' in shown(page), "the project from before stays"
    page.get_by_role("button", name="Use myproj instead").click()
    settled(page)
    expect(refusal).to_be_hidden()
    assert page.locator("#q-project_name").input_value() == "myproj"


# -- The machines ----------------------------------------------------------------------------------

# A text of nvidia-smi, the platform that it is from, the answers that it leads to and what is said
PASTED = {
    "gtx-1080-390": ("linux-x86_64", "2.15", "cpu", "driver 525.60.13 or newer runs the cu126 build of torch 2.14"),
    "k80-470": ("linux-x86_64", "2.15", "cpu", "no build of torch 2.15 computes on Tesla K80 (3.7)"),
    "rtx-2060-windows-456": ("windows-x86_64", "2.15", "cpu", "driver 580 or newer runs the cu132 build of torch 2.14"),
    "gtx-1080-ti-535": ("linux-x86_64", "2.14", "cu126", "computes on NVIDIA GeForce GTX 1080 Ti (6.1)"),
    "h100-550": ("linux-x86_64", "2.14", "cu126", "computes on NVIDIA H100 80GB HBM3 (9.0)"),
    "h100-580": ("linux-x86_64", "2.15", "cu132", "computes on NVIDIA H100 PCIe (9.0)"),
    "a100-list": ("linux-x86_64", "2.15", "cu132", "computes on NVIDIA A100-SXM4-40GB (8.0)"),
    "rtx-5090-windows": ("windows-x86_64", "2.14", "cu132", "computes on NVIDIA GeForce RTX 5090 (12.0)"),
    "rtx-3090-wsl": ("linux-x86_64", "2.14", "cu126", "computes on NVIDIA GeForce RTX 3090 (8.6)"),
    "two-cards-575": ("linux-x86_64", "2.11", "cu128", "RTX 5070 Ti (12.0), NVIDIA GeForce RTX 3060 (8.6)"),
    "orin-540": ("linux-aarch64", "2.15", "cpu", "a Jetson needs NVIDIA's own wheels"),
    "dgx-spark-580": ("linux-aarch64", "2.15", "cu132", "computes on NVIDIA GB10 (12.1)"),
    "no-driver": ("linux-x86_64", "2.15", "cpu", "there is no GPU"),
    "no-driver-windows": ("windows-x86_64", "2.15", "cpu", "there is no GPU"),
}


@pytest.mark.parametrize("name", PASTED)
def test_what_nvidia_smi_prints_leads_to_the_build(name: str, page: Page, tmp_path: Path, replica: str) -> None:
    platform, torch, backend, reason = PASTED[name]
    paste(page, (SMI / f"{name}.txt").read_text())
    expect(page.locator("#machines .reason")).to_contain_text(reason)
    settled(page)
    given = answers(page)
    assert given["platforms"] == [platform]
    assert [given["torch"], given["backend"], given.get("other_backends", [])] == [torch, backend, []]
    assert page.locator("#paste-problem").is_visible() == name.startswith("no-driver")

    project = Project.render(tmp_path / "demo", **given)
    project.resolve_with(replica)
    project.lock()
    version = project.synced(backend, platform)["torch"]
    assert version.startswith(f"{torch}.")
    assert version.endswith(f"+{backend}") or on_pypi(torch, platform) == backend


def test_machines_are_chosen_by_name_added_and_removed(page: Page) -> None:
    add(page, "Linux x86_64", "RTX 40")
    add(page, "macOS on Apple silicon")
    add(page, "Linux x86_64", "GTX 10", "525 to 579")
    assert page.locator("#machines b").all_text_contents() == ["RTX 40", "Mac", "GTX 10"]
    assert answers(page)["platforms"] == ["linux-x86_64", "macos-arm64"]
    assert [answers(page)[name] for name in ("backend", "torch")] == ["cu126", "2.14"]
    add(page, "Linux x86_64", "B200")
    assert [answers(page)[name] for name in ("backend", "other_backends")] == ["cu130", ["cu126"]]
    page.get_by_role("button", name="Remove B200").click()
    settled(page)
    page.get_by_role("button", name="Remove GTX 10").click()
    settled(page)
    assert [answers(page)[name] for name in ("backend", "torch")] == ["cu132", "2.15"]
    page.get_by_role("button", name="Remove RTX 40").click()
    settled(page)
    page.get_by_role("button", name="Remove Mac").click()
    settled(page)
    assert page.url.partition("#")[2] == "", "without machines, the defaults count again"


def test_the_advice_says_when_the_answers_differ_from_it(page: Page) -> None:
    add(page, "Linux x86_64", "RTX 40")
    advice = page.locator("#advice")
    expect(advice).to_have_text("The answers below are set to cu132 and torch 2.15.")
    page.get_by_label("CUDA 13.0").first.check()
    settled(page)
    expect(advice).to_have_text(re.compile("^The advice for these machines is cu132 and torch 2.15. .*differ"))
    page.get_by_label("CUDA 13.2").first.check()
    settled(page)
    expect(advice).to_have_text("The answers below are set to cu132 and torch 2.15.")
    follow(page, backend="cu126", torch="2.14")
    expect(advice).to_have_text(re.compile("differ"))
    page.get_by_role("button", name="Remove RTX 40").click()
    settled(page)
    assert [answers(page)[name] for name in ("backend", "torch")] == ["cu126", "2.14"], "the link's answers stay"


def test_machines_without_a_build_change_no_answer_and_say_so(page: Page) -> None:
    machine = {"system": "darwin", "machine": "x86_64", "gpus": [], "cuda": "", "macos": "13.0"}
    paste(page, json.dumps({"machine": machine}))
    expect(page.locator("#machines .reason")).to_contain_text("has no wheels for it")
    settled(page)
    assert answers(page)["backend"] == "cu132"
    expect(page.locator("#advice")).to_be_hidden()


def test_each_machine_says_how_much_it_downloads(page: Page) -> None:
    add(page, "Windows x86_64", "RTX 50", "580 or newer")
    add(page, "macOS on Apple silicon")
    windows, mac = page.locator("#machines .reason").all_text_contents()
    assert windows.endswith("; how much uv sync downloads for torch is not measured")
    assert re.search(r"; uv sync downloads about \d+ MB for torch$", mac)


def test_what_can_be_chosen_is_what_the_table_names(page: Page) -> None:
    systems = page.get_by_label("System", exact=True)
    assert systems.locator("option").all_text_contents() == [entry["name"] for entry in PLATFORMS.values()]
    systems.select_option("Linux aarch64 (Grace, DGX Spark)")
    named = {name for row in TABLE["cards"].values() for name in row.get("aarch64", [])}
    assert set(page.locator("#gpu option").all_text_contents()) == named | {"No GPU"}
    systems.select_option("Linux x86_64")
    assert {"RTX 50", "H100", "MI300", "GTX 700", BACKENDS["xpu"]["cards"]} <= set(
        page.locator("#gpu option").all_text_contents()
    )


def test_a_pasted_machine_may_be_of_another_system(page: Page) -> None:
    paste(page, (SMI / "h100-580.txt").read_text())
    page.get_by_label("System of NVIDIA H100 PCIe").select_option("Linux aarch64 (Grace, DGX Spark)")
    expect(page.locator("#machines .reason")).to_contain_text("linux-aarch64: the cu132 build")


def test_the_json_of_the_doctor_can_be_pasted(page: Page) -> None:
    gpu = {"vendor": "amd", "target": "gfx1100", "name": "<b>RX 7900</b>"}
    machine = {"system": "linux", "machine": "x86_64", "gpus": [gpu], "cuda": "", "macos": ""}
    paste(page, json.dumps({"schema": 1, "machine": machine, "findings": []}))
    expect(page.locator("#machines .reason")).to_contain_text("the rocm7.2 build computes on <b>RX 7900</b> (gfx1100)")


@pytest.mark.parametrize(
    "text",
    ["", "hello", "{", "[]", "null", '{"machine": 5}', '{"machine": {"gpus": [7]}}', "[" * 100_000, "\0\ufffd" * 9999],
    ids=["nothing", "words", "brace", "list", "null", "number", "no-gpu", "deep", "binary"],
)
def test_nonsense_in_the_paste_field_is_said_in_one_line(text: str, page: Page) -> None:
    paste(page, text)
    expect(page.locator("#paste-problem")).to_have_text(re.compile("paste all|print"))
    assert not page.locator("#machines li").count()
    assert page.get_by_label("Output of nvidia-smi").evaluate("field => field === document.activeElement")


# -- The project -----------------------------------------------------------------------------------


def test_what_the_last_answer_changed_is_marked_in_tree_and_file(page: Page) -> None:
    assert page.locator("#path").text_content() == "pyproject.toml"
    assert not page.locator("#code ins, #tree .mark").count()
    page.get_by_label("TensorBoard").check()
    settled(page)
    assert page.locator("#code ins").all_text_contents() == ['  "tensorboard>=2.14",\n']
    expect(page.locator("#tree button.new", has_text="tracker.py")).to_be_visible()
    expect(page.locator("#status")).to_have_text(re.compile(r"67 files. The last answer: 2 new, \d changed"))
    page.locator("#question-tracker").get_by_label("None").check()
    settled(page)
    assert page.locator("#code del").all_text_contents() == ['  "tensorboard>=2.14",\n']
    page.locator("#tree button.gone", has_text="tracker.py").click()
    expect(page.locator("#code del").nth(10)).to_be_visible()
    assert shown(page).strip() == ""


def test_a_file_is_shown_as_it_is_and_copied(page: Page, tmp_path: Path) -> None:
    project = Project.render(tmp_path / "demo", project_name="myproj")
    page.locator("#tree details", has=page.locator("summary", has_text="tools/")).evaluate(
        "details => details.open = true"
    )
    page.locator("#tree button", has_text="doctor.py").click()
    expect(page.locator("#code .t-kwd").first).to_be_visible()
    page.locator("#copy-file").click()
    expect(page.locator("#copy-file")).to_have_text("Copied")
    text = (project.path / "tools" / "doctor.py").read_text()
    assert clipboard(page) == text
    assert shown(page).removesuffix("\n") == text
    page.locator("#tree button", has_text="digits.csv.gz").click()
    expect(page.locator("#code")).to_have_text(re.compile(r"A binary file of \d+ kB"))
    expect(page.locator("#copy-file")).to_be_hidden()


def test_only_the_torch_part_is_copied(page: Page) -> None:
    follow(page, backend="cu126", torch="2.14", platforms=["linux-x86_64"])
    page.get_by_role("button", name="Copy only the torch part").click()
    expect(page.locator("#copy-torch")).to_have_text("Copied")
    part = tomllib.loads(clipboard(page))
    assert part["project"]["dependencies"] == ["torch~=2.14.0"]
    assert part["tool"]["uv"]["index"][0]["url"] == f"{TABLE['index']}/cu126"
    assert set(part["tool"]) == {"uv"}


def test_the_command_is_for_the_shell_and_for_what_there_is(page: Page) -> None:
    command = page.locator("#command")
    follow(page, description="It's new")
    assert command.text_content().startswith("""uvx copier copy --defaults --data 'description=It'"'"'s new' --data """)  # type: ignore[union-attr]
    page.get_by_text("PowerShell", exact=True).click()
    assert "'description=It''s new'" in str(command.text_content())
    page.get_by_text("cmd", exact=True).click()
    assert '"description=It\'s new"' in str(command.text_content())
    page.get_by_text("Existing project", exact=True).click()
    assert str(command.text_content()).startswith(
        "uv run https://raw.githubusercontent.com/org/torch-uv-template/main/adopt.py "
    )
    page.locator("#copy-command").click()
    expect(page.locator("#copy-command")).to_have_text("Copied")
    assert clipboard(page) == command.text_content()
    page.get_by_text("New project", exact=True).click()
    page.get_by_text("bash", exact=True).click()
    page.get_by_text("Next steps").click()
    expect(page.locator("#message")).to_contain_text("uv run myproj train")


@pytest.mark.parametrize(
    ("platform", "shell"), [("Win32", "powershell"), ("MacIntel", "bash"), ("Linux x86_64", "bash")]
)
def test_the_system_of_the_visitor_is_chosen_first(platform: str, shell: str, browser: Browser, url: str) -> None:
    page = browser.new_page()
    page.add_init_script(
        f"Object.defineProperties(navigator, {{platform: {{value: {platform!r}}}, userAgentData: {{value: undefined}}}})"
    )
    page.goto(url)
    page.wait_for_selector("body.ready")
    expect(page.locator(f"#shells [value={shell}]")).to_be_checked()
    first = {"Win32": "Windows x86_64", "MacIntel": "macOS on Apple silicon"}.get(platform, "Linux x86_64")
    assert page.locator("#system option:checked").text_content() == first
    page.close()


# -- Links -----------------------------------------------------------------------------------------


def test_a_link_holds_the_answers(page: Page) -> None:
    page.get_by_label("TensorBoard").check()
    settled(page)
    page.locator("#question-features").get_by_label("Docker image").uncheck()
    settled(page)
    write(page, "description", "Ünïcode, & 100% = #1 + “quotes” 🎉")
    before, chosen = shown(page), answers(page)
    page.locator("#copy-link").click()
    expect(page.locator("#copy-link")).to_have_text("Copied")
    link = clipboard(page)
    named = dict(parse_qsl(link.partition("#")[2]))
    assert {"platforms", "backend", "torch", "python", "tracker", "features", "description"} == set(named)
    follow(page)
    assert answers(page) != chosen
    follow(page, link.partition("#")[2])
    assert answers(page) == chosen
    assert shown(page) == before
    expect(page.locator("#from-link")).to_be_hidden()
    assert not page.locator("#code ins").count(), "what a link brings is no news"


@pytest.mark.parametrize("pause", [0, 30, 120])
def test_of_two_links_the_last_one_counts(pause: int, page: Page) -> None:
    page.evaluate("location.hash = 'tracker=wandb&license=none'")
    page.wait_for_timeout(pause)
    page.evaluate("location.hash = 'tracker=mlflow&ci=gitlab'")
    expect(page.locator("#question-ci").get_by_label("GitLab CI/CD")).to_be_checked()
    page.wait_for_timeout(500)
    settled(page)
    assert [answers(page)[name] for name in ("tracker", "license", "ci")] == ["mlflow", "MIT", "gitlab"]
    assert set(parse_qsl(page.url.partition("#")[2])) == {("tracker", "mlflow"), ("ci", "gitlab")}


def test_a_link_also_counts_in_the_field_where_one_types(page: Page) -> None:
    write(page, "project_name", "mine")
    expect(page.locator("#q-project_name")).to_be_focused()
    follow(page, project_name="theirs")
    expect(page.locator("#q-project_name")).to_have_value("theirs")
    page.locator("#q-project_name").press("End")
    page.keyboard.type("x")
    page.wait_for_timeout(400)
    settled(page)
    expect(page.locator("#command")).to_contain_text("theirsx")


@pytest.mark.parametrize(
    ("fragment", "said"),
    [
        ("backend=cu999", "The link's backend, “cu999”, is not possible: it is cu132 now."),
        ("torch=1.13&backend=cu132", "The link's torch, “1.13”, is not possible: it is 2.15 now."),
        ("platforms=linux-x86_64,beos", "The link's platforms, “linux-x86_64,beos”, is not possible"),
        ("platforms=", "The link's platforms, “empty”, is not possible"),
        ("cuda=12.4", "The link answers “cuda”, which is not a question."),
        ("__proto__=1&constructor=2", "The link answers “__proto__”, which is not a question."),
        ("project_name=<img src=x onerror=alert(1)>", "The link's project_name, “<img src=x onerror=alert(1)>”"),
        ("description=<script>alert(1)</script>", ""),
        ("user_name=" + "x" * 1_001, "The link's user_name is too long."),
        ("&".join(f"x{n}=1" for n in range(1_000)), "996 more answers of the link do not count."),
        ("description=%0A%00", "The link's description"),
        ("features=docker&features=", ""),
        ("%E0%A4%A=%&&==&", "The link answers"),
    ],
    ids=lambda text: text[:24],
)
def test_a_link_that_is_outdated_or_hostile(fragment: str, said: str, page: Page) -> None:
    dialogs: list[Any] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog))
    elements = page.locator("img, script").count()
    follow(page, fragment)
    if said:
        expect(page.locator("#from-link")).to_contain_text(said)
    else:
        expect(page.locator("#from-link")).to_be_hidden()
    assert page.locator("img, script").count() == elements
    assert dialogs == []
    expect(page.locator("#questions .refusal:visible")).to_have_count(0)
    assert "torch~=" in shown(page)


@pytest.mark.parametrize(
    ("part", "length"),
    [("x", 20_000), ("description=%F0%9F%8E%89&", 20_000), ("backend=cpu&", 100_000), ("a=1&", 2_000_000)],
)
def test_a_long_link_is_refused_at_once(part: str, length: int, page: Page) -> None:
    """By the clock of the page: a machine that is busy also needs its time to hand the link over."""
    fragment = part * (length // len(part))
    took = page.evaluate(
        """async (fragment) => {
          location.hash = fragment;
          const start = performance.now();
          const line = document.getElementById("from-link");
          while (line.hidden) await new Promise((resolve) => setTimeout(resolve, 10));
          return performance.now() - start;
        }""",
        fragment,
    )
    assert took < 2000
    expect(page.locator("#from-link")).to_have_text(
        f"The link is too long: it has {len(fragment) + 1} characters, and may have 16000."
    )
    settled(page)
    assert page.url.partition("#")[2] == ""


def test_what_the_page_writes_is_no_long_link(page: Page) -> None:
    write(page, "description", "漢" * 5_000)
    assert len(page.locator("#q-description").input_value()) == 1_000
    link = page.url.partition("#")[2]
    follow(page)
    follow(page, link)
    expect(page.locator("#from-link")).to_be_hidden()
    assert page.locator("#q-description").input_value() == "漢" * 1_000


# -- The same as Copier ----------------------------------------------------------------------------


def drawn(seed: int) -> dict[str, Any]:
    """Return answers at random, of those that are offered."""
    source = random.Random(seed)

    def choose(_: str, offered: list[str], several: bool) -> Any:
        return (
            source.sample(offered, source.randint(min(1, len(offered)), len(offered)))
            if several
            else source.choice(offered)
        )

    return ask(choose)


@pytest.mark.parametrize("seed", range(20))
def test_the_zip_is_what_copier_writes(seed: int, page: Page, tmp_path: Path) -> None:
    given = {**drawn(seed), "project_name": "demo", "description": f'It\'s: a "test" [{seed}] äß🎉'}
    follow(page, **given)
    expect(page.locator("#from-link")).to_be_hidden()
    with downloaded(page) as archive:
        found = {name.removeprefix("demo/"): archive.read(name) for name in archive.namelist()}
    written = contents(Project.render(tmp_path / "demo", **given).path)
    for files in (found, written):
        files[".copier-answers.yml"] = without_origin(files[".copier-answers.yml"])
    assert found == written


# -- Everybody, everywhere -------------------------------------------------------------------------


def test_by_keyboard_alone(page: Page) -> None:
    """From the machine to the project, without a pointer."""
    page.locator("#system").focus()
    for key in ("Tab", "Tab", "Tab", "Enter"):
        page.keyboard.press(key)
    expect(page.locator("#machines li")).to_have_count(1)
    settled(page)
    go_to(page, "#question-license input:checked")
    page.keyboard.press("ArrowDown")
    settled(page)
    assert answers(page)["license"] == "Apache-2.0"
    go_to(page, "#question-features input[value=docker]")
    page.keyboard.press("Space")
    settled(page)
    assert "docker" not in answers(page)["features"]
    go_to(page, "#tree button.gone")
    page.keyboard.press("Enter")
    expect(page.locator("#tree [aria-current]")).to_be_focused()
    go_to(page, "#ways input")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#command")).to_contain_text("adopt.py")
    page.keyboard.press("ArrowLeft")
    page.locator("#zip").focus()
    with page.expect_download():
        page.keyboard.press("Enter")


def test_on_a_phone_a_machine_is_removed_where_its_name_is(page: Page) -> None:
    add(page, "macOS on Apple silicon")
    page.set_viewport_size({"width": 375, "height": 812})
    name, remove, system = (
        page.locator(f"#machines {selector}").bounding_box() for selector in ("b", "button", "li > .hint")
    )
    page.set_viewport_size({"width": 1440, "height": 900})
    assert name
    assert remove
    assert system
    assert abs(name["y"] - remove["y"]) < name["height"]
    assert remove["x"] + remove["width"] > 300
    assert system["x"] == name["x"]


def test_what_the_commands_need_is_said(page: Page) -> None:
    uv = page.locator("#result").get_by_role("link", name="uv", exact=True)
    expect(uv).to_have_attribute("href", re.compile("/uv/getting-started/installation/$"))
    expect(uv.locator("xpath=..")).to_contain_text("You need Git and uv")


def test_on_a_phone_a_button_leads_to_the_project(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("button", name="See the project").click()
    expect(page.locator("#result")).to_be_focused()
    expect(page.get_by_role("button", name="Download zip")).to_be_in_viewport()
    expect(page.locator("#path")).to_be_in_viewport()
    page.set_viewport_size({"width": 1440, "height": 900})


def go_to(page: Page, selector: str) -> None:
    """Press Tab until an element has the focus, which can be seen."""
    for _ in range(120):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab does not lead to {selector}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_nothing(width: str, scheme: Any, page: Page) -> None:
    size = page.viewport_size
    page.set_viewport_size({"width": WIDTHS[width][0], "height": WIDTHS[width][1]})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    paste(page, "nonsense")
    add(page, "Linux x86_64", "RTX 40")
    follow(page, "tracker=tensorboard&gpu=1")
    page.get_by_label("MLflow").check()
    settled(page)
    write(page, "user_email", "nobody")
    page.locator("details.card").evaluate("details => details.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") == WIDTHS[width][0], "nothing is wider than the screen"
    page.evaluate(AXE.read_text())
    report = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(size)  # type: ignore[arg-type]
    found = [(one["id"], [node["target"] for node in one["nodes"]]) for one in report["violations"]]
    assert found == []


def test_the_project_is_there_before_python(browser: Browser, url: str) -> None:
    context = browser.new_context(service_workers="block")
    context.route("**/*.wasm", lambda route: None)  # it never comes
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("#code .line")
    assert "torch~=" in shown(page)
    page.get_by_label("TensorBoard").check()
    expect(page.locator("#status")).to_have_text("Python is starting…")
    context.close()


def test_without_webassembly_the_defaults_are_shown_with_the_command_line(browser: Browser, url: str) -> None:
    errors: list[str] = []
    context = browser.new_context(service_workers="block")
    context.add_init_script("delete globalThis.WebAssembly")
    page = visit(context, errors)
    page.goto(url)
    expect(page.locator("#trouble")).to_contain_text("Without WebAssembly")
    expect(page.locator("#trouble")).to_contain_text(COMMAND)
    assert "torch~=" in shown(page)
    assert errors == []
    context.close()


def test_without_scripts_the_command_line_is_named(browser: Browser, url: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url)
    expect(page.locator("noscript .notice")).to_contain_text(COMMAND)
    context.close()


def test_a_broken_engine_is_said(browser: Browser, url: str) -> None:
    with without("**/*.gz", browser, url) as page:
        expect(page.locator("#trouble")).to_contain_text("Python does not work in this page")
        expect(page.locator("#trouble")).to_contain_text(COMMAND)


def test_the_engine_starts_again_when_it_could_not(browser: Browser, url: str) -> None:
    with without("**/modules-*.gz", browser, url) as page:
        expect(page.locator("#trouble")).to_contain_text("Reload the page")
        page.get_by_role("button", name="Add machine").click()
        expect(page.locator("#machines li")).to_have_count(1)
        expect(page.locator("#advice")).to_be_hidden()
        expect(page.locator("#status")).to_have_text(re.compile(r"^\d+ files$"))
        page.context.unroute("**/modules-*.gz")
        page.get_by_label("TensorBoard").check()
        settled(page)
        assert "tensorboard" in shown(page)
        expect(page.locator("#trouble")).to_be_hidden()


@pytest.mark.parametrize("missing", ["first-*.json", "form-*.mjs"])
def test_a_page_that_does_not_load_says_so(missing: str, browser: Browser, url: str) -> None:
    with without(f"**/{missing}", browser, url) as page:
        late = page.locator("#late")
        expect(late).to_be_hidden()
        late.evaluate("notice => notice.getAnimations().forEach((each) => each.finish())")
        expect(late).to_be_visible()
        expect(late).to_contain_text(COMMAND)


def test_a_new_version_leaves_no_mixture(browser: Browser, built: Path, tmp_path: Path) -> None:
    """While the browser's own cache has the old page, which it may have for ten minutes."""
    folder = tmp_path / "site"
    shutil.copytree(built, folder, ignore=shutil.ignore_patterns("docs"))
    style = next((folder / "assets").glob("page-*.css"))
    context = browser.new_context()
    page = context.new_page()
    with served(folder, Pages) as address:
        page.goto(address)
        settled(page)
        page.evaluate("navigator.serviceWorker.ready.then(() => true)")
        style.rename(style.with_name("page-new.css"))
        page.goto("about:blank")
        page.goto(address)
        settled(page)
        status = "path => fetch(path, {cache: 'no-store'}).then((response) => response.status)"
        assert page.evaluate(status, f"./assets/{style.name}") == 200, "the old page still has its files"
        assert page.evaluate(status, "./assets/nowhere.css") == 404
        for path in (folder / "index.html", folder / "sw.mjs"):
            text = path.read_text().replace(style.name, "page-new.css")
            path.write_text(re.sub(r'"site-\w+"', '"site-new"', text))
        page.evaluate("navigator.serviceWorker.getRegistration().then((found) => found.update())")
        wait_for(lambda: page.evaluate("caches.keys().then((names) => names.join())") == "site-new")
        for name in ("./", "./index.html"):
            kept = page.evaluate("path => caches.match(path).then((response) => response.text())", name)
            assert "page-new.css" in kept, "what is kept for later is all new"
    context.close()


def test_it_works_offline_after_the_first_visit(browser: Browser, built: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    with served(built) as address:
        page.goto(address)
        settled(page)
        page.wait_for_function("navigator.serviceWorker.ready.then(() => true)")
    page.reload()
    settled(page)
    page.get_by_label("TensorBoard").check()
    settled(page)
    assert "tensorboard" in shown(page)
    context.close()


def test_nothing_is_asked_of_another_host(browser: Browser, url: str) -> None:
    asked: list[str] = []
    context = browser.new_context(service_workers="block")
    context.on("request", lambda request: asked.append(request.url))
    page = context.new_page()
    page.goto(f"{url}#tracker=wandb")
    settled(page)
    assert len(asked) > 10
    assert [one for one in asked if not one.startswith((url, "blob:"))] == []
    assert not any("wandb" in one for one in asked), "answers stay in the browser"
    context.close()
