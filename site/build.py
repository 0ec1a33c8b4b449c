"""Build the site: the page, with Python and the template for the visitor's browser, and the documentation.

    python site/build.py dist

The names of files hold their hashes, and one commit gives the same bytes. To refer to another file, whether it is in
site/page, in site/engine or made here, a file writes "./NAME" in quotes or brackets: that becomes its address.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SITE = Path(__file__).resolve().parent
ROOT = SITE.parent
PYODIDE = SITE / "node_modules" / "pyodide"
URL = "gh:org/torch-uv-template"
TEMPLATE = ("copier.yml", "builds.yml", "includes", "template")
TEXT = "shakespeare.txt.gz"  # half a megabyte that only the answer data=text needs
LINKING = (".css", ".html", ".mjs")
# wasm-unsafe-eval is for WebAssembly, which is no eval; blob: is for a worker under this policy, and for Python's library
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; connect-src 'self' blob:; "
    "style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
)


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a command, and return what it prints. It ends the build if it fails."""
    try:
        return subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout
    except FileNotFoundError:
        sys.exit(f"there is no {command[0]}: install it, then build again")
    except subprocess.CalledProcessError as failure:
        sys.exit(f"{Path(command[0]).name} failed with exit code {failure.returncode}, for the reason above")


# What the engine is made of


def write_template(folder: Path, root: Path = ROOT, url: str = URL) -> None:
    """Write the template of a repository as Git's index has it, and what Copier would ask Git for."""

    def git(*arguments: str) -> str:
        return run("git", "-c", "core.quotepath=off", *arguments, cwd=root).strip()

    modes = {}
    for line in git("ls-files", "--stage", "--", *TEMPLATE).splitlines():
        meta, path = line.split("\t")
        modes[path] = meta.split()[0]
    git("checkout-index", f"--prefix={folder}/", "--", *modes)
    tags = git("tag", "--list").split()
    commit = git("describe", "--tags", "--always")
    head = git("rev-parse", "HEAD")
    # Copier takes the newest tag, or without any the newest commit
    ref = head if tags and commit not in tags else ""
    origin = {"url": url, "commit": commit, "hash": head, "ref": ref, "modes": modes}
    (folder / "origin.json").write_text(json.dumps(origin), encoding="utf-8")


def install_packages(folder: Path) -> None:
    """Install Copier and what it needs, as uv.lock has it. Of compiled packages, what is plain Python suffices."""
    python = pyodide_info()["python"]
    left_out = ["--no-emit-package", "pydantic", "--no-emit-package", "pydantic-core"]  # engine/standins.py
    export = ["uv", "export", "--quiet", "--frozen", "--only-group", "engine", *left_out]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(run(*export))
        requirements.flush()
        options = ["--quiet", "--no-deps", "--require-hashes", f"--python-version={python}", f"--target={folder}"]
        run("uv", "pip", "install", *options, "--requirement", requirements.name)


def pyodide_info() -> dict[str, str]:
    """Return what Pyodide says of itself: its Python, and its ABI."""
    info: dict[str, str] = json.loads((PYODIDE / "pyodide-lock.json").read_text(encoding="utf-8"))["info"]
    return info


def make_engine(folder: Path) -> None:
    """Write Pyodide, the modules and the template, and the reply for the default answers."""
    write_pyodide(folder / "pyodide")
    with tempfile.TemporaryDirectory() as name:
        sources, template = Path(name, "sources"), Path(name, "template")
        write_template(template)
        install_packages(sources)
        for file in (*(SITE / "engine").glob("*.py"), ROOT / "adopt.py"):
            shutil.copy(file, sources)
        run("node", SITE / "engine" / "pack.mjs", PYODIDE, sources, template, folder)
        shutil.move(folder / "compiled", template)
        pack_template(template, folder)
    compress(folder / "modules.zip")
    first = run("node", SITE / "engine" / "ask.mjs", folder, '{"type": "first"}')
    if error := json.loads(first).get("error"):
        sys.exit(f"the engine does not render the defaults: {error}")
    (folder / "first.json").write_text(first, encoding="utf-8")


def pack_template(template: Path, folder: Path) -> None:
    """Write two tars: the template, and the text."""
    for name in ("template.tar", "text.tar"):
        with tarfile.open(folder / name, "w") as tar:
            for path in sorted(template.rglob("*")):
                if path.is_file() and (path.name == TEXT) == (name == "text.tar"):
                    entry = tarfile.TarInfo(path.relative_to(template).as_posix())
                    entry.size = path.stat().st_size
                    with path.open("rb") as content:
                        tar.addfile(entry, content)
        compress(folder / name)


