"""Material of quantising steps from a run directory, and a student that is quantised with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.atomic import read_json
from edgekd.errors import Bug, InputError
from edgekd.export.contract import Artifact, Material, Source
from edgekd.export.parity import require
from edgekd.export.targets import load_target, run_steps
from edgekd.run_dir import RunDir
from edgekd.stages.binding import bind_recipe
from edgekd.stages.context import Context
from edgekd.stages.quantization_images import check_images, material_for
from tests.stages.tiny import weights, write_recipe

ROOT = Path(__file__).parents[2]
SIZE_PX = (64, 64)
MOST = ["*/model.[0-9]/*", "*/model.1[0-9]/*", "*/model.2[0-2]/*", "*/cv[23].[01]/*"]  # leaves a part of the head


@dataclass(frozen=True)
class Kitchen:
    context: Context
    source: Source
    material: Material

    def export(self, name: str, **options: Any) -> Artifact:
        given = {"calibration_images": 8, "sensitivity_images": 2, "ignore": MOST, **options} if options else {}
        overrides = {"options": {name: given}} if given else {}
        spec = load_target(str(ROOT / "export" / f"{name}.yaml"), overrides, "x.yaml: export[0]")
        return run_steps(self.source, spec, self.context.path / "export" / name, self.material)


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kitchen]:
    folder = tmp_path_factory.mktemp("material")
    weights(folder / "student.safetensors", "yolo11p")
    recipe = write_recipe(folder / "x.yaml", threads=None, teacher=None, distill=None, export=[], gate={})
    bound = bind_recipe(recipe)
    with RunDir.held(folder / "run", bound.recipe.name, bound.base, bound.locked()) as run:
        context = Context(bound, run)
        detector = context.pair.student
        module = detector.export_module(context.pair.head).eval()
        source = Source(
            module, module.decode, context.data.class_names, 3, SIZE_PX, detector.spec.size_multiple, "5eed" * 16
        )
        yield Kitchen(context, source, material_for(context, detector, SIZE_PX))


def test_an_exact_artifact_has_the_ap_of_the_student(kitchen: Kitchen) -> None:
    ap = kitchen.material.student_accuracy()
    assert ap > 0
    assert kitchen.material.accuracy(kitchen.export("onnx-fp32")) == pytest.approx(ap, abs=1e-4)


def test_a_call_of_the_agent_that_it_cannot_read_is_a_bug(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    made = kitchen.export("onnx-fp32")
    monkeypatch.setattr("edgekd.stages.quantization_images.own_cores", lambda: None)
    with pytest.raises(Bug, match=r"onnx-fp32: .*argument --threads: invalid _count value: 'None'") as caught:
        kitchen.material.accuracy(made)
    assert caught.value.exit_code == 70


def test_calibration_and_accuracy_see_other_images(kitchen: Kitchen) -> None:
    images = kitchen.material.calibration(12, SIZE_PX)
    assert (images.shape, images.dtype) == ((12, *SIZE_PX, 3), np.uint8)
    kitchen.material.student_accuracy()
    [measured] = (kitchen.context.path / "data" / "packs").glob("accuracy-*.npy")
    others = {image.tobytes() for image in np.load(measured)}
    assert len(others) == 12
    assert not {image.tobytes() for image in images} & others


@pytest.mark.parametrize("name", ["onnx-int8", "openvino-int8"])
def test_a_student_is_quantised(kitchen: Kitchen, name: str) -> None:
    made = kitchen.export(name, max_drop=0.5)
    record = read_json(made.folder / "quantization.json")
    assert record["ap_float"] == kitchen.material.student_accuracy()
    assert record["ap"] == kitchen.material.accuracy(made)
    free = [row["layer"] for row in record["layers"] if row["float"] is None]
    assert 4 <= len(free) < 12
    assert all("model.23" in layer for layer in free)
    assert any("dfl" in node for node in record["decoding"])
    spec = load_target(str(ROOT / "export" / f"{name}.yaml"), {"tolerance": {"min_matched": 0.3}}, "x.yaml: export[0]")
    parity = require(kitchen.source.module, made, kitchen.material.calibration(4, SIZE_PX), spec)
    assert parity["passed"]
    assert 0.3 <= parity["matched"]["share"] <= 1
    assert parity["tolerance"] == {"min_matched": 0.3}


def test_too_few_images_are_refused_before_anything_is_trained(kitchen: Kitchen, tmp_path: Path) -> None:
    weights(tmp_path / "student.safetensors", "yolo11p")
    bound = bind_recipe(write_recipe(
        tmp_path / "x.yaml", teacher=None, distill=None, gate={}, export=["onnx-int8", "openvino-int8"]
    ))  # fmt: skip
    with RunDir.held(tmp_path / "run", bound.recipe.name, bound.base, bound.locked()) as run:
        context = Context(bound, run)
        context.data = kitchen.context.data
        with pytest.raises(InputError) as caught:
            check_images(context)
    assert caught.value.problems == tuple(
        f"{name}: options.{name}: train: 128 images to calibrate on were asked for, and of 24 images 12 are free for "
        "it (the others measure the cost); set calibration_images to at most 12, or add images"
        for name in ("onnx-int8", "openvino-int8")
    )


def test_a_drop_that_cannot_be_kept_leaves_nothing_behind(kitchen: Kitchen) -> None:
    material = Material(kitchen.material.calibration, lambda _: 0.1, lambda: 0.6)
    broken = Kitchen(kitchen.context, kitchen.source, material)
    before = sorted((kitchen.context.path / "export").glob("**/*"))
    with pytest.raises(InputError, match=r"onnx-int8: options.onnx-int8: max_drop: 0.005 AP cannot be kept"):
        broken.export("onnx-int8", max_drop=0.005, max_float_share=0.0)
    assert sorted((kitchen.context.path / "export").glob("**/*")) == before
