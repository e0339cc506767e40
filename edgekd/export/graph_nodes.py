"""Writes nodes into an ONNX graph one after the other, each with a name that says where it came from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class Graph:
    """Collects nodes for an `onnx.GraphProto`; `put_first` or `put_last` inserts them.

    Args:
        graph: is changed in place.
        prefix: of the names of nodes, constants and values, e.g. `nms`.
    """

    def __init__(self, graph: Any, prefix: str) -> None:
        self._graph = graph
        self._prefix = prefix
        self._nodes: list[Any] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; returns the name of its only, or first, result."""
        return self.add_many(operator, *inputs, outputs=1, **attributes)[0]

    def add_many(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several results; returns their names."""
        from onnx import helper

        name = f"{self._prefix}_{operator}_{len(self._nodes)}"
        results = [name if outputs == 1 else f"{name}_{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(operator, inputs, results, name=name, **attributes))
        return results

    def constant(self, name: str, values: npt.ArrayLike, kind: type[np.generic]) -> str:
        """Add a constant; returns its name. The same name twice is the same constant."""
        from onnx import numpy_helper

        full = f"{self._prefix}_{name}"
        if all(tensor.name != full for tensor in self._graph.initializer):
            self._graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype=kind), full))
        return full

    def integers(self, name: str, values: npt.ArrayLike) -> str:
        """Add an int64 constant: what shapes and indices are made of."""
        return self.constant(name, values, np.int64)

    def call_last(self, name: str) -> None:
        """Rename the result of the last node."""
        self._nodes[-1].output[0] = name

    def put_first(self) -> None:
        """Insert the nodes before all others."""
        nodes = [*self._nodes, *self._graph.node]
        del self._graph.node[:]
        self._graph.node.extend(nodes)

    def put_last(self) -> None:
        """Append the nodes."""
        self._graph.node.extend(self._nodes)
