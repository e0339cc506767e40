"""Every argument of the engine: taken with its bounds, or refused with what to write instead."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from edgekd.errors import InputError
from edgekd.recipe.schema import QuantizeRecipe
from edgekd.stages.binding import recipe_json_schema
from edgekd.training.allowed import in_words
from edgekd.training.arguments import OwnArguments, check_arguments, check_quantization_arguments
from edgekd.training.engines.arguments import REFUSED, EngineArguments

ROOT = Path(__file__).parents[3]
TAKEN = {name: field.default for name, field in EngineArguments.model_fields.items()}
# Values that the engine's own check lets pass, or would misread, and what is allowed.
OUT_OF_BOUNDS: list[tuple[str, Any, str]] = [
    ("epochs", 0, "a whole number from 1 to 100000"),
    ("epochs", True, "a whole number from 1 to 100000"),
    ("epochs", None, "a whole number from 1 to 100000"),
    ("imgsz", 320_000, "a whole number from 32 to 8192, a multiple of 32"),
    ("imgsz", [640, 480], "a whole number from 32 to 8192, a multiple of 32"),
    ("batch", 0.5, "a whole number from 1 to 65536"),
    ("amp", "int8", "true, false, fp16, bf16 or fp32"),
    ("compile", "fast", "true, false, default, reduce-overhead or max-autotune-no-cudagraphs"),
    ("lr0", 0, "a number above 0, up to 1"),
    ("lr0", float("nan"), "a number above 0, up to 1"),
    ("momentum", 1.0, "a number from 0, below 1"),
    ("degrees", 1e9, "a number from 0 to 180"),
    ("box", float("inf"), "a number from 0 to 1000"),
    ("scale", [0.5], "a number from 0 to 1 or a list of 2 values, each a number above 0, up to 10"),
    ("nodes", -1, "a whole number from 1 up or null"),
    ("loggers", ["clearml"], "a list of values, each tensorboard, mlflow or wandb"),
]


def problems(train: dict[str, Any], distilling: bool = False) -> list[str]:
    with pytest.raises(InputError) as error:
        check_arguments(train, distilling, "r.yaml")
    return list(error.value.problems)


def engine_defaults() -> dict[str, Any]:
    from edgekd.detectors.ultralytics.guard import guard

    guard()
    from ultralytics.cfg import DEFAULT_CFG_DICT

    return dict(DEFAULT_CFG_DICT)


def test_every_argument_of_the_engine_is_taken_or_refused() -> None:
    beyond = {"save_dir", "half", "int8", "keras"}  # of other versions, and one that stands in no list
    assert set(TAKEN) | set(REFUSED) == set(engine_defaults()) | beyond
    assert not set(TAKEN) & set(REFUSED)


def test_defaults_are_the_engines() -> None:
    theirs = engine_defaults()
    assert {name: theirs[name] for name in TAKEN} == TAKEN


def test_what_is_taken_passes_the_engines_own_check() -> None:
    engine_defaults()
    from ultralytics.cfg import check_cfg

    given = {**TAKEN, "scale": [0.5, 1.5], "freeze": [0, 1], "optimizer": "AdamW", "lr0": 1.0, "perspective": 0.001}
    check_arguments(given, True, "r.yaml")
    check_cfg(given, hard=True)


@pytest.mark.parametrize("key", REFUSED)
def test_the_rest_is_refused(key: str) -> None:
    [problem] = problems({key: engine_defaults().get(key)})
    assert problem == f"r.yaml: train.{key}: {REFUSED[key]}"
    assert re.search(r"; (use|leave|RUN)", problem)


@pytest.mark.parametrize(
    ("key", "instead"),
    [
        ("classes", "use a data set with these classes alone"), ("fraction", "use a data set with fewer images"),
        ("rect", "images are squares of imgsz"), ("save_period", "use train.checkpoint_minutes"),
        ("format", "use export"), ("source", "leave it out"), ("conf", "use validate.conf"),
        ("iou", "use validate.iou"), ("max_det", "use validate.max_det"), ("half", "use train.amp, and an fp16 target"),
        ("int8", "use quantize, and an int8 target"), ("quantize", "use quantize (a section of the recipe)"),
        ("seed", "use seed"), ("copy_paste", "it is for segmentation"), ("pose", "it is for poses"),
    ],
)  # fmt: skip
def test_it_names_what_to_write(key: str, instead: str) -> None:
    assert instead in REFUSED[key]


@pytest.mark.parametrize(("key", "value", "allowed"), OUT_OF_BOUNDS)
def test_bounds(key: str, value: object, allowed: str) -> None:
    [problem] = problems({key: value})
    assert problem.split(" (")[0] == f"r.yaml: train.{key}: got {value!r}, allowed: {allowed}"


def test_quantize_train_takes_the_same_but_for_what_stands_elsewhere() -> None:
    quantize = {"mode": "qat", "train": {"batch": 0, "rect": True, "epochs": 3, "nodes": 2, "optimizer": "sgd"}}
    with pytest.raises(InputError) as error:
        check_quantization_arguments({}, QuantizeRecipe.model_validate(quantize), "r.yaml")
    starts = [problem.split(";")[0].split(" (")[0] for problem in error.value.problems]
    assert starts == [
        "r.yaml: quantize.train.batch: got 0, allowed: a whole number from 1 to 65536",
        "r.yaml: quantize.train.rect: would train on other data than the report speaks of",
        "r.yaml: quantize.train.epochs: is not for this section",
        "r.yaml: quantize.train.nodes: is not for this section",
    ]


def test_the_json_schema_lists_them_with_types_and_bounds() -> None:
    schema = recipe_json_schema()
    train = schema["properties"]["train"]
    assert set(train["properties"]) == {*TAKEN, *OwnArguments.model_fields}
    assert train["additionalProperties"] is False
    assert {key: train["properties"]["imgsz"][key] for key in ("type", "minimum", "multipleOf", "default")} == {
        "type": "integer", "minimum": 32, "multipleOf": 32, "default": 640,
    }  # fmt: skip
    quantize_train = schema["$defs"]["QuantizeRecipe"]["properties"]["train"]
    assert set(TAKEN) - set(quantize_train["properties"]) == {"epochs", "lr0", "imgsz", "device"}
    minimal: dict[str, Any] = {"name": "a", "data": {"format": "digits"}, "student": {"model": "yolo11p"}}
    checker = jsonschema.Draft202012Validator(schema)
    assert checker.is_valid({**minimal, "train": {"epochs": 3, "lr0": 0.1, "device": "cpu", "nodes": 2}})
    for wrong in ({"rect": False}, {"imgsz": 100}, {"lr0": 7.5}, {"amp": "int8"}, {"classes": [0]}):
        assert not checker.is_valid({**minimal, "train": wrong}), wrong


def test_the_page_lists_them() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    section = page.partition("\n## train\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|", section, re.MULTILINE)
    schemas = recipe_json_schema()["properties"]["train"]["properties"]
    listed = {name: (kind, yaml.safe_load(default.strip("`"))) for name, kind, default in rows if name in TAKEN}
    assert listed == {name: (in_words(schemas[name]), TAKEN[name]) for name in TAKEN}
