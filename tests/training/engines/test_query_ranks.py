"""Methods on queries train on two ranks: decoders are asked beside the wrapped pass, and weights stay equal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edgekd.data.digits import generate
from tests.ports import free_port

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_weights_are_equal_on_both_ranks(tmp_path: Path) -> None:
    data_yaml = generate(tmp_path / "set", imgsz=64, train=12, val=4, test=4, seed=0)
    port = free_port()
    command = [sys.executable, "-m", "tests.training.engines.query_ranks", str(data_yaml)]
    processes = [
        subprocess.Popen([*command, str(tmp_path / f"{rank}.pt"), str(rank), str(port)], cwd=ROOT, env=os.environ)
        for rank in range(2)
    ]
    assert [process.wait(timeout=900) for process in processes] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for part in ("student", "adapters"):
        assert first[part]
        for name, value in first[part].items():
            assert value.isfinite().all()
            assert torch.equal(value, second[part][name]), name
