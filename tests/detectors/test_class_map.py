"""A teacher's logits in the order of the data's classes, whatever its head."""

from __future__ import annotations

import pytest
import torch

from edgekd.detectors.class_map import ClassMap, columns_of
from edgekd.detectors.class_matching import match_classes
from edgekd.detectors.outputs import DensePredictions, DetectorOutput, QueryPredictions

NAMES = ("fox", "bear", "owl")


def dense(logits: torch.Tensor) -> DetectorOutput:
    count = logits.shape[1]
    points = torch.zeros(count, 2)
    predictions = DensePredictions(points, torch.ones(count), ((1, count),), lambda: logits, logits)
    return DetectorOutput({}, {"one2many": predictions})


def query(logits: torch.Tensor) -> DetectorOutput:
    return DetectorOutput(
        {}, {}, QueryPredictions(logits, torch.zeros(*logits.shape[:3], 4), tuple(range(len(logits))))
    )


@pytest.mark.parametrize("kind", ["dense", "query"])
def test_columns_are_reordered_and_unknown_ones_masked(kind: str) -> None:
    """The teacher knows owl, cat and fox; of bear it has nothing to say, whatever head it has."""
    logits = torch.arange(6.0).reshape(1, 2, 3)
    output = dense(logits) if kind == "dense" else query(logits[None])
    mapped = ClassMap.by_name(("Owl", "cat", "fox"), NAMES).apply(output)
    found = mapped.dense["one2many"] if kind == "dense" else mapped.queries
    assert found is not None
    assert found.known_classes is not None
    assert found.known_classes.tolist() == [True, False, True]
    assert found.class_logits.reshape(2, 3)[:, [0, 2]].tolist() == [[2.0, 0.0], [5.0, 3.0]]


@pytest.mark.parametrize("kind", ["dense", "query"])
def test_nothing_is_masked_where_all_are_known(kind: str) -> None:
    logits = torch.arange(6.0).reshape(1, 2, 3)
    output = dense(logits) if kind == "dense" else query(logits[None])
    mapped = ClassMap.by_name(NAMES[::-1], NAMES).apply(output)
    found = mapped.dense["one2many"] if kind == "dense" else mapped.queries
    assert found is not None
    assert found.known_classes is None
    assert found.class_logits.reshape(2, 3).tolist() == [[2.0, 1.0, 0.0], [5.0, 4.0, 3.0]]


def test_a_column_may_serve_two_classes() -> None:
    matches = match_classes(["bird", "fox"], NAMES, {"bear": "bird", "owl": "bird"})
    mapped = ClassMap.of(matches).apply(dense(torch.tensor([[[1.0, 2.0]]])))
    assert mapped.dense["one2many"].class_logits.tolist() == [[[2.0, 1.0, 1.0]]]


def test_identity_is_the_same_classes_and_no_others() -> None:
    assert ClassMap.by_name(NAMES, NAMES).is_identity(3)
    assert ClassMap.identity(3).is_identity(3)
    assert not ClassMap.by_name((*NAMES, "cat"), NAMES).is_identity(4)
    assert not ClassMap.by_name(NAMES[::-1], NAMES).is_identity(3)
    assert not ClassMap.by_name(("fox", "bear"), NAMES).is_identity(2)


def test_columns_of_unknown_classes_are_minus_one() -> None:
    assert columns_of(match_classes(("owl", "cat", "fox"), NAMES)) == [2, -1, 0]
