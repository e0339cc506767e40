"""The parts of a detector's ONNX: the network with its layers, and the decoding that makes boxes and scores of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

FEWEST_WEIGHTS = 64  # the fixed 16 bins of a box distribution are no learned layer
_LEARNED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_ACTIVATIONS = frozenset(
    {"Sigmoid", "Mul", "Relu", "LeakyRelu", "Clip", "HardSigmoid", "HardSwish", "Tanh", "Elu", "Gelu"}
)


@dataclass(frozen=True)
class Layer:
    """A convolution or matrix product with the activation behind it: what goes back to float as one.

    Attributes:
        name: of the node with the weights.
        nodes: that node, and those that compute its activation.
    """

    name: str
    nodes: tuple[str, ...]


def weight_names(graph: Any) -> set[str]:
    """Names of the constants that are weights: at least two axes, and more than a few values."""
    return {t.name for t in graph.initializer if prod(t.dims) >= FEWEST_WEIGHTS and len(t.dims) > 1}


def network_nodes(graph: Any) -> set[str]:
    """Names of the nodes with weights, and of all that feeds them; what is left is the decoding."""
    weights = weight_names(graph)
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found: set[str] = set()
    for node in reversed(graph.node):  # ONNX graphs are sorted: readers come after what they read
        learned = node.op_type in _LEARNED and any(name in weights for name in node.input)
        if learned or any(reader.name in found for name in node.output for reader in readers.get(name, ())):
            found.add(node.name)
    return found


def layers(graph: Any) -> tuple[Layer, ...]:
    """The layers of the network in the order of the graph, products of two activations (attention) included."""
    network = network_nodes(graph)
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    taken: set[str] = set()
    found = []
    for index, node in enumerate(graph.node):
        if node.op_type in _LEARNED and node.name in network:
            behind = list(_activation(graph.node[index + 1 :], set(node.output), constants, taken))
            taken.update(behind)
            found.append(Layer(node.name, (node.name, *behind)))
    return tuple(found)


def fed_layers(graph: Any) -> dict[str, set[str]]:
    """For each node between layers (addition, concatenation, pooling ...): the layers that its result goes to next."""
    network = network_nodes(graph)
    owner = {node: layer.name for layer in layers(graph) for node in layer.nodes}
    readers: dict[str, list[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.name)
    fed: dict[str, set[str]] = {}
    for node in reversed(graph.node):
        if node.name in network and node.name not in owner:
            behind = [reader for name in node.output for reader in readers.get(name, ())]
            reached = [{owner[reader]} if reader in owner else fed.get(reader, set()) for reader in behind]
            fed[node.name] = set().union(*reached)
    return fed


def network_ends(graph: Any) -> tuple[str, ...]:
    """The tensors that the network hands to the decoding (all outputs of the graph, where there is none)."""
    network = network_nodes(graph)
    inside = {name for node in graph.node if node.name in network for name in node.output}
    outside = {name for node in graph.node if node.name not in network for name in node.input}
    outside |= {value.name for value in graph.output}
    return tuple(name for node in graph.node for name in node.output if name in inside & outside)


def _activation(nodes: Any, made: set[str], constants: set[str], taken: set[str]) -> Iterator[str]:
    """Names of the nodes that compute with nothing but what a layer made, and constants."""
    for node in nodes:
        inputs = {name for name in node.input if name} - constants
        if node.op_type in _ACTIVATIONS and inputs and inputs <= made and node.name not in taken:
            made.update(node.output)
            yield node.name
