"""The files of docs/clusters: what each starts, with programs that only write down how they are called."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from edgekd.recipe.search import SearchRecipe

CLUSTERS = Path(__file__).resolve().parents[3] / "docs" / "clusters"
SAID = '#!/bin/bash\necho "$(basename "$0") $*" >> "$CALLS"\n'
PROGRAMS = {
    "ray": SAID, "edgekd": SAID, "sleep": "#!/bin/bash\n",
    "scontrol": "#!/bin/bash\nprintf 'one\\ntwo\\nthree\\n'\n",
    "srun": SAID + 'case "$*" in *hostname*) echo 10.0.0.1 10.1.0.1;; esac\n',
}  # fmt: skip

Run = Callable[..., list[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a script with such programs; what they were called with, in order of their beginning."""
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def of(script: str, *arguments: str, **environment: str) -> list[str]:
        calls = tmp_path / "calls"
        calls.unlink(missing_ok=True)
        path = f"{tmp_path}:{os.environ['PATH']}"
        variables = {**os.environ, "PATH": path, "CALLS": str(calls), **environment}
        subprocess.run(["bash", "-c", script + "\nwait", "script", *arguments], env=variables, check=True, timeout=60)
        return calls.read_text().splitlines()

    return of


def test_slurm_starts_a_head_the_others_and_the_search(run: Run) -> None:
    script = (CLUSTERS / "slurm.sh").read_text()
    calls = run(script, "r.yaml", "S", SLURM_JOB_NODELIST="x", SLURM_CPUS_PER_TASK="16", SLURM_GPUS_ON_NODE="2")
    on = "srun --overlap --nodes=1 --ntasks=1 --nodelist="
    ray = "ray start --block --num-cpus 16 --num-gpus 2"
    assert calls[0] == f"{on}one hostname --ip-address"
    assert sorted(calls[1:]) == sorted([
        f"{on}one {ray} --head --node-ip-address 10.0.0.1 --port 6379",
        f"{on}two {ray} --address 10.0.0.1:6379",
        f"{on}three {ray} --address 10.0.0.1:6379",
        f"{on}one edgekd search r.yaml --out S --set search.ray=10.0.0.1:6379 --set threads=4",
    ])  # fmt: skip


@pytest.fixture(scope="module")
def sky() -> dict[str, Any]:
    return yaml.safe_load((CLUSTERS / "skypilot.yaml").read_text())  # type: ignore[no-any-return]


NODES = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "RECIPE": "r.yaml", "THREADS": "4"}


def test_skypilots_first_node_searches(run: Run, sky: dict[str, Any]) -> None:
    assert run(sky["run"], **NODES, SKYPILOT_NODE_RANK="0") == [
        "ray start --head --port 6380 --node-ip-address 10.0.0.1",
        "edgekd search /shared/r.yaml --out /shared/S --set search.ray=10.0.0.1:6380 --set threads=4",
        "ray stop",
    ]


def test_skypilots_others_join(run: Run, sky: dict[str, Any]) -> None:
    assert run(sky["run"], **NODES, SKYPILOT_NODE_RANK="1") == ["ray start --block --address 10.0.0.1:6380"]


def test_skypilot_takes_its_file() -> None:
    sky = pytest.importorskip("sky", reason="SkyPilot is not installed")
    assert sky.Task.from_yaml(str(CLUSTERS / "skypilot.yaml")).num_nodes == 4


def closed(schema: Any) -> Any:
    """The schema, in which an object has no keys but those that it names: a cluster would drop the others silently."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    only_these = {"additionalProperties": False} if isinstance(schema.get("properties"), dict) else {}
    return {**only_these, **{key: closed(value) for key, value in schema.items()}}


def test_kuberay_takes_its_file() -> None:
    """By the schema of its custom resource; a metadata object is Kubernetes' own, and said nothing of there."""
    named = os.environ.get("EDGEKD_KUBERAY")
    if not named:
        pytest.skip("set EDGEKD_KUBERAY to ray.io_rayjobs.yaml of KubeRay (ray-operator/config/crd/bases)")
    versions = yaml.safe_load(Path(named).read_text())["spec"]["versions"]
    (schema,) = [one["schema"]["openAPIV3Schema"] for one in versions if one["name"] == "v1"]
    job = yaml.safe_load((CLUSTERS / "kuberay.yaml").read_text())
    validator = jsonschema.Draft202012Validator(
        {**closed(schema), "properties": {**closed(schema["properties"]), "metadata": {}}}
    )
    assert [error.message for error in validator.iter_errors(job)] == []
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParam"] = {}
    assert len(list(validator.iter_errors(job))) == 1, "a typing error would be seen"


def test_kuberays_groups_share_image_and_volume() -> None:
    job = yaml.safe_load((CLUSTERS / "kuberay.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    assert [len(pod["containers"]) for pod in pods] == [1, 1]
    assert {pod["containers"][0]["image"] for pod in pods} == {"edgekd-ray"}
    for pod in pods:
        mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounts == {volume["name"]: "/shared" for volume in pod["volumes"]}
        resources = pod["containers"][0]["resources"]
        assert resources["limits"] == resources["requests"], "Ray counts on what Kubernetes promises"
    assert groups[0]["rayStartParams"]["num-cpus"] == "0", "no trials beside the search"
    words = job["spec"]["entrypoint"].split()
    assert words[:5] == ["edgekd", "search", "/shared/recipe.yaml", "--out", "/shared/S"]
    assert SearchRecipe.model_validate({"ray": words[6].removeprefix("search.ray=")}).ray == "auto"
