"""Builds a TensorRT engine with `trtexec` on a device without Python, apart from timing it, and keeps it there.

It is kept under the same key as the agent's: model, flags, version, GPU, L4T and power mode. An engine appears whole or
not at all; one that turns out to be unreadable is thrown away.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from edgekd.agent.protocol import AgentError
from edgekd.agent.tensorrt import cache, recipe
from edgekd.agent.tensorrt.recipe import Recipe
from edgekd.agent.tensorrt.trtexec import PASSED, version_in
from edgekd.devices.tools import trtexec
from edgekd.devices.tools.bench import Bench
from edgekd.devices.tools.state import state
from edgekd.devices.tools.timing import failed
from edgekd.errors import EnvironmentFault

_ASK_S, _BUILD_S, _SHORT_S = 60.0, 3600.0, 30.0
_KEEP = 'if [ -s "$1" ]; then mv "$1" "$2"; else exit 1; fi'


def build_recipe(bench: Bench) -> Recipe:
    """How the artifact's engine is to be built.

    Raises:
        EnvironmentFault: the sidecar asks for what this edgekd does not know.
    """
    try:
        return recipe.read(bench.sidecar.get("build", {}), bench.sidecar["precision"])
    except AgentError as error:
        raise EnvironmentFault(error.message) from error


def version(bench: Bench) -> str:
    """Version of the program; asked for once.

    Raises:
        EnvironmentFault: it does not tell.
    """
    if "version" not in bench.found:
        said = bench.run([bench.program, "--help"], _ASK_S).text
        found = version_in(said)
        if found is None:
            raise failed(bench.name, "does not tell its version; install the trtexec of this TensorRT", said)
        bench.found["version"] = found
    told: str = bench.found["version"]
    return told


def engine(bench: Bench) -> PurePosixPath:
    """Path of the engine on the device: from an earlier run, else built now.

    Raises:
        EnvironmentFault: it cannot be built.
    """
    if "engine" not in bench.found:
        bench.found.update(_found_or_built(bench))
    return PurePosixPath(bench.found["engine"])


def throw_away(bench: Bench) -> None:
    """Remove the engine from the device: the next run builds it again."""
    bench.device.shell(["rm", "-f", bench.found.pop("engine")], timeout_s=_SHORT_S)


def _found_or_built(bench: Bench) -> dict[str, Any]:
    bound = _bound_to(bench)
    key = cache.key_of(bound)
    place = bench.root / "engines"
    plan, record = place / f"{key}.plan", {"engine_key": key, "bound_to": bound}
    # An engine is bound to its GPU: where the device does not tell which it has, none is used a second time.
    if bound["gpu"] and bench.device.shell(["test", "-s", str(plan)], timeout_s=_SHORT_S).code == 0:
        return {**record, "engine": str(plan), "engine_state": "cached"}
    new = bench.folder / "new.plan"
    timings = place / f"timings-{version(bench)}.cache"
    command = trtexec.build_command(
        version(bench), bench.model, new, build_recipe(bench), timings, program=bench.program
    )
    said = bench.run(command, _BUILD_S).text
    if PASSED not in said:
        raise failed(bench.name, f"cannot build {bench.model.name}", trtexec.errors(said) or said)
    if bench.device.shell(["sh", "-c", _KEEP, "edgekd", str(new), str(plan)], timeout_s=_SHORT_S).code != 0:
        raise failed(bench.name, f"says that it built {bench.model.name}, but left no engine", said)
    return {**record, "engine": str(plan), "engine_state": "built"}


def _bound_to(bench: Bench) -> dict[str, Any]:
    """As `cache.bound_to`; the GPU is known by the name of its board, or as nvidia-smi tells it."""
    told = state(bench.device)
    gpu = told["gpu"] or " ".join(part for part in (told["model"], told["compatible"]) if part)
    return {
        "onnx_sha256": bench.model_sha256,
        "recipe": build_recipe(bench)._asdict(),
        "tensorrt": version(bench),
        "gpu": gpu,
        "l4t": told["l4t"],
        "power_mode": (told["power_mode"] or {}).get("name"),
    }
