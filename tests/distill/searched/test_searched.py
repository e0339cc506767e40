"""The method itself: what it reads, what its keys may be, how many there are, and what is compared."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest
import torch
from pydantic import ValidationError

from edgekd.detectors.outputs import View
from edgekd.detectors.spec import QueryHead
from edgekd.distill.box_masks import background_mask, scale_mask
from edgekd.distill.regions import roi_align
from edgekd.distill.searched.options import CHOICES, DEFAULTS, WEIGHTS, SearchedConfig
from edgekd.errors import InputError
from edgekd.recipe.presets import load_preset

from ..helpers import boxes_of, build, random_output, scene, spec, terms

SIDE = spec("a", (4, 6))
PLAIN = {"attention": "none", "scale": "none", "normalise": "none"}


def test_what_is_left_out_is_what_the_paper_found() -> None:
    for kind, parts in DEFAULTS.items():
        assert SearchedConfig.model_validate({"knowledge": kind}).parts == parts
        assert set(parts) == set(CHOICES[kind])
    assert SearchedConfig().knowledge == "global"


def test_published_distillers_are_one_entry_per_kind() -> None:
    for name, weight in {"two-stage": 2.0, "one-stage": 6.0, "anchor-free": 5.0}.items():
        rows = [dict(entry) for entry in load_preset(f"detkds-{name}")["distill"]]
        given = [{key: value for key, value in row.items() if key not in ("method", "place")} for row in rows]
        configs = [SearchedConfig.model_validate(keys) for keys in given]
        assert [config.knowledge for config in configs] == list(CHOICES)
        assert [config.weight for config in configs][:2] == [weight, 2.0]
        assert name != "anchor-free" or {config.knowledge: config.parts for config in configs} == DEFAULTS


def test_a_candidate_can_be_written_down_and_read_again() -> None:
    config = SearchedConfig.model_validate({"knowledge": "fgbg", "scale": "local4", "distance": "ssim", "weight": 2})
    assert SearchedConfig.model_validate(config.model_dump(mode="json")) == config
    assert config.parts == {"attention": "mask", "scale": "local4", "normalise": "unit_c", "distance": "ssim"}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"knowledge": "logits", "scale": "pool2"}, "scale: not of knowledge logits, which has transform, distance"),
        ({"transform": "none"}, "transform: not of knowledge global, which has attention, scale, normalise, distance"),
        ({"distance": "giou"}, "distance: unknown distance of global 'giou'"),
        ({"knowledge": "logits", "transform": "pow2"}, "transform: unknown transform of logits 'pow2'"),
        ({"knowledge": "localisation", "distance": "l1"}, "distance: unknown distance of localisation 'l1'"),
    ],
)
def test_keys_of_another_kind_are_refused(given: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        SearchedConfig.model_validate(given)


def test_there_are_more_than_thirty_thousand() -> None:
    """Counted as entries of a recipe: every choice of parts times every weight, summed over kinds of knowledge.

    As the total of one entry per kind or none of it, which the paper calls a policy, their product.
    """
    counts = {kind: prod(map(len, choices.values())) * len(WEIGHTS) for kind, choices in CHOICES.items()}
    assert counts == {"global": 10_780, "fgbg": 10_780, "instance": 10_780, "logits": 490, "localisation": 175}
    assert sum(counts.values()) == 33_005
    assert prod(count + 1 for count in counts.values()) == pytest.approx(1.08e17, rel=0.01)


def test_global_is_the_mean_over_each_level() -> None:
    student, teacher = random_output(SIDE), random_output(SIDE, seed=1)
    value = terms(build("searched", SIDE, SIDE, **PLAIN, distance="l2"), student, teacher)["global"]
    expected = sum((student.taps[key] - teacher.taps[key]).square().mean() for key in ("neck.8", "neck.16"))
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)  # type: ignore[union-attr]


def test_objects_count_alike_whatever_their_size_and_the_background_half() -> None:
    side, batch = spec("a", (4,), (8,)), scene()
    student, teacher = random_output(side), random_output(side, seed=1)
    found = terms(build("searched", side, side, knowledge="fgbg", **PLAIN, distance="l1"), student, teacher, batch)
    distance = (student.taps["neck.8"] - teacher.taps["neck.8"]).abs().mean(1)
    inside = scale_mask(batch, (4, 4))
    outside = background_mask(inside)
    assert found["foreground"].item() == pytest.approx(((distance * inside).sum() / inside.sum()).item(), rel=1e-5)
    assert found["background"].item() == pytest.approx((distance * outside).sum().item() / 2 / 2, rel=1e-5)


def test_images_without_labels_have_no_background() -> None:
    method = build("searched", SIDE, SIDE, knowledge="fgbg", **PLAIN)
    batch = boxes_of([[4.0, 4, 12, 12]], [])
    shown = replace(View.whole(batch.images), labelled=torch.tensor([True, False]))
    student, teacher = random_output(SIDE), random_output(SIDE, seed=1)
    found = terms(method, student, teacher, replace(batch, shown=shown))["background"].item()
    teacher.taps["neck.8"].data[1] += 5.0
    assert terms(method, student, teacher, replace(batch, shown=shown))["background"].item() == found > 0


def test_instances_are_cut_out_of_every_level() -> None:
    method, batch = build("searched", SIDE, SIDE, knowledge="instance", **PLAIN, distance="l1", size=7), scene()
    student, teacher = random_output(SIDE), random_output(SIDE, seed=1)
    rows = torch.cat([batch.image_index[:, None].float(), batch.boxes_px], 1)
    expected = [
        (
            roi_align(student.taps[f"neck.{stride}"], rows, stride, 7)
            - roi_align(teacher.taps[f"neck.{stride}"], rows, stride, 7)
        )
        .abs()
        .mean()
        for stride in (8, 16)
    ]
    value = terms(method, student, teacher, batch)["instance"]
    assert value.item() == pytest.approx(torch.stack(expected).sum().item(), rel=1e-5)


def test_maps_serve_heads_of_any_kind_and_responses_say_why_not() -> None:
    query = replace(SIDE, head=QueryHead(6, 300, 256))
    for kind in ("global", "fgbg", "instance"):
        assert build("searched", query, query, knowledge=kind).wiring.teacher.head == frozenset()
    for kind in ("logits", "localisation"):
        with pytest.raises(InputError, match=f"searched: knowledge {kind} needs a dense head on both sides; student a"):
            build("searched", query, SIDE, knowledge=kind)


def test_what_is_read_of_heads() -> None:
    logits = build("searched", SIDE, SIDE, knowledge="logits").wiring
    boxes = build("searched", SIDE, SIDE, knowledge="localisation").wiring
    assert (logits.student.parts, logits.teacher.parts) == ({"class_logits"}, {"class_logits"})
    assert (boxes.student.parts, boxes.teacher.parts) == ({"boxes"}, {"boxes", "class_logits"})


@pytest.mark.parametrize("knowledge", CHOICES)
def test_magnitude_beside_a_detection_loss(knowledge: str) -> None:
    """At weight 1 and random sides of unit variance, below a YOLO's about 10."""
    side = spec("a", (64, 64))
    found = terms(build("searched", side, side, knowledge=knowledge), random_output(side), random_output(side, seed=1))
    assert 0.001 < sum(value.item() for value in found.values()) < 5
