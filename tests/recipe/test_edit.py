"""Changes of a YAML text that keep the rest of it as it was written."""

from __future__ import annotations

import pytest
import yaml

from edgekd.recipe.edit import append_item, flow, remove_key, set_value
from edgekd.recipe.yaml_text import parse

BLOCK = """\
# head
name: x  # of the run
student:  # small
  model: yolo11n  # a name
  weights: w.pt
train:
  imgsz: 640  # px
  epochs: 3

export:
  - onnx-fp32  # for CPUs
  # more to come
gate: {min_ap: 0.4}  # budgets
"""
FLOW = "student: {model: yolo11n, weights: w.pt}  # small\nexport: [onnx-fp32]\ndevices: []\n"


def test_a_value_is_replaced_where_it_stands() -> None:
    assert set_value(BLOCK, ("train", "imgsz"), 320) == BLOCK.replace("640", "320")
    assert set_value(FLOW, ("student", "model"), "yolo11s") == FLOW.replace("yolo11n", "yolo11s")


def test_a_block_is_replaced_without_what_follows_it() -> None:
    changed = set_value(BLOCK, ("train",), {"imgsz": 96})
    assert parse(changed)["train"] == {"imgsz": 96}
    assert "# for CPUs" in changed
    assert "# budgets" in changed
    assert parse(changed)["export"] == ["onnx-fp32"]


def test_a_key_that_is_not_there_is_added_in_the_style_of_its_mapping() -> None:
    assert "  epochs: 3\n  batch: 8\n" in set_value(BLOCK, ("train", "batch"), 8)
    assert "gate: {min_ap: 0.4, min_gain: 0.1}  # budgets" in set_value(BLOCK, ("gate", "min_gain"), 0.1)
    assert set_value(BLOCK, ("profile", "protocol"), "quick") == f"{BLOCK}profile: {{protocol: quick}}\n"
    assert parse(set_value("", ("a", "b"), 1)) == {"a": {"b": 1}}


def test_a_key_below_a_scalar_takes_its_place() -> None:
    assert parse(set_value("student: yolo11n\n", ("student", "model"), "x")) == {"student": {"model": "x"}}


def test_items_are_added_at_the_end() -> None:
    assert "  - onnx-fp32  # for CPUs\n  - onnx-fp16\n" in append_item(BLOCK, ("export",), "onnx-fp16")
    assert "export: [onnx-fp32, onnx-fp16]" in append_item(FLOW, ("export",), "onnx-fp16")
    assert "devices: [local]" in append_item(FLOW, ("devices",), "local")
    assert parse(append_item(BLOCK, ("devices",), "local"))["devices"] == ["local"]


def test_an_unindented_list_keeps_its_place() -> None:
    assert append_item("export:\n- a\nname: x\n", ("export",), "b") == "export:\n- a\n- b\nname: x\n"


@pytest.mark.parametrize("text", [BLOCK, FLOW])
def test_a_key_is_removed(text: str) -> None:
    changed = remove_key(text, ("student", "weights"))
    assert parse(changed)["student"] == {"model": "yolo11n"}
    assert "# small" in changed
    assert remove_key(changed, ("student", "weights")) == changed


def test_the_first_key_in_braces_is_removed_with_its_comma() -> None:
    assert remove_key(FLOW, ("student", "model")).startswith("student: {weights: w.pt}  # small")
    assert remove_key("a: {b: 1}\n", ("a", "b")) == "a: {}\n"


@pytest.mark.parametrize(
    "value", ["plain", "a, b", "{x}", "yes", "010", "1e-3", "it's", "[", "# no comment", "a: b", "", "ümlaut"]
)
def test_text_reads_back_as_it_was(value: str) -> None:
    for loaded in (parse, yaml.safe_load):
        assert loaded(f"key: {flow({'inner': [value]})}") == {"key": {"inner": [value]}}
