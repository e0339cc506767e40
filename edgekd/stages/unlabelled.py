"""Images without labels in a student's training: as they are, or with the teacher's boxes as labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekd import ranks
from edgekd.atomic import read_json, sha256_file, write_json
from edgekd.data import train_view
from edgekd.data.unlabelled import UnlabelledData, extended
from edgekd.distill.config import MAIN
from edgekd.errors import InputError
from edgekd.progress import say
from edgekd.stages.context import Context
from edgekd.stages.torch_accuracy import found_by, teacher_measuring
from edgekd.training.differing import LATER, Later
from edgekd.types import GroundTruth, Split

SCHEMA = "edgekd.pseudo_labels/1"
STAGE, FILE = "pseudo_labels", "data/pseudo_labels.json"
VIEW = "data/train_view_student"


def label_images(context: Context) -> None:
    """Stage pseudo_labels: the teacher's boxes on the images without labels, where the recipe wants these."""
    asked = context.bound.data.unlabelled
    if asked is not None and asked.labels == "teacher":
        assert context.data.unlabelled is not None
        images = {"images": context.data.unlabelled.split.content_hash, "min_score": asked.min_score}
        inputs = {**teacher_measuring(context), **images}
        context.stage(STAGE, inputs, lambda: _label(context, asked), together=True)


def student_inputs(context: Context, *, early: bool = False) -> dict[str, Any]:
    """What the images without labels have to do with a student's weights; empty without them.

    Args:
        early: before the teacher has labelled them.
    """
    asked, found = context.bound.data.unlabelled, context.data.unlabelled
    if asked is None or found is None:
        return {}
    labels: str | Later | None = None
    if asked.labels == "teacher":
        labels = LATER if early else context.run.output_hash(STAGE, FILE)
    return {"unlabelled": [found.split.content_hash, labels]}


def images_view(context: Context, *, with_unlabelled: bool) -> tuple[Path, frozenset[int]]:
    """What a model is trained on: data.yaml, and the places in train of images that nobody has labelled."""
    data, asked = context.data, context.bound.data.unlabelled
    labelled = (context.path / FILE).is_file()  # in a mere check nothing is
    wanted = asked is not None and with_unlabelled and (asked.labels == "none" or labelled)
    if asked is None or data.unlabelled is None or not wanted:
        return train_view.write(data, context.path / "data" / "train_view"), frozenset()
    more, train = data.unlabelled.split, data.splits["train"]
    if asked.labels == "teacher":
        more = _labelled(more, read_json(context.path / FILE), sha256_file(context.path / FILE))
    both = replace(data, splits={**data.splits, "train": extended(train, more)})
    known = len(train.images)
    places = frozenset() if asked.labels == "teacher" else frozenset(range(known, known + len(more.images)))
    return train_view.write(both, context.path / VIEW), places


def _label(context: Context, asked: UnlabelledData) -> list[str]:
    assert context.data.unlabelled is not None
    split, side = context.data.unlabelled.split, context.pair.teachers[MAIN]
    found = found_by(context, side.detector, side.head, split, title="labelling images", columns=side.columns)
    if not ranks.is_main():
        return []
    rows = []
    for truth, one in zip(split.images, found, strict=True):
        sure = one.scores >= asked.min_score
        rows.append({
            "image_id": truth.image_id, "boxes_px": np.round(one.boxes_px[sure].astype(float), 3).tolist(),
            "class_ids": one.class_ids[sure].tolist(), "scores": np.round(one.scores[sure].astype(float), 4).tolist(),
        })  # fmt: skip
    boxes, empty = sum(len(row["class_ids"]) for row in rows), sum(not row["class_ids"] for row in rows)
    if not boxes:
        raise InputError(
            f"data.unlabelled: the teacher finds nothing with a score of {asked.min_score:g}; lower min_score"
        )
    write_json(context.path / FILE, {"schema": SCHEMA, "min_score": asked.min_score, "images": rows})
    say(f"{STAGE}: {boxes:,} boxes on {len(rows):,} images, {empty:,} without any")
    return [FILE]


def _labelled(split: Split, labels: dict[str, Any], digest: str) -> Split:
    """The images with the teacher's boxes, clipped to them."""
    by_id = {row["image_id"]: row for row in labels["images"]}
    images = tuple(_with_boxes(truth, by_id[truth.image_id]) for truth in split.images)
    return replace(split, images=images, content_hash=f"{split.content_hash} {digest}")


def _with_boxes(truth: GroundTruth, row: dict[str, Any]) -> GroundTruth:
    boxes = np.array(row["boxes_px"], np.float32).reshape(-1, 4)
    wide = (boxes[:, 2] - boxes[:, 0] > 1) & (boxes[:, 3] - boxes[:, 1] > 1)  # of less there is nothing to learn
    class_ids = np.array(row["class_ids"], np.int64)[wide]
    return replace(truth, boxes_px=boxes[wide], class_ids=class_ids, is_crowd=np.zeros(len(class_ids), np.bool_))
