"""Timing programs driven on devices without Python: stand-ins that print golden output, on this machine, behind a real
sshd, and on the stand-in of a phone."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekd.devices.tools.drive import profile_by_tool
from edgekd.devices.tools.probe import probe
from edgekd.devices.tools.record import summarise_lanes
from edgekd.measure.throttling import Conditions
from tests.devices.loopback import Sshd, fault
from tests.devices.phone import Phone
from tests.devices.tools import stand_ins
from tests.devices.tools.stand_ins import RULES, calls, local, running, write_artifact


def summary(found: dict[str, Any], **conditions: Any) -> dict[str, Any]:
    return summarise_lanes(found, protocol=RULES, target="t", device="d", conditions=Conditions(**conditions))


class TestAPhone:
    def test_benchmark_model_is_brought_made_executable_and_read(self, phone: Phone, tmp_path: Path) -> None:
        program = stand_ins.benchmark_model(tmp_path / "here" / "benchmark_model")
        program.chmod(0o644)  # as a download leaves it
        artifact = write_artifact(tmp_path / "it's a model", "litert", "model.tflite")
        with phone.device(runtimes=("litert",), tools={"litert": {"push": program}}, threads=2) as device:
            found = profile_by_tool(device, artifact, protocol=RULES)
        content = summary(found)
        assert program.stat().st_mode & 0o777 == 0o644
        # golden/benchmark_model-cpu.txt: its last line of statistics, and of its result
        assert [one["avg"] for one in content["tool_statistics"]] == pytest.approx([28.1679] * 2)
        assert (content["tool_statistics"][0]["median"], content["load_ms"]) == (28.11, 38.214)
        assert (content["latency_ms"], content["valid"], content["processes"]) == ({}, True, 2)
        assert "keeps no raw samples" in content["notes"][0]
        first, second = calls(program)
        assert first == second
        assert "--num_threads=2 --warmup_runs=1 --warmup_min_secs=0.5 --num_runs=4 --min_secs=0.01" in first
        assert first.startswith(f"--graph={phone.store}/store/") and "/it's a model/model.tflite " in first
        assert [entry.name for entry in (phone.store / "tools").iterdir()] == []

    def test_onnxruntime_perf_test_gives_samples_and_percentiles(self, phone: Phone, tmp_path: Path) -> None:
        folder = tmp_path / "with libraries"
        program = stand_ins.perf_test(folder / "onnxruntime_perf_test")
        program.write_text(program.read_text() + 'echo "$LD_LIBRARY_PATH" >>"$0.libraries"\n')
        (folder / "libonnxruntime.so").write_text("a library")
        artifact = write_artifact(tmp_path / "onnx", "onnxruntime", "model.onnx")
        with phone.device(tools={"onnxruntime": {"push": folder}}) as device:
            there = device.push(folder)
            content = summary(profile_by_tool(device, artifact, protocol=RULES))
        assert Path(f"{there}/onnxruntime_perf_test.libraries").read_text().splitlines() == [there] * 2
        # two processes of the five rows of golden/onnxruntime_perf_test.csv, sorted: 11.5984 11.6051 11.6237 11.8372
        # 12.1406; the nearest rank of 50 % of ten is the fifth
        figures = content["latency_ms"]["inference"]
        assert (figures["p50"], figures["count"], figures["p90"]) == (pytest.approx(11.6237), 10, None)
        assert content["peak_memory_mb"] == pytest.approx(61.403136)
        assert content["lane"] == "inference"

    def test_benchncnn_runs_as_often_as_the_time_takes(self, phone: Phone, tmp_path: Path) -> None:
        program = stand_ins.benchncnn(tmp_path / "bin" / "benchncnn")
        artifact = write_artifact(tmp_path / "ncnn", "ncnn", "model.param")
        rules = replace(RULES, min_processes=1, min_seconds=0.7)
        spec = {"runtimes": ("ncnn",), "tools": {"ncnn": {"program": str(program)}}, "threads": 4}
        with phone.device(**spec) as device:
            found = profile_by_tool(device, artifact, protocol=rules)
        first, second = calls(program)
        assert first.startswith("8 4 0 -1 0 param=")
        assert first.endswith("model.param shape=[96,64,3]")
        assert second.startswith("60 4 ")  # 0.7 s at the 11.74 ms of golden/benchncnn.txt
        content = summarise_lanes(found, protocol=rules, target="t", device="d", conditions=Conditions())
        assert content["tool_statistics"] == [{"min": 11.66, "max": 12.8, "avg": 11.74}]
        assert content["valid"] is True  # 64 loops of 11.74 ms

    @pytest.mark.parametrize(
        ("statuses", "reasons"),
        [
            ((0, 0), []),
            ((0, 3), ["process 1: Android thermal status 3 (severe)"]),
            ((0, 1), ["process 1: Android thermal status 1 (light)"]),
        ],
    )
    def test_heat_is_read_before_and_after_into_the_verdict(
        self,
        phone: Phone,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        statuses: tuple[int, int],
        reasons: list[str],
    ) -> None:
        binaries = tmp_path / "bin"
        program = stand_ins.benchmark_model(binaries / "benchmark_model")
        program.write_text(program.read_text() + f"echo {statuses[1]} >{binaries}/status\n")
        (binaries / "status").write_text(str(statuses[0]))
        says = "'Thermal Status:' $(cat {0}/status); echo 'Current temperatures from HAL:'; "
        says += "echo '  Temperature{{mValue=41.5, mType=0, mName=CPU, mStatus=0}}'"
        stand_ins.program(binaries / "dumpsys", "echo " + says.format(binaries).replace("{", "{{").replace("}", "}}"))
        monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
        artifact = write_artifact(tmp_path / "m", "litert", "model.tflite")
        rules = replace(RULES, min_processes=1)
        tools = {"litert": {}}  # found on the PATH
        with phone.device(runtimes=("litert",), tools=tools, start_below_c=45.0) as device:
            found = profile_by_tool(device, artifact, protocol=rules)
        content = summarise_lanes(found, protocol=rules, target="t", device="d", conditions=Conditions())
        assert content["invalid_reasons"] == reasons
        assert content["temperature_c"] == {"start": 41.5, "max": 41.5}
        assert content["throttling_evidence"] == ["android"]
        (process,) = found["inference"]
        assert [event["event"] for event in process] == ["thermal_gate", "tool"]
        assert process[0]["hottest_c"] == 41.5

    def test_fast_cores(self, phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, cores, khz in (("policy0", "0", 1_800_000), ("policy4", "1", 2_400_000)):
            folder = tmp_path / "root/sys/devices/system/cpu/cpufreq" / name
            folder.mkdir(parents=True)
            (folder / "related_cpus").write_text(cores)
            (folder / "cpuinfo_max_freq").write_text(str(khz))
        binaries = tmp_path / "bin"
        program = stand_ins.benchmark_model(binaries / "benchmark_model")
        program.write_text(program.read_text() + f"taskset -p $$ >{tmp_path}/mask\n")
        monkeypatch.setattr("edgekd.devices.tools.state.ROOT", str(tmp_path / "root"))
        monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
        artifact = write_artifact(tmp_path / "m", "litert", "model.tflite")
        with phone.device(runtimes=("litert",), tools={"litert": {}}, threads=1) as device:
            device._facts["cores"] = 2
            found = profile_by_tool(device, artifact, protocol=replace(RULES, min_processes=1))
        assert found["inference"][0][-1]["environment"]["affinity"] == "taskset 2"
        assert (tmp_path / "mask").read_text().split()[-1] == "2"


class TestATensorRT:
    def test_an_engine_is_built_apart_and_kept(self, server: Sshd, tmp_path: Path) -> None:
        program = stand_ins.trtexec(tmp_path / "a folder" / "trtexec")
        artifact = write_artifact(tmp_path / "tensorrt", "tensorrt", "model.onnx")
        spec = {"runtimes": ("tensorrt",), "tools": {"tensorrt": {"program": str(program)}}, "python": None}
        root = tmp_path / "root"
        (root / "proc/device-tree").mkdir(parents=True)
        (root / "proc/device-tree/model").write_bytes(b"NVIDIA Jetson Nano Developer Kit\0")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("edgekd.devices.tools.state.ROOT", str(root))
            with server.device(**spec) as device:
                content = summary(profile_by_tool(device, artifact, protocol=RULES))
            once = calls(program)
            with server.device(**spec) as device:
                again = summary(profile_by_tool(device, artifact, protocol=RULES))
        assert ["--help" in once[0], "--saveEngine=" in once[1], len(once)] == [True, True, 6]
        assert [("--exportTimes" in call, "--useCudaGraph" in call, "--exposeDMA" in call) for call in once[2:]] == [
            (True, True, False)] * 2 + [(True, False, True)] * 2  # fmt: skip
        assert [call.split()[0] for call in calls(program)[6:]].count("--help") == 1
        assert not [call for call in calls(program)[6:] if "--saveEngine" in call]
        # golden/trtexec-times-10.3.json: computeMs 3.15771 3.18359 3.20801 3.48633, each twice; the fourth of eight
        compute, whole = content["lanes"]
        assert (compute["lane"], compute["latency_ms"]["inference"]["p50"]) == ("gpu_compute", 3.18359)
        assert (whole["lane"], whole["latency_ms"]["inference"]["p50"]) == ("end_to_end", 3.29199)
        assert content["latency_ms"] == whole["latency_ms"]
        assert (content["tool"], content["valid"]) == ("trtexec 10.3.0", True)
        assert [one["engine_state"] for one in (content["facts"][0], again["facts"][0])] == ["built", "cached"]
        bound = content["facts"][0]["bound_to"]
        assert (bound["tensorrt"], bound["gpu"]) == ("10.3.0", "NVIDIA Jetson Nano Developer Kit")

    def test_no_python_is_ever_started(self, server: Sshd, tmp_path: Path) -> None:
        """As on JetPack 4: its own Python is too old, and is left alone."""
        binaries = tmp_path / "bin"
        python = stand_ins.program(binaries / "python3", "exit 1\n")
        program = stand_ins.trtexec(tmp_path / "trtexec", "trtexec-8.2-unstable.txt", "8201")
        artifact = write_artifact(tmp_path / "tensorrt", "tensorrt", "model.onnx", precision="fp16")
        tools = {"tensorrt": {"program": str(program), "lanes": ["gpu_compute"]}}
        with server.device(runtimes=("tensorrt",), tools=tools, python=None) as device:
            assert device.facts()["python"] is None
            content = summary(profile_by_tool(device, artifact, protocol=RULES))
            with fault("python", "has no Python for the agent; name a program in `tools`", 1):
                device.run(["state"], print)
        assert calls(python) == []
        build = next(call for call in calls(program) if "--saveEngine" in call)
        assert "--buildOnly --fp16 --noTF32" in build
        assert content["latency_ms"]["inference"]["p50"] == 3.18359
        unstable = "GPU compute time is unstable (coefficient of variation 11.4207 %)"
        assert any(unstable in note for note in content["notes"])

    def test_an_engine_that_cannot_be_read_is_thrown_away(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "root/proc/device-tree").mkdir(parents=True)
        (tmp_path / "root/proc/device-tree/model").write_text("Jetson")
        monkeypatch.setattr("edgekd.devices.tools.state.ROOT", str(tmp_path / "root"))
        program = stand_ins.trtexec(tmp_path / "trtexec")
        artifact = write_artifact(tmp_path / "tensorrt", "tensorrt", "model.onnx")
        with local("tensorrt", {"program": str(program), "lanes": ["end_to_end"]}) as device:
            profile_by_tool(device, artifact, protocol=RULES)
            (plan,) = Path(device.facts()["folder"], "engines").glob("*.plan")
            plan.write_text("of another version")
            with fault("crashed", "did not end with '&&&& PASSED'.*set up failed.*was removed, run it again", 5):
                profile_by_tool(device, artifact, protocol=RULES)
            assert not plan.exists()
            found = profile_by_tool(device, artifact, protocol=RULES)
        assert found["end_to_end"][0][-1]["timing"]["facts"]["engine_state"] == "built"

    def test_power_beside_a_lane(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        binaries = tmp_path / "bin"
        line = "RAM 1/2MB (lfb 1x4MB) CPU [3%@729] GR3D_FREQ 90%@[918] tj@50C VDD_IN {}mW/1mW"
        said = "\n".join(line.format(power) for power in (1000, 6000, 6000, 6000))
        (binaries).mkdir()
        (binaries / "log").write_text(said + "\n")
        stand_ins.program(binaries / "tegrastats", f"cat {binaries}/log\n: >{binaries}/logged\nexec sleep 617\n")
        program = stand_ins.trtexec(binaries / "trtexec")
        times = [{"computeMs": 4.0, "latencyMs": 5.0}] * 200  # 1 s: the last three lines of the log
        (tmp_path / "times").write_text(json.dumps(times))
        text = program.read_text().replace(
            "cat " + str(stand_ins.FOLDER / "trtexec-times-10.3.json"), f"cat {tmp_path}/times"
        )
        until_logged = f"until [ -e {binaries}/logged ]; do sleep 0.05; done"
        program.write_text(text.replace("done\n", f"done\n{until_logged}\nsleep 0.2\n"))
        monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
        artifact = write_artifact(tmp_path / "tensorrt", "tensorrt", "model.onnx")
        rules = replace(RULES, min_processes=1)
        with local("tensorrt", {"program": str(program), "lanes": ["end_to_end"]}) as device:
            found = profile_by_tool(device, artifact, protocol=rules)
        timing = found["end_to_end"][0][-1]["timing"]
        timing["wall_ms"] = 5.0  # that of the golden summary is of another run
        content = summarise_lanes(found, protocol=rules, target="t", device="d", conditions=Conditions())
        assert content["energy_mj_per_inference"] == pytest.approx(30)  # 6 W for 5 ms; loading, at 1 W, is cut off
        assert content["energy"]["total_rule"] == "VDD_IN"
        assert running("sleep", "617") == []


class TestDoctor:
    def test_what_there_is(self, tmp_path: Path) -> None:
        program = stand_ins.trtexec(tmp_path / "trtexec")
        with local("tensorrt", {"program": str(program)}) as device:
            assert probe(device, "tensorrt") == f"10.3.0 ({program})"
        quiet = stand_ins.benchncnn(tmp_path / "benchncnn")
        with local("ncnn", {"program": str(quiet)}) as device:
            assert probe(device, "ncnn") == f"{quiet} (not started: it has no option that does nothing)"
        assert calls(quiet) == []
