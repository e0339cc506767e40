# SPDX-License-Identifier: Apache-2.0
"""Builds an engine with the program trtexec, in a process of its own: its memory is free again when it ends."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path, PurePath
from typing import Any, List, Optional, Tuple

from ..protocol import AgentError
from .dialects import WEAK, Dialect, dialect_of, numbers
from .log import Record
from .python_builder import Built
from .recipe import Recipe, Shape

PASSED = "&&&& PASSED"
_BESIDE_JETPACK = "/usr/src/tensorrt/bin"
_VERSION = re.compile(r"\[TensorRT v(\d+)\]")
_NEWER_DIGITS = 6  # v100300 is 10.3.0, v8601 is 8.6.1
_PROBE_TIMEOUT_S = 60
_BUILD_TIMEOUT_S = 3600


def find() -> str:
    """Path of the program: from PATH, else where JetPack puts it.

    Raises:
        AgentError: there is none.
    """
    found = shutil.which("trtexec") or shutil.which("trtexec", path=_BESIDE_JETPACK)
    if found is None:
        raise AgentError(
            "runtime",
            f"builder: trtexec, but it is neither on PATH nor in {_BESIDE_JETPACK}; install it (apt: libnvinfer-bin),"
            " or export with builder: python",
        )
    return found


def version(program: str) -> str:
    """Version of the program, e.g. `10.3.0`.

    Raises:
        AgentError: it does not tell.
    """
    found = version_in(_run([program, "--help"], _PROBE_TIMEOUT_S)[1])
    if found is None:
        raise AgentError("runtime", f"{program}: does not tell its version; install the trtexec of this TensorRT")
    return found


def version_in(said: str) -> Optional[str]:
    """The version in what the program printed: `v8601` is 8.6.1, `v100300` is 10.3.0."""
    found = _VERSION.search(said)
    if not found:
        return None
    digits = found.group(1)
    place = 10000 if len(digits) >= _NEWER_DIGITS else 1000
    number = int(digits)
    return f"{number // place}.{number % place // 100}.{number % 100}"


def command(
    program: str, dialect: Dialect, onnx: PurePath, plan: PurePath, recipe: Recipe, timing_cache: PurePath
) -> List[str]:
    """The command line that builds an engine and runs nothing."""
    typing = dialect.typing(recipe.dla_core is not None)
    flags = [f"--onnx={onnx}", f"--saveEngine={plan}", "--skipInference", *dialect.trtexec_typing[typing]]
    if typing == WEAK:
        flags += dialect.trtexec_precision[recipe.precision]
    if recipe.workspace_mb is not None:
        flags.append(f"--memPoolSize=workspace:{recipe.workspace_mb}")
    if recipe.optimization_level is not None:
        flags.append(f"--builderOptimizationLevel={recipe.optimization_level}")
    if recipe.version_compatible:
        flags.append("--versionCompatible")
    if not recipe.tf32:
        flags.append("--noTF32")
    flags.append(f"--timingCacheFile={timing_cache}" if recipe.timing_cache else "--noBuilderCache")
    if recipe.shapes:
        flags += [f"--{key}Shapes={_spec(recipe.input_name, shape)}" for key, shape in recipe.shapes._asdict().items()]
    if recipe.dla_core is not None:
        flags.append(f"--useDLACore={recipe.dla_core}")
        if recipe.allow_gpu_fallback:
            flags.append("--allowGPUFallback")
    return [program, *flags]


def build(trt: Any, onnx: Path, recipe: Recipe, timing_cache: Optional[bytes]) -> Built:
    """Build an engine; the arguments are those of the Python builder.

    Success is the program's own closing line and a plan that is not empty: its exit code alone proves neither.

    Raises:
        AgentError: no program, one of another version than the library that will run the engine, or a failure.
    """
    program = find()
    of_program = version(program)
    if numbers(of_program) != numbers(trt.__version__)[:3]:
        raise AgentError(
            "runtime",
            f"{program} is of TensorRT {of_program}, the library that runs the engine is {trt.__version__}: an engine"
            " is bound to its version; install the two together, or export with builder: python",
        )
    with tempfile.TemporaryDirectory(prefix="edgekd-trtexec-") as name:
        folder = Path(name)
        plan, timings = folder / "model.plan", folder / "timings"
        if timing_cache:
            timings.write_bytes(timing_cache)
        code, said = _run(
            command(program, dialect_of(of_program), onnx, plan, recipe, timings), _BUILD_TIMEOUT_S, folder
        )
        record = Record()
        record.add_lines(said.splitlines())
        if PASSED not in said or not plan.is_file() or not plan.stat().st_size:
            raise AgentError(
                "runtime", f"{onnx.name}: trtexec {of_program} cannot build it (exit code {code}): {record.shown()}"
            )
        kept = timings.read_bytes() if recipe.timing_cache and timings.is_file() else None
        return Built(plan.read_bytes(), kept, record)


def _run(arguments: List[str], timeout_s: float, folder: Optional[Path] = None) -> Tuple[int, str]:
    try:
        ended = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            cwd=None if folder is None else str(folder),
            env=dict(os.environ),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AgentError("runtime", f"{arguments[0]}: not done after {timeout_s:.0f} s and stopped") from error
    except OSError as error:
        raise AgentError("runtime", f"{arguments[0]}: cannot be started ({error.strerror})") from error
    return ended.returncode, ended.stdout.decode("utf-8", errors="replace")


def _spec(name: str, shape: Shape) -> str:
    return f"{name}:{'x'.join(map(str, shape))}"
