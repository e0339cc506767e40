"""Layer by layer: where does an artifact first depart from the float32 ONNX of the same student?

Steps keep the names of the values that they do not remove, so the same value can be read in both models, as a further
output. Values behind a ranking are left out: two rows that swap places differ in everything, and mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import log10
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import edgekd.agent.runtimes  # noqa: F401  (before the libraries: switches off what they would report to their vendors)
from edgekd.errors import InputError
from edgekd.export.contract import Artifact
from edgekd.export.inputs import model_input
from edgekd.progress import progress
from edgekd.types import ByteArray

SCHEMA = "edgekd.bisect/1"
LEAST_SQNR_DB = {"fp32": 80.0, "fp16": 35.0, "int8": 10.0}
_RANKING = {"TopK", "NonMaxSuppression"}
_AT_ONCE = 48  # values held in memory together
Values = Mapping[str, npt.NDArray[Any]]
Reader = Callable[[Path, Sequence[str], npt.NDArray[Any], str], Values]


def bisect(reference: Artifact, artifact: Artifact, images: ByteArray) -> dict[str, Any]:
    """Compare every value that both models compute, in the order of the reference's graph.

    Args:
        reference: the float32 ONNX of the student, nothing folded into its ends.
        artifact: an ONNX, or an OpenVINO IR, of the same student.
        images: (n, H, W, C) uint8, a batch that both models take.

    Returns:
        The content of `bisect.json`: `nodes` with `node`, `op`, `value`, `max_abs`, `max_rel` (over the largest
        magnitude of the reference), `sqnr_db` (None where nothing differs, or something is not finite) and `beyond`;
        `first` is the index of the first node that is `beyond` the threshold, or None.

    Raises:
        InputError: the artifact is of a form that shows no inner values, or shares none with the reference.
    """
    target, precision = artifact.sidecar.target, artifact.sidecar.precision
    if artifact.model_path.suffix not in _FORMS:
        raise InputError(
            f"{target}: --bisect looks into ONNX and OpenVINO models, and {artifact.sidecar.runtime} shows no inner "
            "values; look at a target that shares its first steps, such as onnx-fp32"
        )
    names_of, read = _FORMS[artifact.model_path.suffix]
    known = names_of(artifact.model_path)
    nodes = [(node, value) for node, value in _comparable(reference.model_path) if value in known]
    if not nodes:
        raise InputError(f"{target}: shares no value with the student's ONNX; export it again with 'edgekd export'")
    threshold = LEAST_SQNR_DB.get(precision, LEAST_SQNR_DB["int8"])
    rows: list[dict[str, Any]] = []
    with progress(f"bisect {target}", len(nodes)) as advance:
        for start in range(0, len(nodes), _AT_ONCE):
            part = nodes[start : start + _AT_ONCE]
            values = [value for _, value in part]
            expected = _read_onnx(reference.model_path, values, model_input(images, reference.sidecar), "fp32")
            actual = read(artifact.model_path, values, model_input(images, artifact.sidecar), precision)
            for node, value in part:
                figures = differences(expected[value], actual[value], threshold)
                rows.append({"node": node.name, "op": node.op_type, "value": value, **figures})
            advance(len(part))
    first = next((index for index, row in enumerate(rows) if row["beyond"]), None)
    return {
        "schema": SCHEMA, "target": target, "precision": precision, "images": len(images),
        "least_sqnr_db": threshold, "first": first, "nodes": rows,
    }  # fmt: skip


def differences(expected: npt.NDArray[Any], actual: npt.NDArray[Any], least_sqnr_db: float) -> dict[str, Any]:
    """`max_abs`, `max_rel`, `sqnr_db` and `beyond` of two arrays of one shape."""
    reference = expected.astype(np.float64)
    change = actual.astype(np.float64) - reference
    if not np.isfinite(change).all():
        return {"max_abs": None, "max_rel": None, "sqnr_db": None, "beyond": True}
    max_abs = float(np.abs(change).max(initial=0.0))
    largest = float(np.abs(reference).max(initial=0.0))
    noise, signal = float(np.square(change).sum()), float(np.square(reference).sum())
    sqnr_db = None if noise == 0 else 10 * log10(max(signal, 1e-300) / noise)
    return {
        "max_abs": max_abs,
        "max_rel": max_abs / largest if largest else (0.0 if max_abs == 0 else 1.0),
        "sqnr_db": sqnr_db,
        "beyond": sqnr_db is not None and sqnr_db < least_sqnr_db,
    }


def table(record: Mapping[str, Any], *, everything: bool = False) -> str:
    """The record for people: a line for each node beyond the threshold, marked; or for every node."""
    shown = [row for row in record["nodes"] if everything or row["beyond"]]
    if not shown:
        return verdict(record)
    rows = [("", "node", "op", "max |diff|", "relative", "SQNR dB")]
    for row in shown:
        mark = ">" if row["beyond"] else ""
        rows.append((mark, row["node"], row["op"], *(_shown(row, key) for key in ("max_abs", "max_rel", "sqnr_db"))))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = [
        "  ".join(text.ljust(width) if column < 3 else text.rjust(width) for column, (text, width) in enumerate(cells))
        for cells in ([*zip(row, widths, strict=True)] for row in rows)
    ]
    return "\n".join([*(line.rstrip() for line in lines), "", verdict(record)])


def verdict(record: Mapping[str, Any]) -> str:
    """One line: the first node that departs."""
    limit = f"{record['least_sqnr_db']:g} dB, what {record['precision']} is expected to keep"
    if record["first"] is None:
        return f"{record['target']}: none of {len(record['nodes'])} nodes falls below {limit}"
    row = record["nodes"][record["first"]]
    figure = "is not finite" if row["max_abs"] is None else f"has {row['sqnr_db']:.1f} dB"
    return f"{record['target']}: {row['node']} ({row['op']}) {figure}, the first below {limit}"


def _shown(row: Mapping[str, Any], key: str) -> str:
    value = row[key]
    if value is None:
        return "not finite" if row["max_abs"] is None else "exact"
    return f"{value:.1f}" if key == "sqnr_db" else f"{value:.2e}"


def _comparable(path: Path) -> Iterator[tuple[Any, str]]:
    """Nodes of an ONNX with their floating-point results, in order, up to where ranking begins."""
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.value_info, *model.graph.output)}
    ranked: set[str] = set()
    for node in model.graph.node:
        if node.op_type in _RANKING or not ranked.isdisjoint(node.input):
            ranked.update(node.output)
            continue
        yield from ((node, value) for value in node.output if kinds.get(value) == onnx.TensorProto.FLOAT)


def _names_in_onnx(path: Path) -> set[str]:
    import onnx

    return {value for node in onnx.load(path).graph.node for value in node.output}


def _read_onnx(path: Path, names: Sequence[str], batch: npt.NDArray[Any], _: str) -> Values:
    import onnx
    import onnxruntime

    model = onnx.load(path)
    outputs = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in outputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(list(names), {session.get_inputs()[0].name: batch}), strict=True))


def _names_in_openvino(path: Path) -> set[str]:
    from edgekd.agent.runtimes.openvino_runtime import shared_core

    operators = shared_core().read_model(path).get_ordered_ops()
    return {
        name
        for operator in operators
        if operator.get_type_name() not in ("Result", "Parameter", "Constant")
        for output in operator.outputs()
        for name in output.get_names()
    }


def _read_openvino(path: Path, names: Sequence[str], batch: npt.NDArray[Any], precision: str) -> Values:
    from edgekd.agent.runtimes.openvino_runtime import shared_core

    core = shared_core()
    model = core.read_model(path)
    given = {name for output in model.outputs for name in output.get_names()}
    model.add_outputs([name for name in names if name not in given])
    capable = "FP16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    hint = "f16" if precision == "fp16" and capable else "f32"
    request = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint}).create_infer_request()
    request.infer([batch])
    return {name: np.array(request.get_tensor(name).data) for name in names}


_FORMS: dict[str, tuple[Callable[[Path], set[str]], Reader]] = {
    ".onnx": (_names_in_onnx, _read_onnx),
    ".xml": (_names_in_openvino, _read_openvino),
}
