"""Quantisation after training, whatever makes the artifact: calibrate, rank the layers, fall back, write it down."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import log10
from pathlib import Path
from typing import Any

from edgekd.atomic import write_json
from edgekd.errors import InputError
from edgekd.export.contract import QUANTIZATION_NAME, Artifact, Job
from edgekd.export.fallback import Settled, settle
from edgekd.export.graph_parts import Layer, fed_layers, layers, network_nodes
from edgekd.export.int8_options import Int8Options, QdqOptions
from edgekd.export.qdq import Quantizer, feeds
from edgekd.export.sensitivity import Sensitivity, measure
from edgekd.types import ByteArray

SCHEMA = "edgekd.quantization/1"
MAX_DROP, IGNORE = "max_drop", "ignore"  # reasons for which a layer stays float


@dataclass(frozen=True)
class Plan:
    """What a step needs to quantise one model.

    Attributes:
        step: its name.
        source: the float ONNX.
        images: for calibration, (n, H, W, C) uint8.
        layers: of the network, in the order of the graph.
        network: names of all nodes of the network; the others are never quantised.
        fed: for each node between layers, the layers that its result goes to next.
        decoding: names of the nodes behind the network.
    """

    step: str
    source: Artifact
    images: ByteArray
    layers: tuple[Layer, ...]
    network: frozenset[str]
    fed: dict[str, set[str]]
    decoding: tuple[str, ...]

    def quantised(self, float_layers: Sequence[str]) -> set[str]:
        """Names of the nodes that are left to quantise if the named layers stay float.

        What lies between layers is quantised only for layers that are: a float layer shall see what it saw in float.
        """
        named = set(float_layers)
        floats = {node for layer in self.layers if layer.name in named for node in layer.nodes}
        floats |= {node for node, readers in self.fed.items() if readers & named}
        return set(self.network) - floats


Make = Callable[[set[str], Path], Artifact]


def plan(step: str, source: Artifact, job: Job) -> Plan:
    """Load the calibration images and take the graph apart.

    Raises:
        InputError: no images to calibrate on, or a network without layers.
    """
    import onnx

    material, options = job.needed(), job.options
    graph = onnx.load(source.model_path).graph
    if any(node.op_type in ("QuantizeLinear", "FakeQuantize") for node in graph.node):
        raise InputError(f"{job.spec.name}: step '{step}' starts from a float ONNX, and this one is quantised already")
    found, network = layers(graph), network_nodes(graph)
    if not found:
        raise InputError(f"{job.spec.name}: step '{step}': the graph has no layer to quantise; use precision fp32")
    images = material.calibration(options.calibration_images, source.sidecar.size_px)
    decoding = tuple(node.name for node in graph.node if node.name not in network)
    return Plan(step, source, images, found, frozenset(network), fed_layers(graph), decoding)


def quantise(job: Job, plan: Plan, folder: Path, make: Make, simulated: Quantizer) -> Artifact:
    """Make the artifact with as few layers in float as `max_drop` allows, and `quantization.json` beside it.

    Args:
        folder: of the result, empty.
        make: quantises the named nodes into an empty folder; it may leave some in float, but none that is not named.
        simulated: quantises single layers, to rank them.

    Raises:
        InputError: `max_drop` cannot be kept, or `ignore` names no layer.
    """
    options: Int8Options = job.options
    material, where = job.needed(), f"{job.spec.name}: options.{plan.step}"
    kept = ignored(plan.layers, options.ignore, where)
    free = [layer for layer in plan.layers if layer.name not in kept]
    batches = list(feeds(plan.images[: options.sensitivity_images], plan.source.sidecar))
    ranking = measure(plan.source.model_path, free, simulated.quantize, batches) if batches else []
    float_ap = material.student_accuracy()

    def made(float_layers: Sequence[str]) -> Artifact:
        place = folder / f"float-{len(float_layers)}"
        place.mkdir()
        return make(plan.quantised([*kept, *float_layers]), place)

    settled = settle(
        [one.layer.name for one in ranking],
        made,
        material.accuracy,
        float_ap=float_ap,
        max_drop=options.max_drop,
        most=int(options.max_float_share * len(plan.layers)),
        where=where,
    )
    write_json(folder / QUANTIZATION_NAME, record(plan, options, ranking, kept, settled, float_ap))
    return _only(settled.chosen.made, folder)


def record(
    plan: Plan,
    options: Int8Options,
    ranking: Sequence[Sensitivity],
    kept: Sequence[str],
    settled: Settled[Artifact],
    float_ap: float,
) -> dict[str, Any]:
    """The content of `quantization.json`; AP on train images, `noise` as in `Sensitivity`, None where not measured."""
    chosen = settled.chosen
    rows = [
        {
            "layer": one.layer.name,
            "noise": one.noise,
            "sqnr_db": round(-10 * log10(one.noise), 2) if one.noise > 0 else None,
            "float": MAX_DROP if place < chosen.float_layers else None,
        }
        for place, one in enumerate(ranking)
    ]
    measured = {row["layer"] for row in rows}
    rows += [
        {"layer": layer.name, "noise": None, "sqnr_db": None, "float": IGNORE if layer.name in kept else None}
        for layer in plan.layers
        if layer.name not in measured
    ]
    return {
        "schema": SCHEMA,
        "step": plan.step,
        "settings": options.model_dump(mode="json"),
        "calibration_images": len(plan.images),
        "layers": rows,
        "float_layers": sum(row["float"] is not None for row in rows),
        "decoding": list(plan.decoding),
        "ap_float": float_ap,
        "ap": chosen.ap,
        "ap_drop": float_ap - chosen.ap,
        "trials": [{"float_layers": count, "ap": ap} for count, ap in settled.trials],
    }


def input_quantizer(plan: Plan, folder: Path) -> Quantizer:
    """For ranking layers whose inputs and weights are quantised, and whose results are not (OpenVINO, TensorRT)."""
    options = QdqOptions.model_validate({"scheme": "trt", "calibration": "minmax"})
    return Quantizer(plan.source.model_path, plan.images, plan.source.sidecar, options, folder)


def ignored(found: Sequence[Layer], patterns: Sequence[str], where: str) -> list[str]:
    """Names of the layers that patterns keep in float.

    Raises:
        InputError: a pattern names none.
    """
    names = [layer.name for layer in found]
    idle = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in names)]
    if idle:
        raise InputError(
            f"{where}.ignore: {', '.join(idle)} names no layer of the student; layers are called like {names[-1]} "
            f"({QUANTIZATION_NAME} of an export lists all)"
        )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _only(chosen: Artifact, folder: Path) -> Artifact:
    """Bring the files of the chosen trial up into `folder` and remove all trials."""
    for path in list(chosen.folder.iterdir()):
        path.rename(folder / path.name)
    for path in list(folder.iterdir()):
        if path.is_dir():
            shutil.rmtree(path)
    return Artifact(folder, chosen.sidecar)