def compress(path: Path) -> None:
    """Replace a file by its gzip, which names no file and no time."""
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
    path.unlink()


def write_pyodide(folder: Path) -> None:
    """Write what a browser needs of Pyodide, with a list of its packages that is empty."""
    folder.mkdir()
    for name in ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm"):
        shutil.copy(PYODIDE / name, folder)
    (folder / "pyodide-lock.json").write_text(json.dumps({"info": pyodide_info(), "packages": {}}))


def write_highlighter(folder: Path) -> None:
    """Write the highlighter, which loads the languages that it needs."""
    source = SITE / "node_modules" / "@speed-highlight" / "core" / "dist"
    folder.mkdir()
    shutil.copy(source / "index.js", folder)
    shutil.copytree(source / "languages", folder / "languages", ignore=shutil.ignore_patterns("*.ts", "*.map"))


# Publishing


class Site:
    """Files and folders by the names that they use of one another, and the folder that they are published in."""

    def __init__(self, sources: dict[str, Path], folder: Path) -> None:
        self.sources, self.folder = sources, folder
        self.address = cache(self.publish)

    def publish(self, name: str) -> str:
        """Publish what a name stands for, with a hash, and return its path below assets."""
        source = self.sources[name]
        stem, dot, suffix = name.partition(".")
        if source.is_dir():
            path = f"{name}-{digest(*contents(source))}"
            shutil.copytree(source, self.folder / "assets" / path, dirs_exist_ok=True)
            return path
        content = (
            self.linked(source.read_text(encoding="utf-8")).encode()
            if source.suffix in LINKING
            else source.read_bytes()
        )
        path = f"{stem}-{digest(content)}{dot}{suffix}"
        (self.folder / "assets" / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / "assets" / path).write_bytes(content)
        return path

    def linked(self, text: str, base: str = "./") -> str:
        """Return a text that refers to other files by their addresses."""

        def link(match: re.Match[str]) -> str:
            name, slash, rest = match[2].partition("/")
            if match[2] in self.sources:
                return f"{match[1]}{base}{self.address(match[2])}{match[3]}"
            if name in self.sources:
                return f"{match[1]}{base}{self.address(name)}{slash}{rest}{match[3]}"
            return match[0]

        return re.sub(r"""(["'(])\./([\w./-]+)(["')])""", link, text)

    def write_page(self, source: Path) -> None:
        """Write a page under the policy."""
        meta = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        text = self.linked(source.read_text(encoding="utf-8"), "assets/")
        head = re.compile(r"(<head>\s*(?:<meta charset[^>]*>\s*)?)")
        (self.folder / source.name).write_text(head.sub(rf"\1{meta}\n", text, count=1), encoding="utf-8")

    def write_service_worker(self) -> None:
        """Write the service worker, which knows all files of the page."""
        files = sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())
        version = digest(*contents(self.folder))
        text = (SITE / "engine" / "sw.mjs").read_text(encoding="utf-8")
        text = text.replace(
            "const FILES = []; // written by site/build.py", f"const FILES = {json.dumps(['./', *files])};"
        )
        (self.folder / "sw.mjs").write_text(text.replace("site-VERSION", f"site-{version}"), encoding="utf-8")


def contents(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix().encode()
            yield path.read_bytes()


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:12]


def build(folder: Path) -> None:
    """Build the site into a folder, in the place of what is there."""
    run("npm", "ci", "--silent", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", cwd=SITE)
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        make_engine(made)
        write_highlighter(made / "highlight")
        sources = {path.name: path for path in [*made.iterdir(), *(SITE / "engine").glob("*.mjs")]}
        page = [path for path in sorted((SITE / "page").rglob("*")) if path.is_file()]
        sources |= {path.relative_to(SITE / "page").as_posix(): path for path in page}
        site = Site(sources, folder)
        folder.mkdir(parents=True)
        for path in page:
            if path.suffix == ".html":
                site.write_page(path)
        site.write_service_worker()
    run(sys.executable, SITE / "documentation.py", folder / "docs")


if __name__ == "__main__":
    build(Path(sys.argv[1] if len(sys.argv) > 1 else SITE / "dist").resolve())
