"""The timing programs, as a table: what each takes, and how one process of it is run and read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgekd.devices.faults import DeviceFault
from edgekd.devices.tools import benchmark_model, benchncnn, engine, onnxruntime_perf_test, trtexec
from edgekd.devices.tools.bench import Bench
from edgekd.devices.tools.spec import ToolSpec
from edgekd.devices.tools.timing import ToolTiming
from edgekd.errors import EnvironmentFault

ONE_LANE = ("inference",)
_FIRST_LOOPS = 8


@dataclass(frozen=True)
class Once:
    """One process of a timing program, and what tegrastats said beside it."""

    timing: ToolTiming
    power_log: str = ""


@dataclass(frozen=True)
class Program:
    """A timing program.

    Attributes:
        path: where it is on a device that says nothing else.
        suffix: of the artifact's file that it takes.
        lanes: of its spec.
        version_words: arguments with which it starts, says something and does nothing; None: there are none.
        time: runs one process of a lane.
    """

    path: str
    suffix: str
    lanes: Callable[[ToolSpec], Sequence[str]]
    version_words: tuple[str, ...] | None
    time: Callable[[Bench, Any], Once]


def _trtexec(bench: Bench, lane: trtexec.Lane) -> Once:
    plan, times = engine.engine(bench), bench.folder / "times.json"
    recipe = engine.build_recipe(bench)
    command = trtexec.timing_command(
        engine.version(bench), plan, times, lane, seconds=bench.rules.min_seconds, iterations=bench.rules.min_count,
        warmup_seconds=bench.rules.warmup_seconds, dla_core=recipe.dla_core, program=bench.program,
        input_shape=(recipe.input_name, bench.input_shape) if recipe.shapes else None,
    )  # fmt: skip
    said = bench.run(command, bench.limit_s, power=True)
    try:
        timing = trtexec.timing(said.text, bench.read(times), lane)
    except DeviceFault:
        raise
    except EnvironmentFault as fault:
        if bench.found.get("engine_state") != "cached":
            raise
        engine.throw_away(bench)  # it may have been the engine: it was built by an earlier run
        raise EnvironmentFault(
            f"{fault.problems[0]}; its engine of an earlier run was removed, run it again"
        ) from fault
    _remove(bench, "times.json")
    told = {key: bench.found[key] for key in ("engine_key", "engine_state", "bound_to")}
    return Once(replace(timing, facts={**timing.facts, **told}), said.log)


def _benchmark_model(bench: Bench, _lane: str) -> Once:
    rules = bench.rules
    command = benchmark_model.command(
        bench.model, threads=bench.threads, seconds=rules.min_seconds, count=rules.min_count,
        warmup_seconds=rules.warmup_seconds, gpu=bench.tool.gpu, program=bench.program,
    )  # fmt: skip
    said = bench.run(command, bench.limit_s, pinned=True)
    return Once(benchmark_model.timing(said.text, gpu=bench.tool.gpu))


def _perf_test(bench: Bench, _lane: str) -> Once:
    """Once more, and longer, where a slow model came to fewer samples than the protocol asks for."""
    seconds = bench.rules.min_seconds
    for _ in range(2):
        result = bench.folder / "result.csv"
        _remove(bench, result.name)
        command = onnxruntime_perf_test.command(
            bench.model, result, threads=bench.threads, seconds=seconds, program=bench.program
        )
        said = bench.run(command, bench.limit_s, pinned=True)
        timing = onnxruntime_perf_test.timing(bench.read(result), said.text)
        if len(timing.samples_ms) >= bench.rules.min_count:
            break
        each_s = sum(timing.samples_ms) / len(timing.samples_ms) / 1e3
        seconds = min(1.1 * bench.rules.min_count * each_s, bench.limit_s / 2)
    return Once(timing)


def _benchncnn(bench: Bench, _lane: str) -> Once:
    """A few loops tell how many the protocol's time takes."""
    _, channels, height, width = bench.input_shape
    loops = _FIRST_LOOPS
    for last in (False, True):
        command = benchncnn.command(
            bench.model, (width, height, channels), threads=bench.threads, count=loops,
            gpu=0 if bench.tool.gpu else -1, program=bench.program,
        )  # fmt: skip
        timing = benchncnn.timing(bench.run(command, bench.limit_s, pinned=True).text)
        if not last:
            each_ms = max(timing.own_ms["avg"], 1e-3)
            loops = max(bench.rules.min_count, math.ceil(1e3 * bench.rules.min_seconds / each_ms))
    return Once(timing)


def _remove(bench: Bench, name: str) -> None:
    bench.device.shell(["rm", "-f", str(bench.folder / name)])


PROGRAMS: dict[str, Program] = {
    "tensorrt": Program(trtexec.PROGRAM, ".onnx", lambda tool: tool.lanes, ("--help",), _trtexec),
    "litert": Program("benchmark_model", ".tflite", lambda _: ONE_LANE, ("--help",), _benchmark_model),
    "onnxruntime": Program("onnxruntime_perf_test", ".onnx", lambda _: ONE_LANE, ("-h",), _perf_test),
    "ncnn": Program("benchncnn", ".param", lambda _: ONE_LANE, None, _benchncnn),
}
