# SPDX-License-Identifier: Apache-2.0
"""How an engine is to be built: the `build` part of a sidecar, read strictly."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Optional, Tuple

from ..protocol import AgentError

BUILDERS = ("python", "trtexec")
Shape = Tuple[int, ...]


class Shapes(NamedTuple):
    """Smallest, most likely and largest (B, C, H, W) of a dynamic input."""

    min: Shape
    opt: Shape
    max: Shape


class Recipe(NamedTuple):
    """What the exporter wrote.

    Attributes:
        precision: of the artifact.
        builder: `python` (the package, in this process) or `trtexec` (the program, in one of its own).
        input_name: of the model's input.
        shapes: of a dynamic input.
        workspace_mb: memory that a layer may use while it runs, in 2^20 bytes; None: all there is.
        optimization_level: 0 to 5: how long the builder searches; None: TensorRT's own choice.
        timing_cache: keep measured tactics for the next build.
        version_compatible: let newer versions of TensorRT read the engine; slower.
        tf32: let float32 layers round their factors to 10 bits, as TensorRT does unless told otherwise.
        dla_core: of the deep learning accelerator; None: the GPU.
        allow_gpu_fallback: layers that the accelerator cannot run go to the GPU.
    """

    precision: str
    builder: str = "python"
    input_name: str = "images"
    shapes: Optional[Shapes] = None
    workspace_mb: Optional[int] = None
    optimization_level: Optional[int] = None
    timing_cache: bool = True
    version_compatible: bool = False
    tf32: bool = False
    dla_core: Optional[int] = None
    allow_gpu_fallback: bool = False

    @property
    def providers(self) -> Tuple[str, ...]:
        """Where the engine runs: `GPU`, `DLA0`, or `DLA0` and `GPU`."""
        if self.dla_core is None:
            return ("GPU",)
        return (f"DLA{self.dla_core}", *(("GPU",) if self.allow_gpu_fallback else ()))


def read(build: Mapping[str, Any], precision: str) -> Recipe:
    """The recipe in a sidecar; what is missing has its default.

    Raises:
        AgentError: a key that this agent does not know, or a builder.
    """
    unknown = sorted(set(build) - set(Recipe._fields[1:]))
    if unknown:
        raise AgentError(
            "artifact",
            f"edgekd.json: build.{unknown[0]}: unknown to this agent; use the agent of the edgekd that exported it",
        )
    values = dict(build)
    if values.get("shapes"):
        values["shapes"] = Shapes(*(tuple(values["shapes"][key]) for key in Shapes._fields))
    recipe = Recipe(precision, **values)
    if recipe.builder not in BUILDERS:
        raise AgentError("artifact", f"edgekd.json: build.builder: '{recipe.builder}' (known: {', '.join(BUILDERS)})")
    return recipe
