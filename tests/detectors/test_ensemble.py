"""Several detectors as one: averages by hand, classes that only some know, and real networks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from edgekd.detectors.capture import run
from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.ensemble import Ensemble, Member, combined
from edgekd.detectors.spec import Needs
from edgekd.errors import InputError
from tests.distill.helpers import dense
from tests.stages.tiny import detector


def logit(score: float) -> float:
    return float(torch.tensor(score, dtype=torch.float64).logit())


def predictions(scores: list[float], box: list[float], known: list[bool] | None = None):  # type: ignore[no-untyped-def]
    """One image with one point and these scores of its classes."""
    logits = torch.tensor([[[logit(score) for score in scores]]])
    found = dense(logits, size_px=8, strides=[8], known=None if known is None else torch.tensor(known))
    return replace(found, decode=lambda: torch.tensor([[box]]))


def test_a_mean_is_one_of_probabilities_and_of_boxes() -> None:
    """Not of logits: 0.9 and 0.1 give 0.5 either way, 0.9 and 0.5 give 0.7 and not 0.75."""
    both = combined([predictions([0.9, 0.1], [0, 0, 4, 4]), predictions([0.5, 0.3], [2, 2, 8, 8])], "mean")
    assert both.class_logits.sigmoid().flatten().tolist() == pytest.approx([0.7, 0.2], abs=1e-5)
    assert both.boxes_px.flatten().tolist() == pytest.approx([1, 1, 6, 6])
    assert both.known_classes is None


def test_by_confidence_whoever_sees_an_object_decides() -> None:
    """Best scores 0.9 and 0.3: weights 0.75 and 0.25."""
    both = combined([predictions([0.9, 0.1], [0, 0, 4, 4]), predictions([0.2, 0.3], [4, 4, 8, 8])], "confidence")
    assert both.class_logits.sigmoid().flatten().tolist() == pytest.approx([0.725, 0.15], abs=1e-5)
    assert both.boxes_px.flatten().tolist() == pytest.approx([1, 1, 5, 5])


@pytest.mark.parametrize("by", ["mean", "confidence"])
def test_a_class_is_averaged_over_those_that_know_it(by: str) -> None:
    """The second does not know the first class, whatever stands in its column, nor is it sure because of that."""
    first, second = predictions([0.6, 0.2], [0, 0, 4, 4]), predictions([0.99, 0.6], [4, 4, 8, 8], [False, True])
    both = combined([first, second], by)  # type: ignore[arg-type]
    assert both.class_logits.sigmoid().flatten().tolist() == pytest.approx([0.6, 0.4], abs=1e-5)
    assert both.boxes_px.flatten().tolist() == pytest.approx([2, 2, 6, 6])
    nobody = combined([second, second], by)  # type: ignore[arg-type]
    assert nobody.known_classes is not None and nobody.known_classes.tolist() == [False, True]


def test_distributions_are_averaged_as_such() -> None:
    shares = torch.tensor([[0.8, 0.2], [0.4, 0.6]])
    members = [replace(predictions([0.5], [0, 0, 1, 1]), box_logits=one.log().expand(1, 1, 4, 2)) for one in shares]
    found = combined(members, "mean").box_logits
    assert found is not None
    torch.testing.assert_close(found.softmax(-1), torch.tensor([0.6, 0.4]).expand(1, 1, 4, 2))


def ensemble(by: str = "mean", *models: str) -> Ensemble:
    members = [detector(model) for model in models or ("yolo11n", "yolo11p")]
    names = members[0].spec.class_names
    return Ensemble([Member(one, ClassMap.identity(len(names))) for one in members], by, names)  # type: ignore[arg-type]


@pytest.mark.parametrize("by", ["mean", "confidence"])
def test_its_export_says_what_its_predictions_say(by: str) -> None:
    made = ensemble(by)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        output = run(made, images, Needs(parts=frozenset({"class_logits", "boxes"}))).dense["one2many"]
        boxes, scores = made.export_module()(images)
    torch.testing.assert_close(scores, output.class_logits.sigmoid(), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(boxes, output.boxes_px, atol=1e-2, rtol=1e-3)


def test_two_of_the_same_are_the_one() -> None:
    made = ensemble("confidence", "yolo11p", "yolo11p")
    alone = made.members[0].detector
    images = torch.rand(1, 3, 64, 64)
    needs = Needs(parts=frozenset({"class_logits", "boxes"}))
    with torch.inference_mode():
        both, one = (run(each, images, needs).dense["one2many"] for each in (made, alone))
    torch.testing.assert_close(both.class_logits.sigmoid(), one.class_logits.sigmoid(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(both.boxes_px, one.boxes_px, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(both.box_logits.softmax(-1), one.box_logits.softmax(-1), atol=1e-5, rtol=1e-3)


def test_spec_of_a_pair_with_and_without_a_distribution() -> None:
    made = ensemble("mean", "yolo11p", "yolo26n")
    assert made.spec.name == "yolo11p+yolo26n" and made.spec.head.bins == 1 and made.spec.branches == ("one2many",)
    assert made.spec.taps == () and made.spec.parameters == sum(one.detector.spec.parameters for one in made.members)


def test_other_points_are_refused() -> None:
    with pytest.raises(InputError, match=r"rtdetr-l has a query head, yolo11p has strides 8, 16, 32 at offset 0\.5"):
        ensemble("mean", "yolo11p", "rtdetr-l")


def test_a_frozen_one_has_no_gradients_and_no_tail() -> None:
    made = ensemble().frozen()
    assert not any(value.requires_grad for value in made.module.parameters())
    with pytest.raises(InputError, match="an ensemble has no head of its own; name one teacher"):
        made.head_tail("class_logits", 0, 0, "one2many")
