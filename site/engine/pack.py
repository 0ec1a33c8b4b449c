"""Compile what the engine loads. site/engine/pack.mjs runs it in Pyodide, whose Python will load it."""

import importlib.util
import io
import json
import marshal
import sys
import tarfile  # noqa: F401 - start.mjs unpacks the template by it
import types
import zipfile
from pathlib import Path

PACKAGES = "/packages/"
LIBRARY = "/lib/python{}{}.zip/".format(*sys.version_info)

sys.path.insert(0, PACKAGES)
import standins  # noqa: F401  isort: skip
from engine import Engine

# Each feature once, and what goes wrong, so that all modules are loaded
engine = Engine(Path("/template"))
ALL = {"features": ["docker", "devcontainer", "slurm", "kubernetes", "pre-commit", "agents"]}
for answers in (
    {},
    {"data": "text", "other_backends": ["cpu"], "companions": ["torchvision"], "user_name": "Ä", **ALL},
    {"data": "huggingface", "tracker": "mlflow", "ci": "gitlab", "license": "BSD-3-Clause", "torch": "2.6"},
    {"skeleton": "none", "license": "none", "torch_index": "https://mirror.example.org/whl", "description": "'\"\\"},
    {"unknown": 1, "torch": "1.0", "features": ["kubernetes"], "platforms": [], "python": None, "project_name": "*"},
):
    engine.reply(json.dumps({"type": "render", "answers": answers}))
engine.reply(json.dumps({"type": "zip", "answers": {}}))
engine.reply(json.dumps({"type": "advise", "text": "GPU 0: NVIDIA A100 (UUID: GPU-1)"}))
engine.reply("{")


def compiled(path: str) -> bytes:
    """Compile a file without its docstrings and the numbers of its lines, a quarter of it all."""
    source = read(path)
    code = without_lines(compile(source, path, "exec", dont_inherit=True, optimize=2))
    return bytes(code_to_hash_pyc(code, importlib.util.source_hash(source), False))


def without_lines(code: types.CodeType) -> types.CodeType:
    parts = [without_lines(part) if isinstance(part, types.CodeType) else part for part in code.co_consts]
    return code.replace(co_consts=tuple(parts), co_linetable=b"")


def read(path: str) -> bytes:
    if path.startswith(LIBRARY):
        return library.read(path.removeprefix(LIBRARY))
    return Path(path).read_bytes()


code_to_hash_pyc = vars(importlib._bootstrap_external)["_code_to_hash_pyc"]  # as py_compile does
library = zipfile.ZipFile(LIBRARY.rstrip("/"))
files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
files = {path for path in files if path.startswith((LIBRARY, PACKAGES))}
files.add(str(next(Path(PACKAGES).glob("copier-*.dist-info/METADATA"))))  # its version
modules = io.BytesIO()
with zipfile.ZipFile(modules, "w") as archive:
    for path in sorted(files):
        content = compiled(path) if path.endswith(".py") else read(path)
        name = path.removeprefix(LIBRARY).removeprefix(PACKAGES) + "c" * path.endswith(".py")
        archive.writestr(zipfile.ZipInfo(name), content)

# With their lines, which Jinja looks at when one of them raises
templates = marshal.dumps(dict(sorted(engine.codes.items())))
{"modules.zip": modules.getvalue(), "compiled": templates}
