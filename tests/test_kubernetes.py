"""The manifest for Kubernetes: valid by its schemas, and its parts fit one another, the image and torchrun."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.project import Project
from tests.table import BACKENDS, RELEASES, builds

# The oldest with all that the manifest has, and the newest that is known
VERSIONS = ["1.31", kubernetes_validate.latest_version()]
NAMES = ["demo", "My.Project", "a-b_c", "2fast", "no", "Null", "1e3", 12 * "long-" + "name", 19 * "abcd." + "e"]
LINUX = {"platforms": ["linux-x86_64"], "features": ["docker", "kubernetes"], "ci": "none", "license": "none"}
RELEASE = {name: [torch for torch in RELEASES if name in builds(torch, "linux-x86_64")] for name in BACKENDS}
ANSWERS: list[dict[str, Any]] = [
    *({"backend": name, "torch": torch} for name in BACKENDS for torch in RELEASE[name][:1]),
    *({"project_name": name, "skeleton": skeleton} for name, skeleton in product(NAMES, ["training", "none"])),
    {"backend": "cpu", "torch": "2.14", "other_backends": ["cu130"]},
    {"backend": "cu124", "torch": "2.4", "package_name": "other"},
]


def objects(project: Project) -> dict[str, Any]:
    """Return the objects of the manifest by their kind."""
    text = (project.path / "kubernetes" / "job.yaml").read_text()
    return {each["kind"]: each for each in yaml.safe_load_all(text)}


def container(job: dict[str, Any]) -> dict[str, Any]:
    (found,) = job["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def options(job: dict[str, Any]) -> dict[str, str]:
    """Return the options of torchrun as the kubelet fills them in, on the second node."""
    variables = {row["name"]: row["value"] for row in container(job)["env"]} | {"JOB_COMPLETION_INDEX": "1"}
    words = [re.sub(r"\$\((\w+)\)", lambda name: variables[name[1]], word) for word in container(job)["command"]]
    assert words[0] == "torchrun"
    return dict(word.removeprefix("--").split("=") for word in words if "=" in word)


def test_every_manifest_is_valid(tmp_path: Path) -> None:
    assert len(ANSWERS) >= 30
    for number, answers in enumerate(ANSWERS):
        project = Project.render(tmp_path / str(number), **{"project_name": "demo"} | LINUX | answers)
        found = objects(project)
        assert list(found) == ["Job", "Service", "PersistentVolumeClaim"]
        for version, each in product(VERSIONS, found.values()):
            kubernetes_validate.validate(each, version, strict=True)
        name = found["Job"]["metadata"]["name"]
        assert re.fullmatch(r"[a-z][-a-z0-9]{0,58}[a-z0-9]", name), "with the number of a node, a name of a host"


def test_the_image_and_the_number_of_nodes_are_values_at_the_top(render: Callable[..., Project]) -> None:
    project = render(**LINUX)
    assert container(objects(project)["Job"])["image"] == "", "no API server takes that"
    file = project.path / "kubernetes" / "job.yaml"
    top, rest = file.read_text().split("completionMode")
    for old, new in {'""': '"registry/demo:1"', '&nodes "2"': '&nodes "4"', "&number 2": "&number 4"}.items():
        assert old in top
        top = top.replace(old, new)
    file.write_text(f"{top}completionMode{rest}")
    job = objects(project)["Job"]
    assert container(job)["image"] == "registry/demo:1"
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == int(options(job)["nnodes"]) == 4


@pytest.mark.parametrize("project_name", ["demo", "My.Project"])
def test_the_nodes_find_the_first_by_the_service(project_name: str, render: Callable[..., Project]) -> None:
    found = objects(render(project_name=project_name, **LINUX))
    job, service = found["Job"], found["Service"]
    pod, given = job["spec"]["template"], options(job)
    assert job["spec"]["completionMode"] == "Indexed", "gives the pods their names and numbers"
    assert given["master-addr"] == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert given["node-rank"] == "1"
    assert pod["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"], "they meet before they are ready"
    assert [port["port"] for port in service["spec"]["ports"]] == [int(given["master-port"])]


def test_what_a_run_writes_lands_on_the_claim(render: Callable[..., Project]) -> None:
    project = render(**LINUX)
    found, dockerfile = objects(project), (project.path / "Dockerfile").read_text()
    pod = found["Job"]["spec"]["template"]["spec"]
    (folder,) = re.findall(r"^WORKDIR (\S+)$", dockerfile, re.MULTILINE)
    mounts = {mount["mountPath"]: mount["name"] for mount in container(found["Job"])["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    claim = volumes[mounts[f"{folder}/runs"]]["persistentVolumeClaim"]["claimName"]
    assert claim == found["PersistentVolumeClaim"]["metadata"]["name"]
    assert any(argument.startswith("--out=runs/") for argument in container(found["Job"])["args"])
    assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
    (user,) = re.findall(r"^USER (\d+)$", dockerfile, re.MULTILINE)
    assert pod["securityContext"]["fsGroup"] == int(user), "whose folder it is, in the container"
    assert pod["securityContext"]["runAsNonRoot"]


@pytest.mark.parametrize("torch", ["2.11", "2.15"])
def test_a_pod_has_time_for_its_checkpoint(torch: str, render: Callable[..., Project]) -> None:
    job = objects(render(torch=torch, **LINUX))["Job"]
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "podFailurePolicy wants that"
    assert pod["terminationGracePeriodSeconds"] > int(options(job).get("shutdown-timeout", 30))


@pytest.mark.parametrize(
    ("answers", "resource", "processes"),
    [
        ({"backend": "cu132"}, "nvidia.com/gpu", "gpu"),
        ({"backend": "rocm7.2", "torch": "2.14"}, "amd.com/gpu", "gpu"),
        ({"backend": "xpu", "torch": "2.14"}, "gpu.intel.com/i915", "xpu"),
        ({"backend": "cpu"}, None, "1"),
        ({"backend": "cpu", "other_backends": ["cu132"]}, "nvidia.com/gpu", "gpu"),
    ],
)
def test_a_node_has_the_gpus_of_the_backend(
    answers: dict[str, Any], resource: str | None, processes: str, render: Callable[..., Project]
) -> None:
    job = objects(render(**LINUX, **answers))["Job"]
    assert container(job)["resources"].get("limits") == (resource and {resource: 1})
    assert options(job)["nproc-per-node"] == processes


def test_the_manifest_comes_with_the_image(render: Callable[..., Project], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="add docker; kubernetes runs its image"):
        render(features=["kubernetes"])
    assert not (Project.render(tmp_path / "other", features=["docker"]).path / "kubernetes").exists()
