"""A run directory with plausible files of every stage, made without training anything."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ("zero", "one", "<script>alert(1)</script>", "a|b")
AP = {"teacher": 0.6124, "control": 0.4591, "student": 0.4973}
TARGETS = {  # target: AP, median ms, p90 ms, valid
    "onnx-fp16": (0.4971, 2.61, 2.94),
    "onnx-fp32": (0.4973, 2.18, 2.41),
    "openvino-fp16": (0.4970, 1.62, 1.86),
    "openvino-fp32": (0.4972, 1.57, 1.79),
}
SIDE_PX = 96
MODEL_BYTES = 1_640_000


def make_run(run: Path, images: int = 3, rng_seed: int = 0) -> Path:
    """Write every file of a finished run of four targets on one device."""
    rng = np.random.default_rng(rng_seed)
    _recipe_and_manifest(run)
    _data(run, images, rng)
    _models(run, rng)
    for target, (ap, p50_ms, p90_ms) in TARGETS.items():
        _artifact(run, target)
        _json(run / f"validate/{target}@local.json", _accuracy(target, "local", ap))
        _json(run / f"profile/{target}@local.json", profile(target, p50_ms, p90_ms, rng))
    _json(run / "verdict.json", {
        "schema": "edgekd.verdict/1",
        "status": "pass",
        "reasons": [],
        "checks": [
            {"metric": "min_ap", "subject": "student", "value": 0.4973, "limit": 0.45, "op": ">=", "status": "pass",
             "detail": "min_ap: student: AP 0.4973, must be >= 0.45: within the budget by 0.0473"},
            {"metric": "max_p90_ms", "subject": "onnx-fp32@local", "value": 2.41, "limit": 10.0, "op": "<=",
             "status": "pass", "detail": "p90 2.41 ms, must be <= 10 ms: within the budget by 7.59 ms"},
            {"metric": "min_gain", "subject": "student", "value": 0.0382, "limit": 0.01, "op": ">=", "status": "pass",
             "detail": "AP above the control's 0.0382, must be >= 0.01: within the budget by 0.0282"},
        ],
    })  # fmt: skip
    return run


def profile(target: str, p50_ms: float, p90_ms: float, rng: np.random.Generator) -> dict[str, Any]:
    """A latency summary whose histogram has a long tail in its last bin."""
    samples = p50_ms + (p90_ms - p50_ms) * (rng.gamma(2.0, 0.7, 384) - 1.2)
    edges = np.linspace(samples.min(), np.quantile(samples, 0.99), 31)
    counts, _ = np.histogram(samples, edges)
    tail = int((samples > edges[-1]).sum())
    shares = {"pre": 0.08, "inference": 0.72, "post": 0.2, "end_to_end": 1.0}
    return {
        "schema": "edgekd.latency/1", "target": target, "device": "local", "protocol": "quick", "processes": 3,
        "latency_ms": {
            stage: {"p50": share * p50_ms, "p90": share * p90_ms, "p95": share * p90_ms * 1.08, "p99": None,
                    "mean": share * p50_ms * 1.02, "mad": 0.05, "min": 1.0, "max": 9.5, "count": 384}
            for stage, share in shares.items()
        },
        "first_inference_ms": 11.2, "load_ms": 84.0, "peak_memory_mb": 131.5, "cv": 0.081, "drift_percent": -0.4,
        "valid": True, "invalid_reasons": [], "notes": [],
        "environment": {"machine": "x86_64", "threads": 2, "versions": {"numpy": "2.1", "python": "3.11"},
                        "cores_mhz": [2400, 2400], "governor": None},
        "histogram": {"edges_ms": [*edges.tolist(), 9.5], "counts": [*counts.tolist(), tail]},
    }  # fmt: skip


def _recipe_and_manifest(run: Path) -> None:
    run.mkdir(parents=True, exist_ok=True)
    (run / "recipe.lock.yaml").write_text(
        "name: quickstart\nseed: 0\ndistill:\n- method: logit\n  weight: 0.5\n- method: ld\n  weight: 1.0\n"
        "gate:\n  min_ap: 0.45\n  max_ap_drop: 0.005\n  min_gain: 0.01\n",
        encoding="utf-8",
    )
    stages = ("data", "teacher", "control", "student", "export", "validate", "profile", "gate")
    _json(run / "manifest.json", {
        "schema": "edgekd.manifest/1", "recipe": "quickstart", "base": "/somewhere/private", "edgekd": "0.1.0",
        "stages": {
            name: {"status": "done", "inputs_sha256": _sha(name), "outputs": {}, "seconds": 3.7 ** (index % 5)}
            for index, name in enumerate(stages)
        },
    })  # fmt: skip


def _split(name: str, images: int, in_train: int | None) -> dict[str, Any]:
    per_class = {class_name: 100 * (index + 1) for index, class_name in enumerate(CLASSES)}
    objects = sum(per_class.values())
    return {
        "images": images, "left_out": 0, "backgrounds": 2, "without_labels": None, "objects": objects, "crowds": 0,
        "small": 50, "medium": objects - 60, "large": 10, "objects_per_class": per_class, "copies": 0,
        "in_train": in_train, "content_hash": _sha(name),
    }  # fmt: skip


def _data(run: Path, images: int, rng: np.random.Generator) -> None:
    _json(run / "data/split.json", {
        "schema": "edgekd.data/2", "class_names": list(CLASSES), "channels": 3, "problems": [], "warnings": [],
        "splits": {"train": _split("train", 800, None), "val": _split("val", images, 0)},
    })  # fmt: skip
    pack = np.full((images, SIDE_PX, SIDE_PX, 3), 114, np.uint8)
    geometry, truths = [], []
    found: dict[str, list[dict[str, Any]]] = {role: [] for role in AP}
    for index in range(images):
        wide, high = (192, 144) if index % 2 else (96, 96)
        scale = SIDE_PX / max(wide, high)
        top = round((SIDE_PX - high * scale) / 2)
        boxes, classes = _objects(wide, high, 3 + index % 3, rng)
        _paint(pack[index, top : top + round(high * scale)], boxes * scale, rng)
        geometry.append({"image_id": index + 1, "height_px": high, "width_px": wide, "scale_x": scale,
                         "scale_y": scale, "pad_left_px": 0, "pad_top_px": top})  # fmt: skip
        truths.append({
            "image_id": index + 1, "file_name": f"val-{index:03d}.png", "height_px": high, "width_px": wide,
            "boxes_px": boxes.tolist(), "class_ids": classes.tolist(), "is_crowd": [False] * len(boxes),
        })  # fmt: skip
        kept = {"teacher": 99, "control": max(len(boxes) - 1 - index % 3, 1), "student": len(boxes) - index % 2}
        for role, keep in kept.items():
            found[role].append(_found(index + 1, boxes[:keep], classes[:keep], rng, extra=role == "control"))
    (run / "data/packs").mkdir(parents=True)
    np.save(run / "data/packs/val-0123456789ab.npy", pack)
    _json(run / "data/packs/val-0123456789ab.json",
          {"schema": "edgekd.pack/1", "images": geometry, "size_px": [SIDE_PX, SIDE_PX]})  # fmt: skip
    _json(run / "data/ground_truth-val.json", {"images": truths})
    for role, lines in found.items():
        path = run / f"validate/{role}@host.detections.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _objects(wide: int, high: int, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    size = rng.uniform(0.2, 0.34, (count, 1)) * min(wide, high)
    corner = rng.uniform(0, 1, (count, 2)) * (np.array([wide, high]) - size)
    return np.round(np.hstack([corner, corner + size]), 1), rng.integers(0, len(CLASSES), count)


def _paint(image: np.ndarray, boxes: np.ndarray, rng: np.random.Generator) -> None:
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] / SIDE_PX
    tint = rng.uniform(40, 170, 3)
    image[:] = (tint + 40 * np.sin(5 * rows + 3 * columns)[..., None]).clip(0, 255)
    for x1, y1, x2, y2 in boxes.round().astype(int):
        image[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2] = rng.integers(60, 255, 3)


def _found(
    image_id: int, boxes: np.ndarray, classes: np.ndarray, rng: np.random.Generator, extra: bool
) -> dict[str, Any]:
    shaken = boxes + rng.normal(0, 0.6, boxes.shape)
    scores = rng.uniform(0.4, 0.98, len(boxes))
    line = {"image_id": image_id, "boxes_px": [*shaken.tolist(), [1.0, 1.0, 9.0, 9.0]],
            "scores": [*scores.tolist(), 0.05], "class_ids": [*classes.tolist(), 0]}  # fmt: skip
    if extra:
        line["boxes_px"].append([50.0, 50.0, 80.0, 78.0])
        line["scores"].append(0.41)
        line["class_ids"].append(1)
    return line


def _models(run: Path, rng: np.random.Generator) -> None:
    for role, ap in AP.items():
        _json(run / f"validate/{role}@host.json", _accuracy(role, "host", ap))
    _json(run / "teacher/teacher.json", {
        "name": "yolo11n-digits", "family": "ultralytics", "parameters": 2_591_010, "weights_sha256": _sha("teacher"),
        "taps": [{"role": "neck", "path": "model.16", "stride": 8, "channels": 64}], "classes_known": 4,
        "ap": 0.6124, "ap50": 0.9, "ap75": 0.7,
    })  # fmt: skip
    for role in ("control", "student"):
        own = _accuracy(role, "host", AP[role])
        keys = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "per_class", "operating_point")
        _json(run / role / "metrics.json", {"name": "yolo11p", "parameters": 812_345, "weights_sha256": _sha(role),
              "head": "one2many", "epochs": 20, "seconds": 163.4, **{key: own[key] for key in keys}})  # fmt: skip
        lines = ["epoch,ap,ap50,box_loss"]
        for epoch in range(1, 21):
            noise = rng.normal(0, 0.008) if epoch < 20 else 0
            ap = AP[role] * (1 - math.exp(-epoch / 5)) / (1 - math.exp(-4)) + noise
            lines.append(f"{epoch},{max(ap, 0):.5f},{max(1.4 * ap, 0):.5f},{2 / epoch:.4f}")
        (run / role / "epochs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _terms(run, rng)


def _terms(run: Path, rng: np.random.Generator) -> None:
    lines = ["step,epoch,term,value,weight,weighted,share"]
    for step in range(400):
        for term, start, weight in (("logit/cls", 6.0, 0.5), ("ld/box", 2.2, 1.0), ("detection", 9.0, 1.0)):
            value = start * (0.35 + 0.65 * math.exp(-step / 120)) * rng.uniform(0.9, 1.1)
            share = {"logit/cls": 0.21, "ld/box": 0.15, "detection": 0.64}[term] * rng.uniform(0.93, 1.07)
            lines.append(f"{step},{step / 20:.2f},{term},{value:.5f},{weight},{value * weight:.5f},{share:.4f}")
    (run / "student/terms.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _json(run / "student/first_steps.json", {"steps": 20, "terms": [
        {"term": "logit/cls", "value": 6.1, "weight": 0.5, "gradient_norm": 0.0213, "share": 0.21, "warning": None},
        {"term": "ld/box", "value": 0.02, "weight": 1.0, "gradient_norm": 0.00031, "share": 0.004,
         "warning": "share 0.4 % is under 1 %: raise its weight"},
    ]})  # fmt: skip


def _accuracy(model: str, device: str, ap: float) -> dict[str, Any]:
    spread = (0.06, -0.03, 0.01, -0.04)
    return {
        "schema": "edgekd.accuracy/1", "model": model, "device": device, "images": 200, "ap": ap,
        "ap50": round(ap + 0.29, 4), "ap75": round(ap + 0.03, 4), "ap_small": round(ap - 0.1, 4),
        "ap_medium": round(ap + 0.12, 4), "ap_large": None,
        "per_class": {name: None if name == "a|b" and model == "teacher" else round(ap + shift, 4)
                      for name, shift in zip(CLASSES, spread, strict=True)},
        "operating_point": {"threshold": 0.25, "precision": 0.812, "recall": 0.744, "f1": 0.776}, "seconds": 3.1,
        "settings": {"conf": 0.001, "iou": 0.7, "max_det": 300, "head": "one2many"},
        "errors": {
            "ap50": round(ap + 0.29, 4),
            "counts": {"classification": 310, "localisation": 421, "both": 77, "duplicate": 58, "background": 12345,
                       "missed": 96},
            "costs": {"classification": 0.081, "localisation": round(0.5 - ap / 2, 4), "both": 0.004, "duplicate": 0.0,
                      "background": 0.0312, "missed": 0.0445},
        },
    }  # fmt: skip


def _artifact(run: Path, target: str) -> None:
    folder = run / "export" / target
    folder.mkdir(parents=True)
    content = bytes(MODEL_BYTES // (2 if "16" in target else 1))
    (folder / "model.onnx").write_bytes(content)
    _json(folder / "edgekd.json", {
        "schema_version": "edgekd.artifact/1", "target": target, "runtime": target.split("-", maxsplit=1)[0],
        "precision": target[-4:], "files": {"model.onnx": hashlib.sha256(content).hexdigest()},
        "class_names": list(CLASSES), "input_shape": [1, 3, SIDE_PX, SIDE_PX], "size_px": [SIDE_PX, SIDE_PX],
        "decode": "dense", "parent_sha256": _sha("student"), "tools": {"onnx": "1.17"},
    })  # fmt: skip
    _json(folder / "parity.json", {
        "images": 32, "max_abs_score": 2.1e-06, "max_abs_box_px": 0.00014, "max_abs": 0.00014,
        "tolerance": {"max_abs_score": 0.001, "max_abs_box_px": 0.1}, "passed": True,
    })  # fmt: skip


def _json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
