from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.distill.backbone.reviewkd import Fusion, hcl_loss
from edgekd.errors import InputError

from ..helpers import build, random_output, spec, terms


def test_value_by_hand() -> None:
    """Two cells a side: only the mean (1 cell) is below, with 1/2. Differences 1, 2, 3, 6: 12.5 and 3 squared."""
    student = torch.tensor([1.0, 2.0, 3.0, 6.0]).reshape(1, 1, 2, 2)
    expected = (12.5 + 0.5 * 9.0) / 1.5
    assert hcl_loss(student, torch.zeros(1, 1, 2, 2)).item() == pytest.approx(expected)


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (3, 3), (4, 2), (5, 9), (8, 8)])
def test_equals_the_definition(size: tuple[int, int]) -> None:
    student, teacher = torch.randn(2, 3, *size), torch.randn(2, 3, *size)
    sides = [side for side in (4, 2, 1) if side < size[0]]
    scales = [(1.0, student, teacher)] + [
        (0.5 ** (k + 1), *(F.adaptive_avg_pool2d(each, side) for each in (student, teacher)))
        for k, side in enumerate(sides)
    ]
    expected = sum(factor * (a.double() - b.double()).square().mean() for factor, a, b in scales)
    expected = expected / sum(factor for factor, *_ in scales)
    assert hcl_loss(student, teacher).item() == pytest.approx(float(expected), rel=1e-5)


def test_zero_at_identity() -> None:
    feature = torch.randn(2, 3, 8, 8)
    assert hcl_loss(feature, feature).item() == 0.0


def test_a_level_is_joined_with_the_deeper_one() -> None:
    """With the attention at a = 1/2, b = 1/4 everywhere: half of its own map, a quarter of the repeated other one."""
    torch.manual_seed(0)
    fusion = Fusion(4, 8, 5, deepest=False)
    assert fusion.attention is not None
    torch.nn.init.zeros_(fusion.attention.weight)
    fusion.attention.bias.data = torch.tensor([0.0, -torch.log(torch.tensor(3.0))])  # type: ignore[union-attr]
    feature, deeper = torch.randn(2, 4, 4, 4), torch.randn(2, 8, 2, 2)
    out, joined = fusion(feature, deeper)
    repeated = deeper.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(joined, fusion.reduce(feature) / 2 + repeated / 4, atol=1e-6)
    assert torch.allclose(out, fusion.out(joined), atol=1e-6)
    assert out.shape == (2, 5, 4, 4)


def test_what_the_deepest_level_sees_reaches_the_finest_one() -> None:
    """Deep to shallow: a change of the coarsest student map changes the finest comparison, and not the other way."""
    side = spec("a", (4, 4, 4), (8, 16, 32))
    method: Any = build("reviewkd", side, side, width=8)
    student, teacher = random_output(side, size_px=64), random_output(side, size_px=64, seed=1)
    seen: list[list[Tensor]] = []
    for fusion in method.fusions:
        kept: list[Tensor] = []
        seen.append(kept)
        fusion.register_forward_hook(lambda _module, _inputs, outputs, kept=kept: kept.append(outputs[0].detach()))
    terms(method, student, teacher)
    student.taps["neck.32"].data.add_(torch.randn(2, 4, 2, 2))
    terms(method, student, teacher)
    assert all(not torch.equal(*kept) for kept in seen)
    student.taps["neck.8"].data.add_(torch.randn(2, 4, 8, 8))
    terms(method, student, teacher)
    assert [torch.equal(*kept[1:]) for kept in seen] == [False, True, True]


def test_magnitude_beside_a_detection_loss() -> None:
    """Unrelated unit maps: 2 at full size, little of it pooled, over 1 + 1/2 + 1/4 + 1/8."""
    side = spec("a", (64, 64), (8, 16))
    outputs = [random_output(side, size_px=256, seed=seed) for seed in range(2)]
    value = terms(build("reviewkd", side, side), *outputs)["feature"].item()
    assert value == pytest.approx(2 * 2 / 1.875, rel=0.15)
    assert 0.05 < value / 8 < 0.5, "beside a detection loss of 8, at weight 1"


def test_other_strides_are_refused() -> None:
    with pytest.raises(InputError, match="reviewkd: no level of equal stride: student small neck has strides 8; teac"):
        build("reviewkd", spec("small", (4,), (8,)), spec("vit", (4,), (16,)))
