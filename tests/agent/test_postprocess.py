import numpy as np
import pytest

from edgekd.agent.postprocess import (
    Settings,
    decode_dense,
    decode_end2end,
    decoder,
    own_layout,
    postprocess,
    split_columns,
)
from edgekd.agent.protocol import AgentError


def _predictions(seed, count, classes, size_px, *, clustered):
    """xywh boxes (N, 4) and scores (N, K)."""
    random = np.random.default_rng(seed)
    if clustered:
        centres = random.uniform(0, size_px, (max(count // 40, 1), 2))
        centres = centres[random.integers(0, len(centres), count)] + random.normal(0, size_px * 0.01, (count, 2))
    else:
        centres = random.uniform(0, size_px, (count, 2))
    sides = np.exp(random.normal(np.log(size_px * 0.15), 0.25, (count, 2)))
    scores = 1 / (1 + np.exp(-random.normal(-5.0, 2.5, (count, classes))))
    return np.concatenate([centres, sides], 1).astype(np.float32), scores.astype(np.float32)


def _xyxy(xywh):
    from ultralytics.utils.ops import xywh2xyxy

    return xywh2xyxy(np.copy(xywh))


@pytest.mark.parametrize("clustered", [True, False])
@pytest.mark.parametrize("conf", [0.001, 0.25])
@pytest.mark.parametrize(
    ("count", "classes", "size_px"), [(189, 10, 96), (400, 1, 320), (1000, 80, 320), (2100, 3, 320)]
)
def test_equals_the_nms_of_the_ultralytics_validator(count, classes, size_px, conf, clustered):
    torch = pytest.importorskip("torch")
    import torchvision  # noqa: F401  (the validator then uses its NMS)
    from ultralytics.utils.nms import non_max_suppression

    xywh, scores = _predictions(count + classes, count, classes, size_px, clustered=clustered)
    raw = torch.from_numpy(np.concatenate([xywh, scores], 1).T[None].copy())
    expected = non_max_suppression(raw, conf, 0.7, multi_label=True, max_det=300)[0].numpy()
    found = decode_dense(_xyxy(xywh), scores, Settings(conf, 0.7, 300))
    assert len(found.scores) == len(expected) > 0
    np.testing.assert_array_equal(found.boxes_px, expected[:, :4])
    np.testing.assert_array_equal(found.scores, expected[:, 4])
    np.testing.assert_array_equal(found.class_ids, expected[:, 5])


@pytest.mark.parametrize("iou", [0.1, 0.45, 0.6, 0.95])
@pytest.mark.parametrize("max_det", [7, 100000])
def test_equals_torchvision_batched_nms_at_any_threshold(iou, max_det):
    torch = pytest.importorskip("torch")
    from torchvision.ops import batched_nms

    xywh, scores = _predictions(5, 300, 4, 128, clustered=True)
    boxes = _xyxy(xywh)
    points, classes = np.nonzero(scores > 0.01)
    # Every class has its own place in the reference too, but by the largest coordinate instead of 7680: on integer
    # boxes neither offset rounds.
    boxes = np.round(boxes)
    order = batched_nms(
        torch.from_numpy(boxes[points]), torch.from_numpy(scores[points, classes]), torch.from_numpy(classes), iou
    ).numpy()[:max_det]
    found = decode_dense(boxes, scores, Settings(0.01, iou, max_det))
    np.testing.assert_array_equal(found.boxes_px, boxes[points][order])
    np.testing.assert_array_equal(found.class_ids, classes[order])


def test_more_candidates_than_are_considered():
    torch = pytest.importorskip("torch")
    from ultralytics.utils.nms import non_max_suppression

    xywh, _ = _predictions(3, 1500, 40, 64, clustered=True)
    distinct = np.random.default_rng(4).permutation(60000).reshape(1500, 40)  # with ties the reference's order is open
    scores = ((distinct + 1) / 60002).astype(np.float32)
    raw = torch.from_numpy(np.concatenate([xywh, scores], 1).T[None].copy())
    expected = non_max_suppression(raw, 0.001, 0.2, multi_label=True, max_det=3000)[0].numpy()
    found = decode_dense(_xyxy(xywh), scores, Settings(0.001, 0.2, 3000))
    np.testing.assert_array_equal(found.scores, expected[:, 4])
    np.testing.assert_array_equal(found.boxes_px, expected[:, :4])


def test_suppression_by_hand():
    # IoU of the first two is 80 / 120 = 2/3; the third overlaps the first by 60 / 140 but the second by 80 / 120.
    boxes = np.array([[0, 0, 10, 10], [2, 0, 12, 10], [4, 0, 14, 10]], dtype=np.float32)
    scores = np.array([[0.9], [0.8], [0.7]], dtype=np.float32)
    # The second falls to the first, so it cannot take the third with it.
    assert decode_dense(boxes, scores, Settings(0.1, 0.6, 300)).scores.tolist() == pytest.approx([0.9, 0.7])
    assert len(decode_dense(boxes, scores, Settings(0.1, 0.67, 300)).scores) == 3
    assert decode_dense(boxes, scores, Settings(0.1, 0.6, 1)).scores.tolist() == pytest.approx([0.9])


def test_an_iou_equal_to_the_threshold_does_not_suppress():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], dtype=np.float32)  # IoU is exactly 1/2
    scores = np.array([[0.9], [0.8]], dtype=np.float32)
    assert len(decode_dense(boxes, scores, Settings(0.1, 0.5, 300)).scores) == 2
    assert len(decode_dense(boxes, scores, Settings(0.1, 0.4999, 300)).scores) == 1


def test_a_box_counts_once_per_class_and_classes_do_not_suppress_each_other():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9]], dtype=np.float32)
    scores = np.array([[0.9, 0.3], [0.2, 0.8]], dtype=np.float32)
    found = decode_dense(boxes, scores, Settings(0.1, 0.7, 300))
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])
    assert found.class_ids.tolist() == [0, 1]


