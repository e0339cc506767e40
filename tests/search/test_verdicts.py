"""Which candidates fit, which are dominated, which are measured next, and which not at all."""

from __future__ import annotations

from typing import Any

import pytest

from edgekd.gate.policy import GateConfig
from edgekd.search.latency_fit import Prediction
from edgekd.search.verdicts import (
    Result,
    beats,
    budgets_of,
    dominated_by,
    excess,
    fits,
    nearest,
    next_to_measure,
    predicted_out,
    surpassed_by,
)
from tests.search.made import candidate, measured

NANO = candidate("yolo11n", coco_ap=39.5)
SMALL = candidate("yolo11s", gflops=21.5, parameters=9_400_000, coco_ap=47.0)
OTHER = candidate("yolov8n", gflops=8.7, parameters=3_200_000, coco_ap=37.3)
PICO = candidate("yolo11p", gflops=2.0, parameters=800_000)


def gate(**budgets: Any) -> GateConfig:
    return GateConfig.model_validate(budgets)


def test_a_budget_is_the_targets_own_else_the_least_of_the_device() -> None:
    budgets = gate(max_p90_ms={"a@board": 20.0, "b@board": 10.0, "a@desk": 1.0}, max_memory_mb={"a@board": 100.0})
    assert budgets_of(budgets, "a", "board") == {"max_p90_ms": 20.0, "max_memory_mb": 100.0}
    assert budgets_of(budgets, "c", "board") == {"max_p90_ms": 10.0, "max_memory_mb": 100.0}
    assert budgets_of(budgets, "a", "phone") == {}


def test_what_fits() -> None:
    budgets = {"max_p90_ms": 20.0, "max_memory_mb": 100.0}
    assert excess(measured(9, 10.0, memory_mb=150), budgets) == {"max_p90_ms": 0.5, "max_memory_mb": 1.5}
    assert fits(measured(9, 20.0, memory_mb=100), budgets) is True
    assert fits(measured(9, 20.1, memory_mb=100), budgets) is False
    assert fits(measured(9, 10.0), budgets) is None  # its memory is not known
    assert fits(measured(9, 30.0), budgets) is False  # whatever its memory is
    assert fits(measured(9, 10.0), {}) is None
    assert fits(Result("invalid", "busy"), budgets) is None


@pytest.mark.parametrize(
    ("one", "other", "as_good"),
    [
        (SMALL, NANO, True),  # by published AP
        (NANO, SMALL, False),
        (NANO, OTHER, True),  # of another series, by published AP
        (NANO, PICO, True),  # of one series, by weights
        (PICO, NANO, False),
        (OTHER, PICO, False),  # nothing is known of the two
        (NANO, candidate("yolo11n", 320), True),
        (candidate("yolo11n", 320), NANO, False),
        (NANO, candidate(target_name="onnx-fp16"), True),
        (candidate(target_name="onnx-fp16"), NANO, False),
        (candidate("yolo11s", 320, coco_ap=47.0), NANO, False),  # larger, but sees less
    ],
)
def test_who_is_at_least_as_good_before_training(one: Any, other: Any, as_good: bool) -> None:
    assert one.at_least_as_good(other) is as_good


def test_faster_and_as_good_beats_and_so_does_as_fast_and_better() -> None:
    assert beats((NANO, measured(10)), (OTHER, measured(12)))
    assert beats((NANO, measured(10)), (OTHER, measured(10)))
    assert not beats((NANO, measured(12)), (OTHER, measured(10)))
    half = candidate(target_name="openvino-fp32", coco_ap=39.5)  # as good as the other target of the same model
    assert beats((NANO, measured(10)), (half, measured(12)))
    assert not beats((NANO, measured(10)), (half, measured(10)))
    assert not beats((NANO, measured(10, spread=0.3)), (half, measured(12)))  # closer than its processes


