"""Devices without Python, through the command line: stand-ins of a phone and of timing programs, golden figures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgekd.devices import catalog
from edgekd.errors import InputError
from edgekd.measure.latency import PROTOCOLS, Protocol
from tests.devices import loopback
from tests.devices.loopback import Sshd
from tests.devices.phone import Phone
from tests.devices.tools import stand_ins
from tests.stages.tiny import edgekd, export, read, short_protocol, write_recipe

if TYPE_CHECKING:
    from tests.stages.whole_run import Whole

pytest_plugins = ("tests.stages.whole_run",)

RULES = Protocol("quick", 1, warmup_seconds=0.02, min_count=4, min_seconds=0.01, needs_steady=False, max_waited=1)
NOT_MEASURED = "phone runs no agent, and onnxruntime_perf_test times, but gives no detections"


@pytest.fixture(autouse=True)
def golden_protocol() -> Iterator[None]:
    """The golden files have four samples, or five."""
    with short_protocol(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROTOCOLS, "quick", RULES)
        yield


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The YAML file of a phone that this machine's `adb` finds."""
    stand_in = Phone(tmp_path / "phone")
    stand_ins.perf_test(tmp_path / "programs" / "onnxruntime_perf_test")
    monkeypatch.setenv("PATH", f"{stand_in.adb.parent}:{os.environ['PATH']}")
    path = tmp_path / "phone.yaml"
    path.write_text(
        f"transport: adb\nruntimes: [onnxruntime]\nthreads: 2\nfolder: {tmp_path}/on the phone\n"
        "tools: {onnxruntime: {push: programs/onnxruntime_perf_test}}\n"
    )
    return path


def on(device: Path, *more: str) -> tuple[str, ...]:
    words = (f"devices=[{device}]", f"export={json.dumps([export('onnx-fp32')])}", "gate={}", *more)
    return tuple(part for word in words for part in ("--set", word))


def test_from_validation_to_the_report(run: Path, phone: Path) -> None:
    ended = edgekd("validate", run, *on(phone))
    assert ended.code == 0, ended.err
    assert f"validate onnx-fp32@phone: accuracy: not measured ({NOT_MEASURED})" in ended.err.splitlines()
    assert f"onnx-fp32@phone          accuracy: not measured: {NOT_MEASURED}" in ended.out.splitlines()
    content = read(run / "validate/onnx-fp32@phone.json")
    assert (content["ap"], content["per_class"], content["accuracy"]) == (None, {}, "not measured")
    assert not (run / "validate/onnx-fp32@phone.detections.jsonl").exists()

    ended = edgekd("profile", run, *on(phone))
    assert ended.code == 0, ended.err
    # the third of the five rows of golden/onnxruntime_perf_test.csv, sorted
    line = "median 11.62 ms, p90 too few samples (inference alone, onnxruntime_perf_test, inference)"
    assert f"onnx-fp32@phone          {line}" in ended.out.splitlines()
    summary = read(run / "profile/onnx-fp32@phone.json")
    assert summary["latency_ms"]["inference"]["p50"] == pytest.approx(11.6237)
    assert "end_to_end" not in summary["latency_ms"]
    assert (summary["valid"], summary["environment"]["threads"]) == (True, 2)
    again = edgekd("profile", run, *on(phone))
    assert again.kept == ["profile/onnx-fp32@phone"]

    ended = edgekd("report", run, *on(phone), "--json")
    assert ended.code == 0, ended.err
    (artifact,) = [one for one in ended.json["artifacts"] if one["device"] == "phone"]
    assert (artifact["accuracy"], artifact["ap"], artifact["latency_ms"]["p50"]) == ("not measured", None, None)
    (lane,) = artifact["lanes"]
    assert (lane["tool"], lane["latency_ms"]["inference"]["p50"]) == ("onnxruntime_perf_test", pytest.approx(11.6237))
    text = (run / "report.md").read_text()
    assert "| onnx-fp32@phone | not measured |" in text
    assert "| onnx-fp32@phone | onnxruntime\\_perf\\_test, inference | 11.6 | " in text
    page = (run / "report.html").read_text()
    assert "accuracy: not measured" in page
    assert "Inference alone, by timing programs" in page
    assert "onnx-fp32@phone          accuracy: not measured  median -  p90 -" in edgekd("report", run, *on(phone)).out

    ended = edgekd("baseline", "save", run, "v1", "--store", run.parent / "kept")
    assert ended.code == 0, ended.err
    against = f"gate={{against: {{baseline: v1, store: {run.parent}/kept, max_slowdown: 0.1}}}}"
    ended = edgekd("gate", run, *on(phone, against), "--json")
    assert (ended.code, ended.json["status"]) == (3, "inconclusive"), ended.err


