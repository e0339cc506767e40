"""`edgekd doctor`: what it looks at, on this machine, behind a real sshd, and where nothing answers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekd.devices.contract import DeviceSpec
from edgekd.devices.faults import DeviceFault
from edgekd.stages import doctor
from tests.devices import loopback
from tests.devices.loopback import Sshd
from tests.stages.tiny import edgekd


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with loopback.running(tmp_path / "sshd") as server:
        yield server


def write_device(server: Sshd, path: Path, text: str = "") -> Path:
    """A YAML file as a user would write it; the host key is edgekd's to know."""
    config = server.folder / "ssh_config"
    config.write_text("Host *\n  UserKnownHostsFile /dev/null\n")
    path.write_text(
        "transport: ssh\n"
        f"ssh: {{host: 127.0.0.1, port: {server.port}, config: {config}, identity_file: {server.folder}/user_key}}\n"
        f"python: {sys.executable}\nfolder: {server.folder}/store\n{text or 'runtimes: [onnxruntime]'}\n"
    )
    return path


def by_name(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["check"]: check for check in result["checks"]}


def test_a_device_from_unknown_to_ready(server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(doctor, "runtime_names", lambda: ["onnxruntime"])
    device = write_device(server, tmp_path / "pi.yaml")
    first = edgekd("doctor", "--device", device, "--json")
    assert first.code == 4
    assert (first.json["ok"], len(first.json["checks"])) == (False, 1)
    assert first.json["checks"][0]["found"] == "host_key"
    assert "'edgekd doctor --device pi --accept-host-key' shows and trusts it" in first.json["checks"][0]["remedy"]

    accepted = edgekd("doctor", "--device", device, "--accept-host-key", "--json")
    assert accepted.code == 0
    assert list(by_name(accepted.json))[:2] == ["host key", "connection"]
    assert by_name(accepted.json)["host key"]["found"].startswith("SHA256:")

    result, found = accepted.json, by_name(accepted.json)
    table, remedies = doctor.shown(result)
    assert [row["check"] for row in table] == list(found)
    assert len(remedies) == sum(bool(check["remedy"]) for check in result["checks"])
    assert result["schema"] == "edgekd.doctor/1"
    assert found["python"]["found"].startswith(".".join(map(str, sys.version_info[:3])))
    assert found["numpy"]["status"] == "ok"
    assert found["free space"]["status"] == "ok"
    assert {"clocks", "temperature", "power rails"} <= set(found)


def test_what_is_required_and_missing(server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(doctor, "runtime_names", lambda: ["onnxruntime"])
    text = "runtimes: [onnxruntime, tensorrt]\npower_mode: 15W\nstart_below_c: 60"
    device = write_device(server, tmp_path / "jetson.yaml", text)
    ended = edgekd("doctor", "--device", device, "--accept-host-key", "--json")
    found = by_name(ended.json)
    assert ended.code == 4
    assert found["runtime tensorrt"]["status"] == "missing"
    assert found["runtime tensorrt"]["remedy"].startswith("apt install python3-libnvinfer")
    assert found["trtexec"]["status"] == "warning"
    assert (found["power mode"]["status"], found["power mode"]["found"]) == ("unknown", "no nvpmodel here")


def test_a_fresh_installation_is_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pip install edgekd` brings no runtime of phones."""
    for name in ("ncnn", "ai_edge_litert"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{name}'\", name='{name}')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    ended = edgekd("doctor", "--json")
    found = by_name(ended.json)
    assert (ended.code, ended.json["ok"]) == (0, True)
    assert {check["status"] for check in found.values()} <= {"ok", "unknown", "not installed", "warning"}
    for name in ("ncnn", "litert"):
        assert (found[f"runtime {name}"]["status"], found[f"runtime {name}"]["required"]) == ("not installed", False)
    assert found["runtime ncnn"]["found"] == "only targets of ncnn need it"
    assert found["runtime litert"]["remedy"] == (
        f"for targets of litert: {sys.executable} -m pip install ai-edge-litert"
    )


def test_what_is_optional_and_broken_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ncnn.py").write_text("raise ImportError('libvulkan.so.1: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    ended = edgekd("doctor", "--json")
    found = by_name(ended.json)["runtime ncnn"]
    assert (ended.code, found["status"]) == (0, "warning")
    assert "libvulkan.so.1" in found["found"]
    assert found["remedy"].startswith("for targets of ncnn, install it again: ")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--device", "loca"], 2, "did you mean 'local'?"),
        (["--accept-host-key"], 2, "--accept-host-key: device local is reached by local; only ssh has host keys"),
    ],
)
def test_bad_input(arguments: list[str], code: int, text: str) -> None:
    ended = edgekd("doctor", *arguments)
    assert (ended.code, ended.out) == (code, "")
    assert text in ended.problems[0]


class FakeDevice:
    """Answers as a device would, without one."""

    def __init__(self, spec: DeviceSpec, state: dict[str, Any], **told: Any) -> None:
        self.spec = spec
        self.state = state
        self.told = {"libraries": {"numpy": "1.19", "cv2": None}, "programs": {"trtexec": "/x/trtexec"}, **told}

    def facts(self) -> dict[str, Any]:
        return {
            "system": "Linux", "release": "5.15", "machine": "aarch64", "cores": 6, "free_bytes": 10**8, "folder": "/x",
        }  # fmt: skip

    def run(self, arguments: list[str], on_event: Any) -> None:
        arguments = list(arguments)
        if arguments == ["state"]:
            on_event({"event": "telemetry", "telemetry": self.state})
        elif arguments == ["doctor"]:
            on_event({"event": "doctor", "python": "3.10.12", "executable": "/usr/bin/python3", **self.told})
        elif arguments[-1] == "openvino":
            raise DeviceFault("crashed", "device jetson: agent doctor: ended by SIGSEGV")
        else:
            usable = arguments[-1] == "tensorrt"
            runtime = {"version": "10.3.0", "unusable": None, "installed": True}
            if not usable:
                runtime = {"version": None, "unusable": "no module", "installed": False}
            on_event({"event": "doctor", "runtime": runtime})


class TestAJetson:
    def look(self, state: dict[str, Any], **spec: Any) -> dict[str, doctor.Check]:
        given = {"name": "jetson", "runtimes": ("tensorrt", "openvino"), **spec}
        return {check.check: check for check in doctor._checks(FakeDevice(DeviceSpec(**given), state))}

    def test_what_it_has_and_lacks(self) -> None:
        found = self.look({"absent": {}})
        assert (found["runtime tensorrt"].status, found["runtime tensorrt"].found) == ("ok", "10.3.0")
        assert found["runtime openvino"].status == "missing"
        assert "SIGSEGV" in found["runtime openvino"].found
        assert "runtime onnxruntime" not in found  # neither asked for nor there
        assert found["trtexec"].found == "/x/trtexec"
        assert found["free space"].status == "warning"

    @pytest.mark.parametrize(
        ("free_bytes", "status", "found", "remedy"),
        [
            (31_400_000_000, "ok", "31.4 GB in /x", ""),
            (1_000_000_000, "ok", "1.0 GB in /x", ""),
            (999_400_000, "ok", "999 MB in /x", ""),
            (400_000_000, "warning", "400 MB in /x", "free some, or set `folder` to another disk"),
            (
                24_000_000, "missing", "24 MB in /x",
                "not even a small model fits (25 MB with the agent); free some, or set `folder` to another disk",
            ),
            (0, "missing", "0 MB in /x", "not even a small model fits (25 MB with the agent); free some, or set"),
            (None, "unknown", "in /x", ""),
        ],
    )  # fmt: skip
    def test_free_space(self, free_bytes: int | None, status: str, found: str, remedy: str) -> None:
        check = doctor._space({"free_bytes": free_bytes, "folder": "/x"})
        assert (check.status, check.found, check.required) == (status, found, status == "missing")
        assert check.remedy.startswith(remedy)

    @pytest.mark.parametrize(
        ("state", "status"),
        [
            ({"governors": {"policy0": "performance", "policy4": "performance"}}, "ok"),
            ({"governors": {"policy0": "schedutil"}, "clocks": {"locked": True}}, "ok"),
            ({"governors": {"policy0": "schedutil"}, "clocks": {"locked": False}}, "warning"),
            ({"governors": None, "absent": {"governors": "no cpufreq in sysfs"}}, "unknown"),
        ],
    )
    def test_clocks(self, state: dict[str, Any], status: str) -> None:
        assert self.look(state)["clocks"].status == status

    def test_heat_and_power(self) -> None:
        state = {
            "temperatures_c": {"zone0 cpu": 61.5, "zone1 gpu": 70.25}, "power_mw": {"VDD_IN": 5000},
            "power_mode": {"name": "7W", "id": 1},
        }  # fmt: skip
        found = self.look(state, start_below_c=60, power_mode="15W")
        assert (found["temperature"].status, found["temperature"].found) == ("warning", "70.2 degrees")
        assert (found["power mode"].status, found["power mode"].required) == ("missing", True)
        assert found["power rails"].found == "VDD_IN"
        found = self.look(state, start_below_c=75, power_mode="7W")
        assert (found["temperature"].status, found["power mode"].status) == ("ok", "ok")
