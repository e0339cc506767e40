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
        ({"imgsz": 100}, "r.yaml: train.imgsz: got 100, allowed: a multiple of 32"),
        ({"imgsz": 0}, "r.yaml: train.imgsz: got 0, allowed: a multiple of 32"),
        ({"batch": -1}, "r.yaml: train.batch: got -1, allowed: a number of images, 1 or more"),
        ({"workers": -1}, "r.yaml: train.workers: got -1, allowed: a number of processes, 0 or more"),
        ({"cache": "foo"}, "r.yaml: train.cache: got 'foo', allowed: true, false, ram or disk"),
        ({"freeze": "x"}, "r.yaml: train.freeze: got 'x', allowed: a number of layers, or a list of layer numbers"),
        ({"optimizer": "Foo"}, "r.yaml: train.optimizer: got 'Foo', allowed: auto, SGD, MuSGD, "),
        ({"device": [0, 1]}, "r.yaml: train.device: got [0, 1], allowed: one device, e.g. 0 or cpu"),
        ({"device": "0,1"}, "r.yaml: train.device: got '0,1', allowed: one device"),
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
    good = {"epochs": 3, "lr0": 0.1, "cos_lr": True, "compile": True, "batch": 4, "freeze": [0, 1]}
    check_arguments({**good, "optimizer": "adamw"}, False, "r.yaml")