def test_the_fastest_of_those_that_beat_is_named() -> None:
    results = {one.name: measured(ms) for one, ms in ((NANO, 10), (SMALL, 9), (OTHER, 11))}
    everyone = [NANO, SMALL, OTHER, PICO]
    results[PICO.name] = Result()
    assert dominated_by(OTHER, results, everyone) == SMALL.name
    assert dominated_by(NANO, results, everyone) == SMALL.name
    assert dominated_by(SMALL, results, everyone) is None


def test_the_nearest_breaks_its_worst_budget_least() -> None:
    budgets = {one.name: {"max_p90_ms": 10.0, "max_memory_mb": 100.0} for one in (NANO, SMALL, OTHER)}
    results = {
        NANO.name: measured(10, 11.0, memory_mb=200),
        SMALL.name: measured(14, 15.0, memory_mb=50),
        OTHER.name: Result("invalid", "busy"),
    }
    assert nearest([NANO, SMALL, OTHER], results, budgets) == (SMALL, "max_p90_ms", 1.5)
    assert nearest([OTHER], results, budgets) is None


def test_a_prediction_rules_out_only_after_a_few_points_and_only_at_its_best() -> None:
    far = Prediction(30.0, 21.0, 45.0)
    assert predicted_out(SMALL, far, 3, 20.0, []) == "predicted beyond its budget"
    assert predicted_out(SMALL, far, 2, 20.0, []) is None
    assert predicted_out(SMALL, Prediction(30.0, 19.0, 45.0), 3, 20.0, []) is None
    assert predicted_out(SMALL, None, 3, 20.0, []) is None
    assert predicted_out(SMALL, far, 3, None, []) is None


def test_a_prediction_rules_out_what_would_be_dominated() -> None:
    slow = Prediction(15.0, 12.0, 19.0)
    said = predicted_out(OTHER, slow, 3, None, [(NANO, measured(9, 10.0), True)])
    assert said == "predicted slower than yolo11n-640/onnx-fp32, which is as good or better"
    assert predicted_out(OTHER, slow, 3, None, [(NANO, measured(9, 13.0), True)]) is None
    assert predicted_out(OTHER, slow, 3, None, [(NANO, measured(9, 10.0), False)]) is None  # over its own budget
    assert predicted_out(SMALL, slow, 3, None, [(NANO, measured(9, 10.0), True)]) is None  # it may be the better one


def test_the_queue_begins_with_the_least_work_of_each_target() -> None:
    half = candidate("yolo11p", 640, "onnx-fp16", gflops=2.5)
    predictions = {one.name: Prediction(5, 4, 6) for one in (NANO, SMALL)} | {PICO.name: None, half.name: None}
    limits = dict.fromkeys(predictions, None)
    assert next_to_measure([NANO, SMALL, half, PICO], predictions, limits, {"onnx-fp32": [2.0]}) is PICO


def test_then_comes_what_is_nearest_to_its_budget() -> None:
    predictions = {NANO.name: Prediction(5, 4, 6), SMALL.name: Prediction(18, 14, 23), OTHER.name: Prediction(7, 5, 9)}
    limits: dict[str, float | None] = dict.fromkeys(predictions, 20.0)
    assert next_to_measure([NANO, SMALL, OTHER], predictions, limits, {"onnx-fp32": [2.0]}) is SMALL


def test_without_a_budget_comes_what_differs_most_from_all_that_is_known() -> None:
    predictions = {NANO.name: Prediction(5, 4, 6), SMALL.name: Prediction(18, 14, 23), OTHER.name: Prediction(7, 5, 9)}
    limits: dict[str, float | None] = dict.fromkeys(predictions, None)
    assert next_to_measure([NANO, SMALL, OTHER], predictions, limits, {"onnx-fp32": [2.0, 7.0]}) is SMALL


def test_what_is_worse_than_one_that_keeps_the_budgets_is_surpassed() -> None:
    assert surpassed_by(PICO, [OTHER, NANO]) == NANO.name
    assert surpassed_by(NANO, [NANO, OTHER]) is None
    assert surpassed_by(candidate("yolo11n", coco_ap=39.5, target_name="openvino-fp32"), [NANO]) is None  # as good