def test_ties_come_in_the_order_of_the_boxes():
    boxes = np.array([[20.0 * i, 0, 20.0 * i + 10, 10] for i in range(300)], dtype=np.float32)
    found = decode_dense(boxes, np.full((300, 1), 0.5, dtype=np.float32), Settings(0.1, 0.7, 300))
    np.testing.assert_array_equal(found.boxes_px, boxes)


def _one_after_the_other(boxes, scores, settings):
    """The textbook's loop, in the agent's arithmetic: (box, class) indices of what stays."""
    offset = np.float32(7680) * np.arange(scores.shape[1], dtype=np.float32)
    moved = (boxes[:, None] + offset[None, :, None]).reshape(-1, 4)
    flat = scores.reshape(-1)
    area = (moved[:, 2] - moved[:, 0]) * (moved[:, 3] - moved[:, 1])
    kept = []
    for index in sorted(np.flatnonzero(flat > np.float32(settings.conf)), key=lambda index: (-flat[index], index)):
        sides = np.minimum(moved[kept, 2:], moved[index, 2:]) - np.maximum(moved[kept, :2], moved[index, :2])
        shared = np.maximum(sides, 0).prod(axis=1)
        with np.errstate(invalid="ignore"):
            covered = shared / (area[kept] + area[index] - shared) > settings.iou
        if not covered.any():
            kept.append(index)
    return np.array(kept[: settings.max_det])


