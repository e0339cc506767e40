"""A detector of transformers as teacher: DETR and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from edgekd.detectors.box_bins import BoxBins
from edgekd.detectors.outputs import DetectorOutput
from edgekd.detectors.queries import Decoder, QueryPredictions, corners_px
from edgekd.detectors.spec import Branch, Part, QueryHead, Spec
from edgekd.detectors.transformers import detr, inside, questions
from edgekd.detectors.transformers.description import chooses, describe, taps_at
from edgekd.detectors.transformers.folder import kept
from edgekd.detectors.transformers.models import Kind
from edgekd.detectors.transformers.network import predict, trunk
from edgekd.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` since Python 3.11


class TransformersDetector:
    """A detector whose network is one of the library's `...ForObjectDetection` (`module`)."""

    def __init__(
        self,
        module: Any,
        name: str,
        kind: Kind,
        columns: Sequence[str],
        spec: Spec | None = None,
        classes: Sequence[int] | None = None,
    ) -> None:
        """See the class.

        Args:
            module: see `network.prepare`.
            columns: names of the columns of the class logits, but for that of no object.
            spec: of a network whose description is known.
            classes: columns that are classes; None: those with a name.
        """
        self.module = module
        self.kind = kind
        self.column_names = tuple(columns)
        self.columns = kept(columns) if classes is None else tuple(classes)
        self.spec = spec or describe(module, name, tuple(columns[column] for column in self.columns))

    def with_taps(self, paths: Sequence[str]) -> Self:
        """See `Detector.with_taps`."""
        known = {tap.path for tap in self.spec.taps}
        fresh = [path for path in dict.fromkeys(paths) if path not in known]
        taps = taps_at(self.module, self.spec.size_multiple, fresh, self.kind.softmax) if fresh else ()
        return self._like(self.module, replace(self.spec, taps=self.spec.taps + taps)) if taps else self

    def with_module(self, module: nn.Module) -> Self:
        """See `Detector.with_module`."""
        return self._like(module, self.spec)

    def frozen(self) -> Self:
        """See `Detector.frozen`."""
        return self.with_module(deepcopy(self.module).eval().requires_grad_(False))

    def compute(self, images: Tensor, parts: frozenset[Part]) -> dict[str, Tensor]:
        """See `Detector.compute` and `network.predict`; names begin with `queries`."""
        if not parts:
            trunk(self.module, images)
            return {}
        if not torch.jit.is_tracing() and not torch.compiler.is_compiling():  # type: ignore[no-untyped-call,attr-defined]
            self._require_places(images)
        found = predict(self.module, self.kind.softmax, self.columns, images, parts)
        return {f"queries {name}": value for name, value in found.items()}

    def assemble(self, found: Mapping[str, Tensor], taps: Mapping[str, Tensor], images: Tensor) -> DetectorOutput:
        """See `Detector.assemble`."""
        if not found:
            return DetectorOutput(dict(taps))
        return DetectorOutput(dict(taps), queries=self._predictions(found, images))

    def head_tail(self, part: Part, level: int, cut: int, branch: Branch) -> nn.Module:
        """See `Detector.head_tail`.

        Raises:
            InputError: always.
        """
        raise InputError(f"{self.spec.name}: head_tail: needs a dense head, this one is a query head")

    def export_module(self, head: Branch | None = None) -> nn.Module:
        """See `Detector.export_module`."""
        network = deepcopy(self.module).float().cpu().eval().requires_grad_(False)
        return QueryExport(network, self.kind, self.columns).eval()

    def _require_places(self, images: Tensor) -> None:
        """Refuse images that have fewer places than there are queries.

        Raises:
            InputError: they have.
        """
        height, width = images.shape[-2:]
        queries = self.spec.head.queries if isinstance(self.spec.head, QueryHead) else 0
        places = sum((height // tap.stride) * (width // tap.stride) for tap in self.spec.taps_of("neck"))
        if chooses(self.module.config) and places < queries:
            raise InputError(
                f"{self.spec.name}: chooses {queries} queries among the places of its maps, and {width}x{height} px "
                f"have {places}; use larger images (train.imgsz)"
            )

    def _predictions(self, heads: Mapping[str, Tensor], images: Tensor) -> QueryPredictions:
        """The common form of tensors by name."""
        found = {name.removeprefix("queries "): value for name, value in heads.items()}
        boxes, scores = found["boxes"].movedim(1, 0), found["scores"].movedim(1, 0)
        head = self.spec.head
        assert isinstance(head, QueryHead)
        corners = found.get("corners")
        maps = tuple(value for name, value in found.items() if name.startswith("memory-"))
        return QueryPredictions(
            class_logits=scores,
            boxes_px=corners_px(boxes, images),
            layers=tuple(range(head.layers)) if len(scores) == head.layers else (self._last(head.layers),),
            box_logits=None if corners is None else corners.movedim(1, 0).reshape(*scores.shape[:3], 4, head.bins),
            bins=None if corners is None else self._bins(corners_px(found["origins"].movedim(1, 0), images)),
            states=inside.states_of(found),
            maps=maps or None,
            looks=inside.looks_of(self.module, found, maps),
            asked=self._decoder(maps, head.width, images) if maps and "decoder" in head.gives else None,
        )

    def _bins(self, origins_px: Tensor) -> BoxBins:
        """Of D-FINE and DEIMv2, which weigh bins alike (D-FINE, arXiv 2410.13842, equation 3)."""
        from transformers.models.d_fine.modeling_d_fine import weighting_function

        network: Any = self.module
        decoder = network.model.decoder
        scale = decoder.reg_scale.detach().float().abs()
        weights: Tensor = weighting_function(decoder.max_num_bins, decoder.up.detach().float(), scale)
        return BoxBins(origins_px, weights / scale)

    def _last(self, layers: int) -> int:
        """The decoder layer that inference predicts from."""
        config: Any = self.module.config
        return int(getattr(config, "eval_idx", -1)) % layers

    def _decoder(self, maps: Sequence[Tensor], width: int, images: Tensor) -> Decoder:
        """Questions to the decoder over memory maps."""
        network: Any = self.module
        columns = list(self.columns)
        dtype = next(network.model.decoder.parameters()).dtype  # of a teacher with a precision of its own, half
        memory = [one.to(dtype) for one in maps]
        kind: Any = questions if detr.has_inside(network) else inside

        def run(content: Tensor, boxes: Tensor, parts: frozenset[Part]) -> QueryPredictions:
            found = kind.ask(network, columns, content.to(dtype), boxes.to(dtype), memory, parts)
            return self._predictions(found, images)

        def own_content(boxes: Tensor) -> Tensor:
            content: Tensor = kind.own_content(network, memory, boxes.to(dtype))
            return content

        embedding = getattr(network.model, "denoising_class_embed", None)
        classes = None if embedding is None else embedding.weight[columns]
        return Decoder(width, run, own_content, classes)

    def _like(self, module: nn.Module, spec: Spec) -> Self:
        return type(self)(module, self.spec.name, self.kind, self.column_names, spec, self.columns)


class QueryExport(nn.Module):
    """Images (B, C, H, W) in 0..1 to detections (B, k, 6), best first: box xyxy px, score, class.

    They are those of the library's own `post_process_object_detection`.
    """

    decode = "end2end"

    def __init__(self, network: nn.Module, kind: Kind, columns: Sequence[int]) -> None:
        super().__init__()
        self.network, self.kind, self.columns = network, kind, tuple(columns)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        found = predict(self.network, self.kind.softmax, self.columns, images)
        scores, boxes = found["scores"][:, -1].sigmoid(), _corners_px(found["boxes"][:, -1], images)
        classes = len(self.columns)
        queries = int(scores.shape[1])
        if self.kind.softmax:  # a query is one detection
            best, label = scores.max(-1)
            best, query = best.topk(queries, dim=1)
            label = label.gather(1, query)
        else:
            best, index = scores.flatten(1).topk(min(self.kind.most or queries, queries * classes), dim=1)
            query, label = torch.div(index, classes, rounding_mode="floor"), index % classes
        rows = boxes.gather(1, query[..., None].expand(-1, -1, 4))
        return torch.cat([rows, best[..., None], label[..., None].to(rows.dtype)], -1)


def _corners_px(boxes: Tensor, images: Tensor) -> Tensor:
    """See `corners_px`; in a graph for any size of image, which the size is an input of."""
    height, width = images.shape[-2:]
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    (left, top), (right, bottom) = ((one[..., :1], one[..., 1:]) for one in (centre - half, centre + half))
    return torch.cat([left * width, top * height, right * width, bottom * height], -1)
