"""What a card says that a method reads is what it reads."""

from __future__ import annotations

import pytest
import torch

from edgekd.distill.contract import Distiller, distiller_names, distiller_type
from edgekd.distill.reads import reads

from .helpers import build, spec


@pytest.mark.parametrize(
    ("name", "student", "teacher"),
    [
        ("cwd", ["taps neck"], ["taps neck"]),
        ("score_l2", ["taps neck"], ["taps neck", "class_logits"]),
        ("dkd", ["assignment", "class_logits"], ["class_logits"]),
        ("lad", [], ["boxes", "class_logits"]),
        ("dlim", ["boxes", "class_logits", "self_attention"], ["boxes", "class_logits", "layers", "self_attention"]),
        ("query_ld", ["boxes", "class_logits"], ["boxes", "class_logits", "layers"]),
    ],
)
def test_by_hand(name: str, student: list[str], teacher: list[str]) -> None:
    assert reads(distiller_type(name)) == {"student": student, "teacher": teacher}


def test_it_is_what_the_method_reads_of_a_real_pair() -> None:
    """Of another pair, with other widths and levels."""
    pair = spec("small", (4, 6), backbone=(3, 5), towers=True), spec("large", (5, 6), backbone=(8, 5), towers=True)
    for name in distiller_names():
        if distiller_type(name).card.level in ("backbone", "neck", "head"):
            wiring, told = build(name, *pair).wiring, reads(distiller_type(name))
            assert told is not None
            for side in ("student", "teacher"):
                needs = getattr(wiring, side)
                roles = {f"taps {tap.role}" for tap in needs.taps}
                assert set(told[side]) == roles | set(map(str, needs.parts)), name


def test_no_random_number_is_drawn() -> None:
    before = torch.get_rng_state()
    assert reads(distiller_type("fitnet"))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_method_for_no_plain_pair_is_not_guessed() -> None:
    class Rare(Distiller):
        config_type = distiller_type("cwd").config_type
        requires = (lambda pair: "needs what no plain pair has",)

    assert reads(Rare) is None
