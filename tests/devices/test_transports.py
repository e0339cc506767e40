"""Transports by name: what a device's file may say of them, also of those of other packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.devices import catalog, transports
from edgekd.devices.contract import DeviceSpec
from edgekd.devices.remote import RemoteDevice
from edgekd.errors import InputError
from edgekd.stages.listing import list_devices
from tests.devices.pipe import PIPE


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    transports.transport("local")  # the built-in ones first
    monkeypatch.setitem(transports._REGISTRY, "pipe", PIPE)


def written(folder: Path, text: str) -> str:
    path = folder / "board.yaml"
    path.write_text(f"runtimes: [onnxruntime]\n{text}")
    return str(path)


def test_an_unknown_one_is_told_with_the_other_problems(tmp_path: Path) -> None:
    path = written(tmp_path, "transport: shh\nthreads: 0\n")
    with pytest.raises(InputError) as caught:
        catalog.load(path)
    first, second = caught.value.problems
    known = "unknown transport 'shh' (known: adb, local, ssh; did you mean 'ssh'?)"
    assert first.startswith(f"{path}: transport: {known}")
    assert second.startswith(f"{path}: threads: ")


def test_a_second_one_of_a_name_is_refused() -> None:
    transports.transport("local")
    with pytest.raises(ValueError, match="transport 'ssh' is registered twice"):
        transports.register(transports.Transport("ssh", PIPE.open))


def test_options_are_those_of_the_transport(pipe: None, tmp_path: Path) -> None:
    spec = catalog.load(written(tmp_path, "transport: pipe\noptions: {shell: sh}\n"))
    assert (spec.transport, spec.options) == ("pipe", {"shell": "sh"})
    path = written(tmp_path, "transport: pipe\noptions: {shel: sh, patience_s: 0}\n")
    with pytest.raises(InputError) as caught:
        catalog.load(path)
    (problem,) = caught.value.problems
    assert "options.patience_s: input should be greater than or equal to 1" in problem
    assert "options.shel: unknown key 'shel' (known: patience_s, shell; did you mean 'shell'?)" in problem
    with pytest.raises(InputError, match=r"options\.port: unknown key 'port' \(known: none\)"):
        catalog.load(written(tmp_path, "transport: local\noptions: {port: 1}\n"))


def test_where_it_is_may_be_said_by_the_environment(
    pipe: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKD_HOST_BOARD", "dash")
    path = written(tmp_path, "transport: pipe\n")
    assert catalog.load(path).options == {"shell": "dash"}
    monkeypatch.setitem(transports._REGISTRY, "pipe", transports.Transport("pipe", PIPE.open))
    with pytest.raises(InputError, match="EDGEKD_HOST_BOARD: transport pipe has no address; unset the variable"):
        catalog.load(path)


def test_it_opens_and_is_listed(pipe: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "devices").mkdir()
    written(tmp_path / "devices", f"transport: pipe\nfolder: {tmp_path}/there\noptions: {{shell: sh}}\n")
    with catalog.open_device(catalog.load("board")) as device:
        assert isinstance(device, RemoteDevice)
        assert device.shell(["printf", "%s", "well"]).text == "well"
    (row,) = [row for row in list_devices() if row["device"] == "board"]
    assert (row["transport"], row["where"]) == ("pipe", "sh")


def test_nothing_is_written_of_options_that_are_not_there() -> None:
    """Finished stages of runs from before there were any would be done again."""
    spec = DeviceSpec(name="x", runtimes=("onnxruntime",))
    assert "options" not in spec.model_dump(mode="json")
    assert DeviceSpec.model_validate(spec.model_dump(mode="json")) == spec
