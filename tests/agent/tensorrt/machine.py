"""A machine with a GPU and one version of TensorRT, made of fakes."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from edgekd.agent import cuda
from edgekd.agent.protocol import AgentError
from edgekd.agent.runtimes import open_model
from edgekd.testing.artifacts import make_images
from tests.agent.fake_cudart import FakeCudart
from tests.agent.tensorrt.fake_tensorrt import VERSIONS, World, read_plan

V8, V10, V11 = VERSIONS
RUNTIME = "edgekd.agent.runtimes.tensorrt_runtime"


class Device:
    """A machine with a GPU and one version of TensorRT."""

    def __init__(self, monkeypatch, tmp_path):
        self._monkeypatch = monkeypatch
        self.cache = tmp_path / "cache" / "engines"
        monkeypatch.setenv("EDGEKD_CACHE", str(tmp_path / "cache"))
        self.use(V10)

    def use(self, version, dla_cores=0, **gpu):
        self.world = World(version, dla_cores)
        self.cudart = FakeCudart(**gpu)
        self._monkeypatch.setitem(sys.modules, "tensorrt", self.world.module)
        sys.modules.pop(RUNTIME, None)  # it keeps the library that it was imported with
        self._monkeypatch.setattr(cuda, "load_library", lambda: self.cudart)
        return self

    def open(self, path, precision="fp32", **build):
        return open_model("tensorrt", path, 1, precision, build=build)

    def plans(self):
        return sorted(self.cache.glob("*.plan"))

    def header(self):
        (plan,) = self.plans()
        return read_plan(plan.read_bytes())[0]


def batch_of(count):
    return np.ascontiguousarray(make_images(count).transpose(0, 3, 1, 2) / np.float32(255), dtype=np.float32)


def refused(device, path, **more):
    with pytest.raises(AgentError) as caught:
        device.open(path, **more)
    assert "\n" not in caught.value.message
    return caught.value.message
