"""Two ranks against one process with the same global batch; see `parallel_program.train` for what makes them equal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.distill import contract
from tests.ports import free_port
from tests.training.engines import parallel_program

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a process alone found, and what each of two ranks found."""
    from edgekd.data.digits import generate

    folder = tmp_path_factory.mktemp("ranks")
    data_yaml = generate(folder / "set", imgsz=64, train=12, val=20, test=36, seed=0)
    port = free_port()
    command = [sys.executable, "-m", "tests.training.engines.parallel_program", str(data_yaml)]
    processes = [
        subprocess.Popen([*command, str(folder / f"{rank}.pt"), str(rank), "2", str(port)], cwd=ROOT, env=os.environ)
        for rank in range(2)
    ]
    assert [process.wait(timeout=900) for process in processes] == [0, 0]
    both = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]
    (folder / "alone").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        contract.distiller_names()  # all are loaded, so that what is put back has them
        patch.setattr(contract, "_REGISTRY", dict(contract._REGISTRY))  # the method of the program is no other test's
        return parallel_program.train(data_yaml, folder / "alone" / "work"), both


def test_the_batch_of_the_recipe_is_shared_out(outcomes: Any) -> None:
    alone, both = outcomes
    assert alone["batch_sizes"] == [8]
    assert [rank["batch_sizes"] for rank in both] == [[4], [4]]
    assert [rank["steps"] for rank in (alone, *both)] == [3, 3, 3]
    assert [rank["wrapped"] for rank in (alone, *both)] == [False, True, True]


def test_losses_are_those_of_one_process(outcomes: Any) -> None:
    alone, both = outcomes
    for rank in both:
        np.testing.assert_allclose(rank["losses"], alone["losses"], rtol=1e-4)
    assert len(set(alone["losses"])) == 3, "nothing was learnt"


@pytest.mark.parametrize("part", ["student", "adapters"])
def test_parameters_are_equal_on_both_ranks_and_those_of_one_process(outcomes: Any, part: str) -> None:
    alone, (first, second) = outcomes
    assert set(first[part]) == set(second[part]) == set(alone[part])
    assert first[part]
    for name, value in first[part].items():
        assert torch.equal(value, second[part][name]), name
        torch.testing.assert_close(
            value, alone[part][name], rtol=1e-3, atol=1e-5, msg=lambda text, at=name: f"{at}: {text}"
        )


def test_parameters_have_moved(outcomes: Any) -> None:
    """Else the comparisons above would hold for a training that does nothing."""
    from tests.stages import tiny

    _, (first, _) = outcomes
    before = dict(tiny.detector("yolo11p").module.named_parameters())
    moved = [name for name, value in first["student"].items() if not torch.equal(value, before[name])]
    assert len(moved) > 0.9 * len(before)
    assert all(float(value.abs().max()) > 0 for value in first["adapters"].values())


def test_both_ranks_judge_the_same_average(outcomes: Any) -> None:
    _, (first, second) = outcomes
    differing = [name for name, value in first["averages"].items() if not torch.equal(value, second["averages"][name])]
    assert differing == []


def test_validation_is_split_and_its_losses_are_those_of_all_images(outcomes: Any) -> None:
    alone, (first, second) = outcomes
    assert second["metrics"] == {}
    assert {"val/box_loss", "val/cls_loss", "val/dfl_loss"} < set(alone["metrics"]) == set(first["metrics"])
    for key, value in alone["metrics"].items():  # running variances differ: their estimates come from half the pixels
        np.testing.assert_allclose(first["metrics"][key], value, rtol=0.03, atol=5e-4, err_msg=key)
    assert [rank["averaged"] for rank in (first, second)] == [10.0, 10.0]  # 30 over three batches


def test_rank_0_alone_writes(outcomes: Any) -> None:
    _, (first, second) = outcomes
    assert (first["checkpoint"], second["checkpoint"]) == (True, False)


def test_detections_of_two_ranks_are_those_of_one_process(outcomes: Any) -> None:
    alone, (first, second) = outcomes
    assert second["detections"] == []
    assert len(first["detections"]) == len(alone["detections"]) == 36
    for own, other in zip(first["detections"], alone["detections"], strict=True):
        for mine, theirs in zip(own, other, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert sum(len(scores) for _, scores, _ in alone["detections"]) > 36


def test_a_survey_is_that_of_one_process(outcomes: Any) -> None:
    """Each rank looks at a half; what is gathered is in the order of the images, and buffers are those of rank 0."""
    alone, both = outcomes
    for rank in both:
        found, expected = rank["survey"], alone["survey"]
        assert found["ids"].tolist() == expected["ids"].tolist() == list(range(12))
        torch.testing.assert_close(found["means"], expected["means"], rtol=1e-4, atol=1e-5)
        assert torch.equal(found["drawn"], expected["drawn"])
        assert float(found["own_rank"]) == 0
    assert torch.equal(both[0]["survey"]["means"], both[1]["survey"]["means"])
