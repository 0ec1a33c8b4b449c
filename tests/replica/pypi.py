"""Read what PyPI, or another index of the simple API, has."""

from __future__ import annotations

import io
import json
import os
import re
import urllib.error
import urllib.request
import zipfile
from email.message import Message
from email.parser import Parser
from functools import cache
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

PYPI = os.environ.get("TESTS_PYPI", "https://pypi.org/simple")  # tests/replica/proxy.py can take its place


@cache
def links(index: str, package: str) -> dict[str, str]:
    """Return the files that an index has of a package: their names and URLs (PEP 503).

    Raises:
        OSError: The index cannot be reached.
    """
    name = re.sub(r"[-_.]+", "-", package).lower()
    return {unquote(url.rsplit("/", 1)[1]): url for url in anchors(f"{index}/{name}/")}


@cache
def packages(index: str) -> list[str]:
    """Return the names of the packages that an index has, from its root page (PEP 503); PyPI's is long.

    Raises:
        OSError: The index cannot be reached, or has no such page.
    """
    return [unquote(url.rstrip("/").rsplit("/", 1)[1]) for url in anchors(f"{index}/")]


def anchors(page: str) -> list[str]:
    """Return the URLs that a page links to, without their fragments."""
    found = []

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            if tag == "a" and (href := dict(attributes).get("href")):
                found.append(urldefrag(urljoin(page, href)).url)

    with urllib.request.urlopen(urllib.request.Request(page, headers={"Accept": "text/html"}), timeout=60) as response:
        Links().feed(response.read().decode())
    return found


@cache
def files(index: str, package: str) -> list[dict[str, Any]]:
    """Return what an index says of each file of a package in JSON (PEP 691), as PyPI does, with the upload times."""
    request = urllib.request.Request(f"{index}/{package}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        found: list[dict[str, Any]] = json.load(response)["files"]
    return found


def upload_times(index: str, package: str) -> dict[str, str]:
    """Return when the files of a package came to an index."""
    return {file["filename"]: file["upload-time"] for file in files(index, package)}


@cache
def metadata(url: str) -> Message:
    """Return the core metadata of a wheel: from its own file (PEP 658), or else out of the wheel, by range requests."""
    try:
        with urllib.request.urlopen(f"{url}.metadata", timeout=60) as response:
            text = response.read()
    except urllib.error.HTTPError:
        with zipfile.ZipFile(io.BufferedReader(RangeFile(url), 1 << 16)) as wheel:
            text = wheel.read(
                next(name for name in wheel.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            )
    return Parser().parsestr(text.decode())


class RangeFile(io.RawIOBase):
    """A file on a server that answers range requests."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.position = 0
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=60) as response:
            self.length = int(response.headers["Content-Length"])

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.length}[whence]
        return self.position

    def readinto(self, buffer: Any) -> int:
        end = min(self.position + len(buffer), self.length)
        if end <= self.position:
            return 0
        span = {"Range": f"bytes={self.position}-{end - 1}"}
        with urllib.request.urlopen(urllib.request.Request(self.url, headers=span), timeout=60) as response:
            data = response.read()
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)
