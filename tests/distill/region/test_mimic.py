from dataclasses import replace

import pytest
import torch

from edgekd.detectors.outputs import Batch
from edgekd.detectors.spec import QueryHead
from edgekd.distill.region.mimic import mimic_loss
from edgekd.distill.regions import roi_align
from edgekd.errors import InputError

from ..helpers import batch_of, build, random_output, scene, spec, terms


def test_value_by_hand() -> None:
    """Two regions of two and one real values: (1 + 9) / 2 and 16, half their mean."""
    student = torch.tensor([[1.0, 3.0], [4.0, 0.0]]).reshape(2, 2, 1, 1)
    value = mimic_loss(student, torch.zeros(2, 2, 1, 1), torch.tensor([2, 1]))
    assert value.item() == pytest.approx(0.5 * (5 + 16) / 2)


def test_equals_a_loop_over_boxes() -> None:
    side = spec("a", (4, 6))
    method, batch = build("mimic", side, side, canonical_px=16.0), scene()
    student, teacher = random_output(side), random_output(side, seed=1)
    adapters = dict(zip((8, 16), method.levels.levels.adapters, strict=True))  # type: ignore[union-attr, arg-type]
    expected = []
    for image, box in zip(batch.image_index, batch.boxes_px, strict=True):
        stride = 16 if box[2] - box[0] >= 16 else 8
        row = torch.cat([image[None].float(), box])[None]
        ours = roi_align(adapters[stride](student.taps[f"neck.{stride}"]), row, stride, 7)
        theirs = roi_align(teacher.taps[f"neck.{stride}"], row, stride, 7)
        expected.append(0.5 * (ours - theirs).square().mean())
    value = terms(method, student, teacher, batch)["feature"]
    assert value.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)


def test_zero_at_identity() -> None:
    side = spec("a", (4, 6))
    method = build("mimic", side, side, canonical_px=16.0)
    for adapter in method.levels.levels.adapters:  # type: ignore[union-attr]
        torch.nn.init.dirac_(adapter.weight)  # type: ignore[union-attr, arg-type]
        torch.nn.init.zeros_(adapter.bias)  # type: ignore[union-attr, arg-type]
    output = random_output(side)
    assert terms(method, output, output, scene())["feature"].item() == pytest.approx(0.0, abs=1e-12)


def test_a_batch_twice_as_large_leaves_the_value_unchanged() -> None:
    side = spec("a", (4, 6))
    method, (student, teacher) = build("mimic", side, side), (random_output(side, seed=seed) for seed in (0, 1))
    twice = [
        replace(one, taps={key: tap.repeat(2, 1, 1, 1) for key, tap in one.taps.items()}) for one in (student, teacher)
    ]
    once = terms(method, student, teacher, scene())["feature"].item()
    assert terms(method, *twice, scene(4))["feature"].item() == pytest.approx(once, rel=1e-5)


def test_no_object_gives_zero_that_is_connected() -> None:
    side = spec("a", (4, 6))
    student = random_output(side)
    none = Batch(torch.zeros(2, 3, 32, 32), torch.zeros(0).long(), torch.zeros(0).long(), torch.zeros(0, 4))
    value = terms(build("mimic", side, side), student, random_output(side, seed=1), none)["feature"]
    value.backward()
    assert value.item() == 0.0 and student.taps["neck.8"].grad is not None


def test_magnitude_beside_a_detection_loss() -> None:
    """Features of unit variance, averaged over samples of a bin, differ by less than 2: far below a YOLO's about 10."""
    side = spec("a", (64, 64))
    value = terms(build("mimic", side, side), random_output(side), random_output(side, seed=1), batch_of())["feature"]
    assert 0.05 < value.item() < 1.0


def test_query_heads_are_served_and_levels_need_equal_strides() -> None:
    query = replace(spec("rtdetr", (4, 6)), head=QueryHead(6, 300, 256))
    taps = random_output(spec("rtdetr", (4, 6)))
    student, teacher = replace(taps, dense={}), replace(random_output(spec("rtdetr", (4, 6)), seed=1), dense={})
    assert terms(build("mimic", query, query), student, teacher)["feature"].item() > 0
    with pytest.raises(InputError, match="mimic: no level of equal stride"):
        build("mimic", spec("fine", (4,), (8,)), spec("coarse", (4,), (16,)))
