"""The contract suite, run against every transport."""

import sys

import pytest

from edgekd.devices import transports
from edgekd.devices.contract import DeviceSpec
from edgekd.devices.local import LocalDevice
from edgekd.testing.devices import AgentContract, DeviceContract
from tests.devices import loopback, pipe
from tests.devices.phone import Phone


class TestLocal(DeviceContract, AgentContract):
    @pytest.fixture(scope="class")
    def device(self):
        with LocalDevice(DeviceSpec(name="here", runtimes=("onnxruntime",))) as device:
            yield device


class TestSsh(DeviceContract, AgentContract):
    @pytest.fixture(scope="class")
    def device(self, tmp_path_factory):
        with loopback.running(tmp_path_factory.mktemp("ssh") / "a b") as server, server.device() as device:
            yield device


class TestAdb(DeviceContract):
    @pytest.fixture(scope="class")
    def device(self, tmp_path_factory):
        with Phone(tmp_path_factory.mktemp("adb") / "a").device() as device:
            yield device


class TestAdbWithPython(AgentContract):
    @pytest.fixture(scope="class")
    def device(self, tmp_path_factory):
        with Phone(tmp_path_factory.mktemp("adb") / "a").device(python=sys.executable) as device:
            yield device


class TestPipe(DeviceContract):
    """A transport of another package; its agent is run by `tests/test_plugins.py`."""

    @pytest.fixture(scope="class")
    def device(self, tmp_path_factory):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(transports._REGISTRY, "pipe", pipe.PIPE)
            folder = str(tmp_path_factory.mktemp("pipe") / "a b")
            spec = DeviceSpec(
                name="p", transport="pipe", runtimes=("onnxruntime",), python=sys.executable, folder=folder
            )
            with transports.transport("pipe").open(spec, loopback.PATIENT) as device:
                yield device
