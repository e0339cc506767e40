"""Shares, gradient norms and the rows of terms.csv, by hand."""

from __future__ import annotations

import pytest
import torch

from edgekd.errors import InputError
from edgekd.training.balance import REPORT_STEPS, Balance, Term


def observed(weight: float, factor: float = 1.0) -> Balance:
    balance = Balance()
    for step in range(REPORT_STEPS):
        anchor = torch.tensor([3.0, 4.0], requires_grad=True)
        detection, term = (anchor * 2).sum(), (anchor**2).sum() / 2  # 14 and 12.5; gradients (2, 2) and (3, 4)
        balance.observe(
            step, step / 10, [Term("detection", detection), Term("kd.x", term, weight, factor, 8.0)], {"tap": anchor}
        )
    balance.flush()
    return balance


def test_report_by_hand() -> None:
    detection, term = observed(weight=0.1, factor=0.0).report()["terms"]
    assert detection["gradient_norm"] == pytest.approx(8**0.5)
    assert term["gradient_norm"] == pytest.approx(5 * 0.1 * 8)
    assert term["share"] == pytest.approx(10 / 24)  # 12.5 * 0.1 * 8 of 24: the report looks past the warm-up
    assert term["value"] == pytest.approx(12.5)
    assert term["weight"] == 0.1
    assert term["warning"] is None


def test_share_of_matching_is_a_median_of_the_steps_behind_the_first() -> None:
    """Those report gradients, and are slower; a hiccup of one step decides nothing."""
    balance = observed(weight=0.1)
    assert "matching" not in balance.report()
    balance.pace(REPORT_STEPS, 5.0, 5.0)
    for step, (matching_s, step_s) in enumerate([(0.02, 0.4), (0.03, 0.3), (0.02, 9.0)], REPORT_STEPS + 1):
        balance.pace(step, matching_s, step_s)
    found = Balance.from_state(balance.state()).report()["matching"]
    assert found == {"steps": 3, "ms": 20.0, "step_ms": 400.0, "share_of_step": pytest.approx(0.05)}


@pytest.mark.parametrize(("weight", "text"), [(0.0001, "under 1 %"), (1.0, "over 50 %")])
def test_shares_out_of_bounds_warn(weight: float, text: str) -> None:
    assert text in observed(weight).report()["terms"][1]["warning"]


def test_rows_follow_the_schedule() -> None:
    rows = observed(weight=0.1, factor=0.5).rows
    assert [row["term"] for row in rows] == ["detection", "kd.x"] * REPORT_STEPS
    assert rows[1]["weighted"] == pytest.approx(12.5 * 0.1 * 0.5 * 8)
    assert rows[1]["weight"] == pytest.approx(0.05)
    assert rows[0]["share"] + rows[1]["share"] == pytest.approx(1)


def test_a_term_that_does_not_reach_the_student_is_an_error() -> None:
    anchor, adapter = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    terms = [Term("detection", anchor.sum()), Term("kd.x", (adapter * anchor.detach()).sum())]
    with pytest.raises(InputError, match=r"term 'kd\.x' has no gradient"):
        Balance().observe(0, 0.0, terms, {"tap": anchor})


def test_no_gradient_because_nothing_is_left_to_learn_is_no_error() -> None:
    anchor = torch.ones(2, requires_grad=True)
    terms = [Term("detection", anchor.sum()), Term("kd.x", ((anchor - 1) ** 2).sum())]
    Balance().observe(0, 0.0, terms, {"tap": anchor})
