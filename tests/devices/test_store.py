"""Files on a device whose shell is not as it should be; what every store does is in the suite that is shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.atomic import sha256_file
from edgekd.devices import store
from edgekd.devices.channel import Shell, Timeouts
from edgekd.devices.contract import DeviceSpec
from tests.devices.pipe import PipeChannel


def test_a_push_does_not_wait_for_a_guard_that_missed_its_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some shells lose a signal while they fork: here all are lost."""
    monkeypatch.setattr(store, "_RECEIVE", "kill() { :; }" + store._RECEIVE)
    source = tmp_path / "model.onnx"
    source.write_bytes(b"weights")
    timeouts = Timeouts(quiet=30, transfer=60)  # a guard without a part ends after 30 s, with one after 120 s
    shell = Shell(PipeChannel(DeviceSpec(name="box", runtimes=("onnxruntime",))), "device box", timeouts)
    there = store.Store(shell, f"{tmp_path}/there", "device box", timeouts)
    assert Path(there.push(source)).read_bytes() == b"weights"
    assert [path.name for path in (tmp_path / "there" / "store").iterdir()] == [sha256_file(source)]
