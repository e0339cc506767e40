"""What keeps a target from being made, as far as it shows before there is a trained student to make it from."""

from __future__ import annotations

from edgekd.export import onnx_uint8
from edgekd.export.contract import Job, Sidecar, TargetSpec, step


def problems(spec: TargetSpec, size_px: tuple[int, int], channels: int) -> list[str]:
    """One text per problem; empty if nothing is known to be in the way.

    Args:
        size_px: [H, W] that it will be made and measured at.
        channels: of the data.
    """
    edges = (None, None) if spec.size == "dynamic" else size_px
    sidecar = Sidecar(
        target=spec.name, runtime="onnxruntime", precision="fp32", files={}, class_names=(), size_px=size_px,
        input_shape=(None if spec.batch == "dynamic" else spec.batch, channels, *edges), decode="dense",
        channel_order="RGB" if channels == 3 else "as_data", parent_sha256="", tools={},
    )  # fmt: skip
    found = []
    if spec.input == "uint8_nhwc" and (problem := onnx_uint8.order_problem(sidecar, spec)):
        found.append(problem)
    for name in spec.steps:
        one = step(name)
        found += one.foresee(sidecar, Job(spec, one.options_type.model_validate(spec.options.get(name, {}))))
        made = one.precisions[0] if len(one.precisions) == 1 else spec.precision
        sidecar = sidecar.model_copy(update={"precision": made})
    return [f"{spec.name}: {problem}" for problem in found]
