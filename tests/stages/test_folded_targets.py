"""On a whole run: targets with both ends folded in, and `export --bisect`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgekd.errors import InputError
from edgekd.export.artifacts import open_artifact, seal
from edgekd.stages.binding import bind_recipe
from tests.stages.tiny import edgekd, read, write_recipe

pytest_plugins = ("tests.stages.whole_run",)
pytestmark = pytest.mark.usefixtures("short")
FOLDED = ("--set", "export.0.nms=in_graph", "--set", "export.0.input=uint8_nhwc")


def test_folded_ends_change_no_accuracy(run: Path) -> None:
    before = read(run / "validate" / "onnx-fp32@local.json")
    for stage in ("export", "validate", "profile"):
        ended = edgekd(stage, run, *FOLDED, "--json")
        assert ended.code == 0, ended.err
    after = read(run / "validate" / "onnx-fp32@local.json")
    assert before["ap"] > 0
    own = {"seconds": 0, "same_model": None}  # an NMS of its own is not compared
    assert {**after, **own} == {**before, **own}
    environment = read_first(run / "profile" / "onnx-fp32@local.jsonl")
    assert environment["input"] == {"shape": [1, 64, 64, 3], "dtype": "uint8", "layout": "NHWC", "channel_order": "RGB"}
    assert environment["nms"] == "in_graph"
    assert environment["settings"] == {"conf": 0.25, "iou": 0.7, "max_det": 300}


def read_first(path: Path) -> dict[str, object]:
    import json

    return dict(json.loads(path.read_text().partition("\n")[0]))


def test_thresholds_inside_the_graph_are_stated(run: Path) -> None:
    options = ("--set", "export.0.nms=in_graph", "--set", "export.0.options={nms: {conf: 0.3, max_det: 20}}")
    assert edgekd("export", run, *options).code == 0
    ended = edgekd("validate", run, *options)
    line = "validate onnx-fp32@local: its graph gives at most 20 detections, above 0.3; AP sees no others"
    assert line in ended.err.splitlines()
    settings = read(run / "validate" / "onnx-fp32@local.json")["settings"]
    assert (settings["conf"], settings["max_det"]) == (0.3, 20)


def test_another_iou_than_the_one_of_validation_is_refused(tmp_path: Path) -> None:
    exports = [{"target": "onnx-fp32", "nms": "in_graph", "options": {"nms": {"iou": 0.6}}}]
    recipe = write_recipe(tmp_path / "tiny.yaml", export=exports, gate=None)
    with pytest.raises(InputError) as caught:
        bind_recipe(recipe)
    assert caught.value.problems == (
        f"{recipe}: validate.iou: is 0.7, but the NMS inside onnx-fp32 uses 0.6; use one value, the target's is "
        "options.nms.iou",
    )


def test_an_end_to_end_student_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    recipe = write_recipe(
        tmp_path / "tiny.yaml",
        student={"model": "yolo26p", "head": "one2one"}, teacher=None, distill=None, gate=None,
        export=[{"target": "onnx-fp32", "nms": "in_graph"}],
    )  # fmt: skip
    line = (
        f"{recipe}: onnx-fp32: nms: in_graph: the student's head is end-to-end and needs none; set nms: outside, or "
        "student.head: one2many"
    )
    assert edgekd("check", recipe, "--architecture-only").problems == [line]
    ended = edgekd("run", recipe, "--out", tmp_path / "run")
    assert (ended.code, ended.err.splitlines()[-1]) == (2, f"edgekd: error: {line}")


@pytest.mark.slow
def test_bisect_shows_marked_nodes_alone(run: Path) -> None:
    ended = edgekd("export", run, "--bisect", "openvino-fp32")
    assert ended.code == 0, ended.err
    first, second = ended.out.splitlines()  # none is marked
    assert first.startswith("openvino-fp32: none of ") and second.startswith("float32 ONNX against torch, ")


def test_bisect_shows_every_node_and_writes_it_down(run: Path) -> None:
    ended = edgekd("export", run, "--bisect", "openvino-fp32", "--all")
    assert ended.code == 0, ended.err
    record = read(run / "export" / "openvino-fp32" / "bisect.json")
    assert record["first"] is None
    assert record["nodes"][0]["node"] == "/network/model.0/conv/Conv"
    assert record["onnx_against_torch"]["max_abs_score"] < 0.01
    assert f"/network/model.0/conv/Conv  {' ' * 4}" in ended.out
    assert "\nopenvino-fp32: none of " in ended.out
    assert "\nfloat32 ONNX against torch, outputs: scores within " in ended.out


def test_what_bisect_refuses(run: Path) -> None:
    ended = edgekd("export", run, "--all")
    assert (ended.code, ended.problems) == (
        2, ["--all: shows every node of a bisection; name its target with --bisect TARGET"]
    )  # fmt: skip
    folder = run / "export" / "onnx-fp32"

    def refused(target: str) -> str:
        ended = edgekd("export", run, "--bisect", target)
        assert ended.code == 2
        return ended.err.splitlines()[-1].removeprefix("edgekd: error: ")

    assert refused("onnx-fp23") == (
        "--bisect: unknown target 'onnx-fp23' (known: onnx-fp32, openvino-fp32; did you mean 'onnx-fp32'?)"
    )
    artifact = open_artifact(folder)
    other = artifact.sidecar.model_copy(update={"parent_sha256": "0" * 64})
    seal(folder, ("model.onnx",), other)
    assert refused("onnx-fp32") == f"{folder}: was made from another student; export it again with 'edgekd export'"
    shutil.rmtree(folder)
    assert refused("onnx-fp32") == (
        f"{folder}: no artifact here (edgekd.json is missing); export it again with 'edgekd export'"
    )
