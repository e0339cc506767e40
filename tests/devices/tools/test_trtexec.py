from pathlib import PurePosixPath

import pytest

from edgekd.agent.tensorrt.recipe import Recipe
from edgekd.devices.tools import trtexec
from edgekd.errors import EnvironmentFault
from tests.devices.tools.golden import golden

PLAN, TIMES = PurePosixPath("/work space/model.plan"), PurePosixPath("/tmp/times.json")
COMMON = [
    "/usr/src/tensorrt/bin/trtexec", "--loadEngine=/work space/model.plan", "--warmUp=2000", "--duration=60",
    "--iterations=1024", "--exportTimes=/tmp/times.json",
]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "lane", "flags"),
    [
        ("8.2.1", "gpu_compute", ["--useCudaGraph", "--useSpinWait", "--noDataTransfers"]),
        ("10.3.0", "gpu_compute", ["--useCudaGraph", "--useSpinWait", "--noDataTransfers"]),
        ("10.16.1", "end_to_end", ["--exposeDMA", "--useSpinWait"]),
        ("11.0.0", "gpu_compute", []),
        ("11.0.0", "end_to_end", ["--exposeDMA", "--includeDataTransfers", "--noCudaGraph"]),
    ],
)
def test_each_version_is_asked_in_its_own_words(version, lane, flags):
    assert trtexec.timing_command(version, PLAN, TIMES, lane, seconds=59.2, iterations=1024) == COMMON + flags


def test_batch_streams_idle_time_and_accelerator():
    for version, flag in (("8.2.1", "--streams=2"), ("10.3.0", "--infStreams=2")):
        words = trtexec.timing_command(
            version, PLAN, TIMES, "throughput", seconds=60, iterations=1024, streams=2,
            input_shape=("images", (8, 3, 320, 320)), idle_ms=33, dla_core=0,
        )  # fmt: skip
        assert words[-4:] == ["--shapes=images:8x3x320x320", flag, "--idleTime=33", "--useDLACore=0"]
    with pytest.raises(ValueError, match="2 streams: only the lane throughput"):
        trtexec.timing_command("10.3.0", PLAN, TIMES, "end_to_end", seconds=1, iterations=1, streams=2)
    with pytest.raises(EnvironmentFault, match=r"TensorRT 7.1.3 is older than 8.0; install JetPack 4.6"):
        trtexec.timing_command("7.1.3", PLAN, TIMES, "end_to_end", seconds=1, iterations=1)


def test_building_where_no_agent_runs():
    onnx, cache = PurePosixPath("m.onnx"), PurePosixPath("t.cache")
    old = trtexec.build_command("8.2.1", onnx, PLAN, Recipe("fp16", workspace_mb=512), cache)
    assert old[1:] == [
        "--onnx=m.onnx", "--saveEngine=/work space/model.plan", "--buildOnly", "--fp16", "--workspace=512", "--noTF32",
        "--timingCacheFile=t.cache",
    ]  # fmt: skip
    new = trtexec.build_command("10.3.0", onnx, PLAN, Recipe("fp16"), cache)
    assert "--skipInference" in new
    assert "--buildOnly" not in new
    with pytest.raises(EnvironmentFault, match=r"TensorRT 9\.3\.0 is not known"):
        trtexec.build_command("9.3.0", onnx, PLAN, Recipe("fp16"), cache)


@pytest.mark.parametrize("times", ["trtexec-times-10.3.json", "trtexec-times-8.0.json"])
def test_samples_are_raw_and_in_order(times):
    said = golden("trtexec-10.3.txt")
    found = trtexec.timing(said, golden(times), "gpu_compute")
    assert found.samples_ms == (3.18359, 3.20801, 3.15771, 3.48633)
    assert trtexec.timing(said, golden(times), "end_to_end").samples_ms == (3.29199, 3.31641, 3.26611, 3.59473)
    assert (found.tool, found.lane, found.warnings) == ("trtexec 10.3.0", "gpu_compute", ())
    assert found.facts == {"throughput_qps": 303.512}
    assert found.wall_ms == pytest.approx(3.29476, abs=1e-5)
    assert found.own_ms["GPU Compute Time median"] == 3.18359
    assert found.own_ms["Latency percentile(99%)"] == 3.5332
    assert len(found.own_ms) == 5 * 7


def test_warnings_are_kept():
    found = trtexec.timing(golden("trtexec-8.2-unstable.txt"), golden("trtexec-times-8.0.json"), "gpu_compute")
    assert found.tool == "trtexec 8.2.1"
    assert found.warnings == (
        "trtexec: GPU compute time is unstable (coefficient of variation 11.4207 %)",
        "trtexec: may be bound by the host's enqueue time rather than by the GPU",
    )


def test_what_did_not_pass_has_failed():
    times = golden("trtexec-times-10.3.json")
    with pytest.raises(
        EnvironmentFault, match=r"trtexec 10.3.0: it did not end with '&&&& PASSED'; it said last: .*set up"
    ):
        trtexec.timing(golden("trtexec-failed.txt"), times, "gpu_compute")
    cut = golden("trtexec-10.3.txt").rpartition("&&&&")[0]
    with pytest.raises(EnvironmentFault, match="did not end with"):
        trtexec.timing(cut, times, "gpu_compute")
    with pytest.raises(EnvironmentFault, match="it said nothing"):
        trtexec.timing("", times, "gpu_compute")


@pytest.mark.parametrize(
    "times", ["", "[", "{}", "[]", '[{"latencyMs": 1}]', '[{"computeMs": 0}]', '[{"computeMs": null}]']
)
def test_times_that_are_not_whole(times):
    with pytest.raises(EnvironmentFault, match="--exportTimes"):
        trtexec.timing(golden("trtexec-10.3.txt"), times, "gpu_compute")
