from dataclasses import replace

import pytest
import torch

from edgekd.detectors.outputs import Batch, DetectorOutput, View
from edgekd.distill.contract import Distiller, distiller_type
from edgekd.distill.query.distance import embedding_distance
from edgekd.distill.query.unikd import UniKD
from edgekd.errors import InputError

from ..helpers import batch_of, boxes_of, build, empty_batch, moment, pair_of, random_output, scene, spec, terms

STUDENT = spec("small", (4, 6, 8), (8, 16, 32))
TEACHER = spec("large", (5, 6), (4, 16))  # other widths, strides and numbers of levels


def method(**keys: object) -> UniKD:
    built = build("unikd", STUDENT, TEACHER, **{"queries": 12, "width": 16, **keys})
    assert isinstance(built, UniKD)
    return built


def outputs(size_px: int = 32) -> tuple[DetectorOutput, DetectorOutput]:
    return random_output(STUDENT, size_px), random_output(TEACHER, size_px, seed=1)


def test_the_papers_defaults() -> None:
    config = distiller_type("unikd").config_type()
    expected = {
        "queries": 200, "layers": 1, "adapter_layers": 2, "jitter_iou": 0.6, "background_iou": 0.4, "content": 10.0,
        "positional": 10.0, "absorb_epochs": 15, "absorb_lr0": 2e-4, "negatives": True, "width": 256,
        "absorb_divided_by": "queries",
    }  # fmt: skip
    assert {key: getattr(config, key) for key in expected} == expected


def test_distance_by_hand() -> None:
    """Two images of three queries and two channels; the second has no object."""
    student = torch.tensor([[[1.0, 1], [2, 0], [0, 0]], [[3.0, 1], [0, 0], [0, 1]]])
    positive = torch.tensor([[True, False, False], [False, False, False]])
    first, second = 1.0 + (2.0 + 0) / 2, (5.0 + 0 + 0.5) / 3
    found = embedding_distance(student, torch.zeros(2, 3, 2), positive)
    assert found.item() == pytest.approx((first + second) / 2)
    alone = embedding_distance(student, torch.zeros(2, 3, 2), positive, negatives=False)
    assert alone.item() == pytest.approx(1.0 / 2)
    assert embedding_distance(student, student, positive).item() == 0


def test_knowledge_has_a_fixed_size_whatever_the_image() -> None:
    built, (_, teacher) = method(), outputs()
    shapes = [
        {key: (tuple(value.shape), value.dtype) for key, value in built.knowledge(teacher, batch).items()}
        for batch in (batch_of(), scene(), empty_batch())
    ]
    assert shapes[0] == shapes[1] == shapes[2]
    per_kind = {
        "queries": ((2, 12, 16), torch.float32), "embeddings": ((2, 12, 16), torch.float32),
        "places": ((2, 12, 4), torch.float32), "positive": ((2, 12), torch.bool),
    }  # fmt: skip
    assert shapes[0] == {f"{kind}.{part}": of for kind in ("content", "positional") for part, of in per_kind.items()}


def test_knowledge_of_a_sample_is_that_of_any_other_step() -> None:
    """Nothing of it comes from a random state, or from the images beside it."""
    built, (_, teacher), batch = method(), outputs(), scene()
    torch.manual_seed(1)
    first = built.knowledge(teacher, batch)
    torch.manual_seed(2)
    second = built.knowledge(teacher, batch)
    assert all(torch.equal(first[key], second[key]) for key in first)
    maps = {key: value[1:] for key, value in teacher.taps.items()}
    shown = replace(View.whole(batch.images[1:]), image_ids=torch.tensor([-1]))
    alone = Batch(batch.images[1:], torch.zeros(3).long(), batch.class_ids[3:], batch.boxes_px[3:], shown=shown)
    single = built.knowledge(DetectorOutput(maps), alone)
    for key, value in first.items():
        torch.testing.assert_close(single[key][0], value[1])


def test_as_many_queries_are_positive_as_there_are_objects() -> None:
    built, (_, teacher) = method(), outputs()
    batch = boxes_of([[4.0, 4, 20, 20], [1, 22, 9, 30], [21, 2, 31, 12]], [])
    found = built.knowledge(teacher, batch)
    assert found["content.positive"].sum(1).tolist() == found["positional.positive"].sum(1).tolist() == [3, 0]


def test_one_kind_alone() -> None:
    student, teacher = outputs()
    for other, kind in (("positional", "content"), ("content", "positional")):
        built = method(**{other: 0})
        assert {key.partition(".")[0] for key in built.knowledge(teacher, scene())} == {kind}
        assert list(terms(built, student, teacher, scene())) == [kind]
    with pytest.raises(ValueError, match="content and positional are both 0; leave one above 0"):
        method(content=0, positional=0)


def test_factors_are_the_lambdas() -> None:
    student, teacher = outputs()
    single, both = (terms(method(content=a, positional=b), student, teacher, scene()) for a, b in ((1, 1), (10, 3)))
    assert both["content"].item() == pytest.approx(10 * single["content"].item(), rel=1e-5)
    assert both["positional"].item() == pytest.approx(3 * single["positional"].item(), rel=1e-5)


def test_extractors_are_frozen_and_no_part_of_the_method() -> None:
    built, (student, teacher) = method(), outputs()
    assert {name.partition(".")[0] for name in built.state_dict()} == {"adapter"}
    frozen = built.extractors.on(torch.device("cpu"))
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    sum(terms(built, student, teacher, scene()).values()).backward()  # type: ignore[union-attr]
    assert all(value.grad is None and not value.requires_grad for value in frozen.parameters())
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    assert all(student.taps[tap.key].grad is not None for tap in built.adapter.sources)


