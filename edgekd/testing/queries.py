"""What every detector with a query head does, as far as its spec says that it gives a part (`QueryHead.gives`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from edgekd.detectors.box_bins import edges_of
from edgekd.detectors.capture import run
from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.contract import Detector, Trainable
from edgekd.detectors.outputs import Batch, TrainingPass
from edgekd.detectors.parts import Attention
from edgekd.detectors.queries import CrossAttention, QueryPredictions
from edgekd.detectors.spec import Needs, Part, QueryHead
from edgekd.testing.predictions import NAMES, images_of

_PARTS: tuple[Part, ...] = ("class_logits", "boxes", "layers", "embeddings", "memory", "decoder")


def parts_of(head: QueryHead) -> frozenset[Part]:
    """All that a head gives outside a training; attention of its first layer and of its last."""
    named = {part for part in _PARTS if part in head.gives}
    looks = (Attention(kind, layer) for kind in ("self", "cross") for layer in (0, head.layers - 1))
    return frozenset({*named, *(one for one in looks if one.name in head.gives)})


class QueryContract:
    """Part of `DetectorContract`; of a detector with another head each test is over at once."""

    tolerance_px: ClassVar[float]

    def open(self) -> Detector:
        """See `DetectorContract`."""
        raise NotImplementedError

    def _found(self) -> tuple[QueryHead, QueryPredictions, Tensor] | None:
        detector = self.open()
        head = detector.spec.head
        if not isinstance(head, QueryHead):
            return None
        images = images_of(detector.spec)
        with torch.no_grad():
            found = run(detector, images, Needs(parts=parts_of(head))).queries
        assert found is not None
        return head, found, images

    def test_parts_of_a_query_head(self) -> None:
        given = self._found()
        if given is None:
            return
        head, found, images = given
        count, queries = len(images), found.class_logits.shape[2]
        if "layers" in head.gives:
            assert found.layers == tuple(range(head.layers))
        if "embeddings" in head.gives:
            assert found.content.shape == (count, queries, head.width)
            assert found.embeddings.shape == (len(found.layers), count, queries, head.width)
        if "reference_boxes" in head.gives:
            assert found.references.shape == (len(found.layers), count, queries, 4)
            assert float(found.references[..., 2:].min()) > 0
            assert 0 <= float(found.references.min()) <= float(found.references.max()) <= 1
        if "memory" in head.gives:
            sizes = [tuple(-(-side // stride) for side in images.shape[2:]) for stride in head.strides]
            assert [tuple(one.shape[2:]) for one in found.memory] == sizes
            assert all(one.shape[:2] == (count, head.width) for one in found.memory)
        if head.bins > 1:
            assert found.box_logits is not None
            assert found.box_logits.shape == (*found.boxes_px.shape, head.bins)
            assert found.bins is not None
            assert not found.bins.origins_px.requires_grad
            means = (found.box_logits.softmax(-1) * found.bins.outwards_px()).sum(-1)
            torch.testing.assert_close(edges_of(means), found.boxes_px, atol=0.02, rtol=1e-4)
        for layer in (0, head.layers - 1):
            self._check_attention(head, found, layer)

    def _check_attention(self, head: QueryHead, found: QueryPredictions, layer: int) -> None:
        count, queries = found.class_logits.shape[1:3]
        if "self_attention" in head.gives:
            looks = found.self_attention(layer)
            assert looks.shape == (count, queries, queries)
            torch.testing.assert_close(looks.sum(-1), torch.ones(count, queries))
        if "cross_attention" in head.gives:
            cross = found.cross_attention(layer)
            assert isinstance(cross, CrossAttention)
            torch.testing.assert_close(cross.weights.sum(-1), torch.ones(count, queries))
            maps = cross.onto_levels(torch.ones(count, queries))
            assert [tuple(one.shape) for one in maps] == [(count, *size) for size in cross.sizes]
            assert 0 < sum(float(one.sum()) for one in maps) <= count * queries * (1 + 1e-4)

    def test_parts_that_were_not_asked_for(self) -> None:
        detector = self.open()
        if not isinstance(detector.spec.head, QueryHead):
            return
        with torch.no_grad():
            plain = run(detector, images_of(detector.spec, 1), Needs(parts=frozenset({"boxes"}))).queries
        assert plain is not None
        for read, name in (
            (lambda: plain.embeddings, "embeddings"), (lambda: plain.memory, "memory"),
            (lambda: plain.decoder, "decoder"), (lambda: plain.self_attention(0), "Attention"),
        ):  # fmt: skip
            with pytest.raises(RuntimeError, match=f"{name}.* was not computed: add"):
                read()

    def test_asked_about_its_own_queries_it_says_the_same(self) -> None:
        """Of every layer, whatever else it was asked."""
        given = self._found()
        if given is None or not {"decoder", "embeddings", "layers", "reference_boxes"} <= set(given[0].gives):
            return
        head, found, _ = given
        parts = frozenset(part for part in parts_of(head) if isinstance(part, Attention) or part == "embeddings")
        with torch.no_grad():
            answer = found.decoder.ask(found.content, found.references[0], parts)
        assert answer.layers == found.layers
        torch.testing.assert_close(answer.class_logits, found.class_logits, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(answer.boxes_px, found.boxes_px, atol=self.tolerance_px, rtol=1e-3)
        torch.testing.assert_close(answer.embeddings, found.embeddings, atol=1e-4, rtol=1e-3)
        for part in parts - {"embeddings"}:
            assert isinstance(part, Attention)
            ours, theirs = (
                one.self_attention(part.layer) if part.kind == "self" else one.cross_attention(part.layer).weights
                for one in (answer, found)
            )
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)

    def test_the_order_of_questions_decides_nothing(self) -> None:
        given = self._found()
        if given is None or "decoder" not in given[0].gives:
            return
        head, found, images = given
        generator = torch.Generator().manual_seed(2)
        boxes = 0.2 + 0.6 * torch.rand(len(images), 7, 4, generator=generator)
        content = torch.randn(len(images), 7, head.width, generator=generator)
        order = torch.randperm(7, generator=generator)
        with torch.no_grad():
            one = found.decoder.ask(content, boxes)
            other = found.decoder.ask(content[:, order], boxes[:, order])
            own = found.decoder.content_at(boxes)
        assert one.class_logits.shape == (head.layers, len(images), 7, len(NAMES))
        assert one.boxes_px.shape == (head.layers, len(images), 7, 4)
        torch.testing.assert_close(other.class_logits, one.class_logits[:, :, order], atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(other.boxes_px, one.boxes_px[:, :, order], atol=self.tolerance_px, rtol=1e-3)
        assert own.shape == content.shape
        assert torch.isfinite(own).all()

    def test_answers_are_in_the_order_of_the_classes_of_the_data(self) -> None:
        given = self._found()
        if given is None or "decoder" not in given[0].gives:
            return
        head, found, images = given
        classes = ClassMap.by_name(NAMES, ("bird", "owl", "cat"))
        mapped = found.with_classes(classes.index, classes.known)
        boxes = torch.full((len(images), 3, 4), 0.5)
        with torch.no_grad():
            content = found.decoder.content_at(boxes)
            before, after = (one.decoder.ask(content, boxes) for one in (found, mapped))
        assert torch.equal(after.class_logits[..., [0, 2]], before.class_logits[..., [3, 0]])
        assert after.known_classes is not None
        assert after.known_classes.tolist() == [True, False, True]
        assert ("class_embedding" in head.gives) == (found.decoder.class_embedding is not None)
        if found.decoder.class_embedding is not None and mapped.decoder.class_embedding is not None:
            assert found.decoder.class_embedding.shape == (len(NAMES), head.width)
            assert torch.equal(mapped.decoder.class_embedding[[0, 2]], found.decoder.class_embedding[[3, 0]])


def asked_in_training(student: Trainable, passed: Callable[[Needs], TrainingPass], batch: Batch) -> None:
    """Answers of a student in training are those of its own queries, with gradients; denoising queries are apart."""
    head = student.spec.head
    assert isinstance(head, QueryHead)
    noisy: frozenset[Part] = frozenset({"denoising"}) if "denoising" in head.gives else frozenset()
    found = passed(Needs(parts=parts_of(head) | noisy)).output.queries
    assert found is not None
    assert found.layers == tuple(range(head.layers))
    if noisy and len(batch.boxes_px):
        assert found.denoising is not None
        assert found.denoising.class_logits.shape[:2] == found.class_logits.shape[:2]
        assert found.denoising.boxes_px.shape[3] == 4
    else:
        assert found.denoising is None
    if not {"decoder", "embeddings", "reference_boxes"} <= set(head.gives):
        return
    answer = found.decoder.ask(found.content, found.references[0], frozenset({"embeddings"}))
    torch.testing.assert_close(answer.class_logits, found.class_logits, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(answer.embeddings, found.embeddings, atol=1e-4, rtol=1e-3)
    boxes = torch.full((len(batch.images), 5, 4), 0.4)
    answer = found.decoder.ask(found.decoder.content_at(boxes), boxes)
    assert not found.decoder.content_at(boxes).requires_grad
    weights = [value for value in student.module.parameters() if value.requires_grad]
    for value, reached in ((answer.class_logits, weights[:1]), (answer.boxes_px, weights)):  # boxes may begin fixed
        gradients = torch.autograd.grad(value.square().sum(), reached, retain_graph=True, allow_unused=True)
        assert any(one is not None and float(one.abs().sum()) > 0 for one in gradients)
