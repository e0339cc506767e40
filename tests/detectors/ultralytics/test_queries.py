"""RT-DETR from inside, beside what the engine's own modules say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.detectors import families
from edgekd.detectors.capture import captured, run
from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.contract import Asked, Detector
from edgekd.detectors.parts import Attention
from edgekd.detectors.queries import as_tokens
from edgekd.detectors.spec import Needs, Part
from edgekd.training.teacher import Teacher

NAMES = ("cat", "dog", "bird")
WHOLE: frozenset[Part] = frozenset({
    "layers", "embeddings", "memory", "decoder", Attention("self", 1), Attention("cross", 1)
})  # fmt: skip


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.manual_seed(0)
    opened = families.open_detector("ultralytics", Asked("rtdetr-p", None, NAMES, 3, "test"))
    opened.module.eval()
    head: Any = opened.module.model[-1]
    for index in range(3):  # as after a training: boxes move, offsets and weights differ
        for layer in (head.dec_bbox_head[index].layers[-1], head.decoder.layers[index].cross_attn.sampling_offsets):
            torch.nn.init.normal_(layer.weight, std=0.2)
        torch.nn.init.normal_(head.decoder.layers[index].cross_attn.attention_weights.weight, std=0.5)
    return opened


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_self_attention_is_what_torch_computes(detector: Detector, images: Tensor) -> None:
    found = run(detector, images, Needs(parts=WHOLE)).queries
    assert found is not None
    head: Any = detector.module.model[-1]
    before, boxes = found.embeddings[0], found.references[1]
    across = (before + head.query_pos_head(boxes)).transpose(0, 1)
    _, expected = head.decoder.layers[1].self_attn(across, across, before.transpose(0, 1))
    torch.testing.assert_close(found.self_attention(1), expected)


@torch.no_grad()
def test_places_and_weights_give_what_cross_attention_reads(detector: Detector, images: Tensor) -> None:
    """Of one head at a time, its values sampled one place at a time."""
    head: Any = detector.module.model[-1]
    part = head.decoder.layers[1].cross_attn
    kept: list[Any] = []
    handle = part.register_forward_hook(lambda _module, given, output: kept.append((*given, output)))
    found = run(detector, images, Needs(parts=WHOLE)).queries
    handle.remove()
    assert found is not None
    cross, memory = found.cross_attention(1), as_tokens(found.memory)
    assert cross.places is not None
    values, heads = part.value_proj(memory), part.n_heads
    read = torch.zeros(*cross.weights.shape[:2], part.d_model)
    wide = part.d_model // heads
    begin = 0
    for level, (height, width) in enumerate(cross.sizes):
        grid = values[:, begin : begin + height * width].transpose(1, 2).reshape(2, -1, height, width)
        begin += height * width
        for place in (cross.levels == level).nonzero().flatten().tolist():
            own = slice(place * heads // len(cross.levels) * wide, (place * heads // len(cross.levels) + 1) * wide)
            sampled = F.grid_sample(grid[:, own], 2 * cross.places[:, :, place, None] - 1, align_corners=False)
            read[..., own] += heads * cross.weights[:, :, place, None] * sampled[..., 0].transpose(1, 2)
    torch.testing.assert_close(part.output_proj(read), kept[0][-1], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_predictions_are_those_of_the_engine(detector: Detector, images: Tensor) -> None:
    """Bit for bit the last layer's, whether the others are asked for or not."""
    _, (boxes, scores, _, _, _) = detector.module(images)
    for parts in (WHOLE, frozenset({"boxes"})):
        found = run(detector, images, Needs(parts=parts)).queries
        assert found is not None
        assert torch.equal(found.class_logits[-1], scores[0])
        size = torch.tensor([96.0, 64.0])
        centre = (found.boxes_px[-1, ..., :2] + found.boxes_px[-1, ..., 2:]) / 2 / size
        torch.testing.assert_close(centre, boxes[0, ..., :2])


@torch.no_grad()
def test_content_is_read_from_the_memory_where_the_box_is(detector: Detector, images: Tensor) -> None:
    """At the centre of a cell, of a box as large as the level's anchors, it is the content of that cell."""
    head: Any = detector.module.model[-1]
    with captured(detector.module, ()):
        found = run(detector, images, Needs(parts=WHOLE)).queries
    assert found is not None
    tokens = head.enc_output(as_tokens(found.memory))
    sizes = [tuple(one.shape[2:]) for one in found.memory]
    begin = 0
    for level, (height, width) in enumerate(sizes):
        side = 0.05 * 2**level
        box = torch.tensor([1.5 / width, 0.5 / height, side, side]).expand(2, 1, 4)
        torch.testing.assert_close(found.decoder.content_at(box)[:, 0], tokens[:, begin + 1], atol=1e-5, rtol=1e-4)
        begin += height * width


@torch.no_grad()
def test_a_teacher_answers_in_the_classes_of_the_data(detector: Detector, images: Tensor) -> None:
    """Also where nothing but its decoder was asked for, and where it computes in half precision."""
    classes = ClassMap.by_name(NAMES, ("bird", "cow", "cat"))
    boxes = torch.full((2, 4, 4), 0.4)
    plain = run(detector, images, Needs(parts=WHOLE)).queries
    assert plain is not None
    expected = plain.decoder.ask(plain.decoder.content_at(boxes), boxes).class_logits
    for precision, tolerance in ((None, 1e-3), ("bf16", 0.3)):
        teacher = Teacher(detector.frozen(), classes, "eager", precision)  # type: ignore[arg-type]
        found = teacher.forward(images, Needs(parts=frozenset({"decoder"}))).queries
        assert found is not None
        answer = found.decoder.ask(plain.decoder.content_at(boxes), boxes)
        assert answer.known_classes is not None
        assert answer.known_classes.tolist() == [True, False, True]
        torch.testing.assert_close(
            answer.class_logits[..., [0, 2]].float(), expected[..., [2, 0]], atol=tolerance, rtol=tolerance
        )