@pytest.mark.parametrize("spot_px", [1, 40])  # 1: all in one pile
@pytest.mark.parametrize(("classes", "iou"), [(1, 0.7), (3, 0.3), (1, 0.05)])
def test_equals_the_textbook_on_piles_and_odd_boxes_over_several_blocks(classes, iou, spot_px):
    random = np.random.default_rng(classes)
    centres, sides = random.normal(100, spot_px, (700, 2)), np.exp(random.normal(3, 0.3, (700, 2)))
    boxes = np.concatenate([centres - sides, centres + sides], 1).astype(np.float32)
    boxes[::9, 2] = boxes[::9, 0]  # no area
    boxes[1::9] = boxes[1::9][:, [2, 3, 0, 1]]  # inside out
    boxes[2::9, 3] -= 200  # upside down
    boxes[3::9] = boxes[3]
    scores = random.uniform(0, 1, (700, classes)).astype(np.float32).round(2)
    settings = Settings(0.02, iou, 400)
    kept = _one_after_the_other(boxes, scores, settings)
    found = decode_dense(boxes, scores, settings)
    np.testing.assert_array_equal(found.class_ids, kept % classes)
    np.testing.assert_array_equal(found.boxes_px, boxes[kept // classes])


@pytest.mark.parametrize("count", [0, 5])
def test_nothing_above_the_threshold(count):
    found = decode_dense(
        np.zeros((count, 4), np.float32), np.full((count, 3), 0.001, np.float32), Settings(0.001, 0.7, 9)
    )
    assert found.boxes_px.shape == (0, 4)
    assert found.scores.shape == found.class_ids.shape == (0,)


def test_end_to_end_rows_are_filtered_in_order():
    rows = np.array([[0, 0, 1, 1, 0.9, 2], [0, 0, 2, 2, 0.1, 1], [0, 0, 3, 3, 0.5, 0], [0, 0, 4, 4, 0.4, 1]])
    found = decode_end2end(rows, Settings(0.25, 0.7, 2))
    assert found.boxes_px[:, 2].tolist() == [1, 3]
    assert found.class_ids.tolist() == [2, 0]
    np.testing.assert_array_equal(postprocess([rows], 0.25, 0.7, 2).boxes_px, found.boxes_px)


def test_decoder_refuses_what_the_model_does_not_give():
    with pytest.raises(AgentError, match="needs outputs boxes, scores; the model has output0"):
        decoder("dense", ["output0"])
    known = "dense, end2end, ultralytics, ultralytics_end2end"
    with pytest.raises(AgentError, match=rf"unknown kind 'anchors' \(known: {known}\)"):
        decoder("anchors", ["boxes"])


def test_columns_of_ultralytics_become_boxes_and_scores():
    columns = np.array(
        [[[10, 50], [20, 60], [4, 10], [8, 2], [0.1, 0.9], [0.7, 0.2]]], np.float32
    )  # 2 points, 2 classes
    boxes_px, scores = split_columns(columns)
    np.testing.assert_array_equal(boxes_px, [[[8, 16, 12, 24], [45, 59, 55, 61]]])
    np.testing.assert_array_equal(scores, np.float32([[[0.1, 0.7], [0.9, 0.2]]]))
    found = decoder("ultralytics", ["output0"])({"output0": columns}, 0, Settings(0.25, 0.7, 300))
    np.testing.assert_array_equal(found.boxes_px, [[45, 59, 55, 61], [8, 16, 12, 24]])
    assert (found.scores.tolist(), found.class_ids.tolist()) == (np.float32([0.9, 0.7]).tolist(), [0, 1])
    assert sorted(own_layout("ultralytics", {"output0": columns})) == ["boxes", "scores"]


def test_ranked_rows_under_the_name_of_ultralytics():
    rows = np.array([[[1, 2, 3, 4, 0.9, 1], [5, 6, 7, 8, 0.1, 0]]], np.float32)
    found = decoder("ultralytics_end2end", ["output0"])({"output0": rows}, 0, Settings(0.25, 0.7, 300))
    np.testing.assert_array_equal(found.boxes_px, [[1, 2, 3, 4]])
    assert found.class_ids.tolist() == [1]
    assert own_layout("ultralytics_end2end", {"output0": rows})["detections"] is rows
    assert own_layout("end2end", {"detections": rows})["detections"] is rows
