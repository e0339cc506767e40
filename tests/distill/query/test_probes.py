from dataclasses import replace

import torch

from edgekd.detectors.outputs import Batch, View
from edgekd.distill.boxes import iou
from edgekd.distill.query.probes import background, draw_probes, jittered, seeds_of

from ..helpers import boxes_of, empty_batch, scene

LIMIT = torch.tensor([96.0, 64, 96, 64])


def seeds(batch: Batch) -> list[int]:
    return list(range(batch.size))


def test_each_object_is_asked_about_once_and_the_rest_is_background() -> None:
    batch = boxes_of([[4.0, 4, 20, 20], [40, 8, 60, 40]], [], [[10.0, 10, 50, 60]], size_px=(64, 96))
    probes = draw_probes(batch, 12, seeds(batch))
    assert probes.boxes_px.shape == (3, 12, 4)
    assert [row[row >= 0].tolist() for row in probes.rows] == [[0, 1], [], [2]]
    assert probes.positive.sum(1).tolist() == [2, 0, 1]
    for image in range(3):
        own = batch.boxes_px[batch.image_index == image]
        near, far = (probes.boxes_px[image][chosen] for chosen in (probes.positive[image], ~probes.positive[image]))
        assert (iou(near, own) > 0.6).all() and (near != own).any(1).all()
        assert len(own) == 0 or iou(far[:, None], own).amax() < 0.4
        assert (far[:, 2:] - far[:, :2]).amin() >= 2
    assert (probes.boxes_px >= 0).all() and (probes.boxes_px <= LIMIT).all()


def test_bounds_are_those_that_are_asked_for() -> None:
    boxes = torch.tensor([[10.0, 10, 40, 40]]).repeat(200, 1)
    generator = torch.Generator().manual_seed(0)
    for least in (0.3, 0.8):
        overlap = iou(jittered(boxes, LIMIT, least, generator), boxes)
        assert least < overlap.min() < least + 0.1
    overlap = iou(background(boxes[:1], LIMIT, 200, 0.2, generator), boxes[:1])
    assert 0.1 < overlap.max() < 0.2


def test_an_image_full_of_objects_keeps_some_of_them() -> None:
    batch = boxes_of([[float(x), 4, x + 8.0, 20] for x in range(20)], size_px=(64, 96))
    probes = draw_probes(batch, 5, [1])
    kept = probes.rows[0].tolist()
    assert len(set(kept)) == 5 and min(kept) >= 0 and kept == sorted(kept)
    assert draw_probes(batch, 5, [2]).rows[0].tolist() != kept


def test_a_box_without_extent_is_taken_as_it_is() -> None:
    batch = boxes_of([[8.0, 8, 8, 8]])
    probes = draw_probes(batch, 4, [0])
    assert probes.boxes_px[0, 0].tolist() == [8.0, 8, 8, 8]
    assert probes.boxes_px.isfinite().all()


def test_background_where_there_is_no_room_for_any() -> None:
    """Of a box as large as the image only such as overlap more are left; there are as many as asked for."""
    found = background(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([2.0, 2, 2, 2]), 7, 0.4, torch.Generator())
    assert found.shape == (7, 4)


def test_probes_depend_on_the_image_and_not_on_what_came_before() -> None:
    batch = scene(3)
    shown = replace(View.whole(batch.images), image_ids=torch.tensor([7, 3, 9]))
    batch = replace(batch, shown=shown)
    whole = draw_probes(batch, 10, seeds_of(batch))
    one = Batch(
        batch.images[1:2], torch.zeros(3, dtype=torch.int64), batch.class_ids[3:6], batch.boxes_px[3:6],
        shown=replace(View.whole(batch.images[1:2]), image_ids=torch.tensor([3])),
    )  # fmt: skip
    torch.manual_seed(5)
    alone = draw_probes(one, 10, seeds_of(one))
    assert torch.equal(alone.boxes_px[0], whole.boxes_px[1])
    assert not torch.equal(whole.boxes_px[0], whole.boxes_px[1])  # the same boxes on other images


def test_another_view_of_an_image_has_other_probes() -> None:
    batch = scene(1)
    moved = replace(batch, boxes_px=batch.boxes_px + 1)
    shaken = replace(batch, boxes_px=batch.boxes_px + 0.001)
    assert seeds_of(batch) == seeds_of(shaken) != seeds_of(moved)
    assert seeds_of(batch) != seeds_of(batch, seed=1)


def test_images_without_objects() -> None:
    batch = empty_batch(2)
    probes = draw_probes(batch, 6, seeds_of(batch))
    assert not probes.positive.any()
    assert (probes.boxes_px[..., 2:] - probes.boxes_px[..., :2]).amin() >= 2
