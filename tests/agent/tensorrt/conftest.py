"""What every test of the runtime `tensorrt` starts from."""

from __future__ import annotations

import sys

import pytest

from edgekd.testing.artifacts import write_artifact
from tests.agent.tensorrt.machine import RUNTIME, Device


@pytest.fixture
def device(monkeypatch, tmp_path):
    yield Device(monkeypatch, tmp_path)
    sys.modules.pop(RUNTIME, None)


@pytest.fixture
def model(tmp_path):
    return write_artifact(tmp_path / "tiny", batch=1) / "model.onnx"


@pytest.fixture
def dynamic(tmp_path):
    return write_artifact(tmp_path / "dynamic") / "model.onnx"
