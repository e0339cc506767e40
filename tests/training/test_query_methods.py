"""Methods on queries in a whole training: matching is timed, the average teaches, and layers may be computed anew."""

from __future__ import annotations

import json
from pathlib import Path

from edgekd.distill.config import EMA, MAIN
from edgekd.training.fit import fit
from edgekd.training.teacher import EmaTeacher

from .helpers import detector, methods, plan, teacher


def test_a_training_with_a_teacher_and_with_the_average(tiny_digits: Path, tmp_path: Path) -> None:
    chosen = methods(
        detrdistill={"features": 0, "queries": 0, "matched": 20},
        od_detr={"teacher": EMA, "matching": 0, "layers": "last"},
        kd_detr={"general": 10, "specific": 10},
    )
    tutors = {MAIN: teacher("rtdetr-n"), EMA: EmaTeacher(detector("rtdetr-p").spec)}
    fit(plan(tiny_digits, "rtdetr-p", chosen, batch=2), tutors, tmp_path, "student")  # type: ignore[arg-type]
    assert (tmp_path / "student.pt").is_file()
    found = json.loads((tmp_path / "first_steps.json").read_text())
    terms = {term["term"]: term for term in found["terms"]}
    assert set(terms) == {
        "detection", "detrdistill.class", "detrdistill.l1", "detrdistill.giou", "od_detr.prediction",
        "od_detr.auxiliary", "kd_detr.class", "kd_detr.l1", "kd_detr.giou",
    }  # fmt: skip
    assert terms["kd_detr.class"]["gradient_norm"] > 0
    assert terms["od_detr.auxiliary"]["gradient_norm"] > 0
    assert 0 < found["matching"]["share_of_step"] < 1
    assert found["matching"]["steps"] >= 1
