"""benchmark_model, onnxruntime_perf_test, benchncnn, and the cores that they run on."""

from pathlib import PurePosixPath

import pytest

from edgekd.devices.tools import affinity, benchmark_model, benchncnn, onnxruntime_perf_test
from edgekd.errors import EnvironmentFault
from tests.devices.tools.golden import FOLDER, golden

MODEL = PurePosixPath("/data/local/tmp/a model.tflite")


def test_benchmark_model_is_asked_for_least_values():
    assert benchmark_model.command(MODEL, threads=4, seconds=60, count=1024, gpu=True) == [
        "./benchmark_model", "--graph=/data/local/tmp/a model.tflite", "--num_threads=4", "--warmup_runs=1",
        "--warmup_min_secs=2", "--num_runs=1024", "--min_secs=60", "--max_secs=620", "--use_gpu=true",
    ]  # fmt: skip


def test_benchmark_model_on_the_cpu():
    found = benchmark_model.timing(golden("benchmark_model-cpu.txt"))
    assert found.own_ms == pytest.approx(
        {"min": 27.655, "max": 33.87, "avg": 28.1679, "std": 0.402, "p5": 27.802, "median": 28.11, "p95": 28.79}
    )
    assert (found.load_ms, found.first_inference_ms, found.peak_memory_mb) == (38.214, 41.207, 33.1445)
    assert found.samples_ms == ()
    assert found.count == 2130
    assert found.facts == {"delegated": [{"nodes": 318, "of": 324, "delegate": "TfLiteXNNPackDelegate"}]}


def test_benchmark_model_on_the_gpu():
    found = benchmark_model.timing(golden("benchmark_model-gpu.txt"), gpu=True)
    assert (found.own_ms["avg"], found.own_ms["median"], found.load_ms) == (1240.27, 1239.807, 905.579)
    assert (found.count, found.peak_memory_mb) == (50, None)


def test_a_silent_fallback_is_refused():
    with pytest.raises(EnvironmentFault, match="asked for the GPU, but the model ran on the CPU; export a target"):
        benchmark_model.timing(golden("benchmark_model-gpu-fell-back.txt"), gpu=True)
    with pytest.raises(EnvironmentFault, match="asked for the GPU"):
        benchmark_model.timing(golden("benchmark_model-cpu.txt"), gpu=True)


def test_benchmark_model_without_a_result():
    cut = golden("benchmark_model-cpu.txt").partition("INFO: Inference timings")[0]
    with pytest.raises(
        EnvironmentFault, match=r"benchmark_model: it ended without a result; it said last: .*median=28110"
    ):
        benchmark_model.timing(cut)


def test_onnxruntime_perf_test():
    result = PurePosixPath("/data/local/tmp/result.csv")
    assert onnxruntime_perf_test.command(MODEL, result, threads=4, seconds=59.5) == [
        "./onnxruntime_perf_test", "-m", "duration", "-t", "60", "-e", "cpu", "-x", "4", "-y", "1", "-I", "-S", "1",
        "/data/local/tmp/a model.tflite", "/data/local/tmp/result.csv",
    ]  # fmt: skip
    rows = golden("onnxruntime_perf_test.csv")
    found = onnxruntime_perf_test.timing(rows, golden("onnxruntime_perf_test.txt"))
    assert found.samples_ms == pytest.approx((11.8372, 11.6051, 11.5984, 12.1406, 11.6237))
    assert found.peak_memory_mb == pytest.approx(61.403136)
    assert found.own_ms == pytest.approx({"min": 11.5984, "max": 12.1406, "p50": 11.6237, "p90": 12.1406})


def test_rows_of_two_runs_or_of_half_a_one_are_refused():
    rows = golden("onnxruntime_perf_test.csv")
    for spoilt in (rows + rows, "".join(rows.splitlines(keepends=True)[1:])):
        with pytest.raises(EnvironmentFault, match="more than one run, or not all of it"):
            onnxruntime_perf_test.timing(spoilt)
    with pytest.raises(EnvironmentFault, match="it left no samples; it said last: cannot load"):
        onnxruntime_perf_test.timing("", "cannot load\n")
    with pytest.raises(EnvironmentFault, match="times that are none"):
        onnxruntime_perf_test.timing("m,0,1,1,0\n")


def test_benchncnn():
    assert benchncnn.command(PurePosixPath("m.param"), (320, 320, 3), threads=4, count=64, powersave=2) == [
        "./benchncnn", "64", "4", "2", "-1", "0", "param=m.param", "shape=[320,320,3]",
    ]  # fmt: skip
    found = benchncnn.timing(golden("benchncnn.txt"))
    assert found.own_ms == {"min": 11.66, "max": 12.8, "avg": 11.74}
    assert found.facts == {
        "model": "model.param", "loop_count": 64, "num_threads": 4, "powersave": 2, "gpu_device": -1, "cooling_down": 0,
    }  # fmt: skip
    assert found.count == 64
    assert found.warnings == ("benchncnn ran the structure with weights of its own",)
    with pytest.raises(EnvironmentFault, match=r"0 lines of times .*; it said last: fopen m\.param failed"):
        benchncnn.timing("fopen m.param failed\n")


def test_fast_cores():
    policies = {"policy0": ("0 1 2 3", 1800000), "policy4": ("4-6", 2400000), "policy7": ("7", 2900000)}
    assert affinity.fast_cores(policies, 1) == [7]
    assert affinity.fast_cores(policies, 4) == [4, 5, 6, 7]
    assert affinity.fast_cores(policies, 9) == list(range(8))
    assert affinity.taskset([4, 5, 6, 7]) == ["taskset", "f0"]
    with pytest.raises(ValueError, match="no cores"):
        affinity.taskset(affinity.fast_cores({}, 4))


def test_every_golden_file_has_a_provenance():
    described = golden("README.md")
    assert [
        path.name for path in FOLDER.iterdir() if path.name != "README.md" and f"`{path.name}`" not in described
    ] == []
