"""What is read of the decoders of DETR and what came of it is what the library itself computes there."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.detectors.parts import Attention
from edgekd.detectors.queries import CrossAttention, QueryPredictions
from tests.detectors.transformers.test_inside import detector_of, found_in, images_of

pytest.importorskip("transformers", reason="the extra hf is not installed")

DEFORMABLE = ("deformable-detr-p", "deformable-detr-two-stage-p")
MODELS = ("detr-p", "table-transformer-p", "conditional-detr-p", "dab-detr-p", *DEFORMABLE)
ASKED = ("dab-detr-p", "deformable-detr-two-stage-p")
DENSE = tuple(model for model in MODELS if model not in DEFORMABLE)
CROSS, SELF = Attention("cross", 1), Attention("self", 1)


def run_by_the_library(detector: Any, **options: Any) -> Any:
    images = images_of()
    with torch.no_grad():
        return detector.module((images - detector.module.pixel_mean) / detector.module.pixel_std, **options)


def corners_of(boxes: Tensor) -> Tensor:
    """In px of `images_of()`."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    height, width = images_of().shape[2:]
    return torch.cat([centre - half, centre + half], -1) * torch.tensor([width, height, width, height])


def predicted_alike(found: QueryPredictions, layer: int, theirs: Any, softmax: bool) -> None:
    scores = theirs.logits.softmax(-1)[..., :-1] if softmax else theirs.logits.sigmoid()
    torch.testing.assert_close(found.class_logits[layer].sigmoid(), scores, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.boxes_px[layer], corners_of(theirs.pred_boxes), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("changes", [{}, {"auxiliary_loss": True}], ids=["plain", "auxiliary"])
def test_layers_are_those_of_decoders_that_end_there(model: str, changes: dict[str, Any]) -> None:
    """The library's own decoder, cut behind its first layer, predicts what the first of two layers does."""
    detector = detector_of(model, **changes)
    found = found_in(detector, "layers")
    assert found.layers == (0, 1)
    predicted_alike(found, 1, run_by_the_library(detector), detector.kind.softmax)
    if changes and model in DENSE:
        detector.module.config.auxiliary_loss = False  # with it a last layer goes through the norm twice
    cut = detector.with_module(deepcopy(detector.module))
    decoder = cut.module.model.decoder
    decoder.layers = decoder.layers[:1]
    if model == "dab-detr-p":
        decoder.num_layers = 1
    predicted_alike(found, 0, run_by_the_library(cut), detector.kind.softmax)
    last = found_in(detector_of(model), "embeddings")
    assert (last.layers, len(last.embeddings)) == ((1,), 1)


@pytest.mark.parametrize("model", MODELS)
def test_queries(model: str) -> None:
    detector = detector_of(model)
    found = found_in(detector, "layers", "embeddings", "memory")
    theirs = run_by_the_library(detector, output_hidden_states=True)
    torch.testing.assert_close(found.embeddings[-1], theirs.last_hidden_state)
    first = theirs.decoder_hidden_states[1]
    torch.testing.assert_close(found.embeddings[0], getattr(detector.module.model.decoder, "layernorm", _same)(first))
    torch.testing.assert_close(found.content, theirs.decoder_hidden_states[0])
    tokens = torch.cat([one.flatten(2).transpose(1, 2) for one in found.memory], 1)
    torch.testing.assert_close(tokens, theirs.encoder_last_hidden_state)


def _same(value: Tensor) -> Tensor:
    return value


@pytest.mark.parametrize("refined", [False, True])
def test_places_where_deformable_decoders_begin(refined: bool) -> None:
    detector = detector_of("deformable-detr-p", with_box_refine=refined)
    theirs, found = run_by_the_library(detector), found_in(detector, "layers", "embeddings").references
    torch.testing.assert_close(found[0, ..., :2], theirs.init_reference_points)
    assert not found[0, ..., 2:].any(), "points have no size"
    width = 4 if refined else 2
    torch.testing.assert_close(found[1, ..., :width], theirs.intermediate_reference_points[:, 0])
    detector = detector_of("deformable-detr-two-stage-p")
    theirs, found = run_by_the_library(detector), found_in(detector, "layers", "embeddings").references
    torch.testing.assert_close(found[0], theirs.init_reference_points)
    torch.testing.assert_close(found[1], theirs.intermediate_reference_points[:, 0])


def test_places_where_the_others_begin() -> None:
    detector = detector_of("conditional-detr-p")
    with torch.no_grad():
        points = detector.module.model(images_of()).reference_points.transpose(0, 1)
    found = found_in(detector, "layers", "embeddings").references
    torch.testing.assert_close(found[0, ..., :2], points)
    assert torch.equal(found[1], found[0])
    detector = detector_of("dab-detr-p")
    with torch.no_grad():
        boxes = detector.module.model((images_of() - detector.module.pixel_mean) / detector.module.pixel_std)
    torch.testing.assert_close(found_in(detector, "layers", "embeddings").references, boxes.reference_points)
    with pytest.raises(RuntimeError, match="reference_boxes was not computed"):
        _ = found_in(detector_of("detr-p"), "embeddings").references


@pytest.mark.parametrize("model", MODELS)
def test_attention(model: str) -> None:
    """The library's own, which it gives where no fused kernel computes it."""
    detector = detector_of(model)
    found = found_in(detector, SELF, CROSS)
    detector.module.set_attn_implementation("eager")
    theirs = run_by_the_library(detector, output_attentions=True)
    torch.testing.assert_close(found.self_attention(1), theirs.decoder_attentions[1].mean(1), atol=1e-4, rtol=1e-3)
    cross = found.cross_attention(1)
    given = theirs.cross_attentions[1]
    expected = given.mean(1) if model in DENSE else given.flatten(2) / 4  # of four heads
    torch.testing.assert_close(cross.weights, expected, atol=1e-4, rtol=1e-3)
    sizes = ((3, 4),) if model in DENSE else ((12, 16), (6, 8), (3, 4), (2, 2))
    assert cross.sizes == sizes
    assert [tuple(one.shape[1:]) for one in cross.onto_levels(torch.ones(2, 50))] == list(sizes)


@pytest.mark.parametrize("model", DEFORMABLE)
def test_places_that_deformable_attention_looks_at(model: str) -> None:
    detector = detector_of(model)
    seen: list[Tensor] = []
    part = detector.module.model.decoder.layers[1].encoder_attn.attn
    part.register_forward_pre_hook(lambda _module, given: seen.append(given[4]))
    cross: CrossAttention = found_in(detector, CROSS).cross_attention(1)
    assert cross.places is not None
    torch.testing.assert_close(cross.places, seen[0].flatten(2, -2))
    assert cross.levels.bincount().tolist() == [16, 16, 16, 16], "four heads, four points"


@pytest.mark.parametrize("model", MODELS)
def test_what_a_spec_promises(model: str) -> None:
    given = {"class_logits", "boxes", "layers", "embeddings", "memory", "self_attention", "cross_attention"}
    asked = {"decoder", "reference_boxes"} if model in ASKED else set()
    head = detector_of(model).spec.head
    assert set(head.gives) == given | asked
    assert head.strides == ((8, 16, 32, 64) if model in DEFORMABLE else (32,))


def hooks_of(detector: Any) -> int:
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in detector.module.modules())


