"""The contract suite, run against every transport."""

import sys

import pytest

from edgekd.devices.contract import DeviceSpec
from edgekd.devices.local import LocalDevice
from tests.devices import loopback
from tests.devices.contract_suite import AgentSuite, ContractSuite
from tests.devices.phone import Phone


class TestLocal(ContractSuite, AgentSuite):
    @pytest.fixture(scope="class")
    def device(self):
        with LocalDevice(DeviceSpec(name="here", runtimes=("onnxruntime",))) as device:
            yield device


class TestSsh(ContractSuite, AgentSuite):
    @pytest.fixture(scope="class")
    def device(self, tmp_path_factory):
        with loopback.running(tmp_path_factory.mktemp("ssh") / "a b") as server, server.device() as device:
            yield device


class TestAdb(ContractSuite):
    @pytest.fixture(scope="class")
    def device(self, tmp_path_factory):
        with Phone(tmp_path_factory.mktemp("adb") / "a").device() as device:
            yield device


class TestAdbWithPython(AgentSuite):
    @pytest.fixture(scope="class")
    def device(self, tmp_path_factory):
        with Phone(tmp_path_factory.mktemp("adb") / "a").device(python=sys.executable) as device:
            yield device
