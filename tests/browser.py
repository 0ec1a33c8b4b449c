"""The site in a browser: where it is built and served, and the Chromium that visits it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.debian import unpack
from tests.replica import serving
from tests.table import ROOT

# As root, and on a machine without a GPU
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
WIDTHS = {"phone": (390, 844), "tablet": (820, 1180), "desktop": (1440, 900)}


def missing() -> str:
    """Return why there can be no Chromium here, or nothing."""
    if shutil.which("chromium"):
        return ""
    if platform.system() != "Linux" or platform.freedesktop_os_release()["ID"] != "debian":
        return "there is no Chromium, and this is not Debian, whose package the tests take"
    return "" if shutil.which("apt-get") else "there is neither Chromium nor apt-get"


@contextmanager
def executable() -> Iterator[dict[str, Any]]:
    """Give what Playwright starts a Chromium with, while the context lasts: that of the system, or Debian's, unpacked.

    Several processes may share the one that is unpacked into the folder that CHROMIUM names.

    Raises:
        ConnectionError: Debian's package cannot be had.
    """
    with tempfile.TemporaryDirectory(prefix="torch-uv-template-") as name:
        path, env = shutil.which("chromium"), dict[str, str](os.environ)
        if not path:
            root = Path(os.environ.get("CHROMIUM", name), "root")
            if not root.exists():
                unpack(root, platform.freedesktop_os_release()["VERSION_CODENAME"], "chromium", "fonts-dejavu")
            path = str(root / "usr/lib/chromium/chromium")
            common = root / "usr/lib" / f"{platform.machine()}-linux-gnu"
            libraries = [common, common / "pulseaudio", root / "usr/lib"]
            env |= {"LD_LIBRARY_PATH": ":".join(map(str, libraries)), "FONTCONFIG_SYSROOT": str(root)}
        yield {"executable_path": path, "args": OPTIONS, "env": env}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Give a Chromium that runs while the context lasts."""
    with executable() as options, sync_playwright() as playwright:
        browser = playwright.chromium.launch(**options)
        yield browser
        browser.close()


@contextmanager
def site() -> Iterator[Path]:
    """Give the built site: the folder that SITE names, or a new one."""
    if "SITE" in os.environ:
        yield Path(os.environ["SITE"])
        return
    with tempfile.TemporaryDirectory(prefix="torch-uv-template-") as name:
        subprocess.run([sys.executable, ROOT / "site" / "build.py", name], check=True)
        yield Path(name)


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *_: object) -> None: ...


class Pages(Quiet):
    """Serves as GitHub Pages does: what is loaded may be kept for ten minutes."""

    protocol_version = "HTTP/1.1"

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "max-age=600")
        super().end_headers()


@contextmanager
def served(folder: Path, handler: type[Quiet] = Quiet) -> Iterator[str]:
    """Serve a folder while the context lasts, and give the address."""
    with serving(partial(handler, directory=str(folder))) as url:
        yield f"{url}/"


def settled(page: Page) -> None:
    """Wait until the page shows what follows from the last answer."""
    page.wait_for_selector("body.ready")
    page.wait_for_selector("#result[aria-busy=false]", timeout=120_000)
    page.wait_for_timeout(50)


def take_pictures(folder: Path) -> None:
    """Take pictures of the page at three widths, light and dark, with two machines and the answer that came last."""
    folder.mkdir(parents=True, exist_ok=True)
    with site() as built, served(built) as url, chromium() as browser:
        for name, (width, height) in WIDTHS.items():
            for scheme in ("light", "dark"):
                context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
                page = context.new_page()
                page.goto(url)
                settled(page)
                page.get_by_label("GPU", exact=True).select_option("RTX 40")
                page.get_by_role("button", name="Add machine").click()
                page.get_by_label("System", exact=True).select_option("macOS on Apple silicon")
                page.get_by_role("button", name="Add machine").click()
                page.wait_for_selector("#advice:has-text('cu')")
                settled(page)
                page.get_by_label("TensorBoard").check()
                settled(page)
                page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
                page.screenshot(path=folder / f"page-{name}-{scheme}.png")
                context.close()


if __name__ == "__main__":
    try:
        if not missing():
            with executable():
                pass
    except ConnectionError as problem:
        print(f"SKIPPED: {problem}")
