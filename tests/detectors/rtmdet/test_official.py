"""Equality with the official code: logits, boxes, assignment, losses and their gradients, of every size at 640 px."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.detectors.outputs import Batch
from edgekd.detectors.rtmdet.checkpoint import publish
from edgekd.detectors.rtmdet.decode import boxes_px, grid
from edgekd.detectors.rtmdet.losses import detection_loss
from edgekd.detectors.rtmdet.network import RTMDet
from edgekd.detectors.rtmdet.scales import SCALES, STRIDES
from tests.detectors.rtmdet import official
from tests.detectors.rtmdet.networks import lively

pytestmark = pytest.mark.skipif(not official.present(), reason=official.REASON)
CLASSES, SIZE_PX = 80, 640


@pytest.mark.parametrize("scale", [scale for scale in SCALES if scale != "p"])
def test_equals_the_official_code(scale: str) -> None:
    torch.manual_seed(0)
    ours = RTMDet(SCALES[scale], tuple(map(str, range(CLASSES)))).eval()
    lively(ours, spread=0.1)
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(2, 3, SIZE_PX, SIZE_PX, generator=generator)
    set_norms(ours, images)
    theirs = official.build(scale, CLASSES).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict()), "names"
    theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        wanted_logits, wanted_reach = theirs["bbox_head"](theirs["neck"](theirs["backbone"](ours.normalised(images))))
        logits, distances = ours(images)
    points, strides = grid([tuple(level.shape[-2:]) for level in wanted_logits], STRIDES, images.device)
    boxes = boxes_px(distances, points, strides)
    reach = torch.cat([level.flatten(2) for level in wanted_reach], 2).transpose(1, 2)
    torch.testing.assert_close(logits, torch.cat([level.flatten(2) for level in wanted_logits], 2), rtol=0, atol=1e-4)
    torch.testing.assert_close(
        boxes, torch.cat([points - reach[..., :2], points + reach[..., 2:]], -1), rtol=0, atol=1e-4
    )
    assert float(logits.std()) > 0.1, "the case says nothing"
    assert distances.isfinite().all(), "the case says nothing"
    assert 1 < float(distances.median()) < 10, "the case says nothing"
    compare_losses(theirs["bbox_head"], list(wanted_logits), list(wanted_reach), truth(generator))


def set_norms(network: RTMDet, images: torch.Tensor) -> None:
    """Statistics of these images, or the features of a deep random network grow without bound."""
    norms = [part for part in network.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.train().momentum = 1.0
    with torch.no_grad():
        network(images)
    for norm in norms:
        norm.eval()


def truth(generator: torch.Generator) -> Batch:
    """Forty boxes in the first image, none in the second."""
    corner = torch.rand(40, 2, generator=generator) * 500
    boxes = torch.cat([corner, corner + 4 + torch.rand(40, 2, generator=generator) * 130], 1)
    classes = torch.randint(0, CLASSES, (40,), generator=generator)
    return Batch(torch.zeros(2, 3, SIZE_PX, SIZE_PX), torch.zeros(40, dtype=torch.int64), classes, boxes)


def compare_losses(head: Any, logits: list[Tensor], reach: list[Tensor], batch: Batch) -> None:
    leaves = [level.detach().requires_grad_() for level in (*logits, *reach)]
    _, instances = official.registries()
    objects = [
        instances(bboxes=batch.boxes_px[batch.image_index == index], labels=batch.class_ids[batch.image_index == index])
        for index in range(batch.size)
    ]
    facts = [{"img_shape": (SIZE_PX, SIZE_PX), "pad_shape": (SIZE_PX, SIZE_PX)}] * batch.size
    kept: list[Any] = []
    get_targets = head.get_targets
    head.get_targets = lambda *args, **kwargs: kept.append(get_targets(*args, **kwargs)) or kept[-1]
    found = head.loss_by_feat(leaves[:3], leaves[3:], objects, facts)
    wanted = sum(found["loss_cls"]), sum(found["loss_bbox"])
    _, labels, _, targets, qualities, _ = kept[0]

    points, strides = grid([tuple(level.shape[-2:]) for level in logits], STRIDES, batch.images.device)
    flat = torch.cat([level.flatten(2) for level in leaves[:3]], 2).transpose(1, 2)
    distances = torch.cat([level.flatten(2) / step for level, step in zip(leaves[3:], STRIDES, strict=True)], 2)
    losses = detection_loss(flat, boxes_px(distances, points, strides), points, strides, batch)
    torch.testing.assert_close(losses.classes, wanted[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(losses.boxes, wanted[1], rtol=1e-5, atol=0)

    assignment = losses.assignment
    label, quality, target = torch.cat(labels, 1), torch.cat(qualities, 1), torch.cat(targets, 1)
    assert torch.equal(assignment.foreground, label < CLASSES)
    assert int(assignment.foreground[0].sum()) > 20, "the case says little"
    assert not assignment.foreground[1].any()
    rows = assignment.box_index[assignment.foreground]
    assert torch.equal(batch.boxes_px[rows], target[assignment.foreground])
    assert torch.equal(batch.class_ids[rows], label[assignment.foreground])
    torch.testing.assert_close(assignment.class_targets.sum(2), quality, rtol=1e-5, atol=1e-6)

    for ours, theirs in zip(
        torch.autograd.grad(losses.classes + losses.boxes, leaves),
        torch.autograd.grad(sum(wanted), leaves),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_the_students_file_is_loaded_by_the_official_loader(tmp_path: Path) -> None:
    """Every key, strictly; and the names of the classes where `init_detector` looks for them."""
    names = ("bolt", "nut", "washer")
    ours = RTMDet(SCALES["tiny"], names)
    publish(ours, "rtmdet-tiny", tmp_path, {"imgsz": 96})
    theirs = official.build("tiny", len(names))
    from mmengine.runner.checkpoint import load_checkpoint

    found = load_checkpoint(theirs, str(tmp_path / "student.pth"), map_location="cpu", strict=True)
    assert tuple(found["meta"]["dataset_meta"]["classes"]) == names
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(value, ours.state_dict()[name], rtol=0, atol=0)
