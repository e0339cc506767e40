"""Detections of teacher, control and student beside the ground truth, on the images where the students differ most."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from edgekd.progress import progress
from edgekd.report.files import RunFiles
from edgekd.report.matching import Matched, match_image
from edgekd.report.numbers import ROLE_NAMES
from edgekd.report.svg import element, join
from edgekd.types import ByteArray, Detections, FloatArray, GroundTruth

_THRESHOLD = 0.25
_LARGEST_PX = 360
_LONGEST_NAME = 14
_LABELS_UP_TO = 14


@dataclass(frozen=True)
class Panel:
    """One picture: `role` is `truth` or a model, `caption` the count of what is in it."""

    role: str
    title: str
    caption: str
    drawing: Markup


@dataclass(frozen=True)
class Example:
    """One validation image: its pixels, once, and the panels that refer to them."""

    title: str
    pixels: Markup
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Gallery:
    """The examples, how they were chosen, at which score boxes are drawn, and the files they come from."""

    examples: tuple[Example, ...]
    rule: str
    threshold: float
    sources: tuple[str, ...]


@dataclass(frozen=True)
class _Picture:
    """Where an image lies in the pack: pixels without the letterbox, and px of those per px of the original."""

    pixels: ByteArray
    scale_x: float
    scale_y: float


def gallery(files: RunFiles, report: Mapping[str, Any], examples: int) -> Gallery | None:
    """Up to `examples` images of the validation split; None where labels, pixels or detections are missing."""
    truths = ground_truth(files)
    pack = pack_of(files)
    threshold = threshold_of(report)
    names = {role: f"validate/{role}@host.detections.jsonl" for role in ROLE_NAMES if report[role]["ap"] is not None}
    names = {role: name for role, name in names.items() if (files.run / name).is_file()}
    if not truths or pack is None or not names or examples < 1:
        return None
    pack_name, images, stack = pack
    known = [truth for truth in truths if truth.image_id in images]
    with progress("gallery", len(names)) as advance:
        matched = {}
        for role, name in names.items():
            found = detections_of(files, name, threshold)
            matched[role] = {t.image_id: match_image(t, found.get(t.image_id, NOTHING), threshold) for t in known}
            advance()
    chosen, rule = choose(known, matched, examples)
    class_names = [str(name) for name in (report["data"] or {}).get("class_names") or []]
    shown = []
    for truth in chosen:
        picture = picture_of(stack, *images[truth.image_id], truth)
        shown.append(example_of(truth, picture, {role: matched[role][truth.image_id] for role in matched}, class_names))
    return Gallery(tuple(shown), rule, threshold, ("data/ground_truth-val.json", pack_name, *names.values()))


def choose(
    truths: Sequence[GroundTruth], matched: Mapping[str, Mapping[int, Matched]], count: int
) -> tuple[list[GroundTruth], str]:
    """The images to show, most telling first and ties by image id, with the rule in words.

    Both directions count: an image where the student is worse than the control is as welcome as one where it is better.
    """
    pair = [role for role in ("student", "control", "teacher") if role in matched][:2]
    if len(pair) == 2:
        first, second = (matched[role] for role in pair)
        weight = {t.image_id: abs(first[t.image_id].errors - second[t.image_id].errors) for t in truths}
        one, other = (ROLE_NAMES[role].lower() for role in pair)
        rule = f"The images where {one} and {other} differ most in missed and false boxes (IoU 0.5), whoever is better."
    else:
        weight = {t.image_id: len(t.boxes_px) for t in truths}
        rule = "The images with the most objects."
    return sorted(truths, key=lambda truth: (-weight[truth.image_id], truth.image_id))[:count], rule


NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def threshold_of(report: Mapping[str, Any]) -> float:
    """The operating threshold."""
    points = ((report[role]["operating_point"] or {}).get("threshold") for role in ("student", "control", "teacher"))
    return next((float(point) for point in points if point is not None), _THRESHOLD)


def ground_truth(files: RunFiles) -> list[GroundTruth]:
    """Labels of the validation split."""
    content = files.json("data/ground_truth-val.json") or {}
    return [
        GroundTruth(
            image_id=image["image_id"],
            file_name=str(image["file_name"]),
            height_px=image["height_px"],
            width_px=image["width_px"],
            boxes_px=_boxes(image["boxes_px"]),
            class_ids=np.asarray(image["class_ids"], np.int64),
            is_crowd=np.asarray(image["is_crowd"], np.bool_),
        )
        for image in content.get("images") or []
    ]


def pack_of(files: RunFiles) -> tuple[str, dict[int, tuple[int, Mapping[str, Any]]], ByteArray] | None:
    """(name, image id -> (row, geometry), pixels [N, H, W, C]) of the largest pack of the validation split."""
    packs = [(name, files.json(name) or {}) for name in files.names("data/packs/val-*.json")]
    whole = [(name, pack) for name, pack in packs if (files.run / name).with_suffix(".npy").is_file()]
    if not whole:
        return None
    name, pack = max(whole, key=lambda entry: (len(entry[1]["images"]), np.prod(entry[1]["size_px"]), entry[0]))
    pixels = np.load((files.run / name).with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
    rows = {image["image_id"]: (row, image) for row, image in enumerate(pack["images"])}
    return name.removesuffix(".json") + ".npy", rows, pixels


def detections_of(files: RunFiles, name: str, threshold: float) -> dict[int, Detections]:
    """Image id -> detections at or above the threshold; read line by line, since most lie below it."""
    found = {}
    with (files.run / name).open(encoding="utf-8") as stream:
        for line in stream:
            image = json.loads(line)
            scores = np.asarray(image["scores"], np.float32)
            keep = scores >= threshold
            boxes, classes = _boxes(image["boxes_px"]), np.asarray(image["class_ids"], np.int64)
            found[image["image_id"]] = Detections(boxes[keep], scores[keep], classes[keep])
    return found


def _boxes(boxes: Any) -> FloatArray:
    return np.asarray(boxes, np.float32).reshape(-1, 4)


def picture_of(stack: ByteArray, row: int, geometry: Mapping[str, Any], truth: GroundTruth) -> _Picture:
    """The image's part of the letterbox, in three channels."""
    scale_x, scale_y = float(geometry["scale_x"]), float(geometry["scale_y"])
    left, top = int(geometry["pad_left_px"]), int(geometry["pad_top_px"])
    high, wide = round(truth.height_px * scale_y), round(truth.width_px * scale_x)
    pixels: ByteArray = np.asarray(stack[row, top : top + high, left : left + wide])
    channels = pixels.shape[-1]
    return _Picture(pixels[..., :3] if channels >= 3 else np.repeat(pixels[..., :1], 3, axis=-1), scale_x, scale_y)


