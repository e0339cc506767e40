"""A phone behind the stand-in for adb: puts the program into a folder and tells it how the phone is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from edgekd.devices.adb import AdbChannel
from edgekd.devices.channel import Timeouts
from edgekd.devices.contract import AdbSpec, DeviceSpec
from edgekd.devices.remote import RemoteDevice
from tests.devices.loopback import PATIENT

STAND_IN = Path(__file__).with_name("adb_stand_in.py")


class Phone:
    """Below `folder`: the program `adb`, the phone's state, and what it stores."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.store = folder / "data of 'the' phone"
        self.adb = folder / "adb"
        self.adb.write_text(f"#!{sys.executable} -SEs\n" + STAND_IN.read_text(encoding="utf-8"))
        self.adb.chmod(0o755)
        self._folder = folder
        self.is_now("device")

    def is_now(self, state: str) -> None:
        (self._folder / "state.new").write_text(state)
        (self._folder / "state.new").replace(self._folder / "state")  # at once, for whoever reads it

    def calls(self) -> list[str]:
        return (self._folder / "calls").read_text().splitlines()

    def device(
        self,
        *,
        serial: str | None = None,
        python: str | None = None,
        timeouts: Timeouts = PATIENT,
        runtimes: tuple[str, ...] = ("onnxruntime",),
        **more: Any,
    ) -> RemoteDevice:
        spec = DeviceSpec(
            name="phone", transport="adb", runtimes=runtimes, adb=AdbSpec(serial=serial), python=python,
            folder=str(self.store), **more,
        )  # fmt: skip
        return RemoteDevice(spec, AdbChannel(spec, timeouts, adb=str(self.adb)), timeouts)
