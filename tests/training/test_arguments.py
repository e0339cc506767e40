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
        ({"imgsz": 100}, "r.yaml: train.imgsz: got 100, allowed: a whole number from 32 to 8192, a multiple of 32"),
        ({"imgsz": 0}, "r.yaml: train.imgsz: got 0, allowed: a whole number from 32 to 8192, a multiple of 32"),
        ({"batch": -1}, "r.yaml: train.batch: got -1, allowed: a whole number from 1 to 65536"),
        ({"workers": -1}, "r.yaml: train.workers: got -1, allowed: a whole number from 0 to 256"),
        ({"cache": "foo"}, "r.yaml: train.cache: got 'foo', allowed: true, false, ram or disk"),
        ({"freeze": "x"}, "r.yaml: train.freeze: got 'x', allowed: a whole number from 0 to 1000, a list of "),
        ({"optimizer": "Foo"}, "r.yaml: train.optimizer: got 'Foo', allowed: auto, SGD, MuSGD, "),
        ({"device": [0, 1]}, "r.yaml: train.device: got [0, 1], allowed: a whole number from 0 to 1023, a text "),
        (
            {"device": "0,1"},
            "r.yaml: train.device: got '0,1', allowed: a whole number from 0 to 1023, a text or null (one ",
        ),
        ({"compile": True}, "r.yaml: train.compile: must be off when distilling"),
        ({"activation_checkpointing": 1}, "r.yaml: train.activation_checkpointing: got 1, allowed: true or false"),
        ({"activation_checkpointing": True, "compile": True}, "r.yaml: train.activation_checkpointing: must be off"),
        ({"nodes": 0}, "r.yaml: train.nodes: got 0, allowed: a whole number from 1 up or null"),
        ({"gpus_per_node": "4"}, "r.yaml: train.gpus_per_node: got '4', allowed: a whole number from 1 up or null"),
        ({"rendezvous": "node1"}, "r.yaml: train.rendezvous: got 'node1', allowed: host:port, e.g. node1:29500"),
        ({"rendezvous": "a:70000"}, "r.yaml: train.rendezvous: got 'a:70000', allowed: host:port"),
        (
            {"gpus_per_node": 3, "batch": 16},
            "r.yaml: train.batch: got 16, of which 3 processes get equal shares; try 15 or 18",
        ),
        (
            {"nodes": 2, "gpus_per_node": 4, "batch": 6},
            "r.yaml: train.batch: got 6, of which 8 processes get equal shares; try 8",
        ),
        ({"gpus_per_node": 6}, "r.yaml: train.batch: got 16, of which 6 processes"),  # the engine's default batch
        (
            {"gpus_per_node": 2, "device": 0},
            "r.yaml: train.device: got 0, but 2 processes take a GPU each; leave it out",
        ),
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
    several = {"nodes": 2, "gpus_per_node": 4, "rendezvous": "[fe80::1]:29500", "device": "cpu"}
    check_arguments({**several, "batch": 32}, True, "r.yaml")
