"""Why a method cannot serve a pair, and which methods serve a pair that another does not."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from edgekd.detectors.spec import Spec
from edgekd.distill import contract
from edgekd.distill.config import DistillerConfig
from edgekd.distill.contract import Distiller, Pair, Wiring, distiller_type
from edgekd.stages.method_fit import instead_of
from edgekd.stages.models import method_problems

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


def problems(name: str, student: Spec, teacher: Spec, **keys: object) -> list[str]:
    """As `edgekd methods --for` asks."""
    config = distiller_type(name).config_type.model_validate(keys)
    sides, side = pair_of(student, teacher), SimpleNamespace(runtime="eager", detector=SimpleNamespace(spec=teacher))
    pair = SimpleNamespace(teachers={"teacher": side}, of_methods=lambda _: sides)
    return method_problems(pair, name, config)  # type: ignore[arg-type]


def test_a_tap_that_is_missing_is_told_beside_what_else_is_in_the_way() -> None:
    head, tap = problems("frs", DENSE, QUERY, teacher_taps="encoder")
    assert head == (
        "frs needs a dense head on both sides; student yolo11n has a dense head, teacher rtdetr-n has a query head"
    )
    assert tap.startswith("frs: teacher rtdetr-n: unknown tap 'encoder'")


def test_a_method_of_another_package_that_fails_is_told_as_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Distiller):
        config_type = DistillerConfig

        def build(self, pair: Pair) -> Wiring:
            raise KeyError("neck.9")

    monkeypatch.setitem(contract._REGISTRY, "failing", Failing)
    assert problems("failing", DENSE, DENSE) == ["failing of package tests fails: KeyError: 'neck.9'"]
    monkeypatch.setattr(Failing, "__module__", "edgekd.distill.neck.failing")
    with pytest.raises(KeyError):
        problems("failing", DENSE, DENSE)