@pytest.mark.parametrize("objects", [True, False])
def test_halves_of_a_batch_average_to_the_whole(objects: bool) -> None:
    """Two ranks, and gradient accumulation, give what one large batch gives: images without objects among them."""
    built, (student, teacher) = method(), outputs()
    rows = [[4.0, 4, 20, 20], [1, 22, 9, 30]] if objects else []
    whole = terms(built, student, teacher, boxes_of(rows, []))
    halves = []
    for image, own in ((0, rows), (1, [])):
        cut = [DetectorOutput({key: value[image : image + 1] for key, value in side.taps.items()}) for side in
               (student, teacher)]  # fmt: skip
        halves.append(terms(built, cut[0], cut[1], boxes_of(own)))
    for key, value in whole.items():
        assert value.item() == pytest.approx(sum(half[key].item() for half in halves) / 2, rel=1e-4)


def test_the_same_numbers_under_autocast() -> None:
    """The method computes in float32, whatever the step does."""
    built, (student, teacher) = method(), outputs()
    exact = terms(built, student, teacher, scene())
    with torch.autocast("cpu", torch.bfloat16):
        half = terms(built, student, teacher, scene())
    assert {key: value.item() for key, value in half.items()} == {key: value.item() for key, value in exact.items()}


def test_stored_as_half_the_terms_are_nearly_the_same() -> None:
    built, (student, teacher), batch = method(), outputs(), scene()
    kept = built.knowledge(teacher, batch)
    half = {key: value.half().float() if value.is_floating_point() else value for key, value in kept.items()}
    exact, stored = (built.terms(student, found, batch, moment()) for found in (kept, half))
    for key, value in exact.items():
        assert stored[key].item() == pytest.approx(value.item(), rel=2e-3)


def absorb(built: UniKD, batch: Batch, seed: int = 0) -> dict[str, torch.Tensor]:
    """One step of the preparation."""
    preparation = built.preparation()
    assert preparation.knowledge is not None
    found = preparation.knowledge(random_output(TEACHER, seed=1), batch)
    detached = {key: value.detach() for key, value in found.items()}
    return preparation.loss(detached, batch, torch.Generator().manual_seed(seed))


def test_absorbing_trains_every_weight_of_the_extractors() -> None:
    built = method()
    module = built.preparation().module
    for value in module.parameters():
        if not value.any():
            torch.nn.init.normal_(value, std=0.1)
    found = absorb(built, scene())
    assert set(found) == {"content_class", "content_box", "positional_class", "positional_box"}
    sum(found.values()).backward()  # type: ignore[union-attr]
    assert [name for name, value in module.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_absorbing_asks_about_other_boxes_in_other_steps() -> None:
    built = method()
    first, again, other = (absorb(built, scene(), seed)["positional_box"].item() for seed in (0, 0, 1))
    assert first == again != other


def test_absorbing_learns_a_scene() -> None:
    built = method(queries=8)
    preparation, batch = built.preparation(), scene()
    optimizer = torch.optim.AdamW(preparation.module.parameters(), lr=5e-3)
    losses = []
    for step in range(60):
        loss = torch.stack(list(absorb(built, batch, step).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.35 * sum(losses[:5])


def test_a_student_comes_closer_to_its_teacher() -> None:
    """Its maps and the adapter, trained by these terms alone."""
    built, (student, teacher), batch = method(queries=8), outputs(), scene()
    with torch.no_grad():
        knowledge = built.knowledge(teacher, batch)
    optimizer = torch.optim.AdamW([*built.parameters(), *student.taps.values()], lr=1e-2)
    losses = []
    for step in range(40):
        loss = torch.stack(list(built.terms(student, knowledge, batch, moment(step)).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_the_learning_rate_falls_to_a_tenth_at_four_fifths() -> None:
    preparation = method(absorb_epochs=10).preparation()
    assert preparation.schedule is not None
    assert [preparation.schedule(epoch, 10, 0.01) for epoch in (0, 7, 8, 9)] == [1.0, 1.0, 0.1, 0.1]
    assert preparation.train["epochs"] == 10


def test_the_heads_detect_in_pixels() -> None:
    built, (_, teacher) = method(), outputs()
    detections = built.preparation().detections
    assert detections is not None
    boxes, scores = detections(teacher, torch.zeros(2, 3, 32, 32))
    assert boxes.shape == (2, 12, 4) and scores.shape == (2, 12, 3)
    assert (boxes[..., 2:] > boxes[..., :2]).all() and boxes.max() > 2


def test_a_preparation_does_not_depend_on_what_is_the_students() -> None:
    keys = set(method().preparation().depends_on)
    assert not keys & {"content", "positional", "negatives", "adapter_layers", "weight", "schedule"}
    assert {"taps", "queries", "width", "absorb_epochs"} <= keys
    assert "taps" not in method(teacher_taps="neck").preparation().depends_on


def test_a_pair_without_a_pyramid_is_refused() -> None:
    bare = spec("bare", (), ())
    with pytest.raises(InputError, match="unikd: teacher bare: unknown tap 'neck'"):
        distiller_type("unikd")(distiller_type("unikd").config_type(), pair_of(STUDENT, bare))


def test_every_number_of_levels_serves_every_other() -> None:
    sides = [spec("a", (4,), (16,)), spec("b", (4, 6), (8, 16)), spec("c", (4, 6, 8, 8), (4, 8, 16, 32))]
    for ours in sides:
        for theirs in sides:
            built: Distiller = build("unikd", ours, theirs, queries=4, width=16)
            found = terms(built, random_output(ours, 64), random_output(theirs, 64, seed=1), batch_of(2, 64))
            assert all(value.isfinite() and value > 0 for value in found.values())