@pytest.mark.parametrize("model", MODELS)
def test_nothing_of_it_stays(model: str) -> None:
    detector = detector_of(model)
    before = hooks_of(detector)
    found_in(detector, "layers", "embeddings", SELF, CROSS)
    assert hooks_of(detector) == before
    assert all(
        getattr(part, "config", detector.module.config) is detector.module.config
        for part in detector.module.model.decoder.modules()
    )


def test_patterns_are_queries_of_their_own() -> None:
    """Of DAB-DETR: each anchor with each pattern, in that order, which questions go round."""
    detector = detector_of("dab-detr-p", num_patterns=2, num_queries=3)
    assert detector.spec.head.queries == 6
    found = found_in(detector, "decoder", "layers", "embeddings")
    patterns = detector.module.model.patterns.weight
    assert torch.equal(found.content[0], patterns[[0, 0, 0, 1, 1, 1]])
    with torch.no_grad():
        assert torch.equal(found.decoder.content_at(torch.full((2, 8, 4), 0.5))[1], patterns[[0, 0, 0, 1, 1, 1, 0, 0]])
        answer = found.decoder.ask(found.content, found.references[0])
    torch.testing.assert_close(answer.class_logits, found.class_logits, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("model", ASKED)
def test_a_question_in_half_precision(model: str) -> None:
    detector = detector_of(model)
    half = detector.with_module(deepcopy(detector.module).to(torch.bfloat16))
    images = images_of()
    with torch.no_grad():
        found = half.assemble(half.compute(images.to(torch.bfloat16), frozenset({"decoder"})), {}, images).queries
        boxes = torch.full((2, 3, 4), 0.5)
        answer = found.decoder.ask(found.decoder.content_at(boxes), boxes)
    assert torch.isfinite(answer.class_logits).all()
    assert answer.class_logits.dtype == torch.bfloat16
