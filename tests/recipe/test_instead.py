"""What people write out of habit: the error names what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekd.errors import InputError
from edgekd.recipe.instead import flow
from edgekd.recipe.load import load_recipe
from edgekd.stages.binding import bind_recipe

SECTIONS = {"name": "a", "data": "{format: digits}", "student": "{model: yolo11p}", "teacher": "{weights: t.pt}"}


def problem(folder: Path, **sections: str) -> str:
    """The only one of a recipe with these sections, as YAML."""
    path = folder / "r.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in {**SECTIONS, **sections}.items()))
    with pytest.raises(InputError) as caught:
        bind_recipe(path)
    (text,) = caught.value.problems
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("distill", "logit", "distill: must be a list, got 'logit'; write [logit], or the name of a preset "
            "(known: damo-yolo, detkds-anchor-free, detkds-one-stage, detkds-two-stage, quickstart, rtmdet-mmyolo)"),
        ("distill", "{method: logit}", "distill: must be a list, got {'method': 'logit'}; write [{method: logit}]"),
        ("distill", "true", "distill: must be a list, got True; write a list of names, [] for none, or leave it out"),
        ("export", "onnx", "export: must be a list, got 'onnx'; write [onnx-fp32]"),
        ("devices", "local", "devices: must be a list, got 'local'; write [local]"),
        ("devices", "0", "devices: must be a list, got 0; write [local]"),
        ("devices", "[0]", "devices[0]: input should be a valid string, got 0; devices are where artifacts are "
            "measured: "
            "write local; the GPU that trains is train.device"),
        ("student", "yolo11n", "student: must be a mapping of keys, got 'yolo11n'; write student: {model: yolo11n}"),
        ("student", "a.pt", "student: must be a mapping of keys, got 'a.pt'; write student: {weights: a.pt}"),
        ("teacher", "best.pt", "teacher: must be a mapping of keys, got 'best.pt'; write teacher: {weights: best.pt}"),
        ("teacher", "yolo11x", "teacher: must be a mapping of keys, got 'yolo11x'; write teacher: {weights: "
            "yolo11x.pt}"),
        ("data", "data.yaml", "data: must be a mapping of keys, got 'data.yaml'; write data: {format: yolo, path: "
            "data.yaml}"),
        ("data", "sets/coco8", "data: must be a mapping of keys, got 'sets/coco8'; write data: {format: yolo, path: "
            "sets/coco8/data.yaml}"),
        ("data", "val.json", "data: must be a mapping of keys, got 'val.json'; write data: {format: coco, train: "
            "{images: "
            "FOLDER, annotations: val.json}, val: ...}"),
        ("data", "{path: data.yaml}", "data.format: missing; this key is required (one of digits, yolo, coco)"),
        ("profile", "full", "profile: must be a mapping of keys, got 'full'; write profile: {protocol: full}"),
        ("quantize", "qat", "quantize: must be a mapping of keys, got 'qat'; write quantize: {mode: qat}"),
        ("gate", "0.4", "gate: must be a mapping of keys, got 0.4; write gate: {min_ap: 0.4}"),
        ("gate", "{min_ap: 40}", "gate.min_ap: input should be less than or equal to 1, got 40; it is a share of 1: "
            "write "
            "0.4"),
        ("gate", "{min_ap: 40%}", "gate.min_ap: input should be a valid number, got '40%'; it is a share of 1: "
            "write 0.4"),
        ("gate", "{min_ap_per_class: {a: 30}}", "gate.min_ap_per_class.a: input should be less than or equal to 1, "
            "got 30; "
            "it is a share of 1: write 0.3"),
        ("gate", "{min_ap: 400}", "gate.min_ap: input should be less than or equal to 1, got 400"),
        ("gate", "{max_p90_ms: 5}", "gate.max_p90_ms: must be a mapping of keys, got 5; write max_p90_ms: "
            "{TARGET@DEVICE: "
            "5}"),
        ("gate", "{min_ap_per_class: 0.3}", "gate.min_ap_per_class: must be a mapping of keys, got 0.3; write "
            "min_ap_per_class: {CLASS: 0.3}"),
        ("validate", "{conf: 25}", "validate.conf: input should be less than 1, got 25; it is a share of 1: write "
            "0.25"),
        ("validate", "{cnf: 0.2}", "validate.cnf: unknown key 'cnf' (known: conf, iou, max_det, "
            "operating_threshold; did "
            "you mean 'conf'?)"),
        ("name", "my street", "name: string should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$', got 'my street'; use "
            "letters, digits, '.', '_' and '-', as in my-street"),
    ],
)  # fmt: skip
def test_a_section(key: str, value: str, text: str, tmp_path: Path) -> None:
    assert problem(tmp_path, **{key: value}) == text


@pytest.mark.parametrize(
    ("key", "value", "better"),
    [
        ("epochs", "100", "train: {epochs: 100}"), ("device", "0", "train: {device: 0}"),
        ("model", "yolo11n", "student: {model: yolo11n}"), ("weights", "a.pt", "student: {weights: a.pt}"),
        ("min_ap", "0.4", "gate: {min_ap: 0.4}"), ("conf", "0.3", "validate: {conf: 0.3}"),
        ("protocol", "full", "profile: {protocol: full}"), ("int8", "true", "export: [onnx-int8]"),
        ("half", "true", "export: [onnx-fp16]"),
    ],
)  # fmt: skip
def test_a_key_outside_its_section(key: str, value: str, better: str, tmp_path: Path) -> None:
    text = problem(tmp_path, **{key: value})
    assert text.startswith(f"{key}: unknown key '{key}' (known: control, data, devices, ")
    assert text.endswith(f"; write {better}")


@pytest.mark.parametrize(
    ("given", "meant"),
    [("onnx", "onnx-fp32"), ("engine", "tensorrt-fp16"), ("openvino", "openvino-fp32"), ("tflite", "litert-fp32"),
     ("onnx-fp23", "onnx-fp32")],
)  # fmt: skip
def test_a_format_of_another_tool(given: str, meant: str, tmp_path: Path) -> None:
    text = problem(tmp_path, export=f"[{given}]")
    assert text.startswith(f"export[0].target: unknown export target '{given}' (known: coreml, ")
    assert f"; did you mean '{meant}'?); give one of these" in text


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("path: ../coco8\ntrain: images/train\nval: images/val\nnames: {0: person}\n",
         "is a data.yaml, not a recipe; name it in one: data: {format: yolo, path: PATH}"),
        ("train: a\nval: b\nnc: 1\nnames: [x]\n",
         "is a data.yaml, not a recipe; name it in one: data: {format: yolo, path: PATH}"),
        ("nc: 80\nbackbone: []\nhead: []\n",
         "is the YAML of a model, not a recipe; name it in one: student: {model: PATH}"),
        ("task: detect\nmode: train\nmodel: a.pt\nepochs: 3\n",
         "holds the arguments of `yolo train`, not a recipe; copy those that you want into the section train: of one"),
        ("transport: ssh\nruntimes: [onnxruntime]\n",
         "is the file of a device, not a recipe; name it in one: devices: [PATH]"),
        ("steps: [onnx]\nruntime: onnxruntime\n",
         "is the file of a target, not a recipe; name it in one: export: [PATH]"),
    ],
)  # fmt: skip
def test_another_file_for_a_recipe(text: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    assert caught.value.problems == (f"{path}: {what.replace('PATH', str(path))}",)


def test_what_is_large_is_not_written_out() -> None:
    deep: list[Any] = []
    for _ in range(500):
        deep = [deep]
    assert [flow(value) for value in ({"a": [1, "x y"]}, list(range(19)), deep, {"k": "v" * 500})] == [
        "{a: [1, x y]}", "...", "...", flow({"k": "v" * 500}),
    ]  # fmt: skip
    assert len(flow({"k": "v" * 500})) <= 80


def test_weights_for_a_model() -> None:
    from edgekd.detectors.ultralytics.architectures import architecture

    with pytest.raises(InputError) as caught:
        architecture("yolo11n.pt", "r.yaml: student.model")
    assert caught.value.problems == (
        "r.yaml: student.model: yolo11n.pt is a file of weights; write 'weights: yolo11n.pt' in place of "
        "'model: yolo11n.pt'",
    )
