"""Against the emulated ARM device (`make devicelab`): the transport, the agent and ONNX Runtime on aarch64 code."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgekd.devices import run_agent
from edgekd.devices.contract import Device
from edgekd.devices.local import LocalDevice
from edgekd.measure.latency import PROTOCOLS
from edgekd.measure.latency_events import summarise_events
from edgekd.testing.artifacts import write_artifact, write_pack
from edgekd.testing.devices import AgentContract, DeviceContract
from edgekd.types import Detections
from tests.devicelab.build import Built, built, cache_folder
from tests.devicelab.server import Lab, why_not
from tests.devices.loopback import fault, run_until
from tests.measure.test_withheld import numbers
from tests.stages.tiny import edgekd, read

if TYPE_CHECKING:
    from tests.stages.whole_run import Whole

pytest_plugins = ("tests.stages.whole_run",)
pytestmark = pytest.mark.device

EMULATED = "aarch64 programs run by a program of x86"
SETTINGS: dict[str, Any] = {"conf": 0.001, "iou": 0.7, "max_det": 300, "threads": 1}
# Two processors add the same float32 products in another order. Over the layers of a small network that changes a score
# by some 5e-7 and a box by some 5e-5 px; a wrong kernel, layout or channel order changes them by 1e-2 and by pixels.
SCORE_TOLERANCE, BOX_TOLERANCE_PX = 1e-5, 1e-2
ALIKE_SHARE = 0.99  # the rest: of two boxes whose scores are the same but for rounding, NMS keeps the other one


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    _here()
    with Lab(tmp_path_factory.mktemp("lab") / "keys", cache_folder()) as lab:
        yield lab


@pytest.fixture(scope="module")
def device(lab: Lab) -> Iterator[Device]:
    with lab.device() as device:
        yield device


def _here() -> Built:
    """The device, or a skip with the reason."""
    if reason := why_not(cache_folder()):
        pytest.skip(reason)
    found = built(cache_folder())
    assert found is not None
    return found


def alike(one: Detections, other: Detections) -> float:
    """Share of detections that the other has, too: the same class, score and box but for rounding."""
    if len(one.scores) == 0:
        return 1.0
    same = one.class_ids[:, None] == other.class_ids[None]
    same &= np.abs(one.scores[:, None] - other.scores[None]) <= SCORE_TOLERANCE
    same &= np.abs(one.boxes_px[:, None] - other.boxes_px[None]).max(axis=2) <= BOX_TOLERANCE_PX
    return float(same.any(axis=1).mean())


class TestContract(DeviceContract, AgentContract):
    pass


class TestAgent:
    def test_it_is_aarch64_and_says_what_it_is(self, device: Device) -> None:
        assert device.facts()["machine"] == "aarch64"
        assert device.shell(["head", "-c", "20", "/bin/sh"]).out[18:20] == b"\xb7\x00", "EM_AARCH64"
        assert run_agent.emulation(device) == EMULATED

    def test_absent_telemetry_is_absent(self, device: Device) -> None:
        events: list[dict[str, Any]] = []
        device.run(["state"], events.append)
        told = events[0]["telemetry"]
        absent = told.pop("absent")
        known = {"load_1min", "memory_total_bytes", "memory_available_bytes"}
        assert {key for key, value in told.items() if value is not None} == known
        assert set(absent) == set(told) - known
        assert absent["temperatures_c"] == "no thermal zone in sysfs"
        assert absent["power_mw"] == "no INA3221 in sysfs"

    def test_outputs_that_need_no_rounding_are_the_same_bits(self, device: Device, tmp_path: Path) -> None:
        artifact, pack = write_artifact(tmp_path / "tiny"), write_pack(tmp_path)
        there = run_agent.predict(device, artifact, pack, **SETTINGS)
        with LocalDevice(device.spec.model_copy(update={"transport": "local", "name": "here"})) as machine:
            here = run_agent.predict(machine, artifact, pack, **SETTINGS)
        for one, other in zip(there.detections, here.detections, strict=True):
            np.testing.assert_array_equal(one.scores, other.scores)
            np.testing.assert_array_equal(one.boxes_px, other.boxes_px)
        assert there.environment["platform"]["emulated"] == EMULATED
        assert there.environment["runtime"]["version"] == here.environment["runtime"]["version"]
        assert there.environment["runtime"]["providers"] == ["CPUExecutionProvider"]

    def test_a_profile_has_no_figures(self, device: Device, tmp_path: Path) -> None:
        protocol = PROTOCOLS["quick"].at_its_shortest()
        artifact, pack, lines = write_artifact(tmp_path / "tiny"), write_pack(tmp_path), tmp_path / "raw.jsonl"
        events = run_agent.profile(device, artifact, pack, protocol=protocol, threads=1, record=lines)
        assert [event["event"] for event in events[0]][-1] == "end"
        content = summarise_events(events, protocol=protocol, target="tiny", device="lab")
        assert (content["valid"], content["invalid_reasons"]) == (False, [f"emulated: {EMULATED}"])
        kept = {key: value for key, value in content.items() if key not in ("environment", "processes")}
        assert numbers(kept) == []


class TestCommands:
    def test_doctor(self, lab: Lab, tmp_path: Path) -> None:
        ended = edgekd("doctor", "--device", lab.write_yaml(tmp_path), "--json")
        found = {check["check"]: check for check in ended.json["checks"]}
        assert (ended.code, ended.json["ok"]) == (0, True), ended.err
        assert (found["connection"]["found"], found["python"]["status"]) == ("ssh", "ok")
        assert " aarch64, " in found["system"]["found"]
        assert found["runtime onnxruntime"]["found"] == _version(_here(), "onnxruntime")
        assert found["processor"]["found"] == f"emulated: {EMULATED}"
        assert [found[name]["status"] for name in ("clocks", "temperature", "power rails")] == ["unknown"] * 3

    def test_a_run_with_it(self, lab: Lab, whole: Whole, tmp_path: Path) -> None:
        """Accuracy as on this machine, on the same artifact and images; no latency, and a budget on it is invalid."""
        run = Path(shutil.copytree(whole.run, tmp_path / "run", symlinks=True))
        yaml = lab.write_yaml(tmp_path)
        name, gate = "onnx-fp32@devicelab", "{max_p90_ms: {onnx-fp32@devicelab: 9000}, min_ap: 0}"
        given = ["--set", f"devices=[local, {yaml}]", "--set", f"gate={gate}"]
        for stage in ("validate", "profile"):
            ended = edgekd(stage, run, *given, "--json")
            assert ended.code == 0, ended.err
        assert f"profile {name}: INVALID: emulated: {EMULATED}" in ended.err

        there, here = (self._found(run, f"onnx-fp32@{one}") for one in ("devicelab", "local"))
        assert len(there) == len(here) == 16
        assert sum(len(one.scores) for one in there) > 100
        shares = [min(alike(one, other), alike(other, one)) for one, other in zip(there, here, strict=True)]
        assert np.mean(shares) >= ALIKE_SHARE, shares
        ap = [read(run / f"validate/onnx-fp32@{one}.json")["ap"] for one in ("devicelab", "local")]
        assert ap[0] == pytest.approx(ap[1], abs=1e-3)

        judged = edgekd("gate", run, *given, "--json")
        checks = {(check["metric"], check["subject"]): check for check in judged.json["checks"]}
        assert (judged.code, judged.json["status"]) == (4, "invalid")
        assert (checks["max_p90_ms", name]["status"], checks["max_p90_ms", name]["value"]) == ("invalid", None)
        assert (checks["min_ap", name]["status"], checks["min_ap", name]["value"]) == ("pass", ap[0])
        edgekd("report", run, *given)
        row = next(one for one in read(run / "report.json")["artifacts"] if one["device"] == "devicelab")
        assert (row["ap"], numbers(row["stages_ms"]), row["peak_memory_mb"]) == (ap[0], [], None)

    def test_compare_refuses(self, lab: Lab, whole: Whole, tmp_path: Path) -> None:
        folder, yaml = whole.run / "export/onnx-fp32", lab.write_yaml(tmp_path)
        ended = edgekd("compare", folder, folder, "--device", yaml, "--out", tmp_path / "out")
        assert ended.code == 4
        reason = f"emulated: {EMULATED}; latency means nothing there: compare on the hardware"
        assert ended.problems == [f"device devicelab: {reason}"]

    @staticmethod
    def _found(run: Path, name: str) -> list[Detections]:
        lines = (run / f"validate/{name}.detections.jsonl").read_text().splitlines()
        return [
            Detections(
                np.array(one["boxes_px"], np.float32).reshape(-1, 4), np.array(one["scores"], np.float32),
                np.array(one["class_ids"], np.int64),
            )
            for one in map(json.loads, lines)
        ]  # fmt: skip


class TestFaults:
    def test_the_agent_is_killed(self, lab: Lab, device: Device, tmp_path: Path) -> None:
        def kill() -> None:
            (agent,) = (pid for pid, line in lab.processes().items() if " profile " in line and "supervise" not in line)
            os.kill(agent, signal.SIGKILL)

        with fault("crashed", r"device devicelab: agent profile: .*SIGKILL", 60):
            run_until(device, tmp_path, kill)
        assert _gone(lab, "profile", 10) == {}

    def test_its_plug_is_pulled(self, tmp_path: Path) -> None:
        _here()
        with Lab(tmp_path / "keys", cache_folder()) as lab, lab.device() as device:
            with fault("lost", "device devicelab: the connection broke", 60):
                run_until(device, tmp_path, lab.cut)
            assert lab.processes() == {}

    def test_its_disk_is_full(self, tmp_path: Path) -> None:
        _here()
        (tmp_path / "big").write_bytes(os.urandom(12 << 20))
        with Lab(tmp_path / "keys", cache_folder(), disk_mb=10) as lab, lab.device() as device:
            with fault("disk_full", "device devicelab: its disk is full", 30):
                device.push(tmp_path / "big")
            assert device.shell(["sh", "-c", "ls -A .cache/edgekd/store | wc -l"]).text.strip() == "0"


class TestLeavesNothing:
    def test_the_cache_cannot_be_written(self, device: Device) -> None:
        said = device.shell(["touch", "/usr/bin/new"])
        assert (said.code, b"Read-only file system" in said.err) == (1, True)

    def test_after_a_kill(self, tmp_path: Path) -> None:
        emulator = str(_here().emulator)
        mounts, formats = _mounts(), sorted(Path("/proc/sys/fs/binfmt_misc").glob("*"))
        before = _running(emulator)
        with subprocess.Popen(
            [sys.executable, "-m", "tests.devicelab", "serve"], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        ) as serving:  # fmt: skip
            assert serving.stdout is not None
            while "running" not in serving.stdout.readline():
                assert serving.poll() is None
            assert _running(emulator) > before
            assert _mounts() == mounts, "what it mounts is its own"
            serving.kill()
        deadline = time.monotonic() + 10
        while _running(emulator) > before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert _running(emulator) == before
        assert (_mounts(), sorted(Path("/proc/sys/fs/binfmt_misc").glob("*"))) == (mounts, formats)


def _version(device: Built, package: str) -> str:
    return next(line.split()[1] for line in device.about["wheels"] if line.startswith(package + " "))


def _gone(lab: Lab, word: str, seconds: float) -> dict[int, str]:
    """Processes that name a word, after at most so long."""
    deadline = time.monotonic() + seconds
    while True:
        found = {pid: line for pid, line in lab.processes().items() if word in line}
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def _running(program: str) -> int:
    """How many processes run it."""
    count = 0
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            count += entry.read_bytes().startswith(program.encode())
        except OSError:
            continue
    return count


def _mounts() -> list[str]:
    return sorted(Path("/proc/self/mounts").read_text().splitlines())
