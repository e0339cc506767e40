"""Why a method cannot serve a pair, and which methods serve a pair that another does not."""

from __future__ import annotations

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


SERVE = ("cwd", "fgd", "kd_detr", "mimic", "pkd", "qskd", "score_l2", "searched", "unikd")


def hint(name: str, student: Spec, teacher: Spec, serve: tuple[str, ...] = SERVE) -> str:
    return instead_of(name, pair_of(student, teacher), serve.__contains__)


def test_methods_that_serve_a_pair_of_queries_are_named_those_on_queries_first() -> None:
    """Then what serves between any two detectors, then the others."""
    assert hint("detrdistill", QUERY, QUERY) == (
        "; methods that serve this pair: kd_detr, qskd, pkd, unikd, cwd, fgd, ... (edgekd methods --for RECIPE)"
    )
    assert hint("kd_detr", QUERY, DENSE, ("cwd", "kd_detr")) == (
        "; methods that serve this pair: cwd (edgekd methods --for RECIPE)"
    )


def test_the_head_that_has_queries_or_the_method_asks_for_a_hint() -> None:
    assert hint("ld", QUERY, QUERY).startswith("; methods that serve this pair: ")
    assert hint("dlim", DENSE, DENSE).startswith("; methods that serve this pair: ")
    assert hint("ld", DENSE, DENSE) == "" and hint("detrdistill", QUERY, DENSE, ()) == ""


@pytest.mark.parametrize(
    ("student", "teacher", "among", "not_among"),
    [
        (DENSE, QUERY, ["kd_detr", "pkd"], ["qskd", "logit", "clockdistill"]),
        (QUERY, DENSE, ["pkd"], ["kd_detr", "logit"]),
    ],
    ids=["query to dense", "dense to query"],
)
def test_what_is_named_serves_the_pair(student: Spec, teacher: Spec, among: list[str], not_among: list[str]) -> None:
    named = instead_of("detrdistill", pair_of(student, teacher), lambda name: not problems(name, student, teacher))
    assert set(among) <= set(named.partition(": ")[2].partition(" (")[0].split(", ")), named
    assert not any(name in named for name in not_among)


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
