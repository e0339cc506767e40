"""Predictions, detections and maps are those of the library itself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.detectors.capture import run
from edgekd.detectors.spec import Needs
from tests.detectors.transformers.folders import NAMES, SMALL, network, opened, processor_of, write

pytest.importorskip("transformers", reason="the extra hf is not installed")

HEIGHT, WIDTH = 128, 192


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("folders")


@cache
def _both(root: Path, model: str) -> tuple[Any, Any]:
    made = network(model)
    return made, opened(write(made, root / model))


def images_of() -> Tensor:
    return torch.randint(0, 256, (2, 3, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def run_by_the_library(made: Any, **options: Any) -> tuple[Mapping[str, Any], Any]:
    """Pixels by its own processor, which is told not to resize."""
    processor = processor_of(made.config.model_type)
    inputs = processor(list(images_of()), do_resize=False, return_tensors="pt")
    with torch.no_grad():
        return made(**inputs, **options), inputs["pixel_values"]


def alike(found: Tensor, expected: Tensor) -> None:
    """Up to rounding, on the scale of the whole map."""
    assert found.shape == expected.shape
    assert float((found - expected).norm()) < 1e-5 * float(expected.norm())


@pytest.mark.parametrize("model", SMALL)
def test_predictions_and_detections(root: Path, model: str) -> None:
    made, detector = _both(root, model)
    expected, pixels = run_by_the_library(made)
    images = images_of().float() / 255
    with torch.no_grad():
        output = run(detector, images, Needs(parts=frozenset({"class_logits", "boxes"})))
        rows: Tensor = detector.export_module()(images)
    torch.testing.assert_close((images - detector.module.pixel_mean) / detector.module.pixel_std, pixels)
    found = output.queries
    assert found is not None
    assert found.class_logits.std() > 0.05, "scores that differ"
    scores = expected["logits"].softmax(-1)[..., :-1] if detector.kind.softmax else expected["logits"].sigmoid()
    torch.testing.assert_close(found.class_logits[-1].sigmoid(), scores, atol=1e-5, rtol=1e-4)
    if not detector.kind.softmax:
        torch.testing.assert_close(found.class_logits[-1], expected["logits"], atol=1e-3, rtol=1e-3)
    sizes = torch.tensor([[HEIGHT, WIDTH]] * 2)
    theirs = processor_of(made.config.model_type).post_process_object_detection(
        type(expected)(**expected), threshold=0.0, target_sizes=sizes
    )
    for one, other in zip(rows, theirs, strict=True):
        order = other["scores"].argsort(descending=True, stable=True)
        assert len(one) == len(order)
        torch.testing.assert_close(one[:, 4], other["scores"][order], atol=1e-5, rtol=1e-4)
        same = one[:, 5] == other["labels"][order]
        assert float(same.float().mean()) > 0.9, "equal scores may change places"
        apart = (one[same, :4] - other["boxes"][order][same]).abs().amax(-1)
        assert float((apart < 2e-2).float().mean()) > 0.9


@pytest.mark.parametrize("model", ["rt-detr-p", "rt-detr-v2-p"])
def test_every_decoder_layer(root: Path, model: str) -> None:
    made, detector = _both(root, model)
    expected, pixels = run_by_the_library(made)
    with torch.no_grad():
        output = run(detector, images_of().float() / 255, Needs(parts=frozenset({"class_logits", "layers"})))
        inner = made.model(pixels)
    found = output.queries
    assert found is not None
    assert found.layers == (0, 1, 2)
    torch.testing.assert_close(found.class_logits, inner.intermediate_logits.movedim(1, 0))
    size = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
    centre, half = expected["pred_boxes"][..., :2], expected["pred_boxes"][..., 2:] / 2
    torch.testing.assert_close(found.boxes_px[-1], torch.cat([centre - half, centre + half], -1) * size)


@pytest.mark.parametrize("model", ["dfine-p", "deimv2-p"])
def test_corner_distributions(root: Path, model: str) -> None:
    made, detector = _both(root, model)
    expected, _ = run_by_the_library(made)
    with torch.no_grad():
        found = run(detector, images_of().float() / 255, Needs(parts=frozenset({"boxes"}))).queries
    assert found is not None
    assert found.box_logits is not None
    assert detector.spec.head.bins == 17
    assert found.layers == (2,)
    assert found.box_logits.shape == (1, 2, 50, 4, 17)
    torch.testing.assert_close(
        found.box_logits[0].flatten(-2), expected["intermediate_predicted_corners"][:, 0], atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("model", SMALL)
def test_maps_are_hidden_states(root: Path, model: str) -> None:
    made, detector = _both(root, model)
    expected, pixels = run_by_the_library(made, **({"output_hidden_states": True} if model == "dab-detr-p" else {}))
    with torch.no_grad():
        taps = run(detector, images_of().float() / 255, Needs(detector.spec.taps)).taps
    neck = [taps[tap.key] for tap in detector.spec.taps_of("neck")]
    if model == "rf-detr-p":
        theirs = [expected["backbone_features"]]
    elif model == "lw-detr-p":
        with torch.no_grad():
            theirs = [one for one, _ in made.model.backbone(pixels, torch.ones_like(pixels[:, 0]))]
    elif isinstance(expected["encoder_last_hidden_state"], Tensor):
        theirs = [expected["encoder_last_hidden_state"]]
        neck = [torch.cat([one.flatten(2).transpose(1, 2) for one in neck], 1)]
    else:
        theirs = list(expected["encoder_last_hidden_state"])
    for one, other in zip(neck, theirs, strict=True):
        alike(one, other)
    backbone = [taps[tap.key] for tap in detector.spec.taps_of("backbone")]
    if model in ("rf-detr-p", "lw-detr-p"):
        assert backbone == [], "a transformer of windows has no maps of its own"
        return
    outer = made.model.conv_encoder if model == "deimv2-p" else made.model.backbone
    outer = getattr(outer, "conv_encoder", outer)  # of the table transformer and DAB-DETR, inside
    with torch.no_grad():
        maps = outer.model(pixels).feature_maps
    for one, other in zip(backbone, maps, strict=True):
        alike(one, other)


def test_classes_stand_in_the_configuration(root: Path) -> None:
    _, detector = _both(root, "dfine-p")
    assert detector.spec.class_names == NAMES
    assert detector.spec.name == "dfine-p"
