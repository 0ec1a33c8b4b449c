"""The replica: the local stand-in of PyTorch's package index that tests resolve against.

It serves the simple API (PEP 503 and PEP 691) on loopback, with one index a backend as at download.pytorch.org/whl, hashes,
upload times and separate core metadata (PEP 658). Everything that does not lie on PyTorch's index comes from PyPI itself.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, time, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote, unquote

from tests.replica import wheels
from tests.table import BACKENDS, RELEASES, TABLE

JSON = "application/vnd.pypi.simple.v1+json"


@contextmanager
def replica(address: str = "127.0.0.1") -> Iterator[str]:
    """Serve the replica while the context lasts, and yield its base URL, to be used as `torch_index`."""
    with serving(Handler, address) as url:
        yield f"{url}/whl"


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler], address: str = "127.0.0.1") -> Iterator[str]:
    """Serve on an address of this machine while the context lasts, and yield the URL."""
    server = ThreadingHTTPServer((address, 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{address}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    """Answers /whl/<package>/, /whl/<backend>/, /whl/<backend>/<package>/, /whl/<backend>/<file> and its .metadata."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        match unquote(self.path).split("/")[1:]:
            case ["whl", backend, ""] if names := found(backend):
                self.reply("\n".join(f'<a href="{name}/">{name}</a>' for name in names).encode(), "text/html")
            case ["whl", package, ""] if listed := [
                wheel for name in BACKENDS for wheel in found(name).get(package, [])
            ]:
                self.page(package, listed)
            case ["whl", backend, package, ""] if listed := found(backend).get(package, []):
                self.page(package, listed)
            case ["whl", backend, name] if wheel := file(backend, name.removesuffix(".metadata")):
                self.reply(
                    wheels.metadata(wheel) if name.endswith(".metadata") else wheels.body(wheel),
                    "application/octet-stream",
                )
            case _:
                self.send_error(404)

    do_HEAD = do_GET

    def page(self, package: str, listed: list[wheels.Wheel]) -> None:
        if JSON in self.headers.get("Accept", ""):
            files = [entry(wheel, f"/whl/{wheel.backend}/") for wheel in listed]
            versions = sorted({wheel.version + wheel.local for wheel in listed})
            page = {"meta": {"api-version": "1.1"}, "name": package, "versions": versions, "files": files}
            self.reply(json.dumps(page).encode(), JSON)
        else:
            self.reply(links(listed, "/whl/{backend}/").encode(), "text/html")

    def reply(self, content: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "max-age=600")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep quiet: pytest shows what fails."""


def uploaded(wheel: wheels.Wheel) -> str:
    """Return when a wheel was uploaded: by the day that the table was read, an hour before those of the next release."""
    hours = list(RELEASES).index(wheel.release) if wheel.release else 0
    return (datetime.combine(TABLE["as_of"], time()) - timedelta(hours=hours)).isoformat() + "Z"


def entry(wheel: wheels.Wheel, base: str) -> dict[str, Any]:
    """Return what the page of a package says of a wheel in JSON (PEP 691)."""
    return {
        "filename": wheel.filename,
        "url": f"{base}{quote(wheel.filename)}",
        "hashes": {"sha256": wheels.digest(wheel)},
        "requires-python": wheels.requires_python(wheel),
        "core-metadata": True,
        "upload-time": uploaded(wheel),
    }


def links(listed: list[wheels.Wheel], base: str) -> str:
    """Return the page of a package in HTML (PEP 503)."""
    anchors = [
        f'<a href="{base.format(backend=wheel.backend)}{quote(wheel.filename)}#sha256={wheels.digest(wheel)}"'
        f' data-core-metadata="true" data-requires-python="{html.escape(wheels.requires_python(wheel) or "")}"'
        f' data-upload-time="{uploaded(wheel)}">{html.escape(wheel.filename)}</a><br>'
        for wheel in listed
    ]
    return "\n".join(["<!DOCTYPE html>", "<html><body>", *anchors, "</body></html>"])


def found(backend: str) -> dict[str, list[wheels.Wheel]]:
    return wheels.packages(backend) if backend in BACKENDS else {}


def file(backend: str, name: str) -> wheels.Wheel | None:
    return next((wheel for some in found(backend).values() for wheel in some if wheel.filename == name), None)


def write(folder: Path, backend: str, release: str) -> None:
    """Write what a backend's index has of a release into a folder, which has the shape of the index."""
    for package, listed in found(backend).items():
        if own := [wheel for wheel in listed if wheel.release == release]:
            (folder / backend / package).mkdir(parents=True)
            (folder / backend / package / "index.html").write_text(links(own, "../"), encoding="utf-8")
            for wheel in own:
                (folder / backend / wheel.filename).write_bytes(wheels.body(wheel))
                (folder / backend / f"{wheel.filename}.metadata").write_bytes(wheels.metadata(wheel))
