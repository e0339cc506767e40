"""Budgets: what is accepted, what is refused, which names are known."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from edgekd.gate.policy import GateConfig, check_names


def test_everything_is_optional():
    config = GateConfig()
    assert (config.min_ap, config.max_ap_drop, config.min_gain) == (None, None, None)
    assert (config.max_p90_ms, config.min_ap_per_class) == ({}, {})


def test_a_whole_section():
    given = {
        "min_ap": 0.3,
        "max_p90_ms": {"onnx-fp32@local": 10},
        "max_ap_drop": 0.01,
        "min_gain": -0.02,
        "min_ap_per_class": {"cat": 0.2, "7": 0.1},
    }
    config = GateConfig.model_validate(given)
    assert config.max_p90_ms == {"onnx-fp32@local": 10.0}
    assert config.min_ap_per_class == {"cat": 0.2, "7": 0.1}


@pytest.mark.parametrize(
    ("section", "where", "why"),
    [
        ({"min_app": 0.3}, "min_app", "Extra inputs are not permitted"),
        ({"min_ap": 30}, "min_ap", "less than or equal to 1"),
        ({"min_ap": -0.1}, "min_ap", "greater than or equal to 0"),
        ({"min_ap": float("nan")}, "min_ap", "finite number"),
        ({"min_gain": float("nan")}, "min_gain", "finite number"),
        ({"min_ap": "0.3"}, "min_ap", "valid number"),
        ({"min_ap": True}, "min_ap", "valid number"),
        ({"max_ap_drop": 1.5}, "max_ap_drop", "less than or equal to 1"),
        ({"min_gain": -2}, "min_gain", "greater than or equal to -1"),
        ({"max_p90_ms": 10}, "max_p90_ms", "valid dictionary"),
        ({"max_p90_ms": {"a@b": 0}}, "max_p90_ms", "greater than 0"),
        ({"max_p90_ms": {"a@b": float("inf")}}, "max_p90_ms", "finite number"),
        ({"max_p90_ms": {"onnx-fp32": 5}}, "max_p90_ms", "write target@device, e.g. onnx-fp32@local"),
        ({"max_p90_ms": {"@local": 5}}, "max_p90_ms", "'@local' does not name an artifact"),
        ({"max_p90_ms": {"a@b@c": 5}}, "max_p90_ms", "'a@b@c' does not name an artifact"),
        ({"min_ap_per_class": {"cat": 2}}, "min_ap_per_class", "less than or equal to 1"),
        ({"min_ap_per_class": {True: 0.2}}, "min_ap_per_class", "valid string"),
        ({"min_ap_per_class": ["cat"]}, "min_ap_per_class", "valid dictionary"),
    ],
)
def test_bad_sections_are_refused(section, where, why):
    with pytest.raises(ValidationError) as caught:
        GateConfig.model_validate(section)
    (problem,) = caught.value.errors()
    assert problem["loc"][0] == where
    assert why in problem["msg"]


def test_it_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        GateConfig().min_ap = 0.5


def test_unknown_names_are_listed_all_at_once():
    config = GateConfig(
        max_p90_ms={"onnx-fp23@local": 5, "onnx-fp32@jetson": 5, "onnx-fp32@local": 5},
        min_ap_per_class={"cats": 0.1, "dog": 0.1},
    )
    assert check_names(config, ["onnx-fp32", "onnx-fp16"], ["local"], ["cat", "dog"], "x.yaml: gate") == [
        "x.yaml: gate.max_p90_ms.onnx-fp23@local: "
        "unknown target 'onnx-fp23' (known: onnx-fp16, onnx-fp32; did you mean 'onnx-fp32'?)",
        "x.yaml: gate.max_p90_ms.onnx-fp32@jetson: unknown device 'jetson' (known: local)",
        "x.yaml: gate.min_ap_per_class.cats: unknown class 'cats' (known: cat, dog; did you mean 'cat'?)",
    ]
    assert check_names(config, [], [], [], "g")[0].endswith("unknown target 'onnx-fp23' (known: none)")


def test_known_names_pass():
    config = GateConfig(max_p90_ms={"a@b": 5}, min_ap_per_class={"cat": 0.1})
    assert check_names(config, iter(["a"]), iter(["b"]), iter(["cat"]), "g") == []
