"""A whole run, a comparison and a second release, on this machine and through a real sshd on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.devices.loopback import Sshd, left, running
from tests.stages.tiny import Ended, edgekd, export, read, short_protocol, weights, write_recipe

BOX = "the box"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running(tmp_path_factory.mktemp("ssh")) as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, server: Sshd) -> Path:
    """A recipe, the weights that it names, and the device's file."""
    folder = tmp_path_factory.mktemp("over ssh")
    weights(folder / "teacher.safetensors", "yolo11n")
    weights(folder / "student.safetensors", "yolo11p")
    spec = server.spec(name=BOX, telemetry_seconds=0.1).model_dump(mode="json", exclude_defaults=True)
    (folder / f"{BOX}.yaml").write_text(yaml.safe_dump(spec))
    write_recipe(
        folder / "recipe.yaml", control=None, export=[export("onnx-fp32")],
        devices=["local", str(folder / f"{BOX}.yaml")],
        gate={"min_ap": 0.0, "max_p90_ms": {f"onnx-fp32@{BOX}": 60000.0}},
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def ended(folder: Path) -> Ended:
    with short_protocol():
        return edgekd("run", folder / "recipe.yaml", "--out", folder / "run", "--json")


def test_both_devices_find_the_same(folder: Path, ended: Ended) -> None:
    assert ended.code == 0, ended.err
    here, there = (read(folder / f"run/validate/onnx-fp32@{name}.json") for name in ("local", BOX))
    assert there.pop("device") == BOX
    for key in ("device", "seconds"):
        here.pop(key, None), there.pop(key, None)
    assert here == there
    names = ("local", BOX)
    found = [(folder / f"run/validate/onnx-fp32@{name}.detections.jsonl").read_bytes() for name in names]
    assert found[0] == found[1]


def test_the_report_has_both(folder: Path, ended: Ended) -> None:
    artifacts = ended.json["artifacts"]
    assert [(one["target"], one["device"]) for one in artifacts] == [("onnx-fp32", "local"), ("onnx-fp32", BOX)]
    assert all(one["latency_ms"]["p50"] > 0 and one["valid"] for one in artifacts)
    assert ended.json["verdict"]["status"] == "pass"
    assert BOX in (folder / "run/report.html").read_text()


def test_nothing_is_left_running(server: Sshd, ended: Ended) -> None:
    assert ended.code == 0
    assert left(server, 3) == {}


def test_a_second_command_keeps_all(folder: Path, ended: Ended) -> None:
    again = edgekd("run", folder / "recipe.yaml", "--out", folder / "run", "--json")
    assert again.code == 0
    assert again.json == ended.json
    assert {f"{stage}/onnx-fp32@{BOX}" for stage in ("validate", "profile")} <= set(again.kept)


def test_the_doctor_finds_it_well(folder: Path) -> None:
    assert edgekd("doctor", "--device", folder / f"{BOX}.yaml").code == 0


@pytest.mark.slow
def test_an_artifact_against_itself(folder: Path, ended: Ended) -> None:
    """Three processes of a noisy machine need not be enough; a difference would be a mistake."""
    artifact, out = folder / "run/export/onnx-fp32", folder / "comparison"
    options = ("--device", folder / f"{BOX}.yaml", "--out", out, "--max-processes", 3, "--max-slowdown", 1.0)
    verdict = edgekd("compare", artifact, artifact, *options, "--json").json
    checks = {check["metric"]: check for check in verdict["checks"]}
    assert checks["max_slowdown"]["status"] in {"pass", "inconclusive", "invalid"}
    assert (checks["max_ap_loss"]["value"], checks["max_ap_loss"]["status"]) == (0.0, "pass")
    assert read(out / "comparison.json")["latency"]["candidate"]["processes"] == 3
