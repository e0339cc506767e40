"""One candidate by the ordinary stages, on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekd.data.config import load
from edgekd.devices import catalog
from edgekd.search.untrained import ShortlistContext, result_of
from edgekd.stages.binding import bind_recipe
from tests.search.made import candidate
from tests.stages.tiny import edgekd, short_protocol

RECIPE = """\
name: lane
threads: 1
data: {{format: yolo, path: {data}}}
student: {{model: yolo11p}}
train: {{imgsz: 64}}
export: [{targets}]
profile: {{wait: 0}}
search: {{students: {{models: [{models}], sizes: [{sizes}]}}}}
"""


def write(folder: Path, data: Path, models: str, sizes: str, targets: str = "onnx-fp32") -> Path:
    path = folder / "lane.yaml"
    path.write_text(RECIPE.format(data=data, models=models, sizes=sizes, targets=targets))
    return path


def test_an_untrained_student_is_exported_checked_and_profiled_once(
    tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = write(tmp_path, tiny_digits, "yolo11p", "64")
    with short_protocol():
        first = edgekd("shortlist", recipe, "--json", "--all")
    assert first.code == 0, first.err
    run = Path("runs/shortlist-lane/yolo11p-64")
    (one,) = first.json["candidates"]
    profile = json.loads((run / "profile/onnx-fp32@local.json").read_text())
    assert one["p90_ms"] == profile["latency_ms"]["end_to_end"]["p90"]
    assert one["memory_mb"] == profile["peak_memory_mb"]
    assert one["size_mb"] == (run / "export/onnx-fp32/model.onnx").stat().st_size / 1e6
    assert json.loads((run / "runs_there/onnx-fp32@local.json").read_text())["images"] == 4
    assert json.loads((run / "export/onnx-fp32/parity.json").read_text())["images"] == 4
    manifest = json.loads((run / "manifest.json").read_text())["stages"]
    assert list(manifest) == ["student", "export/onnx-fp32", "runs_there/onnx-fp32@local", "profile/onnx-fp32@local"]
    again = edgekd("shortlist", recipe, "--json", "--all")  # the whole protocol would take long, and is not needed
    assert again.json == first.json
    assert "profile" not in again.err


def test_what_no_graph_can_hold_is_told_of_its_candidate_alone(
    tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = write(tmp_path, tiny_digits, "yolo26p", "64", "{target: onnx-fp32, nms: in_graph}")
    ended = edgekd("shortlist", recipe, "--set", "student={model: yolo26p, head: one2one}")
    assert ended.code == 3
    assert "yolo26p-64/onnx-fp32: cannot be made: " in ended.out
    assert ended.out.splitlines()[-2] == "nothing could be measured on local"


def test_a_candidate_has_what_its_family_asks_of_a_training(tiny_digits: Path, tmp_path: Path) -> None:
    """Nothing is trained, but the engine is asked whether it could."""
    bound = bind_recipe(write(tmp_path, tiny_digits, "rtmdet-p", "64"))
    context = ShortlistContext(bound, catalog.load("local"), tmp_path, load(bound.data, tmp_path / "data", tmp_path))
    recipe = context.bound_of(candidate("rtmdet-p", 64)).recipe
    assert (recipe.student.family, recipe.student.model) == ("rtmdet", "rtmdet-p")
    assert (recipe.train["optimizer"], recipe.train["imgsz"]) == ("AdamW", 64)


def test_without_an_agent_inference_alone_counts() -> None:
    times = {"p50": 4.0, "p90": 5.0}
    summary = {"valid": True, "invalid_reasons": [], "latency_ms": {"inference": times}, "notes": ["by a program"]}
    found = result_of(summary, 2_000_000)
    assert (found.status, found.p50_ms, found.p90_ms, found.size_mb, found.memory_mb) == (
        "measured",
        4.0,
        5.0,
        2.0,
        None,
    )
    assert found.notes == ("by a program",)


@pytest.mark.parametrize(
    ("reason", "status"), [("the machine was busy: 50%", "invalid"), ("emulated: qemu", "impossible")]
)
def test_what_another_time_would_mend_is_invalid_and_the_rest_is_impossible(reason: str, status: str) -> None:
    found = result_of({"valid": False, "invalid_reasons": [reason], "latency_ms": {}}, 1)
    assert (found.status, found.reason, found.p90_ms) == (status, reason, None)


@pytest.mark.slow
def test_int8_is_made_without_an_accuracy_to_lose(
    tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    targets = [f"{{target: {name}, options: {{{name}: {{calibration_images: 8}}}}}}" for name in INT8]
    recipe = write(tmp_path, tiny_digits, "yolo11p", "64", ", ".join(targets))
    with short_protocol():
        found = edgekd("shortlist", recipe, "--json", "--all")
    assert found.code == 0, found.err
    run = Path("runs/shortlist-lane/yolo11p-64/export")
    for name in INT8:
        written = json.loads((run / name / "quantization.json").read_text())
        assert written["float_layers"] == 0


INT8 = ("onnx-int8", "openvino-int8")
DRIVER = """\
import sys
from tests.stages.tiny import short_protocol
from edgekd.cli import main
with short_protocol():
    main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_shortlist_that_is_killed_goes_on_where_it_was(
    tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed once the second candidate is exported: the first is not measured again, and the second is."""
    recipe = write(tmp_path, tiny_digits, "yolo11p, rtmdet-p", "64")
    folder = tmp_path / "kept"
    arguments = ["shortlist", str(recipe), "--folder", str(folder), "--all", "--json"]
    command = [sys.executable, "-c", DRIVER, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    second = folder / "yolo11p-64" / "export" / "onnx-fp32" / "edgekd.json"
    deadline = time.monotonic() + 300
    while not second.is_file() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    measured = json.loads((folder / "measured.json").read_text())
    assert next(iter(measured)) == "rtmdet-p-64/onnx-fp32@local"  # the second, too, if this was slow
    first = measured["rtmdet-p-64/onnx-fp32@local"]["result"]
    with short_protocol():
        ended = edgekd(*arguments)
    assert ended.code == 0, ended.err
    found = {one["name"]: one for one in ended.json["candidates"]}
    assert found["rtmdet-p-64/onnx-fp32"]["p90_ms"] == first["p90_ms"]
    assert found["yolo11p-64/onnx-fp32"]["status"] == "measured"
