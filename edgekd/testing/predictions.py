"""What must hold of predictions, whoever gave them."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekd.detectors.capture import run
from edgekd.detectors.contract import Detector
from edgekd.detectors.outputs import DensePredictions, DetectorOutput
from edgekd.detectors.spec import DenseHead, Needs, Spec

NAMES = ("cat", "dog", "traffic light", "bird")


def images_of(spec: Spec, count: int = 2, height: int = 2, width: int = 3) -> Tensor:
    """(count, C, H, W) in 0..1; sides in multiples of what the detector needs."""
    generator = torch.Generator().manual_seed(1)
    unit = spec.size_multiple
    return torch.rand(count, spec.input_channels, height * unit, width * unit, generator=generator)


def check_dense(found: DensePredictions, head: DenseHead, images: Tensor, classes: int) -> None:
    """Points where the head says, one prediction or more at each."""
    sizes = tuple(tuple(-(-side // stride) for side in images.shape[2:]) for stride in head.strides)
    assert found.level_sizes == sizes
    expected, strides = [], []
    for (height, width), stride in zip(sizes, head.strides, strict=True):
        cells = [(x, y) for y in range(height) for x in range(width) for _ in range(head.anchors_per_cell)]
        expected += [[(x + head.point_offset) * stride, (y + head.point_offset) * stride] for x, y in cells]
        strides += [float(stride)] * len(cells)
    torch.testing.assert_close(found.points_px, torch.tensor(expected))
    assert found.point_strides.tolist() == strides
    assert found.class_logits.shape == (len(images), len(expected), classes)
    assert found.boxes_px.shape == (len(images), len(expected), 4)
    assert torch.isfinite(found.boxes_px).all()
    if head.bins > 1:
        assert found.box_logits is not None
        assert found.box_logits.shape == (len(images), len(expected), 4, head.bins)
    else:
        assert found.box_logits is None
    assert found.known_classes is None


def check_towers(detector: Detector, images: Tensor) -> None:
    """Wherever a tower is cut, the rest of it makes of what lies there what the head predicts."""
    spec, taps = detector.spec, dict.fromkeys(tap for tower in detector.spec.towers for tap in tower.taps)
    output = run(detector, images, Needs(tuple(taps), frozenset({"class_logits", "boxes"})))
    for tower in spec.towers:
        found = output.dense[tower.branch]
        cells = [height * width for height, width in found.level_sizes]
        rows = slice(sum(cells[: tower.level]), sum(cells[: tower.level + 1]))
        for cut, tap in enumerate(tower.taps, 1):
            tail = detector.head_tail(tower.part, tower.level, cut, tower.branch)
            given = tail(output.taps[tap.key]).flatten(2).transpose(1, 2)
            if tower.part == "class_logits":
                expected = found.class_logits
            elif found.box_logits is not None:
                expected = found.box_logits.flatten(2)
            else:  # distances in strides
                reach = given * found.point_strides[rows, None]
                points, expected = found.points_px[rows], found.boxes_px
                given = torch.cat([points - reach[..., :2], points + reach[..., 2:]], -1)
            torch.testing.assert_close(given, expected[:, rows], rtol=1e-4, atol=1e-4)


def check_queries(output: DetectorOutput, spec: Spec, images: Tensor, classes: int) -> None:
    """Layers of boxes that are no larger than the image."""
    found = output.queries
    assert found is not None
    assert spec.head.kind == "query"
    count = found.boxes_px.shape[2]
    assert found.boxes_px.shape == (len(found.layers), len(images), count, 4)
    assert found.class_logits.shape == (len(found.layers), len(images), count, classes)
    sides = found.boxes_px[..., 2:] - found.boxes_px[..., :2]
    assert bool((sides >= 0).all())
    height, width = images.shape[2:]
    assert bool((sides <= sides.new_tensor([width, height]) + 1e-3).all())


def all_logits(output: DetectorOutput) -> list[Tensor]:
    """Of every branch, of the queries, or of the regions."""
    others = [one.class_logits for one in (output.queries, output.regions) if one is not None]
    return [*(found.class_logits for found in output.dense.values()), *others]


def scores_of(detector: Detector, images: Tensor) -> Tensor:
    """All scores, sorted; of a head that gives detections alone those of the exported module."""
    with torch.no_grad():
        if detector.spec.head.kind == "region":
            rows: Tensor = detector.export_module()(images)
            return rows[..., 4].flatten().sort().values
        return best_scores(run(detector, images, Needs(parts=frozenset({"class_logits", "boxes"}))), detector.spec)


def check_rows(rows: Tensor, images: Tensor, classes: int) -> None:
    """Detections (B, k, 6) that nothing else is known of: best first, in the image, of a class there is."""
    best = rows[..., 4]
    assert bool(((best >= 0) & (best <= 1)).all())
    assert bool((best[:, :-1] >= best[:, 1:] - 1e-6).all())
    assert bool((best[:, 0] > 0).all())
    height, width = images.shape[2:]
    assert bool((rows[..., :4] >= -1e-3).all())
    assert bool((rows[..., 2:4] <= rows.new_tensor([width, height]) + 1e-3).all())
    assert bool((rows[..., 2:4] >= rows[..., :2]).all())
    assert set(rows[..., 5].flatten().tolist()) <= set(range(classes))


def best_scores(output: DetectorOutput, spec: Spec) -> Tensor:
    """Sorted, of every branch, since equal scores may change places."""
    logits = torch.cat([one.flatten() for one in all_logits(output)])
    return (logits.sigmoid() if spec.head.activation == "sigmoid" else logits).sort().values
