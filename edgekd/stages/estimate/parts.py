"""The stages of a run with the seconds that each is expected to take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgekd.distill.contract import distiller_type
from edgekd.export.contract import TargetSpec
from edgekd.forecast import Part
from edgekd.measure.latency import protocol_of
from edgekd.stages import offline
from edgekd.stages.context import Context
from edgekd.stages.estimate.steps import Measured, Pace, steps_of
from edgekd.stages.on_device import pairs
from edgekd.stages.seeds import roles, trained_models
from edgekd.stages.teachers import recipes_of
from edgekd.training.distillers import labels

# Guesses in seconds, as seen on two cores with small students; an earlier run of the recipe knows better.
_EXPORT_S = {"fp32": 4.0, "fp16": 5.0, "int8": 45.0}
_BUILT_S = {"tensorrt": 180.0, "executorch": 60.0, "coreml": 60.0, "litert": 60.0}
_AP_IMAGE_S = 0.002  # matching and AP, beside finding objects
_PROCESS_S = 3.0  # of a profile: until it has loaded its model
_END_S = {"gate": 1.0, "report": 4.0}
EVERY = (
    "teacher", "prepare", "knowledge", "control", "student", "student_qat", "test", "export", "validate", "profile",
    *_END_S,
)  # fmt: skip


def expected(context: Context, names: Sequence[str], measured: Measured, former: Mapping[str, float]) -> list[Part]:
    """One part for each stage that takes its time, in order.

    Args:
        names: stages as commands know them.
        former: seconds of the stages of an earlier run of the recipe; of trainings they are not asked.
    """
    makers = {
        "teacher": _teachers, "prepare": _preparations, "knowledge": _knowledge, "control": _models, "student": _models,
        "student_qat": _quantised, "test": _tests, "export": _exports, "validate": _devices, "profile": _profiles,
    }  # fmt: skip
    found: list[Part] = []
    for name in names:
        if name in makers:
            found += makers[name](context, measured, name)
        elif name in _END_S:
            found.append(Part(name, "end", _END_S[name] + _AP_IMAGE_S * len(context.data.splits["val"].images)))
    return [
        replace(part, seconds=former[part.stage], known_by="earlier run")
        if part.known_by == "guess" and part.stage in former
        else part
        for part in found
    ]


def _teachers(context: Context, measured: Measured, _: str) -> Iterator[Part]:
    for name in (*recipes_of(context.bound.recipe), *context.bound.recipe.ensembles):
        stage = "teacher" if name == "teacher" else f"teacher/{name}"
        yield Part(stage, "torch", _ap_s(context, measured, name), "measured")


def _models(context: Context, measured: Measured, role: str) -> Iterator[Part]:
    recipe = context.bound.recipe
    if role not in roles(recipe):
        return
    pace = measured.trainings.get(role) or measured.trainings["student"]
    more = context.data.unlabelled if role == "student" else None
    images = len(context.data.splits["train"].images) + (len(more.split.images) if more else 0)
    seconds = training_s(pace, dict(recipe.train), images, len(context.data.splits["val"].images))
    for model in trained_models(recipe, role):
        yield Part(model.stage, "train", seconds, "measured")
        yield Part(f"accuracy/{model.stage}", "torch", _ap_s(context, measured, "student"), "measured")


def training_s(pace: Pace, train: Mapping[str, Any], images: int, val_images: int) -> float:
    """All epochs with the validation behind each, and the last look at the best weights."""
    epochs, steps = int(train.get("epochs") or 100), steps_of(images, int(train.get("batch") or 16))
    epoch_s = steps * pace.step_s + val_images * pace.image_s + pace.pause_s
    return pace.setup_s + epochs * epoch_s + val_images * pace.image_s


def _quantised(context: Context, measured: Measured, role: str) -> Iterator[Part]:
    quantize = context.bound.recipe.quantize
    if quantize.mode == "qat":
        sizes = (len(context.data.splits[split].images) for split in ("train", "val"))
        train = {**context.bound.recipe.train, **quantize.train, "epochs": quantize.epochs}
        yield Part(role, "train", training_s(measured.trainings["student"], train, *sizes))
        yield Part(f"accuracy/{role}", "torch", _ap_s(context, measured, "student"), "measured")


def _preparations(context: Context, measured: Measured, _: str) -> Iterator[Part]:
    """Of its own epochs, each as long as one of the student's, for want of anything better."""
    methods = context.bound.distillers
    for label, (name, config) in zip(labels([name for name, _ in methods]), methods, strict=True):
        if distiller_type(name).prepares and getattr(config, "prepared", None) is None:
            pair = context.pair.of_methods(config.teacher)
            preparation = distiller_type(name)(config, replace(pair, student=pair.teacher)).preparation()
            sizes = (len(context.data.splits["train"].images), 0)
            train = {**context.bound.recipe.train, **preparation.train}
            yield Part(f"prepare/{label}", "train", training_s(measured.trainings["student"], train, *sizes))


def _knowledge(context: Context, measured: Measured, name: str) -> Iterator[Part]:
    """As long as teachers need for every view."""
    views = offline.views_of(context.bound.recipe)
    if views is not None:
        asked = {config.teacher for _, config in context.bound.distillers}
        each = sum(measured.images.get(teacher, 0.0) for teacher in asked)
        yield Part(name, "knowledge", len(views.all()) * len(context.data.splits["train"].images) * each)


def _tests(context: Context, measured: Measured, _: str) -> Iterator[Part]:
    if "test" in context.data.splits:
        named = {"teacher": "teacher", **dict.fromkeys(roles(context.bound.recipe), "student")}
        for model, whose in named.items():
            if whose in measured.images:
                yield Part(f"test/{model}", "torch", _ap_s(context, measured, whose, "test"), "measured")


def _exports(context: Context, _: Measured, kind: str) -> Iterator[Part]:
    for target in context.bound.targets:
        yield Part(f"export/{target.name}", kind, _export_s(target))


def _export_s(target: TargetSpec) -> float:
    return _BUILT_S.get(target.runtime, 0.0) + _EXPORT_S.get(target.precision, 5.0)


def _devices(context: Context, measured: Measured, _: str) -> Iterator[Part]:
    """AP on devices: as in torch on this machine, for want of anything better."""
    for target, device in pairs(context):
        seconds = 2.0 + _ap_s(context, measured, "student")
        yield Part(f"validate/{target.name}@{device.name}", "device", seconds)


def _profiles(context: Context, _: Measured, name: str) -> Iterator[Part]:
    asked = context.bound.recipe.profile
    protocol = protocol_of(asked.protocol, asked.sustained_minutes)
    each = protocol.min_processes * (protocol.warmup_seconds + protocol.min_seconds + _PROCESS_S)
    for target, device in pairs(context):
        yield Part(f"{name}/{target.name}@{device.name}", name, each * (1 + len(asked.throughput)), "protocol")


def _ap_s(context: Context, measured: Measured, model: str, split: str = "val") -> float:
    each = measured.images.get(model, measured.images["student"])
    return len(context.data.splits[split].images) * (each + _AP_IMAGE_S)
