import pytest
import torch

from edgekd.distill.points import SharedPoints
from edgekd.distill.towers import CrossTower, align

from .helpers import pair_of, random_output, spec


def statistics(feature: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    variance, mean = torch.var_mean(feature, (2, 3), correction=0)
    return mean, variance


def test_alignment_gives_the_other_maps_statistics() -> None:
    student, teacher = (
        torch.randn(3, 4, 5, 6) * 7 + 2,
        torch.randn(3, 4, 5, 6) * torch.arange(1.0, 5)[:, None, None] - 1,
    )
    aligned = align(student, *statistics(teacher))
    torch.testing.assert_close(aligned.mean((0, 2, 3)), teacher.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(aligned.std((0, 2, 3)), teacher.std((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_alignment_equals_the_papers_formula() -> None:
    """(x - mean) / (std + 1e-6) * std + mean with unbiased deviations, which cancel."""
    student, teacher = torch.randn(2, 3, 4, 4) * 3, torch.randn(2, 3, 4, 4) + 5
    flat = student.transpose(0, 1).flatten(1), teacher.transpose(0, 1).flatten(1)
    scaled = (flat[0] - flat[0].mean(1, keepdim=True)) / (flat[0].std(1, keepdim=True) + 1e-6)
    expected = scaled * flat[1].std(1, keepdim=True) + flat[1].mean(1, keepdim=True)
    found = align(student, *statistics(teacher)).transpose(0, 1).flatten(1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_map_is_aligned_with_itself() -> None:
    teacher = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(align(teacher, *statistics(teacher)), teacher, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", ["class_logits", "boxes"])
def test_the_teachers_own_features_give_its_own_predictions(part: str) -> None:
    side = spec(towers=True, bins=3)
    pair = pair_of(side, side)
    tower = CrossTower(pair, SharedPoints.of_pair(pair), part, "one2many", "one2many")  # type: ignore[arg-type]
    teacher = random_output(side)
    found = tower(teacher, tower.knowledge(teacher))
    expected = torch.cat(
        [
            pair.head_tail(part, level, 1, "one2many")(teacher.taps[tap.key]).flatten(2)  # type: ignore[arg-type]
            for level, tap in enumerate(tower.teacher_taps)
        ],
        2,
    ).transpose(1, 2)
    assert found.shape == (2, 20, 3 if part == "class_logits" else 12)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_only_adapters_are_registered_and_only_where_widths_differ() -> None:
    pair = pair_of(spec(channels=(4, 6), towers=True), spec(channels=(5, 6), towers=True))
    tower = CrossTower(pair, SharedPoints.of_pair(pair), "boxes", "one2many", "one2many")
    assert list(tower.state_dict()) == ["adapters.0.weight"]
