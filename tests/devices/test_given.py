"""The suites that every transport passes, on a device that somebody names.

    EDGEKD_TEST_DEVICE=raspberry-pi-5 python -m pytest -m device tests/devices/test_given.py

A name, or the path of a YAML file. `edgekd evidence --device` runs this, too. Of the device's own things nothing is
read or written but edgekd's folder there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from edgekd.devices import catalog
from edgekd.devices.contract import Device
from edgekd.evidence.machine import ask
from edgekd.testing.devices import AgentContract, DeviceContract

pytestmark = pytest.mark.device
VARIABLE = "EDGEKD_TEST_DEVICE"


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    name = os.environ.get(VARIABLE)
    if not name:
        pytest.skip(f"{VARIABLE} names no device")
    with catalog.open_device(catalog.load(name)) as found:
        yield found


class TestTransport(DeviceContract):
    pass


class TestAgent(AgentContract):
    @pytest.fixture(autouse=True)
    def _with_a_runtime(self, device: Device) -> None:
        if not device.spec.has_agent:
            pytest.skip("the device has no Python for the agent")
        if reason := ask(device, "doctor", "--runtime", "onnxruntime")["runtime"]["unusable"]:
            pytest.skip(reason)
