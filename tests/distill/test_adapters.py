"""Pairing of levels, resizing, adapters, normalisation and fp32 islands."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgekd.distill.adapters import (
    channel_adapter,
    fp32_island,
    match_branches,
    match_levels,
    named_paths,
    resize_to,
    standardise,
    start_near_zero,
)
from edgekd.distill.config import Taps
from edgekd.distill.masks import confidence, inside_boxes
from edgekd.errors import InputError

from .helpers import batch_of, build, dense, spec, taps

STUDENT = spec("yolo26n", (64, 128, 256), (8, 16, 32))
TEACHER = spec("yolo26x", (384, 768, 768), (8, 16, 32))


def strides(student_taps: Taps = "neck", teacher_taps: Taps | None = None, **kwargs: object) -> list[tuple[int, int]]:
    student, teacher = kwargs.pop("student", STUDENT), kwargs.pop("teacher", TEACHER)
    pairs = match_levels(student, teacher, student_taps, teacher_taps, "cwd", **kwargs)  # type: ignore[arg-type]
    return [(pair.student.stride, pair.teacher.stride) for pair in pairs]


def test_roles_are_paired_by_equal_stride() -> None:
    assert strides() == [(8, 8), (16, 16), (32, 32)]
    wider = spec("p6", (1, 1, 1), (16, 32, 64))
    assert strides(teacher=wider) == [(16, 16), (32, 32)]  # levels of a role without a partner are left out


def test_named_paths_are_paired_by_stride_in_any_order() -> None:
    assert strides(("neck.32", "neck.8"), ("neck.8", "neck.32")) == [(8, 8), (32, 32)]


def test_taps_of_one_stride_are_paired_in_order() -> None:
    both = spec("both", taps=taps("neck", (4,), (8,)) + taps("backbone", (4,), (8,)))
    pairs = match_levels(both, both, ("backbone", "neck"), ("neck.8", "backbone.8"), "cwd")
    assert [(pair.student.path, pair.teacher.path) for pair in pairs] == [
        ("backbone.8", "neck.8"),
        ("neck.8", "backbone.8"),
    ]


def test_resizing_pairs_with_the_nearest_stride() -> None:
    vit = spec("vit", (768,), (16,))
    assert strides(teacher=vit, resize=True) == [(8, 16), (16, 16), (32, 16)]
    coarse = spec("coarse", (1, 1), (16, 64))
    assert strides(teacher=coarse, resize=True) == [(8, 16), (16, 16), (32, 16)]  # 32: the finer of two equally near


def test_no_level_of_equal_stride_names_both_sides() -> None:
    with pytest.raises(InputError) as caught:
        strides(teacher=spec("vit", (768,), (14,)))
    assert caught.value.problems == (
        "cwd: no level of equal stride: student yolo26n neck has strides 8, 16, 32; teacher vit neck has strides 14; "
        "name taps by module path (taps, teacher_taps)",
    )


def test_a_named_tap_is_never_left_out() -> None:
    with pytest.raises(InputError) as caught:
        strides(("neck.8", "neck.32"), ("neck.8",))
    assert str(caught.value).startswith(
        "cwd: no level of equal stride for tap neck.32: student yolo26n neck.8, neck.32 has strides 8, 32; teacher"
    )


def test_unknown_taps_are_named_with_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        strides(("neck.9", "nek"))
    assert len(caught.value.problems) == 2
    assert caught.value.problems[0] == (
        "cwd: student yolo26n: unknown tap 'neck.9' (known: neck, neck.16, neck.32, neck.8; did you mean 'neck.8'?)"
    )
    with pytest.raises(InputError, match="no taps given; name a role such as neck"):
        strides(())


def test_named_paths_leave_roles_out() -> None:
    assert named_paths(("neck", "model.4.cv1")) == ("model.4.cv1",)
    assert named_paths("model.4") == ("model.4",)
    assert named_paths("backbone") == named_paths(None) == ()


def test_taps_inside_a_head_make_the_teacher_run_it() -> None:
    tapped = spec(taps=taps("neck", (4,), (8,)) + taps("head_cls", (5,), (8,)))
    assert build("pkd", tapped, tapped).wiring.teacher.head == frozenset()
    assert build("pkd", tapped, tapped, taps="head_cls").wiring.teacher.head == {"class_logits"}


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (("one2many",), ("one2many",), (("one2many", "one2many"),)),
        (("one2many",), ("one2many", "one2one"), (("one2many", "one2many"),)),
        (("one2many", "one2one"), ("one2many",), (("one2many", "one2many"), ("one2one", "one2many"))),
        (("one2many", "one2one"), ("one2many", "one2one"), (("one2many", "one2many"), ("one2one", "one2one"))),
        (("one2many",), ("one2one",), (("one2many", "one2one"),)),
    ],
)
def test_branches(ours: tuple[str, ...], theirs: tuple[str, ...], expected: object) -> None:
    assert match_branches(spec(branches=ours), spec(branches=theirs)) == expected


def test_resize_is_bilinear_between_cell_centres() -> None:
    ramp = torch.tensor([0.0, 1.0, 2.0, 3.0]).reshape(1, 1, 1, 4)
    assert resize_to(ramp, torch.zeros(1, 9, 1, 2)).flatten().tolist() == [0.5, 2.5]
    assert resize_to(ramp, torch.zeros(1, 9, 1, 4)) is ramp


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [("conv1x1", 3 * 5 + 5), ("conv1x1_norm", 3 * 5), ("conv3x3", 9 * 3 * 5 + 5), ("mlp", 3 * 5 + 5 + 5 * 5 + 5)],
)
def test_adapters_change_channels_only(kind: str, parameters: int) -> None:
    adapter = channel_adapter(3, 5, kind)  # type: ignore[arg-type]
    assert adapter(torch.zeros(2, 3, 4, 7)).shape == (2, 5, 4, 7)
    assert sum(parameter.numel() for parameter in adapter.parameters()) == parameters


def test_adapters_that_start_near_zero() -> None:
    adapters = nn.ModuleList([channel_adapter(16, 32, "conv3x3")])
    start_near_zero(adapters)
    weight = next(adapters.parameters())
    assert 0 < weight.abs().max().item() <= 2e-4
    assert weight.std().item() == pytest.approx(0.88e-4, rel=0.05)  # of a normal distribution cut at two deviations


def test_adapter_none_needs_equal_channels() -> None:
    assert isinstance(channel_adapter(3, 3, "none"), nn.Identity)
    with pytest.raises(InputError, match="given 3 and 5; choose 'conv1x1'"):
        channel_adapter(3, 5, "none")


def test_standardise_by_hand() -> None:
    feature = torch.tensor([[1.0, 3.0], [5.0, 7.0]]).reshape(2, 1, 1, 2)  # mean 4, variance 5
    expected = torch.tensor([-3.0, -1, 1, 3]) / 5**0.5
    assert standardise(feature, eps=1e-12).flatten().tolist() == pytest.approx(expected.tolist())
    assert standardise(feature, per_image=True, eps=1e-12).flatten().tolist() == pytest.approx([-1, 1, -1, 1])


def test_standardise_of_a_single_value_is_zero() -> None:
    assert standardise(torch.full((1, 2, 1, 1), 7.0)).tolist() == [[[[0.0]], [[0.0]]]]


def test_standardise_of_a_constant_channel_is_finite() -> None:
    feature = torch.full((2, 3, 4, 4), 5.0, requires_grad=True)
    standardise(feature).square().sum().backward()
    assert feature.grad is not None and feature.grad.isfinite().all()


def test_fp32_island_widens_and_disables_autocast() -> None:
    seen: list[torch.dtype] = []

    @fp32_island
    def product(left: Tensor, *, right: Tensor, double: Tensor) -> Tensor:
        seen.extend([left.dtype, right.dtype, double.dtype])
        return left @ right

    half = torch.ones(2, 2, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = product(half, right=half, double=half.double())
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16  # autocast is on again
    assert seen == [torch.float32, torch.float32, torch.float64]
    assert result.dtype == torch.float32


def test_confidence_is_the_best_known_class() -> None:
    logits = torch.tensor([[[0.0, 2.0, 9.0]]]).repeat(1, 16, 1)
    known = torch.tensor([True, True, False])
    one = dense(logits, size_px=32, strides=[8], known=known)
    assert confidence(one)[0, 0].item() == pytest.approx(torch.tensor(2.0).sigmoid().item())
    assert confidence(dense(logits, size_px=32, strides=[8]))[0, 0].item() == pytest.approx(0.99988, abs=1e-5)


def test_confidence_of_two_branches_averages_logits_per_class() -> None:
    first = dense(torch.tensor([[[4.0, 0.0]]]), size_px=8, strides=[8])
    second = dense(torch.tensor([[[-2.0, 1.0]]]), size_px=8, strides=[8])
    assert confidence(first, second).item() == pytest.approx(torch.tensor(1.0).sigmoid().item())


def test_inside_boxes_by_hand() -> None:
    points = torch.tensor([[4.0, 4.0], [4.5, 12.0], [20.0, 10.0], [28.0, 28.0]])
    assert inside_boxes(points, batch_of(2)).tolist() == [[False, True, False, False]] * 2
    batch = batch_of(2)
    second_only = type(batch)(batch.images, torch.tensor([1, 1]), batch.class_ids, batch.boxes_px)
    assert inside_boxes(points, second_only).any(1).tolist() == [False, True]
    empty = type(batch)(batch.images, batch.image_index[:0], batch.class_ids[:0], batch.boxes_px[:0])
    assert inside_boxes(points, empty).tolist() == [[False] * 4] * 2