BUDGETS = [  # gate, exit code, status, detail
    ("{min_ap: 0.0}", 3, "inconclusive", f"min_ap: onnx-fp32@phone: accuracy: not measured: {NOT_MEASURED}"),
    ("{max_ap_drop: 0.9}", 3, "inconclusive", "max_ap_drop: onnx-fp32@phone: accuracy: not measured"),
    ("{min_ap_per_class: {one: 0.0}}", 3, "inconclusive", "min_ap_per_class: onnx-fp32@phone: one: accuracy: not"),
    ("{max_p90_ms: {onnx-fp32@phone: 5.0}}", 1, "fail",
     "p90 12.14 ms, must be <= 5 ms: missed by 7.141 ms by inference alone (onnxruntime_perf_test), without pre-"),
    ("{max_p90_ms: {onnx-fp32@phone: 50.0}}", 3, "inconclusive",
     "p90 of inference alone is 12.14 ms (onnxruntime_perf_test), within 50, but the budget is of the whole way"),
    ("{max_memory_mb: {onnx-fp32@phone: 60.0}}", 1, "fail", "peak memory 61.4 MB, must be <= 60 MB: missed by"),
]  # fmt: skip


def test_budgets(run: Path, phone: Path) -> None:
    rows = [f"model,{0.0121406 if row > 55 else 0.0116051},61403136,397,{row}\n" for row in range(64)]
    program = phone.parent / "programs" / "onnxruntime_perf_test"
    csv = phone.parent / "rows.csv"
    csv.write_text("".join(rows))
    program.write_text(program.read_text().replace(f"{stand_ins.FOLDER}/onnxruntime_perf_test.csv", str(csv)))
    for stage in ("validate", "profile"):
        assert edgekd(stage, run, *on(phone)).code == 0
    for gate, code, status, detail in BUDGETS:
        ended = edgekd("gate", run, *on(phone, f"gate={gate}"), "--json")
        assert ended.code == code, (gate, ended.err)
        (check,) = [one for one in ended.json["checks"] if "phone" in one["subject"]]
        assert check["status"] == status, gate
        assert detail in check["detail"]


def test_a_program_that_keeps_no_samples_has_no_p90(run: Path, tmp_path: Path) -> None:
    program = stand_ins.benchmark_model(tmp_path / "benchmark_model")
    device = tmp_path / "box.yaml"
    device.write_text(f"runtimes: [litert]\ntools: {{litert: {{program: {program}}}}}\n")
    folder = run / "export" / "litert-fp32"
    stand_ins.write_artifact(folder, "litert", "model.tflite", parent_sha256="0" * 64, tools={})
    from edgekd.devices.tools.drive import profile_by_tool
    from edgekd.devices.tools.record import summarise_lanes
    from edgekd.gate.facts import ArtifactFacts, Facts
    from edgekd.gate.policy import GateConfig
    from edgekd.gate.verdict import judge
    from edgekd.measure.throttling import Conditions
    from edgekd.report.lanes import words

    spec = catalog.load(str(device))
    with catalog.open_device(spec) as opened:
        found = profile_by_tool(opened, folder, protocol=RULES)
    summary = summarise_lanes(found, protocol=RULES, target="t", device="box", conditions=Conditions())
    said = (
        "mean 28.17 ms (inference alone, benchmark_model, inference; it keeps no samples, so there are no percentiles)"
    )
    assert words(summary["lanes"][0]) == said
    facts = ArtifactFacts("t", "box", inference_by=summary["tool"])
    (check,) = judge(GateConfig(max_p90_ms={"t@box": 50.0}), Facts(None, None, {}, (facts,))).checks
    assert (check.status, check.detail) == (
        "inconclusive", "max_p90_ms: t@box: benchmark_model gives no p90: it keeps no raw samples, or took too few",
    )  # fmt: skip


