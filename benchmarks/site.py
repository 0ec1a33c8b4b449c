"""The page in Chromium: what a visit loads, and how long it takes to the first files, to Python, and after an answer.

A first visit finds an empty profile, a second one, in a new process, what the first has left. Both are served from this
machine.
"""

from __future__ import annotations

import gzip
import statistics
import sys
import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Page, Request, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.browser import Pages, executable, served, site

ROUNDS = 5
# One answer after the other, as a visitor gives them
ANSWERS: list[dict[str, Any]] = [
    {"platforms": ["linux-x86_64", "windows-x86_64"]},
    {"backend": "cu126"},
    {"torch": "2.13"},
    {"other_backends": ["cpu"]},
    {"companions": ["torchvision", "torchaudio"]},
    {"description": "What it does"},
    {"data": "huggingface"},
    {"tracker": "mlflow"},
    {"features": ["docker", "devcontainer", "slurm", "kubernetes", "agents"]},
    {"ci": "gitlab"},
    {"license": "Apache-2.0"},
    {"skeleton": "none"},
    {"backend": "rocm7.2", "torch": "2.14"},
    {"platforms": ["linux-x86_64"]},
]
# The page's own module for its engine, by the name that it is served under
ENGINE = """async (requests) => {
  const { name } = performance.getEntriesByType("resource").find(({ name }) => name.includes("/client-"));
  const { ask } = await import(name);
  const found = [];
  for (const answers of requests) {
    await ask({ type: "render", answers });
    found.push(performance.now());
  }
  return found;
}"""


def visit(context: BrowserContext, url: str) -> tuple[Page, float, float]:
    """Open the page, and return it and the seconds until files are shown, and until the engine has rendered them."""
    page = context.new_page()
    page.goto(url, wait_until="commit")
    page.wait_for_selector("#tree button")
    shown = page.evaluate("performance.now()")
    (ready,) = page.evaluate(ENGINE, [{}])
    return page, shown / 1000, ready / 1000


def changes(page: Page) -> list[float]:
    """Give one answer after the other, and return the seconds until the files of each are there."""
    sets: list[dict[str, Any]] = [{}]
    for answers in ANSWERS:
        sets.append(sets[-1] | answers)
    times = page.evaluate(ENGINE, sets)
    return [(after - before) / 1000 for before, after in pairwise(times)]


def row(what: str, times: list[float]) -> None:
    print(f"{what}: {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})")


def main() -> None:
    first, second, answers = [], [], []
    with site() as folder, served(folder, Pages) as url, executable() as options, sync_playwright() as playwright:
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as profile:
                start = partial(playwright.chromium.launch_persistent_context, profile, **options)
                context = start()
                requests: list[Request] = []
                context.on("request", partial(list.append, requests))
                page, *times = visit(context, url)
                first.append(times)
                loaded = {folder / (request.url.removeprefix(url) or "index.html") for request in requests}
                page.wait_for_timeout(2000)  # meanwhile, Chromium keeps what it has compiled
                context.close()
                context = start()
                page, *times = visit(context, url)
                second.append(times)
                answers += changes(page)
                context.close()
        size = sum(len(gzip.compress(path.read_bytes(), 9)) for path in loaded if path.is_file())
    print(f"loaded up to the first project: {size / 1e6:.2f} MB, as gzip -9, in {len(loaded)} files")
    for name, visits in {"first": first, "second": second}.items():
        row(f"{name} visit, until files are shown", [shown for shown, _ in visits])
        row(f"{name} visit, until Python has rendered", [ready for _, ready in visits])
    row("from an answer to its files", answers)


if __name__ == "__main__":
    main()
