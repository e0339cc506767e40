"""How long OpenMP's threads wait awake: bounded wherever edgekd computes, and as users have it where it measures."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edgekd import openmp
from edgekd.devices.contract import DeviceSpec
from edgekd.devices.local import LocalDevice

BOUNDS = {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "20us"}
CHOICES = {**BOUNDS, "OMP_WAIT_POLICY": "ACTIVE", "KMP_LIBRARY": "turnaround"}


def of_users(**variables: str) -> dict[str, str]:
    """The environment without what this test process was given, and with what the user has set."""
    names = {*CHOICES, "EDGEKD_OPENMP"}
    return {**{name: value for name, value in os.environ.items() if name not in names}, **variables}


def displayed(*arguments: str, **variables: str) -> str:
    """What OpenMP says of itself when a program loads it."""
    surroundings = of_users(OMP_DISPLAY_ENV="VERBOSE", **variables)
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=surroundings, capture_output=True, text=True, check=True).stderr


def test_both_implementations_are_bounded() -> None:
    environment = {"HOME": "/home/me"}
    openmp.bound_waiting(environment)
    assert {name: environment[name] for name in BOUNDS} == BOUNDS
    once = dict(environment)
    openmp.bound_waiting(environment)
    assert environment == once


@pytest.mark.parametrize("name", CHOICES)
def test_what_the_user_has_set_stands(name: str) -> None:
    environment = {name: CHOICES[name]}
    openmp.bound_waiting(environment)
    assert environment == {name: CHOICES[name]}
    assert openmp.without_bounds(environment) == environment


def test_measured_programs_get_the_environment_as_it_was() -> None:
    environment = {"HOME": "/home/me"}
    openmp.bound_waiting(environment)
    assert openmp.without_bounds(environment) == {"HOME": "/home/me"}
    child = dict(environment)  # inherits, and does the same again
    openmp.bound_waiting(child)
    assert openmp.without_bounds(child) == {"HOME": "/home/me"}


def test_torch_is_loaded_with_the_bound_by_the_command_line() -> None:
    said = displayed("-m", "edgekd.cli", "check", "quickstart", "--architecture-only")
    assert f"GOMP_SPINCOUNT = '{BOUNDS['GOMP_SPINCOUNT']}'" in said


def test_torch_is_loaded_with_the_bound_by_programs_that_use_the_rooms() -> None:
    program = "from edgekd.detectors.ultralytics.guard import guard; guard()"
    assert f"GOMP_SPINCOUNT = '{BOUNDS['GOMP_SPINCOUNT']}'" in displayed("-c", program)
    assert "GOMP_SPINCOUNT = '77'" in displayed("-c", program, GOMP_SPINCOUNT="77")


def test_the_local_device_measures_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*CHOICES, "EDGEKD_OPENMP"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    openmp.bound_waiting()
    events: list[dict[str, object]] = []
    with LocalDevice(DeviceSpec(name="here", runtimes=("onnxruntime",))) as device:
        device.run(["state"], events.append)
        shown = device.shell(["env"]).out.decode()
    assert os.environ["GOMP_SPINCOUNT"] == BOUNDS["GOMP_SPINCOUNT"]
    assert "GOMP_SPINCOUNT" not in shown
    assert "EDGEKD_OPENMP" not in shown
    assert f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}" in shown
    platform = events[0]["platform"]
    assert isinstance(platform, dict)
    assert platform["thread_variables"]["GOMP_SPINCOUNT"] is None