def test_throttling_withholds_the_figures(run: Path, phone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins.program(phone.parent / "phone" / "dumpsys", "echo 'Thermal Status: 3'\n")
    ended = edgekd("profile", run, *on(phone))
    assert ended.code == 4, ended.err
    assert "INVALID: process 1: Android thermal status 3 (severe)" in ended.out
    assert "11.62" not in ended.out
    ended = edgekd("gate", run, *on(phone, "gate={max_p90_ms: {onnx-fp32@phone: 50.0}}"), "--json")
    assert (ended.code, ended.json["status"]) == (4, "invalid")


def test_lanes_beside_the_agent(run: Path, tmp_path: Path) -> None:
    """With Python, the agent's figures are the ones that are judged, and the program's stand beside them."""
    program = stand_ins.perf_test(tmp_path / "perf_test")
    device = tmp_path / "both.yaml"
    import sys

    device.write_text(
        f"runtimes: [onnxruntime]\nthreads: 1\npython: {sys.executable}\n"
        f"tools: {{onnxruntime: {{program: {program}}}}}\n"
    )
    for stage in ("validate", "profile"):
        ended = edgekd(stage, run, *on(device))
        assert ended.code == 0, ended.err
    assert read(run / "validate/onnx-fp32@both.json")["ap"] is not None
    summary = read(run / "profile/onnx-fp32@both.json")
    assert summary["latency_ms"]["end_to_end"]["p50"] > 0
    assert [lane["latency_ms"]["inference"]["p50"] for lane in summary["lanes"]] == pytest.approx([11.6237])
    assert "tool" not in summary
    assert (run / "profile/onnx-fp32@both.tools.jsonl").is_file()
    assert not list(run.glob("profile/*.partial"))
    ended = edgekd("gate", run, *on(device, "gate={max_p90_ms: {onnx-fp32@both: 60000.0}}"), "--json")
    assert [one["status"] for one in ended.json["checks"]] in (["pass"], ["inconclusive"])  # of too few samples


def test_a_jetson_without_usable_python(run: Path, tmp_path: Path) -> None:
    program = stand_ins.trtexec(tmp_path / "trtexec", "trtexec-8.2-unstable.txt", "8201")
    with loopback.running(tmp_path / "sshd") as server:
        device = _jetson(server, tmp_path / "nano.yaml", program)
        options = on(device, "export=[tensorrt-fp32]")
        for stage in ("export", "validate", "profile"):
            ended = edgekd(stage, run, *options)
            assert ended.code == 0, ended.err
        found = edgekd("doctor", "--device", device, "--json")
    lines = [line for line in ended.out.splitlines() if line.startswith("tensorrt-fp32@nano")]
    assert lines == [
        "tensorrt-fp32@nano       median 3.18 ms, p90 too few samples (inference alone, trtexec 8.2.1, gpu_compute)",
        "tensorrt-fp32@nano       median 3.29 ms, p90 too few samples (inference alone, trtexec 8.2.1, end_to_end)",
        "tensorrt-fp32@nano       note: whether others took its cores is not known: the device does not tell",
        "tensorrt-fp32@nano       note: trtexec: GPU compute time is unstable (coefficient of variation 11.4207 %)",
        "tensorrt-fp32@nano       note: trtexec: may be bound by the host's enqueue time rather than by the GPU",
    ]
    assert found.code == 0, found.err
    checks = {check["check"]: check for check in found.json["checks"]}
    assert checks["program trtexec"]["found"] == f"8.2.1 ({program})"
    assert "python" not in checks


def _jetson(server: Sshd, path: Path, program: Path) -> Path:
    config = server.folder / "ssh_config"
    config.write_text("")
    path.write_text(
        "transport: ssh\nruntimes: [tensorrt]\n"
        f"ssh: {{host: 127.0.0.1, port: {server.port}, config: {config}, identity_file: {server.folder}/user_key,"
        f" known_hosts: {server.folder}/known_hosts}}\nfolder: {server.folder}/store\n"
        f"tools: {{tensorrt: {{program: {program}}}}}\n"
    )
    return path


class TestTheFile:
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            (
                "{openvino: {}}",
                "tools.openvino: unknown runtime with a timing program 'openvino' (known: litert, ncnn,",
            ),
            ("{ncnn: {}}", "tools.ncnn: is none of the device's runtimes (litert, onnxruntime)"),
            ("{litert: {}}", "runtimes: onnxruntime has no program in `tools`, and there is no `python` for the agent"),
            ("{litert: {program: a, push: b}, onnxruntime: {}}", "tools.litert: has both program"),
            ("{litert: {lanes: [gpu_compute]}, onnxruntime: {}}", "tools.litert.lanes: benchmark_model has none"),
            ("{litert: {}, onnxruntime: {gpu: true}}", "tools.onnxruntime.gpu: is for litert, ncnn alone"),
            (
                "{litert: {prgram: x}, onnxruntime: {}}",
                "unknown key 'prgram' (known: gpu, lanes, program, push; did you",
            ),
            ("{litert: {program: -x}, onnxruntime: {}}", "tools.litert.program: "),
        ],
    )
    def test_what_does_not_fit(self, text: str, problem: str, tmp_path: Path) -> None:
        path = tmp_path / "phone.yaml"
        path.write_text(f"transport: adb\nruntimes: [litert, onnxruntime]\ntools: {text}\n")
        with pytest.raises(InputError) as caught:
            catalog.load(str(path))
        (said,) = caught.value.problems
        assert problem in said

    def test_check_says_how_it_is_measured_and_what_is_not_there(self, tmp_path: Path) -> None:
        device = tmp_path / "phone.yaml"
        device.write_text(
            "transport: adb\nruntimes: [onnxruntime]\ntools: {onnxruntime: {push: gone/onnxruntime_perf_test}}\n"
        )
        recipe = write_recipe(tmp_path / "r.yaml", devices=[str(device)], export=["onnx-fp32"], gate=None)
        ended = edgekd("check", recipe, "--architecture-only")
        assert ended.code == 2
        assert ended.problems == [
            f"{recipe}: devices: phone: tools.onnxruntime.push: gone/onnxruntime_perf_test: no such file on this"
            " machine; put onnxruntime_perf_test there, built for the device"
        ]
        (tmp_path / "gone").mkdir()
        (tmp_path / "gone" / "onnxruntime_perf_test").touch()
        ended = edgekd("check", recipe, "--architecture-only", "--json")
        said = "onnxruntime_perf_test times inference alone there (untested on hardware); accuracy: not measured"
        assert ended.json["without_agent"] == {"onnx-fp32@phone": said}
        exports = [{"target": "onnx-fp32", "batch": "dynamic"}]
        write_recipe(tmp_path / "r.yaml", devices=[str(device)], export=exports, gate=None)
        ended = edgekd("check", recipe, "--architecture-only")
        assert ended.problems == [
            f"{recipe}: export: onnx-fp32: onnxruntime_perf_test on phone makes inputs of fixed shapes alone; give the"
            " target a fixed batch and size"
        ]


def test_doctor_without_the_program(phone: Path) -> None:
    (phone.parent / "programs" / "onnxruntime_perf_test").unlink()
    ended = edgekd("doctor", "--device", phone, "--json")
    assert ended.code == 4
    (check,) = [one for one in ended.json["checks"] if one["status"] == "missing"]
    assert check["check"] == "program onnxruntime_perf_test"
    assert "no such file on this machine; put onnxruntime_perf_test there" in check["remedy"]


def test_compare_is_refused_in_one_line(whole: Whole, phone: Path, tmp_path: Path) -> None:
    folders: list[Any] = [whole.run / "export" / name for name in ("onnx-fp32", "openvino-fp32")]
    ended = edgekd("compare", *folders, "--device", phone, "--out", tmp_path / "out")
    assert ended.code == 2
    assert ended.problems == [
        "device phone: has no agent (tools without `python`), and the agent alone runs two artifacts interleaved;"
        " 'edgekd profile' times each by itself there"
    ]
