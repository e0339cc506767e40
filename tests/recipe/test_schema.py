"""What a recipe may hold, its defaults, and the schema that editors get."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from edgekd.recipe.schema import Recipe
from edgekd.stages.binding import recipe_json_schema
from edgekd.training.arguments import check_arguments

MINIMAL: dict[str, Any] = {"name": "a", "data": {"format": "digits"}, "student": {"model": "yolo11p"}}
FULL: dict[str, Any] = {
    **MINIMAL,
    "seed": 3,
    "threads": 2,
    "teacher": {"weights": "t.pt"},
    "student": {"model": "yolo26n", "head": "one2one"},
    "distill": ["cwd", {"method": "logit", "weight": 0.5, "schedule": {"warmup_epochs": 1}}],
    "control": True,
    "train": {"epochs": 3},
    "export": ["onnx-fp32", {"target": "onnx-fp16", "size": [384, 640]}],
    "devices": ["local"],
    "validate": {"conf": 0.01},
    "profile": {"protocol": "quick"},
    "gate": {"min_ap": 0.3, "max_p90_ms": {"onnx-fp32@local": 5.0}, "min_ap_per_class": {"seven": 0.2}},
    "report": {"images": False},
}
BAD: list[dict[str, Any]] = [
    {"name": "a/b"},
    {"name": ""},
    {"seed": -1},
    {"threads": 0},
    {"data": {"format": "voc"}},
    {"data": {}},
    {"student": {}},
    {"student": {"model": "x", "head": "two"}},
    {"student": {"model": "x", "wieghts": "y"}},
    {"validate": {"conf": 1.0}},
    {"validate": {"max_det": 0}},
    {"profile": {"protocol": "slow"}},
    {"report": {"examples": 51}},
    {"export": [{"size": [1, 2]}]},
    {"distill": [{"weight": 1}]},
    {"foo": 1},
]


def test_defaults() -> None:
    recipe = Recipe.model_validate(MINIMAL)
    assert (recipe.seed, recipe.threads, recipe.teacher, recipe.distill, recipe.control) == (0, None, None, (), False)
    settings = recipe.validate_
    assert (settings.conf, settings.iou, settings.max_det, settings.operating_threshold) == (0.001, 0.7, 300, 0.25)
    assert (recipe.profile.protocol, recipe.report.images, recipe.report.examples) == ("full", True, 6)
    assert recipe.imgsz_px == 640
    assert Recipe.model_validate({**MINIMAL, "train": {"imgsz": 96}}).imgsz_px == 96


def test_short_and_long_forms_are_the_same() -> None:
    short = Recipe.model_validate(
        {**MINIMAL, "teacher": {"weights": "t.pt"}, "distill": ["cwd"], "export": ["onnx-fp32"]}
    )
    long = {"distill": [{"method": "cwd"}], "export": [{"target": "onnx-fp32"}]}
    assert short == Recipe.model_validate({**MINIMAL, "teacher": {"weights": "t.pt"}, **long})


def test_a_recipe_survives_its_own_dump() -> None:
    recipe = Recipe.model_validate(FULL)
    assert Recipe.model_validate(recipe.model_dump(mode="json", by_alias=True)) == recipe


@pytest.mark.parametrize("change", BAD, ids=str)
def test_what_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Recipe.model_validate({**MINIMAL, **change})


def test_distillation_needs_a_teacher() -> None:
    with pytest.raises(ValidationError, match="'distill' needs a 'teacher'"):
        Recipe.model_validate({**MINIMAL, "distill": ["cwd"]})


class TestSchemaForEditors:
    schema = recipe_json_schema()

    def valid(self, content: dict[str, Any]) -> bool:
        return bool(jsonschema.Draft202012Validator(self.schema).is_valid(content))

    def test_is_a_schema(self) -> None:
        jsonschema.Draft202012Validator.check_schema(self.schema)

    @pytest.mark.parametrize("content", [MINIMAL, FULL], ids=["minimal", "full"])
    def test_accepts_what_edgekd_accepts(self, content: dict[str, Any]) -> None:
        jsonschema.Draft202012Validator(self.schema).validate(content)

    @pytest.mark.parametrize("change", [change for change in BAD if change != {"student": {}}], ids=str)
    def test_refuses_what_edgekd_refuses(self, change: dict[str, Any]) -> None:
        assert not self.valid({**MINIMAL, **change})

    @pytest.mark.parametrize(
        "change",
        [
            {"data": {"format": "digits", "imgsz": "big"}},
            {"data": {"format": "yolo"}},
            {"data": {"format": "coco", "train": {"images": "a"}}},
            {"distill": ["fdg"]},
            {"distill": [{"method": "fdg"}]},
            {"distill": [{"method": "cwd", "tau": "hot"}]},
            {"distill": [{"method": "cwd", "foo": 1}]},
            {"gate": {"min_app": 0.5}},
            {"train": {"epochs": "three"}},
            {"train": {"lr0": 5}},
            {"train": {"lrO": 0.01}},
            {"train": {"imgsz": 100}},
            {"train": {"optimizer": "Adamant"}},
            {"train": {"device": "0,1"}},
            {"train": {"checkpoint_minutes": 0}},
            {"train": {"loggers": ["clearml"]}},
            {"quantize": {"mode": "qat", "train": {"lr0": 0.1}}},
            {"search": {"students": {"sizes": [640.5]}}},
            {"search": {"students": {"precisions": ["fp8"]}}},
        ],
        ids=str,
    )
    def test_knows_the_keys_of_every_room(self, change: dict[str, Any]) -> None:
        assert self.valid({**MINIMAL, "teacher": {"weights": "t.pt"}})
        assert not self.valid({**MINIMAL, "teacher": {"weights": "t.pt"}, **change})

    @pytest.mark.parametrize(
        "train",
        [
            {"epochs": 3, "lr0": 0.01, "amp": "bf16", "scale": [0.5, 1.5], "freeze": [0, "model.22"], "device": 0},
            {"optimizer": "AdamW", "cache": "ram", "device": None, "checkpoint_minutes": 5.5, "loggers": ["wandb"]},
        ],
        ids=["engine", "own"],
    )
    def test_types_the_arguments_of_training_as_edgekd_reads_them(self, train: dict[str, Any]) -> None:
        check_arguments(train, False, "r.yaml")
        assert self.valid({**MINIMAL, "train": train})