def example_of(
    truth: GroundTruth,
    picture: _Picture,
    matched: Mapping[str, Matched],
    class_names: Sequence[str],
    titles: Mapping[str, str] = ROLE_NAMES,
    prefix: str = "image",
) -> Example:
    """A picture with a panel for the labels and one for each model.

    Args:
        matched: role -> its detections; the role is the class of its boxes in the style sheet.
        titles: role -> how the model is called.
        prefix: of the picture's id in the page, which no two may share.
    """
    identity = f"{prefix}-{truth.image_id}"
    high, wide = picture.pixels.shape[:2]
    pixels = element("image", id=identity, width=wide, height=high, href=_data_uri(picture.pixels))
    objects = [(box, "truth", _name(k, class_names)) for box, k in zip(truth.boxes_px, truth.class_ids, strict=True)]
    drawing = _draw(identity, picture, objects, "Ground truth")
    panels = [Panel("truth", "Ground truth", _plural(len(objects), "object"), drawing)]
    for role, result in matched.items():
        found = result.detections
        boxes = [(box, "missed", "") for box in truth.boxes_px[result.missed]]
        for box, score, k, right in zip(found.boxes_px, found.scores, found.class_ids, result.right, strict=True):
            boxes.append((box, role if right else f"{role} wrong", f"{_name(k, class_names)} {score:.2f}"))
        caption = f"{result.right.sum()} right, {result.false_alarms} false, {result.missed.sum()} missed"
        drawing = _draw(identity, picture, boxes, titles[role])
        panels.append(Panel(role, titles[role], caption, drawing))
    return Example(truth.file_name, pixels, tuple(panels))


def _draw(identity: str, picture: _Picture, boxes: Sequence[tuple[Any, str, str]], title: str) -> Markup:
    """The image with boxes over it; a dark casing under each line keeps it visible on any ground."""
    high, wide = picture.pixels.shape[:2]
    unit = max(high, wide) / 100
    parts = [element("use", href=f"#{identity}")]
    for box, style, _ in boxes:
        x1, x2 = (float(edge) * picture.scale_x for edge in (box[0], box[2]))
        y1, y2 = (float(edge) * picture.scale_y for edge in (box[1], box[3]))
        frame = {"x": x1, "y": y1, "width": max(x2 - x1, 0.5), "height": max(y2 - y1, 0.5), "fill": "none"}
        parts.append(element("rect", **frame, class_="casing", stroke_width=unit * 2))
        dash = _dash(style, unit)
        parts.append(element("rect", **frame, class_=f"box {style}", stroke_width=unit, stroke_dasharray=dash))
    labelled = [entry for entry in boxes if entry[2]]
    for box, style, text in labelled if len(labelled) <= _LABELS_UP_TO else ():
        parts.append(_tag(box, style, text, picture, unit))
    label = f"{title}: {_plural(len(labelled), 'box', 'boxes')}"
    return element("svg", join(parts), viewBox=f"0 0 {wide} {high}", role="img", aria_label=label, class_="picture")


def _tag(box: Any, style: str, text: str, picture: _Picture, unit: float) -> Markup:
    """A label above its box, or inside where there is no room above, kept within the picture."""
    wide = picture.pixels.shape[1]
    length, tall = len(text) * 2.75 * unit + 1.6 * unit, 5.8 * unit
    x = min(max(float(box[0]) * picture.scale_x - unit / 2, 0.0), max(wide - length, 0.0))
    top = float(box[1]) * picture.scale_y
    y = top - tall if top >= tall else top
    plate = element("rect", x=x, y=y, width=length, height=tall, class_=f"plate {style}")
    return plate + element("text", text, x=x + 0.8 * unit, y=y + 4.4 * unit, font_size=4.6 * unit, class_="on-plate")


def _dash(style: str, unit: float) -> str | None:
    if style == "missed":
        return f"{unit:.2f} {1.6 * unit:.2f}"
    return f"{3 * unit:.2f} {1.6 * unit:.2f}" if style.endswith("wrong") else None


def _name(class_id: int, class_names: Sequence[str]) -> str:
    name = class_names[class_id] if 0 <= class_id < len(class_names) else f"class {class_id}"
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "\u2026"


def _plural(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _data_uri(pixels: ByteArray) -> str:
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((_LARGEST_PX, _LARGEST_PX))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
