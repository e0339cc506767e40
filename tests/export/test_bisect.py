"""A planted fault is found at the node that has it; a sound artifact has none, whatever is folded into its ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.errors import InputError
from edgekd.export.artifacts import seal
from edgekd.export.bisect import _comparable, bisect, differences, table, verdict
from edgekd.export.contract import Artifact, Job, NoOptions, step
from edgekd.export.onnx_nms import append_nms
from edgekd.export.targets import run_steps
from tests.export.graphs import given_predictions, spec
from tests.export.students import photographs, source, target

FAULTY = "/network/model.6/cv1/conv/Conv"


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return run_steps(source("yolo11p"), target("onnx-fp32"), tmp_path_factory.mktemp("bisect") / "onnx")


def faulty(reference: Artifact, folder: Path, change: Any) -> Artifact:
    """The weights of one layer in the middle changed."""
    import onnx
    from onnx import numpy_helper

    folder.mkdir()
    model = onnx.load(reference.model_path)
    name = next(node.input[1] for node in model.graph.node if node.name == FAULTY)
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    weights.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weights)).astype(np.float32), name))
    onnx.save(model, folder / "model.onnx")
    return seal(folder, ("model.onnx",), reference.sidecar)


def in_openvino(artifact: Artifact, folder: Path) -> Artifact:
    folder.mkdir()
    return step("openvino").export(artifact, Job(target("openvino-fp32"), NoOptions()), folder)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_planted_fault_is_found_where_it_is(reference: Artifact, tmp_path: Path, runtime: str) -> None:
    wrong = faulty(reference, tmp_path / "wrong", lambda weights: weights * 1.01)
    wrong = in_openvino(wrong, tmp_path / "openvino") if runtime == "openvino" else wrong
    record = bisect(reference, wrong, photographs(1, 64, 96))
    rows = record["nodes"]
    assert rows[record["first"]]["node"] == FAULTY
    assert rows[record["first"]]["op"] == "Conv"
    assert rows[record["first"]]["sqnr_db"] == pytest.approx(40, abs=1)  # every weight 1 % off; the bias is not
    before = rows[: record["first"]]
    assert len(before) > 30
    if runtime == "onnxruntime":
        assert all((row["max_abs"], row["sqnr_db"], row["beyond"]) == (0.0, None, False) for row in before)
    beyond = [row["node"] for row in rows if row["beyond"]]
    head, *marked = table(record).splitlines()[:-2]
    assert head.split()[:2] == ["node", "op"]
    assert [line.split()[:2] for line in marked] == [[">", node] for node in beyond]
    assert beyond[0] == FAULTY
    whole = table(record, everything=True).splitlines()
    assert len(whole) == len(rows) + 3
    assert [line.split()[1] for line in whole if line.startswith(">")] == beyond
    text = f"{wrong.sidecar.target}: {FAULTY} (Conv) has {rows[record['first']]['sqnr_db']:.1f} dB, the first below "
    assert verdict(record) == text + "80 dB, what fp32 is expected to keep"


def test_values_that_are_not_finite_are_found(reference: Artifact, tmp_path: Path) -> None:
    wrong = faulty(reference, tmp_path / "wrong", lambda weights: np.where(weights > 0, np.inf, weights))
    record = bisect(reference, wrong, photographs(1, 64, 96))
    row = record["nodes"][record["first"]]
    assert (row["node"], row["max_abs"], row["sqnr_db"]) == (FAULTY, None, None)
    assert f"{FAULTY} (Conv) is not finite, the first below 80 dB" in verdict(record)


def test_what_is_folded_into_the_ends_is_no_fault(reference: Artifact, tmp_path: Path) -> None:
    folded = target("onnx-fp32", nms="in_graph", input="uint8_nhwc", options={"input": {"channel_order": "BGR"}})
    record = bisect(reference, run_steps(source("yolo11p"), folded, tmp_path / "folded"), photographs(1, 64, 96))
    assert record["first"] is None
    assert len(record["nodes"]) > 300
    assert all(row["max_abs"] == 0 for row in record["nodes"])
    assert verdict(record) == (
        f"onnx-fp32: none of {len(record['nodes'])} nodes falls below 80 dB, what fp32 is expected to keep"
    )


def test_half_precision_departs_a_little_everywhere(reference: Artifact, tmp_path: Path) -> None:
    record = bisect(
        reference, run_steps(source("yolo11p"), target("onnx-fp16"), tmp_path / "half"), photographs(1, 64, 96)
    )
    assert record["first"] is None
    assert 45 < min(row["sqnr_db"] for row in record["nodes"]) < 80  # 11 bits are 66 dB


def test_values_behind_a_ranking_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "nms").mkdir()
    given = given_predictions(6, 2, tmp_path / "given")
    artifact = append_nms(given, spec(nms="in_graph"), tmp_path / "nms")
    values = {value for _, value in _comparable(artifact.model_path)}
    assert {"boxes", "scores"} <= values
    assert "detections" not in values
    assert not any("ScatterND" in value or "TopK" in value for value in values)


def test_figures_by_hand() -> None:
    expected = np.array([[3.0, -4.0]], dtype=np.float32)
    found = differences(expected, np.array([[3.0, -4.5]], dtype=np.float32), 30)
    assert found == {"max_abs": 0.5, "max_rel": 0.125, "sqnr_db": pytest.approx(20), "beyond": True}  # 25 over 0.25
    assert differences(expected, expected, 30) == {"max_abs": 0.0, "max_rel": 0.0, "sqnr_db": None, "beyond": False}
    nothing = np.zeros(3, dtype=np.float32)
    assert differences(nothing, nothing + 1, 30)["beyond"] is True


def test_forms_without_inner_values(reference: Artifact, tmp_path: Path) -> None:
    (tmp_path / "model.param").write_text("")
    sidecar = reference.sidecar.model_copy(update={"target": "ncnn-fp16", "runtime": "ncnn"})
    with pytest.raises(InputError) as caught:
        bisect(reference, seal(tmp_path, ("model.param",), sidecar), photographs(1, 64, 96))
    assert str(caught.value) == (
        "ncnn-fp16: --bisect looks into ONNX and OpenVINO models, and ncnn shows no inner values; look at a target "
        "that shares its first steps, such as onnx-fp32"
    )
