"""Compile what the engine loads. site/engine/pack.mjs runs it in Pyodide, whose Python will load it."""

import importlib.util
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGES, LIBRARY = "/packages/", "/lib/python314.zip/"

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
    """Compile a file without its docstrings."""
    source = read(path)
    code = compile(source, path, "exec", dont_inherit=True, optimize=2)
    return bytes(code_to_hash_pyc(code, importlib.util.source_hash(source), False))


def read(path: str) -> bytes:
    if path.startswith(LIBRARY):
        return library.read(path.removeprefix(LIBRARY))
    return Path(path).read_bytes()


code_to_hash_pyc = vars(importlib._bootstrap_external)["_code_to_hash_pyc"]  # as py_compile does
library = zipfile.ZipFile(LIBRARY.rstrip("/"))
files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
files = {path for path in files if path.startswith((LIBRARY, PACKAGES))}
files.add(str(next(Path(PACKAGES).glob("copier-*.dist-info/METADATA"))))  # its version
stdlib, packages = io.BytesIO(), io.BytesIO()
with zipfile.ZipFile(stdlib, "w") as archive, tarfile.open(fileobj=packages, mode="w") as tar:
    for path in sorted(files):
        content = compiled(path) if path.endswith(".py") else read(path)
        if path.startswith(LIBRARY):
            name = path.removeprefix(LIBRARY)
            archive.writestr(zipfile.ZipInfo(name + "c" * name.endswith(".py")), content)
        else:
            entry = tarfile.TarInfo(path.removeprefix(PACKAGES) + "c" * path.endswith(".py"))
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))

{"stdlib.zip": stdlib.getvalue(), "packages.tar": packages.getvalue()}
