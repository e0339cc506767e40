from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput, View
from edgekd.distill.box_masks import pooled
from edgekd.distill.contract import Observation
from edgekd.distill.neck.gkd import cosines, relation_loss, reliability

from ..helpers import boxes_of, build, moment, random_output, spec, terms

PAIR = spec("a", (4, 6)), spec("b", (5, 6))


class Given:
    """A survey of what a test made."""

    def __init__(self, *seen: Observation) -> None:
        self.seen = seen

    def __len__(self) -> int:
        return sum(one.batch.size for one in self.seen)

    def __iter__(self) -> Iterator[Observation]:
        return iter(self.seen)

    def gathered(self, image_ids: Tensor, values: Tensor) -> Tensor:
        return values[torch.argsort(image_ids, stable=True)]


def observed(batch: Batch, seed: int = 0) -> Observation:
    student, teacher = random_output(PAIR[0], seed=seed), random_output(PAIR[1], seed=seed + 1)
    shown = replace(View.whole(batch.images), image_ids=torch.arange(batch.size) + 2 * seed)
    ours, theirs = ({key: value.detach() for key, value in side.taps.items()} for side in (student, teacher))
    return Observation(DetectorOutput(ours), theirs, replace(batch, shown=shown))


BATCH = replace(boxes_of([[0.0, 0, 12, 12], [10.0, 10, 30, 30]], [[4.0, 4, 28, 20]]), class_ids=torch.tensor([0, 2, 0]))


def test_values_by_hand() -> None:
    """One class of one prototype along x: cosines 1 and 0.6, so omega is 0.6."""
    prototype = torch.tensor([[[1.0, 0.0]]])
    ours, theirs = cosines(torch.tensor([[5.0, 0.0]]), prototype), cosines(torch.tensor([[3.0, 4.0]]), prototype)
    found = torch.tensor([True])
    omega = reliability(ours, theirs, torch.tensor([0]), found)
    assert omega.tolist() == pytest.approx([0.6])
    assert relation_loss(ours, theirs, omega, found).item() == pytest.approx(0.5 * (0.6 * 0.4) ** 2)


def test_omega_looks_at_the_best_prototype_of_the_own_class() -> None:
    ours = torch.tensor([[[0.9, 0.1], [0.2, 0.3]]])
    theirs = torch.tensor([[[0.4, 0.6], [0.2, 0.9]]])
    found = torch.tensor([True, True])
    assert reliability(ours, theirs, torch.tensor([0]), found).tolist() == pytest.approx([1 - 0.3])
    assert reliability(ours, theirs, torch.tensor([1]), found).tolist() == pytest.approx([1 - 0.6])
    assert reliability(ours, theirs, torch.tensor([1]), torch.tensor([True, False])).tolist() == [1]


def test_local_part_is_defeats_with_weights() -> None:
    """As long as there are no prototypes, the weights are 1."""
    outputs = random_output(PAIR[0]), random_output(PAIR[1], seed=1)
    found = terms(build("gkd", *PAIR), *outputs, BATCH)
    same = terms(build("defeat", *PAIR, object_weight=1.0, background_weight=4.0), *outputs, BATCH)
    assert {key: found[key].item() for key in same} == {key: value.item() for key, value in same.items()}


def test_prototypes_are_chosen_before_an_epoch() -> None:
    """Of both sides' boxes as they are now; a class without boxes has none."""
    method = build("gkd", *PAIR, prototypes=3)
    seen = observed(BATCH)
    method.epoch_began(moment(), Given(seen))
    bank = method.bank
    assert bank.found.tolist() == [True, False, True]  # type: ignore[union-attr]
    ours, theirs = (side.clone() for side in bank.of_level(0))  # type: ignore[union-attr, operator]
    assert ours.shape == (3, 3, 4) and theirs.shape == (3, 3, 5)
    boxes = F.normalize(pooled(seen.student.taps["neck.8"], BATCH), dim=1)
    assert all(any(torch.allclose(row, boxes[box]) for box in (0, 2)) for row in ours[0])
    torch.testing.assert_close(ours[2], boxes[1].expand(3, -1))
    assert ours[1].abs().sum() == 0
    method.epoch_began(moment(), Given(observed(BATCH, seed=5)))
    assert not torch.equal(method.bank.of_level(0)[0], ours)  # type: ignore[union-attr, operator]


def test_the_order_in_which_images_are_seen_does_not_matter() -> None:
    first, second = observed(BATCH), observed(BATCH, seed=1)
    banks = []
    for survey in (Given(first, second), Given(second, first)):
        method = build("gkd", *PAIR, prototypes=3, instances=2)
        method.epoch_began(moment(), survey)
        banks.append(method.state_dict())
    assert all(torch.equal(banks[0][key], banks[1][key]) for key in banks[0])


def test_they_are_saved_with_the_training() -> None:
    method, other = build("gkd", *PAIR), build("gkd", *PAIR)
    method.epoch_began(moment(), Given(observed(BATCH)))
    other.load_state_dict(method.state_dict())
    outputs = random_output(PAIR[0]), random_output(PAIR[1], seed=1)
    once, again = terms(method, *outputs, BATCH), terms(other, *outputs, BATCH)
    assert {key: value.item() for key, value in once.items()} == {key: value.item() for key, value in again.items()}
    assert once["relation"].item() > 0


def test_without_prototypes_it_is_local() -> None:
    outputs = random_output(PAIR[0]), random_output(PAIR[1], seed=1)
    found = terms(build("gkd", *PAIR), *outputs, BATCH)
    assert found["relation"].item() == 0.0 and found["object"].item() > 0 and found["background"].item() > 0


def test_the_relation_teaches_the_student_and_not_the_prototypes() -> None:
    method = build("gkd", *PAIR)
    method.epoch_began(moment(), Given(observed(BATCH)))
    student, teacher = random_output(PAIR[0], seed=7), random_output(PAIR[1], seed=8)
    terms(method, student, teacher, BATCH)["relation"].backward()
    assert all(tap.grad is not None and tap.grad.abs().sum() > 0 for tap in student.taps.values())


def test_finite_without_any_object() -> None:
    method = build("gkd", *PAIR)
    method.epoch_began(moment(), Given(observed(boxes_of([], []))))
    assert not method.bank.found.any()  # type: ignore[union-attr, operator]
    outputs = random_output(PAIR[0]), random_output(PAIR[1], seed=1)
    found = terms(method, *outputs, boxes_of([], []))
    assert found["relation"].item() == found["object"].item() == 0.0 and found["background"].item() > 0


def test_magnitude_beside_a_detection_loss() -> None:
    """Standard normal maps, adapters that start at zero: 4 / 2 of background, up to 1 / 2 of objects."""
    method = build("gkd", *PAIR)
    method.epoch_began(moment(), Given(observed(BATCH)))
    outputs = random_output(PAIR[0], size_px=128), random_output(PAIR[1], size_px=128, seed=1)
    batch = replace(
        boxes_of([[0.0, 0, 90, 90]], [[20.0, 20, 60, 60]], size_px=(128, 128)), class_ids=BATCH.class_ids[:2]
    )
    found = {name: value.item() for name, value in terms(method, *outputs, batch).items()}
    assert found["background"] == pytest.approx(2.0, rel=0.1) and 0.1 < found["object"] < 0.6
    assert 0.1 < found["relation"] < 5


def test_fades_out_by_default() -> None:
    """As published: all terms times 1 - epoch / epochs."""
    schedule = build("gkd", *PAIR).config.schedule
    assert [schedule.factor(epoch, 10) for epoch in (0, 5, 10)] == pytest.approx([1, 0.5, 0])
