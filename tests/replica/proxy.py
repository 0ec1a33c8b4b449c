"""PyPI, with the wheels that builds.yml has ahead of it: a release that is not published yet.

    python -m tests.replica.proxy pytest tests/test_lock.py

runs a command whose PyPI this is, to the tests (TESTS_PYPI) and to uv (UV_DEFAULT_INDEX). A wheel that PyPI does not have
is a tiny file with the metadata of the newest before it. Everything else is PyPI's.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from urllib.parse import unquote

from tests.replica import JSON, Handler, entry, links, pypi, serving, wheels
from tests.replica.wheels import Wheel, like, platform_tag, python_tags, triton_versions
from tests.table import PLATFORMS, RELEASES, companions, home, on_pypi, versions


@contextmanager
def proxy() -> Iterator[str]:
    """Serve PyPI with what the table has ahead of it, while the context lasts, and yield the URL of the index."""
    with serving(Proxy) as url:
        yield f"{url}/simple"


@cache
def ahead() -> dict[str, list[Wheel]]:
    """Return the wheels that builds.yml has ahead of PyPI, by package."""
    found: dict[str, list[Wheel]] = {}
    for release in RELEASES:
        for package in ("torch", *companions(release)):
            if home(release, package) == release:
                for version in versions(release, package):
                    if like(package, version) != version:
                        found.setdefault(package, []).extend(of_version(release, package, version))
    for release in dict.fromkeys(wheel.release for wheel in found.get("torch", []) if wheel.release):
        found.setdefault("triton", []).extend(of_triton(release))
    return found


def of_version(release: str, package: str, version: str) -> Iterator[Wheel]:
    """Yield the wheels of torch or of a companion."""
    for platform in PLATFORMS:
        if build := on_pypi(release, platform, package):
            for tag in python_tags(release, platform, package, version):
                tags = f"{tag}-{platform_tag(release, platform)}"
                yield Wheel(build, package, version, "", tags, release, on_pypi=True)


def of_triton(release: str) -> Iterator[Wheel]:
    """Yield the wheels of the tritons that a release wants and PyPI does not have."""
    for version in triton_versions(release):
        if like("triton", version) != version:
            for platform in (name for name in PLATFORMS if name.startswith("linux-")):
                for tag in python_tags(release, platform, "torch", version):
                    tags = f"{tag}-{platform_tag(release, platform)}"
                    yield Wheel("", "triton", version, "", tags, release, on_pypi=True)


class Proxy(Handler):
    """Answers /simple/<package>/, /simple/files/<file> and /simple/files/<file>.metadata, parts of files too."""

    def do_GET(self) -> None:
        match unquote(self.path).split("/")[1:]:
            case ["simple", package, ""] if package in ahead():
                self.both(package, ahead()[package])
            case ["simple", package, ""]:
                self.send_response(302)
                self.send_header("Location", f"{pypi.PYPI}/{package}/")
                self.send_header("Content-Length", "0")
                self.end_headers()
            case ["simple", "files", name] if wheel := file(name.removesuffix(".metadata")):
                content = wheels.metadata(wheel) if name.endswith(".metadata") else wheels.body(wheel)
                span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                part = content[int(span[1]) : int(span[2]) + 1] if span else content
                self.reply(part, "application/octet-stream", 206 if span else 200)
            case _:
                self.send_error(404)

    do_HEAD = do_GET

    def both(self, package: str, listed: list[Wheel]) -> None:
        """Send PyPI's page of a package, with these wheels added to it."""
        kind = JSON if JSON in self.headers.get("Accept", "") else "text/html"
        page = read(f"{pypi.PYPI}/{package}/", kind)
        if kind == JSON:
            content = json.loads(page)
            content["files"] += [{**entry(wheel, "/simple/files/"), "size": wheels.size(wheel)} for wheel in listed]
            content["versions"] += sorted({wheel.version for wheel in listed})
            page = json.dumps(content)
        else:
            page += links(listed, "/simple/files/")
        self.reply(page.encode(), kind)


@cache
def read(url: str, kind: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": kind}), timeout=60) as response:
        text: str = response.read().decode()
    return text


def file(name: str) -> Wheel | None:
    return next((wheel for some in ahead().values() for wheel in some if wheel.filename == name), None)


def main() -> int:
    """Run a command with this in the place of PyPI, and return its exit status."""
    with proxy() as url:
        env = os.environ | {"TESTS_PYPI": url, "UV_DEFAULT_INDEX": url}
        return subprocess.run(sys.argv[1:], env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
