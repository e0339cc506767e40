from __future__ import annotations

from typing import Any

import pytest
import torch

from edgekd.distill.attention import spatial_attention
from edgekd.distill.backbone.fbkd import fbkd_distance
from edgekd.errors import InputError

from ..helpers import build, random_output, spec, terms
from ..independent import of_mmrazor

SIDE = spec("a", (8, 8, 8, 8), (2, 4, 8, 16))
NAMES = ("masked", "pooled", "relation")


def test_value_by_hand() -> None:
    """Differences 1 and 2 under a mask of 4 and 1: the root of 4 + 4."""
    student = torch.tensor([1.0, 2.0]).reshape(1, 1, 1, 2)
    mask = torch.tensor([4.0, 1.0]).reshape(1, 1, 1, 2)
    zero = torch.zeros(1, 1, 1, 2)
    assert fbkd_distance(student, zero, mask).item() == pytest.approx(8.0**0.5)
    assert fbkd_distance(student, zero).item() == pytest.approx(5.0**0.5)
    assert fbkd_distance(student, zero, mask, "mean").item() == pytest.approx(4.0)


def test_zero_and_a_zero_gradient_at_identity() -> None:
    """The root alone would give an infinite slope times zero there: not a number."""
    student = torch.randn(2, 3, 4, 4, requires_grad=True)
    value = fbkd_distance(student, student.detach(), torch.rand(2, 1, 4, 4))
    value.backward()
    assert value.item() == 0.0 and student.grad is not None and student.grad.abs().max() == 0


def test_a_norm_grows_with_the_root_of_the_batch_and_a_mean_does_not() -> None:
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    for reduction, growth in (("norm", 2.0**0.5), ("mean", 1.0)):
        once = fbkd_distance(student, teacher, reduction=reduction)  # type: ignore[arg-type]
        four = (each.repeat(2, 1, 1, 1) for each in (student, teacher))
        twice = fbkd_distance(*four, reduction=reduction)  # type: ignore[arg-type]
        assert twice.item() == pytest.approx(growth * once.item(), rel=1e-5)


def open_gates(method: Any) -> None:
    """Non-local blocks begin as the identity; make them something else, so that they count."""
    for name, value in method.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.constant_(value, 0.7)


def test_terms_are_the_papers() -> None:
    """Each written out once more from the maps and the method's own layers."""
    ours, theirs = spec("small", (4,), (4,)), spec("large", (6,), (4,))
    method: Any = build("fbkd", ours, theirs, masked=1.0, pooled=1.0, relation=1.0)
    open_gates(method)
    student, teacher = random_output(ours), random_output(theirs, seed=1)
    fs, ft = student.taps["neck.4"], teacher.taps["neck.4"]
    views, relation = method.views[0], method.relations[0]
    mask = (spatial_attention(fs, 0.5) + spatial_attention(ft, 0.5)).detach() / 2
    expected = (
        (mask * (ft - views.feature(fs)).square()).sum().sqrt(),
        torch.dist(ft.mean((2, 3)), views.channel(fs.mean((2, 3))))
        + torch.dist(ft.mean(1, keepdim=True), views.spatial(fs.mean(1, keepdim=True))),
        torch.dist(relation(ft), views.relation(fs)),
    )
    found = terms(method, student, teacher)
    assert tuple(found) == NAMES
    for name, value in zip(NAMES, expected, strict=True):
        assert found[name].item() == pytest.approx(value.item(), rel=1e-5)


def test_non_local_blocks_are_those_of_the_paper_from_the_finest_level_on() -> None:
    method: Any = build("fbkd", SIDE, SIDE)
    blocks = [[views.relation[0] for views in method.views], list(method.relations)]
    for side in blocks:
        assert [block.pool for block in side] == [8, 4, 2, 2]
        assert [block.query.out_channels for block in side] == [2, 2, 4, 4]


def test_magnitude_beside_a_detection_loss() -> None:
    """Unrelated unit maps of 256 channels at stride 8 of 640 px: about 4e-4 x root of 2 N C H W for the masked part."""
    side = spec("a", (256,), (8,))
    method = build("fbkd", side, side)
    outputs = [random_output(side, size_px=640, batch=1, seed=seed) for seed in range(2)]
    with torch.no_grad():
        found = terms(method, *outputs)
    root = (256 * 80 * 80) ** 0.5
    assert found["masked"].item() == pytest.approx(4e-4 * (4 / 3) ** 0.5 * root, rel=0.1), "an untrained 1x1 has 1/3"
    total = sum(value.item() for value in found.values())
    assert 0.05 < total / 8 < 0.5, "one level, one image, beside a detection loss of 8"


def test_other_strides_are_refused() -> None:
    with pytest.raises(InputError, match="fbkd: no level of equal stride: student small neck has strides 8; teacher"):
        build("fbkd", spec("small", (4,), (8,)), spec("vit", (4,), (16,)))


def test_equals_independent_code() -> None:
    """All four levels with the same weights. Its non-local blocks pool by 2 before they pool by what is asked for."""
    pytest.importorskip("mmcv.cnn", reason="mmcv is not installed (pip install mmcv-lite mmengine)")
    student_side = of_mmrazor("architectures/connectors/fbkd_connector.py", "FBKDStudentConnector")
    teacher_side = of_mmrazor("architectures/connectors/fbkd_connector.py", "FBKDTeacherConnector")
    loss = of_mmrazor("losses/fbkd_loss.py", "FBKDLoss")(mask_l2_weight=4e-4, channel_weight=2e-2,
                                                        spatial_weight=2e-2, nonloacl_weight=4e-4)  # fmt: skip
    method: Any = build("fbkd", SIDE, SIDE)
    open_gates(method)
    student, teacher = random_output(SIDE, size_px=64), random_output(SIDE, size_px=64, seed=1)
    expected = 0.0
    for level, tap in enumerate(SIDE.taps):
        keys: dict[str, Any] = {"reduction": (4, 4, 2, 2)[level], "maxpool_stride": (8, 4, 2, 2)[level]}
        ours, theirs = (kind(8, sub_sample=True, **keys) for kind in (student_side, teacher_side))
        views = method.views[level]
        ours.adaptation_layers.load_state_dict(views.feature.state_dict())
        ours.channel_wise_adaptation.load_state_dict(views.channel.state_dict())
        ours.spatial_wise_adaptation.load_state_dict(views.spatial.state_dict())
        ours.non_local_adaptation.load_state_dict(views.relation[1].state_dict())
        same_block(views.relation[0], ours.student_non_local)
        same_block(method.relations[level], theirs.teacher_non_local)
        expected += loss(ours(student.taps[tap.key]), theirs(teacher.taps[tap.key])).item()
    found = terms(method, student, teacher)
    assert sum(value.item() for value in found.values()) == pytest.approx(expected, rel=1e-5)


def same_block(block: Any, theirs: Any) -> None:
    """Copy the weights of a non-local block into mmcv's, and pool as that does."""
    block.pool *= 2
    theirs.g[0][0].conv.load_state_dict(block.value.state_dict())
    theirs.phi[0][0].conv.load_state_dict(block.key.state_dict())
    theirs.theta.conv.load_state_dict(block.query.state_dict())
    theirs.conv_out.conv.load_state_dict(block.out.state_dict())
    theirs.conv_out.bn.load_state_dict(block.norm.state_dict())
