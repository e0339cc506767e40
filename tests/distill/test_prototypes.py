"""Prototypes: the pursuit against its definition, and a sample that does not depend on who looks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgekd.distill.prototypes import fixed_sample, prototype_rows


def by_definition(student: Tensor, teacher: Tensor, count: int, alpha: float) -> list[int]:
    """Every candidate's error, written out."""
    ours, theirs = (value.double() / value.double().norm(dim=1, keepdim=True) for value in (student, teacher))
    dense = []
    for side in (ours, theirs):
        company = torch.exp(-(((1 - side @ side.T) / 0.1) ** 2)).sum(1)
        dense.append(company > company.sort().values[int(0.4 * len(side))])
    asked = [row for row in range(len(ours)) if dense[0][row] and dense[1][row]]
    left, chosen = [ours.clone(), theirs.clone()], []
    for _ in range(count):
        errors, weights = [], []
        for row in asked:
            u, v = left[0] @ ours[row], left[1] @ theirs[row]
            own = [(alpha * (u + v) + inner) / (1 + 2 * alpha) for inner in (u, v)]
            off = [left[side] - own[side][:, None] * space[row] for side, space in enumerate((ours, theirs))]
            errors.append((off[0] ** 2).sum() + (off[1] ** 2).sum() + alpha * ((own[0] - own[1]) ** 2).sum())
            weights.append(own)
        best = int(torch.stack(errors).argmin())
        chosen.append(asked[best])
        left = [
            left[side] - weights[best][side][:, None] * space[asked[best]] for side, space in enumerate((ours, theirs))
        ]
    return chosen


@pytest.mark.parametrize("alpha", [10.0, 0.5])
def test_equals_the_definition(alpha: float) -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(4, 6, generator=generator)[torch.arange(24) % 4]
    student = centres + 0.2 * torch.randn(24, 6, generator=generator)
    teacher = centres @ torch.randn(6, 9, generator=generator) + 0.2 * torch.randn(24, 9, generator=generator)
    found = prototype_rows(student, teacher, count=6, alpha=alpha).tolist()
    assert found == by_definition(student, teacher, 6, alpha)


def test_directions_that_are_equally_frequent_get_one_prototype_each() -> None:
    kinds = torch.arange(24) % 3
    features = torch.eye(3)[kinds] + 0.01 * torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
    assert sorted(kinds[prototype_rows(features, 5 * features, count=3)].tolist()) == [0, 1, 2]


def test_rare_directions_get_none() -> None:
    """The sparsest two fifths are not asked, so that no outlier becomes a prototype."""
    kinds = torch.tensor([0] * 12 + [1] * 2)
    features = torch.eye(2)[kinds] + 0.01 * torch.randn(14, 2, generator=torch.Generator().manual_seed(0))
    assert kinds[prototype_rows(features, features, count=3)].tolist() == [0, 0, 0]


@pytest.mark.parametrize("instances", [1, 2, 3])
def test_few_instances_serve_too(instances: int) -> None:
    features = torch.randn(instances, 4)
    rows = prototype_rows(features, torch.randn(instances, 7), count=10)
    assert rows.shape == (10,) and rows.max() < instances


def test_a_sample_is_the_same_however_the_instances_are_divided() -> None:
    images, places = torch.arange(40) // 2, torch.arange(40) % 2
    classes = (torch.arange(40) * 7) % 3
    whole = fixed_sample(images, places, classes, most=5)
    assert torch.bincount(classes[whole]).tolist() == [5, 5, 5]
    parts = [torch.arange(40)[images % 2 == rank] for rank in range(2)]
    kept = torch.cat([part[fixed_sample(images[part], places[part], classes[part], most=5)] for part in parts])
    again = kept[fixed_sample(images[kept], places[kept], classes[kept], most=5)]
    assert sorted(again.tolist()) == whole.tolist()
    assert fixed_sample(images, places, classes, most=100).tolist() == list(range(40))
    assert not set(range(5)) >= set(whole.tolist()), "not simply the first"
