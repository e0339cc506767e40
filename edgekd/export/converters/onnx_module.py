"""An ONNX graph as a torch module: what lets converters that start from torch start from the hub instead.

Shapes are fixed, so everything that is computed from constants alone is computed once, when the module is built.
Runs in a converter's own environment, so it imports nothing of edgekd: torch and onnx alone.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn
from torch.nn import functional as F

Operator = Callable[..., Any]
OPERATORS: dict[str, Operator] = {}


# Inputs that have to be known when a module is built: shapes, axes, bounds.
_FIXED = {
    "Reshape": (1,), "Expand": (1,), "Tile": (1,), "Unsqueeze": (1,), "Squeeze": (1,), "Split": (1,), "TopK": (1,),
    "Slice": (1, 2, 3, 4), "Resize": (1, 2, 3), "Clip": (1, 2),
    "ReduceMax": (1,), "ReduceMin": (1,), "ReduceMean": (1,), "ReduceSum": (1,),
}  # fmt: skip


class OnnxModule(nn.Module):
    """Takes the graph's inputs in order; gives a tuple of its outputs.

    Raises:
        NotImplementedError: operators, or uses of them, that there is no translation for.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        graph = model.graph
        unknown = sorted({node.op_type for node in graph.node} - set(OPERATORS))
        if unknown:
            raise NotImplementedError(f"operators that this converter does not know: {', '.join(unknown)}")
        constants = {
            tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer
        }
        self.inputs = [value.name for value in graph.input if value.name not in constants]
        self.outputs = [value.name for value in graph.output]
        self.nodes = []
        for node in graph.node:
            own = _Node(node, constants)
            if all(name in constants for name in own.reads):
                constants.update(zip(own.outputs, own([constants[name] for name in own.reads]), strict=False))
            else:
                self.nodes.append(own)
        self.places = {}
        read = {name for node in self.nodes for name in node.reads} | set(self.outputs)
        for index, name in enumerate(name for name in constants if name in read):
            self.places[name] = f"constant_{index}"
            self.register_buffer(self.places[name], constants[name])

    def forward(self, *images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the nodes in order."""
        values = dict(zip(self.inputs, images, strict=True))
        values.update((name, getattr(self, place)) for name, place in self.places.items())
        for node in self.nodes:
            values.update(zip(node.outputs, node([values[name] for name in node.reads]), strict=False))
        return tuple(values[name] for name in self.outputs)


class _Node:
    """One operator, with its attributes and fixed inputs filled in.

    Attributes:
        reads: names of the inputs that are left.
    """

    def __init__(self, node: onnx.NodeProto, constants: dict[str, torch.Tensor]) -> None:
        self.name, self.kind, self.outputs = node.name, node.op_type, list(node.output)
        self.attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        if self.kind == "Split":
            self.attributes["parts"] = len(node.output)
        self.places: list[Any] = []
        self.reads = []
        for index, name in enumerate(node.input):
            if name and index not in _FIXED.get(self.kind, ()):
                self.reads.append(name)
                self.places.append(_READ)
            elif name and name not in constants:
                raise NotImplementedError(f"{self.name}: input {index} of {self.kind} is not a constant")
            else:
                self.places.append(constants[name].reshape(-1).tolist() if name else None)

    def __call__(self, tensors: list[torch.Tensor]) -> tuple[Any, ...]:
        given = iter(tensors)
        arguments = [next(given) if place is _READ else place for place in self.places]
        try:
            result = OPERATORS[self.kind](*arguments, **self.attributes)
        except TypeError as error:
            raise NotImplementedError(f"{self.name}: this use of {self.kind} ({error})") from error
        return result if isinstance(result, tuple) else (result,)


_READ = object()


def operator(name: str) -> Callable[[Operator], Operator]:
    """Function decorator: the translation of an ONNX operator, with its inputs and attributes as arguments."""

    def add(function: Operator) -> Operator:
        OPERATORS[name] = function
        return function

    return add


OPERATORS.update(
    Add=torch.add, Sub=torch.sub, Mul=torch.mul, Pow=torch.pow, MatMul=torch.matmul,
    Relu=F.relu, Sigmoid=torch.sigmoid, Tanh=torch.tanh, Exp=torch.exp, Log=torch.log, Sqrt=torch.sqrt,
    Erf=torch.erf,
    Neg=torch.neg, Abs=torch.abs, Floor=torch.floor, Softplus=F.softplus, HardSwish=F.hardswish,
    Reciprocal=torch.reciprocal,
    Max=torch.maximum, Min=torch.minimum, Where=torch.where, Equal=torch.eq, Greater=torch.gt, Less=torch.lt,
    Identity=lambda x: x,
    Softmax=lambda x, axis=-1: F.softmax(x, axis),
    LeakyRelu=lambda x, alpha=0.01: F.leaky_relu(x, alpha),
    Gelu=lambda x, approximate=b"none": F.gelu(x, approximate=approximate.decode()),
    HardSigmoid=lambda x, alpha=0.2, beta=0.5: torch.clamp(x * alpha + beta, 0, 1),
    Concat=lambda *parts, axis: torch.cat(parts, axis),
    Transpose=lambda x, perm: x.permute(perm),
    Squeeze=lambda x, axes=None: x.squeeze() if axes is None else x.squeeze(tuple(axes)),
    Flatten=lambda x, axis=1: x.reshape(prod(x.shape[:axis]), -1),
    Tile=lambda x, repeats: x.repeat(repeats),
    GatherElements=lambda x, index, axis=0: torch.gather(x, axis, index),
    Mod=lambda x, y, fmod=0: torch.fmod(x, y) if fmod else torch.remainder(x, y),
    GlobalAveragePool=lambda x: x.mean((2, 3), keepdim=True),
    Constant=lambda value: torch.from_numpy(numpy_helper.to_array(value).copy()),
)  # fmt: skip


@operator("Div")
def _div(x: Any, y: Any) -> Any:
    if x.is_floating_point():
        return torch.div(x, y)
    return torch.div(x, y, rounding_mode="trunc").to(x.dtype)  # said twice: Core ML's converter takes it for a float


@operator("Cast")
def _cast(x: Any, to: int, **_: Any) -> Any:
    return x.to(torch.from_numpy(np.zeros(0, helper.tensor_dtype_to_np_dtype(to))).dtype)


@operator("Clip")
def _clip(x: Any, low: Any = None, high: Any = None) -> Any:
    return torch.clamp(x, *(bound[0] if bound else None for bound in (low, high)))


@operator("Reshape")
def _reshape(x: Any, shape: Any, allowzero: int = 0) -> Any:
    return x.reshape([x.shape[i] if size == 0 and not allowzero else size for i, size in enumerate(shape)])


@operator("Expand")
def _expand(x: Any, shape: Any) -> Any:
    return x.expand(torch.broadcast_shapes(tuple(x.shape), tuple(shape)))  # type: ignore[no-untyped-call]


@operator("Unsqueeze")
def _unsqueeze(x: Any, axes: Any) -> Any:
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@operator("Slice")
def _slice(x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    places = axes or range(len(starts))
    cuts = [slice(None)] * x.dim()
    for index, axis in enumerate(places):
        step = steps[index] if steps else 1
        if step < 1:
            raise TypeError("a step below 1")
        start, end, _ = slice(starts[index], ends[index]).indices(x.shape[axis])
        cuts[axis] = slice(start, end, step)
    return x[tuple(cuts)]


@operator("Split")
def _split(x: Any, sizes: Any = None, axis: int = 0, parts: int = 1, num_outputs: int = 0) -> tuple[Any, ...]:
    return torch.split(x, sizes or -(-x.shape[axis] // (num_outputs or parts)), axis)


@operator("Gather")
def _gather(x: Any, index: Any, axis: int = 0) -> Any:
    axis %= x.dim()
    index = torch.where(index < 0, index + x.shape[axis], index)
    picked = torch.index_select(x, axis, index.reshape(-1))
    return picked.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


@operator("TopK")
def _topk(x: Any, k: Any, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Any, ...]:
    return tuple(torch.topk(x, k[0], axis, bool(largest), bool(sorted)))


def _reduction(function: Operator) -> Operator:
    def reduce(x: Any, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Any:
        if not axes and noop_with_empty_axes:
            return x
        return function(x, tuple(axes or ()) or tuple(range(x.dim())), keepdim=bool(keepdims))

    return reduce


OPERATORS.update(
    ReduceMax=_reduction(torch.amax), ReduceMin=_reduction(torch.amin), ReduceMean=_reduction(torch.mean),
    ReduceSum=_reduction(torch.sum),
)  # fmt: skip


@operator("Conv")
def _conv(x: Any, weight: Any, bias: Any = None, strides: Any = None, pads: Any = None, dilations: Any = None,
          group: int = 1, kernel_shape: Any = None, auto_pad: bytes = b"NOTSET") -> Any:  # fmt: skip
    x, padding = _padded(x, pads, auto_pad)
    return F.conv2d(x, weight, bias, strides or 1, padding, dilations or 1, group)


@operator("ConvTranspose")
def _conv_transpose(x: Any, weight: Any, bias: Any = None, strides: Any = None, pads: Any = None, dilations: Any = None,
                    group: int = 1, output_padding: Any = 0, kernel_shape: Any = None) -> Any:  # fmt: skip
    top, left, bottom, right = pads or (0, 0, 0, 0)
    if (top, left) != (bottom, right):
        raise TypeError("uneven pads")
    return F.conv_transpose2d(x, weight, bias, strides or 1, (top, left), output_padding, group, dilations or 1)


@operator("Gemm")
def _gemm(x: Any, y: Any, bias: Any = None, alpha: float = 1.0, beta: float = 1.0, **turned: int) -> Any:
    x, y = (one.T if turned.get(key) else one for one, key in ((x, "transA"), (y, "transB")))
    product = alpha * torch.matmul(x, y)
    return product if bias is None else product + beta * bias


@operator("MaxPool")
def _max_pool(x: Any, kernel_shape: Any, strides: Any = None, pads: Any = None, dilations: Any = None,
              ceil_mode: int = 0, auto_pad: bytes = b"NOTSET", storage_order: int = 0) -> Any:  # fmt: skip
    x, padding = _padded(x, pads, auto_pad, float("-inf"))
    return F.max_pool2d(x, kernel_shape, strides or 1, padding, dilations or 1, bool(ceil_mode))


@operator("AveragePool")
def _average_pool(x: Any, kernel_shape: Any, strides: Any = None, pads: Any = None, ceil_mode: int = 0,
                  count_include_pad: int = 0, auto_pad: bytes = b"NOTSET") -> Any:  # fmt: skip
    top, left, bottom, right = pads or (0, 0, 0, 0)
    if (top, left) != (bottom, right) or auto_pad not in (b"NOTSET", b"VALID"):
        raise TypeError("uneven pads")
    return F.avg_pool2d(x, kernel_shape, strides or 1, (top, left), bool(ceil_mode), bool(count_include_pad))


@operator("BatchNormalization")
def _batch_norm(x: Any, weight: Any, bias: Any, mean: Any, variance: Any, epsilon: float = 1e-5, **_: Any) -> Any:
    return F.batch_norm(x, mean, variance, weight, bias, eps=epsilon)


@operator("LayerNormalization")
def _layer_norm(x: Any, weight: Any, bias: Any = None, axis: int = -1, epsilon: float = 1e-5, **_: Any) -> Any:
    return F.layer_norm(x, tuple(x.shape[axis:]), weight, bias, epsilon)


@operator("Resize")
def _resize(x: Any, region: Any = None, scales: Any = None, sizes: Any = None, mode: bytes = b"nearest",
            coordinate_transformation_mode: bytes = b"half_pixel", nearest_mode: bytes = b"round_prefer_floor",
            cubic_coeff_a: float = -0.75, **_: Any) -> Any:  # fmt: skip
    wanted = sizes[2:] if sizes else [int(edge * scale) for edge, scale in zip(x.shape[2:], scales[2:], strict=True)]
    corners = coordinate_transformation_mode == b"align_corners"
    if mode == b"linear" and (corners or b"half_pixel" in coordinate_transformation_mode):
        return F.interpolate(x, wanted, mode="bilinear", align_corners=corners)
    if mode == b"nearest" and coordinate_transformation_mode == b"asymmetric" and nearest_mode == b"floor":
        return F.interpolate(x, wanted, mode="nearest")
    raise TypeError(f"{mode.decode()}, {coordinate_transformation_mode.decode()}, {nearest_mode.decode()}")


@operator("GridSample")
def _grid_sample(
    x: Any, grid: Any, mode: bytes = b"bilinear", padding_mode: bytes = b"zeros", align_corners: int = 0
) -> Any:
    name = {"linear": "bilinear"}.get(mode.decode(), mode.decode())
    return F.grid_sample(x, grid, name, padding_mode.decode(), bool(align_corners))


def _padded(x: Any, pads: Any, auto_pad: bytes, value: float = 0.0) -> tuple[Any, Any]:
    """The input and the padding that is left for the layer: even padding is the layer's own business."""
    if auto_pad not in (b"NOTSET", b"VALID"):
        raise TypeError(f"auto_pad {auto_pad.decode()}")
    top, left, bottom, right = pads or (0, 0, 0, 0)
    if (top, left) == (bottom, right):
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom), value=value), 0
