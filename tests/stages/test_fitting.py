"""Which methods serve a pair that another does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekd.stages.fitting import instead_of

from ..distill.helpers import pair_of, spec
from ..distill.query.fakes import query_spec

DENSE, QUERY = spec("yolo11n"), query_spec("rtdetr-n", layers=3)


@pytest.mark.parametrize(
    ("student", "teacher", "among", "not_among"),
    [
        (DENSE, QUERY, ["kd_detr"], ["qskd", "logit"]),
        (QUERY, DENSE, [], ["kd_detr", "logit"]),
        (QUERY, replace(QUERY, head=replace(QUERY.head, layers=6)), ["kd_detr", "qskd"], ["dlim"]),  # type: ignore[type-var]
    ],
    ids=["query to dense", "dense to query", "other layers"],
)
def test_methods_that_serve_the_pair_are_named(
    student: object, teacher: object, among: list[str], not_among: list[str]
) -> None:
    text = instead_of("detrdistill", pair_of(student, teacher))  # type: ignore[arg-type]
    assert text.startswith("; methods that serve this pair: ")
    assert text.endswith(", ... (edgekd methods --for RECIPE)")
    named = text.partition(": ")[2].partition(" (")[0].split(", ")
    assert len(named) == 7
    assert set(among) <= set(named)
    assert not set(not_among) & set(named)


def test_only_of_methods_on_queries() -> None:
    assert instead_of("logit", pair_of(QUERY, DENSE)) == ""
