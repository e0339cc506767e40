"""What every method promises: gradients to student and adapters only, knowledge per image, finite at half precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.outputs import Assignment, Batch, DetectorOutput, View
from edgekd.detectors.spec import QueryHead
from edgekd.distill.contract import Distiller, distiller_names, distiller_type
from edgekd.distill.requirements import query_heads, query_teacher, unmet

from . import helpers
from .helpers import assigned, batch_of, boxes_of, build, empty_batch, moment, pair_of, random_output, scene, spec

STUDENT = spec("small", (4, 6), towers=True)
TEACHER = spec("large", (5, 6), towers=True)  # wider on one level only
QUERY_METHODS = [  # see test_query_methods.py
    name for name in distiller_names() if {query_heads, query_teacher} & set(distiller_type(name).requires)
]
METHODS: dict[str, dict[str, object]] = {
    **{name: {} for name in distiller_names() if name not in ("lad", *QUERY_METHODS)},  # lad has no term
    "cwd normalised": {"normalise": "channel"},
    "fitnet mlp": {"adapter": "mlp"},
    "fbkd mean": {"reduction": "mean"},
    "logit focal": {"beta": 2.0},
    "ld foreground": {"region": "foreground"},
    "ld valuable": {"valuable": 0.25},
    "dyolo plain": {"nms": False},
    "solad": {"min_iou": 0.0},  # random boxes hardly overlap
    "mgd channel": {"mask": "channel"},
    "mkd plain": {"normalise": "none"},
    "mkd_frequency generating": {"generate": True},
    "mimic": {"canonical_px": 16.0},  # images here have 32 px: some boxes of either level
    "mimic teacher": {"canonical_px": 16.0, "regions": "teacher"},
    "gid": {"canonical_px": 24.0, "nms_iou": 0.9},
    "dsig": {"canonical_px": 16.0},
    "gdetkd": {"canonical_px": 16.0},
    "unikd": {"width": 16, "queries": 12},
    "head_assistant": {"canonical_px": 16.0, "width": 32},
    "searched fgbg": {"knowledge": "fgbg"},
    "searched instance": {"knowledge": "instance", "distance": "pearson"},
    "searched logits": {"knowledge": "logits"},
    "searched localisation": {"knowledge": "localisation", "transform": "none"},
    "defeat all": {"boxes": "all", "adapter": "conv1x1"},
    "fbkd": {"relation": 1.0},  # the published factors of these two leave gradients that no comparison with 0 tells
    "fgd": {"context": 1.0},  # from rounding
    "fgfi": {"psi": 0.0},  # cells on every level: else the one box of the batch belongs to one
}
HEAD_METHODS = (
    "aba", "bckd", "crosskd", "dkd", "dyolo", "kdhl", "pfi", "rank_mimicking", "solad", "tad",
)  # fmt: skip
LOOKS_ONLY = ("head_assistant", "pfi")  # at the student's predictions, to choose or to weigh by them


def of(variant: str) -> Distiller:
    """One of `METHODS`."""
    return build(variant.split(maxsplit=1)[0], STUDENT, TEACHER, **METHODS[variant])


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Distiller:
    return of(request.param)


def leaves(output: DetectorOutput, method: Distiller) -> list[Tensor]:
    """Tensors of a student's output that the method says it reads."""
    needs = method.wiring.student
    read = [output.taps[tap.key] for tap in needs.taps]
    if method.name in LOOKS_ONLY:
        return read
    for branch in output.dense.values():
        read += [branch.class_logits] if "class_logits" in needs.parts else []
        read += [branch.box_logits] if "boxes" in needs.parts and branch.box_logits is not None else []
    return read


def scene_of(method: Distiller, size: int = 2) -> Batch:
    """Methods on regions need more than one box to compare."""
    return scene(size) if method.card.level == "region" else batch_of(size)


def terms(
    method: Distiller, student: DetectorOutput, teacher: DetectorOutput, batch: Batch | None = None
) -> Mapping[str, Tensor]:
    """The terms of one step, on the method's scene."""
    return helpers.terms(method, student, teacher, batch or scene_of(method))


