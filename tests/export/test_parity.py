"""Parity: small differences pass, real ones are found, near-ties of ranked lists do not count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.atomic import read_json
from edgekd.errors import EnvironmentFault, InputError
from edgekd.export import parity
from edgekd.export.artifacts import seal
from edgekd.export.contract import Artifact
from edgekd.export.targets import run_steps
from edgekd.export.tolerance import Tolerance
from tests.export.students import CLASS_NAMES, photographs, source, target

TOLERANCE = Tolerance(max_abs_score=0.01, max_abs_box_px=0.5)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return run_steps(source("yolo11p"), target("onnx-fp32"), tmp_path_factory.mktemp("parity") / "onnx-fp32")


def rows(*detections: tuple[float, ...]) -> np.ndarray:
    """x1, score, class of boxes of 10 by 10 px."""
    return np.array([(x1, 0, x1 + 10, 10, score, class_id) for x1, score, class_id in detections], dtype=np.float32)


def ranked(ours: np.ndarray, theirs: np.ndarray) -> parity.Differences:
    found = parity.Differences()
    parity._compare_ranked(found, [ours[None]], {"detections": theirs[None]}, 1, TOLERANCE)
    return found


def test_an_exact_artifact_passes(artifact: Artifact) -> None:
    images = photographs(3, 64, 96)
    record = parity.require(source("yolo11p").module, artifact, images, target("onnx-fp32"))
    assert record == read_json(artifact.folder / "parity.json")
    assert record["passed"] is True
    assert record["images"] == 3
    assert record["boxes"] == 3 * 126  # every point scores above 0.05 here
    assert record["max_abs"] == record["max_abs_score"] < 1e-5
    assert record["max_abs_box_px"] < 1e-3
    assert record["tolerance"] == {"max_abs_score": 0.0002, "max_abs_box_px": 0.02}


def tampered(artifact: Artifact, folder: Path, change: Any) -> Artifact:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(artifact.model_path)
    bias = next(t for t in model.graph.initializer if "cv3" in t.name and list(t.dims) == [len(CLASS_NAMES)])
    bias.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(bias)), bias.name))
    onnx.save(model, folder / "model.onnx")
    return seal(folder, ("model.onnx",), artifact.sidecar)


def test_a_wrong_artifact_fails_and_says_so(artifact: Artifact, tmp_path: Path) -> None:
    wrong = tampered(artifact, tmp_path, lambda bias: bias + np.float32(0.1))
    with pytest.raises(InputError) as caught:
        parity.require(source("yolo11p").module, wrong, photographs(2, 64, 96), target("onnx-fp32"))
    record = read_json(tmp_path / "parity.json")
    assert record["passed"] is False
    assert 0.005 < record["max_abs"] < 0.03  # a logit moved by 0.1 moves a score by at most 0.025
    assert caught.value.problems == (
        f"onnx-fp32: parity: max_abs_score is {record['max_abs']:.3g} on 2 images, tolerance 0.0002; export in a "
        "higher precision, or raise tolerance.max_abs_score if the accuracy bears it",
    )


def test_outputs_that_are_not_finite_fail(artifact: Artifact, tmp_path: Path) -> None:
    wrong = tampered(artifact, tmp_path, lambda bias: bias * np.float32(np.nan))
    with pytest.raises(InputError, match="max_abs_score is not finite on 1 images"):
        parity.require(source("yolo11p").module, wrong, photographs(1, 64, 96), target("onnx-fp32"))
    assert read_json(tmp_path / "parity.json")["max_abs"] is None


def test_a_fixed_batch_is_filled_up_and_a_dynamic_size_is_tried_twice(artifact: Artifact) -> None:
    images = photographs(5, 64, 96)
    fixed = artifact.sidecar.model_copy(update={"input_shape": (4, 3, 64, 96)})
    batches = list(parity._batches(images, fixed))
    assert [(batch.shape, count) for batch, count in batches] == [((4, 64, 96, 3), 4), ((4, 64, 96, 3), 1)]
    np.testing.assert_array_equal(batches[1][0][3], images[4])
    dynamic = artifact.sidecar.model_copy(update={"input_shape": (None, 3, None, None)})
    shapes = [(batch.shape, count) for batch, count in parity._batches(images, dynamic)]
    assert shapes == [((4, 64, 96, 3), 4), ((1, 64, 96, 3), 1), ((4, 128, 224, 3), 4)]


def test_an_artifact_that_no_runtime_opens(artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    broken = seal(tmp_path, ("model.onnx",), artifact.sidecar)
    with pytest.raises(EnvironmentFault, match=r"onnx-fp32: onnxruntime cannot load model\.onnx"):
        parity.compare(source("yolo11p").module, broken, photographs(1, 64, 96), target("onnx-fp32"))


def test_ranked_rows_are_paired_by_class_and_overlap() -> None:
    ours = rows((0, 0.9, 0), (50, 0.8, 1), (80, 0.7, 1))
    theirs = rows((50.25, 0.895, 1), (0, 0.89, 0), (80, 0.7, 1))
    assert parity.pair_rows(ours, theirs, TOLERANCE).tolist() == [[0, 1], [1, 0], [2, 2]]
    found = ranked(ours, theirs)
    assert found.score == pytest.approx(0.095, abs=1e-6)
    assert found.box_px == 0.25


def test_rows_that_swap_at_the_end_of_the_list_do_not_count() -> None:
    found = ranked(rows((0, 0.9, 0), (30, 0.3004, 0)), rows((0, 0.9, 0), (33, 0.3001, 0)))
    assert found.box_px == 0
    assert found.score == pytest.approx(0.0003, abs=1e-6)


def test_a_row_that_vanished_or_was_invented_counts_with_what_its_score_changed_at_least() -> None:
    both, one = rows((0, 0.9, 0), (30, 0.6, 0)), rows((0, 0.9, 0), (60, 0.01, 0))
    assert ranked(both, one).score == pytest.approx(0.55, abs=1e-6)  # from 0.6 to below 0.05
    assert ranked(one, both).score == pytest.approx(0.55, abs=1e-6)


def test_low_scores_are_no_matter_in_ranked_lists() -> None:
    assert ranked(rows((0, 0.04, 0)), rows((90, 0.03, 1))) == parity.Differences()
