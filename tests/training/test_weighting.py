"""A weight that holds a share: by hand, over time, in the resume state, and in the loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from edgekd.distill.contract import distiller_type
from edgekd.training.weighting import DECAY, GRADIENT_STEPS, AutoWeight, gradient_norm
from tests.training.steps import batch_of, module_of


def test_by_hand() -> None:
    auto = AutoWeight(share=0.5)
    assert float(auto.of(torch.tensor(6.0), torch.tensor(2.0))) == pytest.approx(
        0.5 * 6 / 2
    )  # the first: its own ratio
    second = auto.of(torch.tensor(3.0), torch.tensor(8.0))
    loss, term = (DECAY * 6 + 3) / (DECAY + 1), (DECAY * 2 + 8) / (DECAY + 1)
    assert float(second) == pytest.approx(0.5 * loss / term)


def test_the_share_is_held_as_losses_fall() -> None:
    """A loss that falls a hundredfold, a term that falls tenfold: the share stays, but for the lag of the average."""
    auto = AutoWeight(share=0.2)
    shares = []
    for step in range(2000):
        loss, term = torch.tensor(100.0 ** (1 - step / 2000)), torch.tensor(10.0 ** (-step / 2000))
        shares.append(float(auto.of(loss, term) * term / loss))
    assert max(abs(share - 0.2) for share in shares) < 0.2 * 0.15


def test_a_method_without_anything_to_teach_stays_bounded() -> None:
    assert float(AutoWeight(0.2).of(torch.tensor(1.0), torch.tensor(0.0))) == pytest.approx(0.2 / 1e-8)


def test_state_goes_on_as_it_was() -> None:
    first, second = AutoWeight(0.2), AutoWeight(0.2)
    for value in (1.0, 2.0, 3.0):
        first.of(torch.tensor(value), torch.tensor(1 / value))
    second.restore(first.state())
    assert torch.equal(*(auto.of(torch.tensor(5.0), torch.tensor(7.0)) for auto in (first, second)))


def test_the_loss_has_the_share(tiny_digits: Path) -> None:
    batch = batch_of(tiny_digits)
    module = module_of({"logit": {"weight": "auto", "share": 0.3}, "cwd": {"weight": "auto"}, "pkd": {}})
    module(batch)
    module.balance.flush()
    rows = {row["term"]: row for row in module.balance.rows}
    assert rows["logit.class"]["weighted"] / rows["detection"]["weighted"] == pytest.approx(0.3, rel=1e-4)
    assert rows["cwd.feature"]["weighted"] / rows["detection"]["weighted"] == pytest.approx(0.2, rel=1e-4)
    assert rows["pkd.feature"]["weight"] == 10.0
    state = module.progress()
    again = module_of({"logit": {"weight": "auto", "share": 0.3}, "cwd": {"weight": "auto"}, "pkd": {}})
    again.go_on_from(state)
    assert again._auto["logit"].state() == module._auto["logit"].state() != {"averages": None, "mass": 0.0}


@pytest.mark.parametrize("given", ["automatic", -1, True, float("nan"), float("inf"), None])
def test_what_is_no_weight_is_refused(given: object) -> None:
    with pytest.raises(ValidationError, match="must be a number from 0 on, or auto"):
        distiller_type("cwd").config_type.model_validate({"weight": given})


def test_a_share_without_auto_is_refused() -> None:
    with pytest.raises(ValidationError, match="share: only with 'weight: auto'"):
        distiller_type("cwd").config_type.model_validate({"share": 0.1})


def test_a_share_of_the_gradient(tiny_digits: Path) -> None:
    """Measured again as the first-steps report does; where the gradients are not looked at, the weight stays."""
    batch = batch_of(tiny_digits)
    given = {"weight": "auto", "share": 0.3, "share_of": "gradient"}
    module = module_of({"logit": given, "pkd": {**given, "share": 0.1}})
    for _ in range(GRADIENT_STEPS):
        module(batch)
    module.balance.flush()
    first, second, *_ = (
        {row["term"]: row["weight"] for row in module.balance.rows if row["step"] == step} for step in (0, 1)
    )
    assert first == second
    norms = {step.term: step.norm for step in reversed(module.balance.first)}  # of the first step
    for name, share in (("logit.class", 0.3), ("pkd.feature", 0.1)):
        assert norms[name] / norms["detection"] == pytest.approx(share, rel=1e-3)
    assert module._auto["logit"].state()["mass"] == pytest.approx(1 - DECAY**GRADIENT_STEPS)
    module(batch)
    assert module._auto["logit"].state()["mass"] == pytest.approx(1 - DECAY ** (2 * GRADIENT_STEPS))


def test_gradient_norm_by_hand() -> None:
    """d/dx of 3 x y at (2, 5) is 15, d/dy is 6; what is not connected counts for nothing."""
    x, y, other = (torch.tensor(value, requires_grad=True) for value in (2.0, 5.0, 1.0))
    assert float(gradient_norm(3 * x * y, [x, y, other])) == pytest.approx((15**2 + 6**2) ** 0.5)
    assert gradient_norm(x * 2, [other]) is None


def test_share_of_without_auto_is_refused() -> None:
    with pytest.raises(ValidationError, match="share_of: only with 'weight: auto'"):
        distiller_type("cwd").config_type.model_validate({"share_of": "gradient"})