def test_gradients_reach_student_and_adapters_but_not_the_teacher(method: Distiller) -> None:
    seed = 3 if method.name == "tad" else 1  # by which the teacher has a better box
    student, teacher = random_output(STUDENT), random_output(TEACHER, seed=seed)
    for parameter in method.parameters():
        if not parameter.any():  # a layer that starts at zero hides those before it
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    sum(terms(method, student, teacher).values()).backward()  # type: ignore[union-attr]
    for tensor in leaves(student, method):
        assert tensor.grad is not None and tensor.grad.abs().sum() > 0
    for parameter in method.parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 1e-7
    everything = [*teacher.taps.values()]
    for branch in teacher.dense.values():
        everything += [tensor for tensor in (branch.class_logits, branch.box_logits) if tensor is not None]
    assert all(tensor.grad is None for tensor in everything)


def test_terms_are_scalars_and_the_student_is_not_changed(method: Distiller) -> None:
    student = random_output(STUDENT)
    before = [tensor.detach().clone() for tensor in leaves(student, method)]
    result = terms(method, student, random_output(TEACHER, seed=1))
    assert all(value.shape == () and value.dtype == torch.float32 and value >= 0 for value in result.values())
    assert sum(result.values()) > 0
    after = leaves(student, method)
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_random_numbers_are_the_methods_own(method: Distiller) -> None:
    """A draw from torch's generator would give the student other augmentation, and other denoising queries."""
    student, teacher = random_output(STUDENT), random_output(TEACHER, seed=1)
    before = torch.get_rng_state()
    terms(method, student, teacher)
    assert torch.equal(torch.get_rng_state(), before)


def test_knowledge_is_detached_and_can_be_stored_per_image(method: Distiller) -> None:
    """Stored image by image and stacked again, it gives the same terms: online and offline are one code."""
    student, teacher, batch = (
        random_output(STUDENT, batch=3),
        random_output(TEACHER, batch=3, seed=1),
        scene_of(method, 3),
    )
    with torch.no_grad():
        knowledge = {key: value.detach() for key, value in method.knowledge(teacher, batch).items()}
    assert all(value.shape[0] == 3 for value in knowledge.values())
    stored = [{key: value[image].clone() for key, value in knowledge.items()} for image in range(3)]
    read_back = {key: torch.stack([one[key] for one in stored]) for key in knowledge}
    online, offline = (method.terms(student, kept, batch, moment()) for kept in (knowledge, read_back))
    for key, value in online.items():
        assert offline[key].item() == pytest.approx(value.item(), rel=1e-6)


def test_knowledge_needs_no_more_than_it_says(method: Distiller) -> None:
    """A teacher whose other heads and taps were not run serves as well."""
    teacher = random_output(TEACHER, seed=1)
    expected = terms(method, random_output(STUDENT), teacher)
    needs = method.wiring.teacher
    bare = {
        name: replace(
            branch,
            logits=branch.logits if "class_logits" in needs.head else None,
            box_logits=branch.box_logits if "boxes" in needs.head else None,
        )
        for name, branch in teacher.dense.items()
    }
    spare = DetectorOutput({tap.key: teacher.taps[tap.key] for tap in needs.taps}, bare if needs.head else {})
    given = terms(method, random_output(STUDENT), spare)
    assert {key: value.item() for key, value in expected.items()} == {key: value.item() for key, value in given.items()}


