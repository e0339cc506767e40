"""Every YAML file that edgekd ships is sound: none is left out, in whatever folder it lies."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from edgekd.devices import catalog
from edgekd.export.targets import load_target
from edgekd.recipe.lookup import available, find
from edgekd.stages.binding import bind_recipe, recipe_json_schema

ROOT = Path(__file__).parents[1]


def files(kind: str) -> list[Path]:
    found = sorted(path for path in (ROOT / kind).rglob("*") if path.suffix in (".yaml", ".yml"))
    assert found, f"no YAML file under {kind}/"
    return found


RECIPES, TARGETS, DEVICES = files("recipes"), files("export"), files("devices")


def header(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
class TestRecipes:
    def test_binds(self, path: Path) -> None:
        bound = bind_recipe(path)
        assert bound.recipe.name == path.stem

    def test_fits_the_schema_for_editors(self, path: Path) -> None:
        jsonschema.Draft202012Validator(recipe_json_schema()).validate(yaml.safe_load(path.read_text(encoding="utf-8")))

    def test_header_gives_the_command(self, path: Path) -> None:
        assert "edgekd run " in header(path)
        assert path.name in header(path)

    def test_is_found_by_name(self, path: Path) -> None:
        name = path.relative_to(ROOT / "recipes").with_suffix("").as_posix()
        assert find("recipes", name).resolve() == path


@pytest.mark.parametrize("path", TARGETS, ids=lambda path: path.stem)
def test_targets(path: Path) -> None:
    assert load_target(str(path), {}, str(path)).name == path.stem
    assert header(path)


@pytest.mark.parametrize("path", DEVICES, ids=lambda path: path.stem)
def test_devices(path: Path) -> None:
    assert catalog.load(str(path)).name == path.stem
    assert header(path)


def test_there_is_what_a_new_user_is_promised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    promised = {
        "quickstart", "yolo26x-to-yolo26n-coco", "yolo11x-to-yolo11n-coco", "rtdetr-x-to-yolo11s-coco",
        "dfine-x-to-yolo11n-coco",
    }  # fmt: skip
    assert promised <= set(available("recipes"))
    assert {"onnx-fp32", "onnx-fp16", "openvino-fp32", "openvino-fp16"} <= set(available("export"))
    assert {"local"} <= set(available("devices"))


def test_recipes_for_other_machines_say_so() -> None:
    for path in (one for one in RECIPES if not one.stem.startswith("trees")):  # whose pictures come by pip
        if yaml.safe_load(path.read_text(encoding="utf-8"))["data"]["format"] != "digits":
            assert "not run here" in header(path).lower(), path.name
