"""What is read of decoders from inside is what the library itself computes there."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.detectors.parts import Attention
from edgekd.detectors.queries import QueryPredictions
from edgekd.detectors.spec import Part
from edgekd.detectors.transformers.detector import TransformersDetector
from edgekd.detectors.transformers.folder import Convention
from edgekd.detectors.transformers.models import KINDS
from edgekd.detectors.transformers.network import prepare
from tests.detectors.transformers.folders import NAMES, network

pytest.importorskip("transformers", reason="the extra hf is not installed")

MODELS = ("rt-detr-p", "rt-detr-v2-p", "dfine-p", "deimv2-p")
CROSS, SELF = Attention("cross", 1), Attention("self", 1)


def detector_of(model: str, names: tuple[str, ...] = NAMES, **changed: Any) -> Any:
    made = network(model, names, **changed)
    kind = KINDS[made.config.model_type]
    return TransformersDetector(prepare(made, Convention.of_kind(kind, 3)), model, kind, names)


def images_of() -> Tensor:
    return torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(1))


def found_in(detector: Any, *parts: Part) -> QueryPredictions:
    images = images_of()
    with torch.no_grad():
        found = detector.assemble(detector.compute(images, frozenset(parts)), {}, images).queries
    assert found is not None
    return found


@pytest.mark.parametrize("model", MODELS)
def test_queries_and_memory(model: str) -> None:
    detector = detector_of(model)
    found = found_in(detector, "embeddings", "memory", "layers")
    with torch.no_grad():
        theirs = detector.module.model(images_of())
        memory = [
            project(one)
            for project, one in zip(
                detector.module.model.decoder_input_proj, theirs.encoder_last_hidden_state, strict=True
            )
        ]
    embeddings = theirs.intermediate_hidden_states
    if model in ("rt-detr-p", "rt-detr-v2-p"):
        embeddings = embeddings.movedim(1, 0)
    torch.testing.assert_close(found.embeddings, embeddings)
    torch.testing.assert_close(found.references[0], theirs.init_reference_points.sigmoid())
    for one, other in zip(found.memory, memory, strict=True):
        torch.testing.assert_close(one, other)
    last = found_in(detector, "embeddings")
    assert (last.layers, len(last.embeddings)) == ((2,), 1)
    torch.testing.assert_close(last.embeddings[0], found.embeddings[-1])
    torch.testing.assert_close(last.class_logits[0], found.class_logits[-1])


@pytest.mark.parametrize("model", MODELS)
def test_self_attention(model: str) -> None:
    detector = detector_of(model)
    found = found_in(detector, SELF).self_attention(1)
    detector.module.set_attn_implementation("eager")
    with torch.no_grad():
        theirs = detector.module.model(images_of(), output_attentions=True)
    torch.testing.assert_close(found, theirs.decoder_attentions[1].mean(1), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("model", MODELS)
def test_cross_attention(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Places at which memory is read, in the order of their weights."""
    detector = detector_of(model)
    seen: list[tuple[Tensor, Tensor]] = []
    part = detector.module.model.decoder.layers[1].encoder_attn
    home = sys.modules[type(part).__module__]
    core = getattr(home, "multi_scale_deformable_attention_v2", None)

    def noted(*given: Any) -> Tensor:
        seen.append((given[2], given[3]))
        assert core is not None
        return core(*given)

    if core is None:
        part.attn.register_forward_pre_hook(lambda _module, given: seen.append((given[4], given[5])))
    elif hasattr(part, "ms_deformable_attn_core"):
        part.ms_deformable_attn_core = noted
    else:  # of every layer
        monkeypatch.setattr(home, core.__name__, noted)
    found = found_in(detector, CROSS).cross_attention(1)
    places, weights = seen[1 if len(seen) > 1 else 0]
    assert found.places is not None
    torch.testing.assert_close(found.places, places.flatten(2, -2))
    torch.testing.assert_close(found.weights, weights.flatten(2) / 4)
    assert found.levels.bincount().tolist() == [16, 16, 16], "four heads, four points"
    maps = found.onto_levels(torch.ones(2, 50))
    assert [tuple(one.shape) for one in maps] == [(2, 12, 16), (2, 6, 8), (2, 3, 4)]


@pytest.mark.parametrize("points", [[2, 4, 1], 4])
def test_levels_may_have_points_of_their_own(points: Any) -> None:
    found = found_in(detector_of("dfine-p", decoder_n_points=points), CROSS).cross_attention(1)
    per_level = points if isinstance(points, list) else [points] * 3
    assert found.levels.tolist() == 4 * [level for level, count in enumerate(per_level) for _ in range(count)]


@pytest.mark.parametrize("model", MODELS)
def test_nothing_of_it_stays(model: str) -> None:
    detector = detector_of(model)
    found_in(detector, "layers", "embeddings", "decoder", SELF, CROSS)
    assert not any(part.training for part in detector.module.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in detector.module.model.decoder.modules())


def test_columns_without_a_class_are_left_out_of_answers() -> None:
    detector = detector_of("dfine-p", ("N/A", "cat", "background", "dog"))
    found = found_in(detector, "decoder", "embeddings", "layers")
    with torch.no_grad():
        answer = found.decoder.ask(found.content, found.references[0])
    assert answer.class_logits.shape == (3, 2, 50, 2)
    torch.testing.assert_close(answer.class_logits, found.class_logits, atol=1e-4, rtol=1e-3)
    assert answer.box_logits is not None
    assert found.decoder.class_embedding is not None
    expected = detector.module.model.denoising_class_embed.weight[[1, 3]]
    assert torch.equal(found.decoder.class_embedding, expected)


def test_a_decoder_without_denoising_has_no_content_by_class() -> None:
    detector = detector_of("rt-detr-p", num_denoising=0)
    assert "class_embedding" not in detector.spec.head.gives
    assert found_in(detector, "decoder").decoder.class_embedding is None
