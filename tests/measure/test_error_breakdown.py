"""The breakdown of errors: each kind by hand, and beside the official tool."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekd.measure.error_breakdown import KINDS, ErrorBreakdown, error_breakdown
from edgekd.types import Detections, GroundTruth

CLASSES = 3
# Recorded from tidecv 1.0.1 (numpy 2.4.6, pycocotools 2.0.11) on `scene()`: AP, counts and dAP at its default IoUs.
TIDE_AP = 0.3964097127562166
TIDE_COUNTS = {"classification": 10, "localisation": 13, "both": 7, "duplicate": 16, "background": 6, "missed": 36}
TIDE_COSTS = {
    "classification": 0.04883366428293357, "localisation": 0.07259391539021046, "both": 0.02073797489573394,
    "duplicate": 0.025381089765875657, "background": 0.02078847947806004, "missed": 0.23862023513340916,
}  # fmt: skip


def truth(image_id: int, *objects: tuple[int, list[float]], crowds: int = 0) -> GroundTruth:
    """Class and box of each object; the last `crowds` of them are crowd regions."""
    count = len(objects)
    return GroundTruth(
        image_id, f"{image_id}.png", 100, 100,
        np.array([box for _, box in objects], np.float32).reshape(-1, 4), np.array([c for c, _ in objects], np.int64),
        np.arange(count) >= count - crowds,
    )  # fmt: skip


def found(*rows: tuple[int, float, list[float]]) -> Detections:
    """Class, score and box of each detection."""
    return Detections(
        np.array([box for _, _, box in rows], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in rows], np.float32),
        np.array([class_id for class_id, _, _ in rows], np.int64),
    )


def counts(breakdown: ErrorBreakdown) -> dict[str, int]:
    return {kind: count for kind, count in breakdown.counts.items() if count}


BOX, FAR = [10.0, 10, 30, 30], [60.0, 60, 80, 80]


@pytest.mark.parametrize(
    ("row", "kinds"),
    [
        ((0, 0.9, BOX), {}),
        ((0, 0.9, [10, 10, 30, 18]), {"localisation": 1}),  # IoU 0.4
        ((1, 0.9, BOX), {"classification": 1}),
        ((1, 0.9, [10, 10, 30, 18]), {"both": 1, "missed": 1}),
        ((0, 0.9, FAR), {"background": 1, "missed": 1}),
        ((2, 0.9, [10, 10, 30, 11]), {"background": 1, "missed": 1}),  # IoU 0.05
    ],
)
def test_each_kind_by_hand(row: tuple[int, float, list[float]], kinds: dict[str, int]) -> None:
    breakdown = error_breakdown([truth(1, (0, BOX))], {1: found(row)}, CLASSES)
    assert counts(breakdown) == kinds
    mends = [kind for kind in kinds if kind in ("localisation", "classification")]
    assert {kind: cost for kind, cost in breakdown.costs.items() if cost} == {
        kind: pytest.approx(1.0) for kind in mends
    }


def test_duplicates_cost_what_stands_above_an_object() -> None:
    """Of two objects the second is found after a duplicate: precision 1, then 2 of 3 from half the recall on."""
    rows = found((0, 0.9, BOX), (0, 0.8, BOX), (0, 0.7, FAR))
    breakdown = error_breakdown([truth(1, (0, BOX), (0, FAR))], {1: rows}, CLASSES)
    assert counts(breakdown) == {"duplicate": 1}
    assert breakdown.ap50 == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert breakdown.costs["duplicate"] == pytest.approx(1 - breakdown.ap50)


def test_of_several_errors_at_an_object_the_best_is_mended() -> None:
    """A wrong place before a wrong class: mending the class mends nothing, as the other would find the object."""
    rows = found((0, 0.9, [10, 10, 30, 18]), (1, 0.8, BOX))
    breakdown = error_breakdown([truth(1, (0, BOX))], {1: rows}, CLASSES)
    assert counts(breakdown) == {"localisation": 1, "classification": 1}
    assert breakdown.costs["localisation"] == pytest.approx(1.0) and breakdown.costs["classification"] == 0


def test_missed_objects_count_no_more() -> None:
    breakdown = error_breakdown([truth(1, (0, BOX)), truth(2, (0, BOX))], {1: found((0, 0.9, BOX))}, CLASSES)
    assert counts(breakdown) == {"missed": 1}
    assert breakdown.ap50 == pytest.approx(51 / 101) and breakdown.costs["missed"] == pytest.approx(50 / 101)


def test_detections_in_a_crowd_are_no_errors_and_a_crowd_is_not_missed() -> None:
    image = truth(1, (0, BOX), (0, [50, 50, 90, 90]), crowds=1)
    rows = found((0, 0.9, BOX), (0, 0.8, FAR), (1, 0.7, FAR))
    assert counts(error_breakdown([image], {1: rows}, CLASSES)) == {
        "background": 1
    }  # of the class that the crowd is not


def test_empty_sets() -> None:
    nothing = error_breakdown([truth(1)], {}, CLASSES)
    assert nothing.ap50 == 0 and not counts(nothing) and not any(nothing.costs.values())
    assert counts(error_breakdown([truth(1)], {1: found((0, 0.9, BOX))}, CLASSES)) == {"background": 1}
    assert counts(error_breakdown([truth(1, (0, BOX))], {}, CLASSES)) == {"missed": 1}
    assert counts(error_breakdown([truth(1, (0, BOX))], {1: found()}, CLASSES)) == {"missed": 1}


def test_the_best_hundred_of_an_image_count() -> None:
    rows = found(*((0, 0.9 - index / 1000, FAR) for index in range(100)), (0, 0.1, BOX))
    assert counts(error_breakdown([truth(1, (0, BOX))], {1: rows}, CLASSES)) == {"background": 100, "missed": 1}


def scene(images: int = 40) -> tuple[list[GroundTruth], dict[int, Detections]]:
    """Objects, and detections of some of them that are moved, of another class, twice there, or of nothing."""
    rng = np.random.default_rng(7)
    truths, detections = [], {}
    for image_id in range(images):
        objects, rows = [], []
        for _ in range(int(rng.integers(0, 5))):
            corner = rng.uniform(0, 60, 2)
            box = [*corner.tolist(), *(corner + rng.uniform(10, 40, 2)).tolist()]
            class_id = int(rng.integers(CLASSES))
            objects.append((class_id, box))
            for _ in range(int(rng.integers(0, 3))):
                moved = (np.array(box) + rng.normal(0, 3.0, 4)).tolist()
                rows.append(
                    (class_id if rng.random() < 0.7 else int(rng.integers(CLASSES)), float(rng.random()), moved)
                )
        if rng.random() < 0.5:
            corner = rng.uniform(0, 60, 2)
            rows.append((int(rng.integers(CLASSES)), float(rng.random()), [*corner, *(corner + 25)]))
        truths.append(truth(image_id, *objects))
        detections[image_id] = found(*rows)
    return truths, detections


def test_equals_what_the_official_tool_found() -> None:
    breakdown = error_breakdown(*scene(), CLASSES)
    assert breakdown.counts == TIDE_COUNTS
    assert breakdown.ap50 == pytest.approx(TIDE_AP, abs=1e-9)
    assert breakdown.costs == {kind: pytest.approx(cost, abs=1e-9) for kind, cost in TIDE_COSTS.items()}


def test_equals_the_official_tool() -> None:
    pytest.importorskip("tidecv", reason="tidecv is not installed (pip install tidecv==1.0.1)")
    truths, detections = scene(80)
    ap, numbers, costs = of_tide(truths, detections)
    breakdown = error_breakdown(truths, detections, CLASSES)
    assert breakdown.counts == numbers and breakdown.ap50 == pytest.approx(ap, abs=1e-9)
    assert breakdown.costs == {kind: pytest.approx(cost, abs=1e-9) for kind, cost in costs.items()}


def of_tide(
    truths: list[GroundTruth], detections: dict[int, Detections]
) -> tuple[float, dict[str, int], dict[str, float]]:
    """AP, counts and costs of tidecv, AP in 0..1."""
    import tidecv

    data: list[Any] = [tidecv.Data("truth"), tidecv.Data("found")]
    for image in truths:
        for part in data:
            part.add_image(image.image_id, image.file_name)
        for class_id, box in zip(image.class_ids, xywh(image.boxes_px), strict=True):
            data[0].add_ground_truth(image.image_id, int(class_id), box)
        one = detections[image.image_id]
        for class_id, score, box in zip(one.class_ids, one.scores, xywh(one.boxes_px), strict=True):
            data[1].add_detection(image.image_id, int(class_id), float(score), box)
    tide = tidecv.TIDE()
    run = tide.evaluate(*data, mode=tidecv.TIDE.BOX, name="run")
    names = dict(zip(("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"), KINDS, strict=True))
    numbers = {names[kind.short_name]: count for kind, count in run.count_errors().items()}
    costs = {names[kind]: cost / 100 for kind, cost in tide.get_main_errors()["run"].items()}
    return run.ap / 100, numbers, costs


def xywh(boxes: np.ndarray[Any, Any]) -> list[list[float]]:
    corners = boxes.astype(np.float64)
    return np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]).tolist()  # type: ignore[no-any-return]
