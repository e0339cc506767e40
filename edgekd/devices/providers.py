"""Names of what runtimes run on, checked before anything is pushed to a device."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from edgekd.errors import unknown

_ONNXRUNTIME = (
    "CPUExecutionProvider",
    "CUDAExecutionProvider",
    "TensorrtExecutionProvider",
    "XnnpackExecutionProvider",
    "QNNExecutionProvider",
)
_OPENVINO = re.compile(r"(CPU|GPU|NPU)(\.\d+)?")


def provider_problems(
    runtimes: Sequence[str], providers: Mapping[str, Sequence[str]], options: Mapping[str, object]
) -> Iterator[str]:
    """What is wrong with `providers` and `provider_options` of a device that has `runtimes`, one text each."""
    asked = {name for names in providers.values() for name in names}
    for name in options:
        if name not in asked:
            shown = ", ".join(sorted(asked)) or "none are given"
            yield f"provider_options.{name}: is none of the providers ({shown})"
    for runtime, names in providers.items():
        where = f"providers.{runtime}"
        if runtime not in runtimes:
            yield f"{where}: is none of the device's runtimes ({', '.join(runtimes)})"
        elif runtime not in _CHECKS:
            yield f"{where}: {runtime} has none to choose from (those that have: {', '.join(_CHECKS)})"
        elif not names:
            yield f"{where}: give at least one, or leave it out"
        else:
            yield from (f"{where}: {problem}" for problem in _CHECKS[runtime](names))


def _onnxruntime(names: Sequence[str]) -> Iterator[str]:
    yield from (unknown("provider", name, _ONNXRUNTIME) for name in names if name not in _ONNXRUNTIME)
    if "CPUExecutionProvider" in names[:-1]:
        yield "CPUExecutionProvider takes every node: nothing after it would run; list it last"


def _openvino(names: Sequence[str]) -> Iterator[str]:
    if len(names) != 1 or not _OPENVINO.fullmatch(names[0]):
        yield (
            f"{', '.join(names)}: give one of CPU, GPU, NPU (or GPU.1, ...): what chooses by itself, as AUTO does, "
            "leaves open what was measured"
        )


def _litert(names: Sequence[str]) -> Iterator[str]:
    if tuple(names) not in (("XNNPACK",), ("CPU",)):
        yield f"{', '.join(names)}: give XNNPACK, or CPU for the library's own kernels"


_CHECKS = {"onnxruntime": _onnxruntime, "openvino": _openvino, "litert": _litert}
