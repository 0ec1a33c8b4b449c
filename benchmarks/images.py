"""Images of the CPU project and of the default one, beside uv's own example Dockerfiles and a plain `pip install`.

Of each: the first build, then an edit of the code, of a tool's table in pyproject.toml, and a small dependency more; and, of a
project with torch 2.14, a patch release of torch. What moves is the layers that the image before did not have, compressed with zstd
as for a push. Arguments choose projects: `cpu`, `default`, `patch`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import zstandard

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.docker import Docker
from tests.docker.images import bases
from tests.project import PYTHON, Project
from tests.test_images import CPU, add_dependency, edit_code, edit_tool, have, lock, pytorch_index

# https://github.com/astral-sh/uv-docker-example: multistage.Dockerfile and Dockerfile, with this project's base, command and
# Python. The images that they begin with there hold a Debian, a Python and uv, as these do
SHARED = {
    "user": """
RUN groupadd --system --gid 999 nonroot \\
 && useradd --system --gid 999 --uid 999 --create-home nonroot
""".strip(),
    "sync": """
RUN --mount=type=cache,target=/root/.cache/uv \\
    --mount=type=bind,source=uv.lock,target=uv.lock \\
    --mount=type=bind,source=pyproject.toml,target=pyproject.toml \\
    uv sync --locked --no-install-project
COPY . /app
RUN --mount=type=cache,target=/root/.cache/uv \\
    uv sync --locked
""".strip(),
}
MULTI = """
FROM {python} AS builder
COPY --from={uv} /uv /uvx /bin/
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
ENV UV_NO_DEV=1
ENV UV_PYTHON_DOWNLOADS=0
WORKDIR /app
{sync}
FROM {python}
{user}
COPY --from=builder --chown=nonroot:nonroot /app /app
ENV PATH="/app/.venv/bin:$PATH"
USER nonroot
WORKDIR /app
CMD ["demo", "train"]
"""
SINGLE = """
FROM {python}
COPY --from={uv} /uv /uvx /bin/
{user}
WORKDIR /app
ENV UV_COMPILE_BYTECODE=1
ENV UV_LINK_MODE=copy
ENV UV_NO_DEV=1
ENV UV_TOOL_BIN_DIR=/usr/local/bin
{sync}
ENV PATH="/app/.venv/bin:$PATH"
ENTRYPOINT []
USER nonroot
CMD ["demo", "train"]
"""
# pip, by way of uv, as the base has none
NAIVE = """
FROM {python}
COPY --from={uv} /uv /uvx /bin/
WORKDIR /app
COPY . .
RUN uv tool run pip --python /usr/local/bin/python install --break-system-packages --no-cache-dir {index} .
CMD ["demo", "train"]
"""
FILES = {"the project": "", "uv's multi-stage example": MULTI, "uv's single-stage example": SINGLE, "pip": NAIVE}
Edits = dict[str, Callable[[Project], None]]
EDITS: Edits = {"a line of code": edit_code, "a tool's table": edit_tool, "a small dependency": add_dependency}


def take_torch(version: str) -> Callable[[Project], None]:
    return lambda project: lock(project, "lock", "--upgrade-package", f"torch=={version}")


def build(docker: Docker, project: Project, text: str) -> tuple[float, list[str]]:
    """Build the image, and return the seconds that took and the layers."""
    if text:
        (project.path / "Dockerfile").write_text(text)
    start = time.perf_counter()
    docker("build", "--tag", "demo", ".", cwd=project.path)
    seconds = time.perf_counter() - start
    layers: list[str] = json.loads(docker("image", "inspect", "demo"))[0]["RootFS"]["Layers"]
    return seconds, layers


def compressed(docker: Docker, layers: set[str], known: dict[str, int]) -> int:
    """Return the bytes of layers of the image as they are pushed, with zstd."""
    if missing := layers - known.keys():
        with (
            subprocess.Popen(["docker", "save", "demo"], stdout=subprocess.PIPE) as saved,
            tarfile.open(fileobj=saved.stdout, mode="r|") as image,
        ):
            for member in image:
                digest = f"sha256:{member.name.rsplit('/', 1)[-1]}"
                if digest in missing and (stream := image.extractfile(member)):
                    known[digest] = sum(map(len, zstandard.ZstdCompressor(threads=-1).read_to_iter(stream)))
    return sum(known[digest] for digest in layers)


def measure(docker: Docker, name: str, make: Callable[[], Project], edits: Edits, index: str) -> None:
    known: dict[str, int] = {}
    for title, text in FILES.items():
        project = make()
        uv, python = bases((project.path / "Dockerfile").read_text())
        text = text.format(uv=uv, python=python, index=index, **SHARED)
        seconds, before = build(docker, project, text)
        print(f"{name}, {title}: {seconds:.0f} s, {compressed(docker, set(before), known) / 1e6:.0f} MB", flush=True)
        for edit, change in edits.items():
            change(project)
            seconds, after = build(docker, project, text)
            moved = compressed(docker, set(after) - set(before), known)
            print(f"  {edit}: {seconds:.1f} s, {moved / 1e6:.3f} MB", flush=True)
            before = after
        # All but the bases, and the caches that builds mount
        docker("image", "rm", "demo")
        docker("image", "prune", "--force")
        docker("builder", "prune", "--force", "--all", "--filter", "type=regular")


def main() -> None:
    docker = Docker()
    with pytorch_index() as index, tempfile.TemporaryDirectory() as folder:
        # Their answers, how they are locked at first, and what changes. The two releases of torch have the same CUDA
        projects: dict[str, tuple[dict[str, object], Callable[[Project], None], Edits]] = {
            "cpu": ({**CPU, "torch_index": index}, lock, EDITS),
            "default": ({}, lock, EDITS),
            "patch": (
                {"torch": "2.14", "python": PYTHON},
                take_torch("2.14.0"),
                {"a patch release of torch": take_torch("2.14.1")},
            ),
        }
        for name in sys.argv[1:] or projects:
            answers, begin, edits = projects[name]

            def make(answers: dict[str, object] = answers, begin: Callable[[Project], None] = begin) -> Project:
                path = Path(tempfile.mkdtemp(dir=folder)) / "demo"
                project = Project.render(path, project_name="demo", **answers)
                begin(project)
                have(docker, project)
                return project

            host = index.split("/")[2].split(":")[0]
            extra = f"--extra-index-url {index}/cpu --trusted-host {host}" if name == "cpu" else ""
            measure(docker, name, make, edits, extra)


if __name__ == "__main__":
    main()
