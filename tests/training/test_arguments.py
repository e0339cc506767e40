"""The `train:` section."""

from __future__ import annotations

import pytest

from edgekd.errors import InputError
from edgekd.training.arguments import check_arguments


@pytest.mark.parametrize(
    ("train", "line"),
    [
        ({"epoch": 3}, "r.yaml: train.epoch: unknown engine argument 'epoch' (known: "),
        ({"model": "x"}, "r.yaml: train.model: edgekd sets this itself; use student.model instead"),
        ({"epochs": "many"}, "r.yaml: train.epochs: "),
        ({"lr0": 7.5}, "r.yaml: train.lr0: "),
        ({"imgsz": 100}, "r.yaml: train.imgsz: must be a multiple of 32, got 100"),
        ({"device": [0, 1]}, "r.yaml: train.device: [0, 1] names several devices; edgekd trains on one, e.g. 0 or cpu"),
        ({"device": "0,1"}, "r.yaml: train.device: '0,1' names several devices"),
        ({"compile": True}, "r.yaml: train.compile: must be off when distilling"),
    ],
)
def test_problems_name_the_key(train: dict[str, object], line: str) -> None:
    with pytest.raises(InputError) as error:
        check_arguments(train, True, "r.yaml")
    assert error.value.problems[0].startswith(line)


def test_all_problems_at_once() -> None:
    with pytest.raises(InputError) as error:
        check_arguments({"epoch": 3, "lr0": 7.5, "data": "x"}, False, "r.yaml")
    assert len(error.value.problems) == 3


def test_good_arguments_pass() -> None:
    check_arguments({"epochs": 3, "lr0": 0.1, "cos_lr": True, "compile": True}, False, "r.yaml")