def test_finite_under_autocast_with_large_inputs(method: Distiller) -> None:
    student, teacher = random_output(STUDENT, scale=1e4), random_output(TEACHER, scale=1e4, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = terms(method, student, teacher)
    sum(result.values()).backward()  # type: ignore[union-attr]
    assert all(value.isfinite() for value in result.values())
    used = [*leaves(student, method), *method.parameters()]
    assert all(tensor.grad is not None and tensor.grad.isfinite().all() for tensor in used)


@pytest.mark.parametrize(
    ("name", "config"),
    [("cwd", {}), ("fitnet", {"adapter": "none"}), ("pkd", {}), ("ssim", {}), ("logit", {}), ("ld", {})],
)
def test_half_precision_inputs_give_the_same_value(name: str, config: dict[str, object]) -> None:
    """Values that bfloat16 holds exactly, no adapters: the loss itself must be computed in float32."""
    method = build(name, TEACHER, TEACHER, **config)

    def halved(output: DetectorOutput) -> DetectorOutput:
        dense = {
            name: replace(branch, logits=branch.class_logits.bfloat16(), box_logits=branch.box_logits.bfloat16())
            for name, branch in output.dense.items()
        }
        return DetectorOutput({path: tap.bfloat16() for path, tap in output.taps.items()}, dense)

    def widened(output: DetectorOutput) -> DetectorOutput:
        dense = {
            name: replace(branch, logits=branch.class_logits.float(), box_logits=branch.box_logits.float())
            for name, branch in output.dense.items()
        }
        return DetectorOutput({path: tap.float() for path, tap in output.taps.items()}, dense)

    student, teacher = halved(random_output(TEACHER)), halved(random_output(TEACHER, seed=1))
    half, wide = terms(method, student, teacher), terms(method, widened(student), widened(teacher))
    for key, value in half.items():
        assert value.item() == pytest.approx(wide[key].item(), rel=1e-5)


@pytest.mark.parametrize("name", ["cskd", "defeat", "fgd", "gkd"])
def test_images_without_labels_have_no_background(name: str) -> None:
    """Their boxes are not all, so what lies outside of them may be an object: it is neither counted nor weighed."""
    method = build(name, STUDENT, TEACHER)
    batch = boxes_of([[4.0, 4, 12, 12]], [])
    shown = replace(View.whole(batch.images), labelled=torch.tensor([True, False]))
    student, teacher = random_output(STUDENT), random_output(TEACHER, seed=1)
    found = terms(method, student, teacher, replace(batch, shown=shown))["background"]
    teacher.taps["neck.8"].data[1] += 5.0
    teacher.taps["neck.16"].data[1] += 5.0
    assert terms(method, student, teacher, replace(batch, shown=shown))["background"].item() == found.item() > 0


MEANS_OVER_IMAGES = [
    *("cskd", "cwd", "defeat", "dmkd", "fgd", "fgfi", "fitnet", "frs", "gankd", "gkd", "ld", "logit", "mkd_align"),
    *("mkd_pool", "reviewkd", "score_l2", "ssim"),
]


@pytest.mark.parametrize("name", [*MEANS_OVER_IMAGES, *HEAD_METHODS])
def test_a_batch_twice_as_large_leaves_the_value_unchanged(name: str) -> None:
    """The reduction is a mean over images; multiplying by the batch size is the framework's business."""
    method = build(name, STUDENT, TEACHER, **METHODS.get(name, {}))
    student, teacher = random_output(STUDENT, batch=2), random_output(TEACHER, batch=2, seed=1)
    once, twice = terms(method, student, teacher), terms(method, doubled(student), doubled(teacher), batch_of(4))
    for key, value in once.items():
        assert twice[key].item() == pytest.approx(value.item(), rel=1e-5)


def offset(box_index: Tensor) -> Tensor:
    """The rows of the same boxes on the images after these, one box an image."""
    return torch.where(box_index >= 0, box_index + len(box_index), box_index)


def doubled(output: DetectorOutput) -> DetectorOutput:
    dense = {
        name: replace(
            branch,
            logits=branch.class_logits.repeat(2, 1, 1),
            box_logits=branch.box_logits.repeat(2, 1, 1, 1),
            decode=lambda branch=branch: branch.boxes_px.repeat(2, 1, 1),
            assigned=Assignment(
                branch.assignment.foreground.repeat(2, 1),
                torch.cat([branch.assignment.box_index, offset(branch.assignment.box_index)]),
                branch.assignment.class_targets.repeat(2, 1, 1),
            ),
        )
        for name, branch in output.dense.items()
    }
    return DetectorOutput({path: tap.repeat(2, 1, 1, 1) for path, tap in output.taps.items()}, dense)


@pytest.mark.parametrize(
    "name", ["score_l2", "frs", "logit", "ld", "gid", "dsig", *(name for name in HEAD_METHODS if name != "solad")]
)
def test_classes_that_the_teacher_does_not_know_have_no_say(name: str) -> None:
    """The same value whatever stands in the columns of unknown classes."""
    method = build(name, STUDENT, replace(TEACHER, class_names=("three", "other", "one")))
    student, teacher = random_output(STUDENT), random_output(TEACHER, seed=1)
    classes = ClassMap.by_name(("three", "other", "one"), STUDENT.class_names)
    mapped = classes.apply(teacher)
    logits = mapped.dense["one2many"].class_logits.detach().clone()
    logits[..., ~classes.known] = 50.0
    spoilt = replace(mapped.dense["one2many"], logits=logits)
    clean = terms(method, student, mapped)
    dirty = terms(method, student, DetectorOutput(mapped.taps, {"one2many": spoilt}))
    assert {key: value.item() for key, value in clean.items()} == {key: value.item() for key, value in dirty.items()}


def test_a_batch_without_any_object_gives_finite_terms(method: Distiller) -> None:
    empty = empty_batch()
    student, teacher = random_output(STUDENT), random_output(TEACHER, seed=1)
    student.dense = {name: assigned(branch, empty) for name, branch in student.dense.items()}
    result = terms(method, student, teacher, empty)
    sum(result.values()).backward()  # type: ignore[union-attr]
    assert all(value.isfinite() for value in result.values())
    grads = [tensor.grad for tensor in [*leaves(student, method), *method.parameters()] if tensor.grad is not None]
    assert all(grad.isfinite().all() for grad in grads)


def reads_maps_alone(variant: str) -> bool:
    """Whether a method needs nothing of a head, whose points would have to fit the maps."""
    wiring = of(variant).wiring
    return not wiring.student.parts and not wiring.teacher.parts


@pytest.mark.parametrize("variant", filter(reads_maps_alone, METHODS))
def test_methods_on_maps_serve_detectors_with_queries(variant: str) -> None:
    """RT-DETR on either side."""
    dense = of(variant)
    query = QueryHead(layers=6, queries=300, width=256)
    student, teacher = (replace(side, head=query) for side in (STUDENT, TEACHER))
    for pair in ((student, TEACHER), (STUDENT, teacher), (student, teacher)):
        assert unmet(dense.requires, pair_of(*pair)) == []
        assert build(dense.name, *pair, **METHODS[variant]).wiring == dense.wiring


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (5, 3)])
@pytest.mark.parametrize("variant", filter(reads_maps_alone, METHODS))
def test_one_image_of_odd_maps_gives_finite_terms(variant: str, size: tuple[int, int]) -> None:
    """Down to a single cell, where there is no variance."""
    method = of(variant)
    outputs = [
        DetectorOutput({tap.key: torch.randn(1, tap.channels, *size, requires_grad=True) for tap in side.taps}, {})
        for side in (STUDENT, TEACHER)
    ]
    result = terms(method, outputs[0], outputs[1], batch_of(1, 16 * max(size)))
    sum(result.values()).backward()  # type: ignore[union-attr]
    assert all(value.isfinite() for value in result.values())
    grads = [tensor.grad for tensor in [*leaves(outputs[0], method), *method.parameters()]]
    assert all(grad is None or grad.isfinite().all() for grad in grads)


TWO = ("one2many", "one2one")


@pytest.mark.parametrize("teacher", [TWO, ("one2many",)], ids=["two", "one"])
@pytest.mark.parametrize("name", HEAD_METHODS)
def test_a_student_with_two_branches_and_no_distribution_learns_in_both(name: str, teacher: tuple[str, ...]) -> None:
    """As YOLO26 from YOLO26, and from a detector with one branch."""
    pair = (
        spec("yolo26n", towers=True, bins=1, branches=TWO),
        spec("yolo26x", (5, 6), towers=True, bins=1, branches=teacher),
    )
    student, other = (random_output(side, seed=seed) for seed, side in enumerate(pair))
    method = build(name, *pair, **METHODS[name])
    sum(terms(method, student, other).values()).backward()  # type: ignore[union-attr]
    read = [tensor for tensor in leaves(student, method) if tensor.requires_grad]
    assert read or name == "aba"
    assert all(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in read)
