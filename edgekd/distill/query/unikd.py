"""UniKD: a fixed set of embeddings that say what the teacher knows, whatever the two architectures.

UniKD: Universal Knowledge Distillation for Mimicking Homogeneous or Heterogeneous Object Detectors, Lao et al., ICCV
2023. No official code.

    absorb: extractors (AKE) f, f_e learn to detect on the frozen teacher's pyramid F^T       (`absorbing.py`)
    inject: q = f(E, F^T),  z^T = f_e(q, F^T),  z^S = f_e(q, phi(F^S))
    D(z) = 1 / N' sum over P of MSE(z^S, z^T) + 1 / (N - N') sum over the others;   L = 10 D(z_ct) + 10 D(z_pos)

P of the content queries are those that bipartite matching gives an object, of the positional ones those of objects.
phi: a linear layer per level and two layers of deformable self-attention.

**Reduction**: means over channels and over the queries of an image, positives and others apart; then over images. So
neither the number of ranks nor gradient accumulation changes the value; an image without objects has others alone.

Differs from the paper, or is left open by it: teachers' levels of any widths are projected to that of the queries, as
Deformable DETR has it; queries attend to each other in the generator alone, and the feed-forward part has 64 channels,
with which a pair has about the published 1.56 M parameters (Deformable DETR's own layers: 4.3 M); learning rates of
sampling offsets are not lowered to a tenth, gradients are cut at the engine's norm of 10 rather than 0.1, and there is
no dropout; jitter moves each edge by up to 40 % of the side.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.spec import Needs
from edgekd.distill.adapters import find_taps
from edgekd.distill.boxes import cornered
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.preparation import Preparation
from edgekd.distill.query.absorbing import detection_loss
from edgekd.distill.query.answers import in_float32, of_content, of_positional
from edgekd.distill.query.distance import embedding_distance
from edgekd.distill.query.extractor import Extractors, Queries, Shape
from edgekd.distill.query.keys import DECIDE, UniKDConfig
from edgekd.distill.query.probes import Probes, draw_probes, seeds_of
from edgekd.distill.query.student_pyramid import StudentPyramid
from edgekd.distill.requirements import lasting_teacher

DROP_AT = 0.8  # of the epochs: Deformable DETR lowers its learning rate to a tenth after 40 of 50


@register("unikd")
class UniKD(Distiller):
    """Embeddings of queries: what extractors that were trained on the teacher find in the student's pyramid."""

    config_type = UniKDConfig
    card = Card(
        about="query embeddings that extractors trained on the teacher find in both pyramids",
        title="UniKD: Universal Knowledge Distillation for Mimicking Homogeneous or Heterogeneous Object Detectors",
        venue="ICCV 2023",
        level="query",
        gain="RetinaNet R50 to RetinaNet R18 on COCO 31.7 to 35.3 AP, Deformable DETR R50 to RetinaNet R18 31.7 to "
        "33.7, Faster R-CNN R50 to Deformable DETR R18 37.2 to 39.9",
        weight_at="800 px, N = 200",
    )
    requires = (lasting_teacher,)
    prepares = True
    decided_by = frozenset(DECIDE)
    switches = frozenset({"content", "positional"})
    config: UniKDConfig

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`; neither strides nor widths nor numbers of levels need be equal."""
        config = self.config
        ours = find_taps("student", pair.student, config.taps, self.name)
        self.teacher_taps = find_taps("teacher", pair.teacher, config.teacher_taps or config.taps, self.name)
        shape = Shape(config.queries, config.width, config.layers, hidden=config.hidden)
        classes = len(pair.columns or pair.class_names or pair.teacher.class_names)
        channels = [tap.channels for tap in self.teacher_taps]
        self.extractors = pair.prepared(Extractors(shape, channels, classes))
        self.adapter = StudentPyramid(ours, [tap.stride for tap in self.teacher_taps], shape, config.adapter_layers)
        return Wiring(Needs(tuple(dict.fromkeys(self.adapter.sources))), Needs(self.teacher_taps))

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """Per kind of query, `content` and `positional`, of those that have a factor.

        `<kind>.queries` and `<kind>.embeddings` (B, N, C), `<kind>.places` (B, N, 4), `<kind>.positive` (B, N) bool.
        """
        config, found = self.config, dict[str, Tensor]()
        extractors = self.extractors.on(batch.images.device)
        with in_float32(batch.images.device):
            pyramid = extractors.pyramid(self._maps(teacher))
            if config.content:
                found |= of_content(extractors, pyramid, batch).named("content")
            if config.positional:
                probes = self._probes(batch, seeds_of(batch))
                found |= of_positional(extractors, pyramid, batch, probes).named("positional")
        return found

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`content` and `positional`, each with its lambda; those that have one."""
        config, found = self.config, {}
        device = batch.images.device
        extractors = self.extractors.on(device)
        with in_float32(device):
            pyramid = self.adapter([student.taps[tap.key].float() for tap in self.adapter.sources])
            for kind, extractor, factor in (
                ("content", extractors.content, config.content),
                ("positional", extractors.positional, config.positional),
            ):
                if factor:
                    queries = Queries(knowledge[f"{kind}.queries"].float(), knowledge[f"{kind}.places"].float())
                    theirs, positive = knowledge[f"{kind}.embeddings"], knowledge[f"{kind}.positive"]
                    ours = extractor(queries, pyramid)
                    found[kind] = factor * embedding_distance(ours, theirs, positive, negatives=config.negatives)
        return found

    def preparation(self) -> Preparation:
        """Absorbing: both kinds, whichever of them a student learns from."""
        config = self.config
        return Preparation(
            self.extractors.trainable,
            self._absorb,
            {
                "epochs": config.absorb_epochs,
                "optimizer": "AdamW",
                "lr0": config.absorb_lr0,
                "weight_decay": 1e-4,
                "warmup_epochs": 0.0,
                "nbs": 32,
            },
            depends_on=("teacher_taps" if config.teacher_taps else "taps", *DECIDE),
            knowledge=lambda teacher, _: {tap.key: teacher.taps[tap.key] for tap in self.teacher_taps},
            schedule=_drops,
            detections=self._detections,
        )

    def _absorb(self, knowledge: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        extractors = self.extractors.trainable
        seeds = torch.randint(2**48, (batch.size,), generator=generator, device=generator.device).tolist()
        pyramid = extractors.pyramid([knowledge[tap.key] for tap in self.teacher_taps])
        answers = {
            "content": of_content(extractors, pyramid, batch),
            "positional": of_positional(extractors, pyramid, batch, self._probes(batch, seeds)),
        }
        return {
            f"{kind}_{name}": value
            for kind, found in answers.items()
            for name, value in detection_loss(
                found.logits, found.boxes, found.matches, batch, self.config.absorb_divided_by
            ).items()
        }

    def _detections(self, teacher: DetectorOutput, images: Tensor) -> tuple[Tensor, Tensor]:
        """Of the content queries: the positional ones would be told where objects are."""
        extractors = self.extractors.on(images.device)
        pyramid = extractors.pyramid(self._maps(teacher))
        queries = extractors.content.queries(pyramid)
        logits, boxes = extractors.content.predictions(extractors.content(queries, pyramid), queries)
        return cornered(boxes, (images.shape[2], images.shape[3])), logits.sigmoid()

    def _maps(self, teacher: DetectorOutput) -> list[Tensor]:
        return [teacher.taps[tap.key].float() for tap in self.teacher_taps]

    def _probes(self, batch: Batch, seeds: list[int]) -> Probes:
        config = self.config
        return draw_probes(batch, config.queries, seeds, config.jitter_iou, config.background_iou)


def _drops(epoch: float, epochs: int, _last: float) -> float:
    return 1.0 if epoch < DROP_AT * epochs else 0.1
