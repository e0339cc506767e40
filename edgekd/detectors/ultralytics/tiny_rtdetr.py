"""RT-DETR for tiny devices: `rtdetr-p` and `rtdetr-n`, whose networks no published file describes.

The hybrid encoder and the decoder are RT-DETR's (DETRs Beat YOLOs on Real-time Object Detection, Zhao et al., CVPR
2024, arXiv 2304.08069), narrower and with fewer layers and queries; the backbone is that of small YOLOs. At 80 classes
p has 1.0 M parameters, n 2.2 M.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Decoder(NamedTuple):
    """Numbers of the decoder, which the engine does not scale with the width."""

    width: int
    queries: int
    points: int
    heads: int
    layers: int
    feedforward: int
    denoising: int


# scale -> depth, width, most channels of the layers before the decoder; and the decoder.
_SCALES: dict[str, tuple[list[float], Decoder]] = {
    "p": ([1.0, 0.25, 384], Decoder(64, 100, 4, 4, 3, 256, 25)),
    "n": ([1.0, 0.375, 384], Decoder(96, 150, 4, 4, 3, 384, 50)),
}
NAMES = tuple(f"rtdetr-{scale}" for scale in _SCALES)


def tiny_rtdetr(name: str) -> dict[str, Any]:
    """The model YAML of one of `NAMES`, as a dict."""
    scale = name.rpartition("-")[2]
    scales, decoder = _SCALES[scale]
    return {
        "nc": 80, "scales": {scale: scales}, "backbone": _backbone(), "head": _head(decoder),
    }  # fmt: skip


def _backbone() -> list[list[Any]]:
    rows: list[list[Any]] = [[-1, 1, "Conv", [64, 3, 2]]]
    for width in (128, 256, 512, 512):  # strides 4, 8, 16, 32
        rows += [[-1, 1, "Conv", [width, 3, 2]], [-1, 1, "C2f", [width, True]]]
    return rows


def _head(decoder: Decoder) -> list[list[Any]]:
    """The hybrid encoder, from layer 9 on, and the decoder; layers 4, 6 and 8 are the backbone's."""
    plain = [256, 1, 1, "None", 1, 1, False]  # a projection without activation
    width, queries, points, heads, layers, feedforward, denoising = decoder
    return [
        [8, 1, "Conv", plain],
        [-1, 1, "AIFI", [feedforward, heads]],
        [-1, 1, "Conv", [256, 1, 1]],  # 11
        [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
        [6, 1, "Conv", plain],
        [[-2, -1], 1, "Concat", [1]],
        [-1, 1, "RepC3", [256]],
        [-1, 1, "Conv", [256, 1, 1]],  # 16
        [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
        [4, 1, "Conv", plain],
        [[-2, -1], 1, "Concat", [1]],
        [-1, 1, "RepC3", [256]],  # 20, stride 8
        [-1, 1, "Conv", [256, 3, 2]],
        [[-1, 16], 1, "Concat", [1]],
        [-1, 1, "RepC3", [256]],  # 23, stride 16
        [-1, 1, "Conv", [256, 3, 2]],
        [[-1, 11], 1, "Concat", [1]],
        [-1, 1, "RepC3", [256]],  # 26, stride 32
        [
            [20, 23, 26], 1, "RTDETRDecoder",
            ["nc", width, queries, points, heads, layers, feedforward, 0.0, "None", -1, denoising],
        ],
    ]  # fmt: skip
