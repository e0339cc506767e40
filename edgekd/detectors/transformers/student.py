"""RT-DETR, D-FINE and DEIMv2 of transformers as students: the library's own forward, matching and losses.

Denoising queries stand first among the queries of a training pass, and see none of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekd import ranks
from edgekd.detectors.capture import captured
from edgekd.detectors.outputs import Batch, DetectorOutput, Guidance, TrainingPass
from edgekd.detectors.queries import QueryPredictions, corners_px
from edgekd.detectors.spec import Needs
from edgekd.detectors.transformers import inside, written
from edgekd.detectors.transformers.detector import TransformersDetector
from edgekd.detectors.transformers.network import masked_pixels

_NECK = ("model.encoder_input_proj.", "model.encoder.")
_BACKBONE = ("model.backbone.", "model.conv_encoder.")
_OF_CLASSES = ("class_embed.", "enc_score_head.", "denoising_class_embed.")


class TransformersStudent(TransformersDetector):
    """One that can be trained, too."""

    def training_pass(self, batch: Batch, needs: Needs, guidance: Guidance) -> TrainingPass:
        """See `Trainable.training_pass`; the loss finds positives by matching and takes no guidance."""
        network: Any = self.module
        labels = _labels_of(batch)
        pixels, mask = masked_pixels(network, batch.images)
        with (
            captured(network, needs.taps) as maps,
            inside.every_layer(network, True),
            inside.watched(network, needs.parts, int(network.config.num_queries)) as seen,
        ):
            raw = network.model(pixels, pixel_mask=mask, labels=labels)
        kept = None if batch.view.all_labelled else batch.view.labelled.nonzero().flatten()
        with torch.autocast(batch.images.device.type, enabled=False):
            parts = _losses(network, raw, labels, kept)
        loss = torch.stack(list(parts.values())) * self.loss_scale(batch.size)
        output = DetectorOutput(dict(maps), queries=self._of_training(raw, seen, needs, batch.images))
        corners = raw.intermediate_predicted_corners
        anchors = {
            **maps, "head.logits": raw.intermediate_logits, "head.boxes": raw.intermediate_reference_points,
            **({"head.corners": corners} if isinstance(corners, Tensor) else {}),
            **({"memory": seen.decoder["encoder_hidden_states"]} if seen.decoder else {}),
        }  # fmt: skip
        return TrainingPass(loss, {name: value.detach() for name, value in parts.items()}, output, anchors)

    def _of_training(self, raw: Any, seen: inside.Seen, needs: Needs, images: Tensor) -> QueryPredictions:
        found = inside.layers_of(raw, self.columns, every=True)
        noisy = _denoising(raw)
        mine = {name: value[:, :, noisy:] for name, value in found.items()}
        heads = {**mine, **seen.tensors(needs.parts, every=True)}
        output = self._predictions({f"queries {name}": value for name, value in heads.items()}, images)
        if not noisy or "denoising" not in needs.parts:
            return output
        scores, boxes = (found[name][:, :, :noisy].movedim(1, 0) for name in ("scores", "boxes"))
        return replace(output, noisy=QueryPredictions(scores, corners_px(boxes, images), output.layers))

    def loss_scale(self, batch_size: int) -> float:
        """The losses are means over this rank's objects; ranks' gradients are added up by the engine."""
        return 1.0 / ranks.size()

    def rebuilt(self, class_names: Sequence[str], with_weights: bool) -> TransformersStudent:
        """See `Trainable.rebuilt`: what scores a class goes with its name."""
        names = tuple(class_names)
        network = written.network_of(written.described_as(self, names))
        if with_weights:
            _transfer(self.module, network, self.column_names, names)
        spec = self.spec if names == self.spec.class_names and self.columns == tuple(range(len(names))) else None
        made = TransformersStudent(network, self.spec.name, self.kind, names, spec, tuple(range(len(names))))
        return made if spec else made.with_taps(self.spec.named_paths)

    def layers(self) -> tuple[nn.Module, ...]:
        """See `Trainable.layers`: stages of the backbone, blocks of the neck, layers of the decoder."""
        network: Any = self.module
        blocks = [network.get_submodule(tap.path) for tap in self.spec.taps if tap.role in ("backbone", "neck")]
        return (*blocks, *network.model.decoder.layers)

    def sections(self) -> dict[str, tuple[str, ...]]:
        """See `Trainable.sections`."""
        paths = [path for path, _ in self.module.named_parameters()]
        known = (*_BACKBONE, *_NECK)
        others = dict.fromkeys(_beginning(path) for path in paths if not path.startswith(known))
        return {"backbone": _BACKBONE, "neck": _NECK, "head": tuple(others)}

    def quantisable(self, float_predictions: bool = False) -> dict[str, nn.Conv2d]:
        """See `Trainable.quantisable`; predictions come from linear layers."""
        return {path: part for path, part in self.module.named_modules() if isinstance(part, nn.Conv2d)}

    def save(self, folder: Path, arguments: Mapping[str, Any], size_px: int) -> None:
        """See `Trainable.save`."""
        written.write(self, folder / written.FILES[0], {"training": dict(arguments), "size_px": size_px}, half=False)

    def publish(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """See `Trainable.publish`."""
        written.write(self, folder / written.FILES[1], facts, half=True)


def _labels_of(batch: Batch) -> list[dict[str, Tensor]]:
    """As the library wants them, by image; of images without labels none."""
    height, width = batch.images.shape[-2:]
    left_top, right_bottom = torch.split(batch.boxes_px / batch.boxes_px.new_tensor([width, height] * 2), 2, -1)
    boxes = torch.cat([(left_top + right_bottom) / 2, right_bottom - left_top], -1)
    known = batch.view.labelled[batch.image_index]
    rows = [((batch.image_index == image) & known) for image in range(batch.size)]
    return [{"class_labels": batch.class_ids[row], "boxes": boxes[row]} for row in rows]


def _denoising(raw: Any) -> int:
    """How many of the queries are denoising ones."""
    said = raw.denoising_meta_values
    return int(said["dn_num_split"][0]) if said is not None else 0


def _losses(network: Any, raw: Any, labels: list[dict[str, Tensor]], kept: Tensor | None) -> dict[str, Tensor]:
    """The library's own losses by kind, each summed over layers; of these images alone (None: all)."""

    def of_images(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return None
        return value.float() if kept is None else value[kept].float()

    said = raw.denoising_meta_values
    if kept is not None:
        labels = [labels[index] for index in kept.tolist()]
        if said is not None:
            said = {**said, "dn_positive_idx": [said["dn_positive_idx"][index] for index in kept.tolist()]}
    logits, boxes = of_images(raw.intermediate_logits), of_images(raw.intermediate_reference_points)
    if not len(logits):
        nothing = raw.intermediate_logits.sum() * 0 + raw.intermediate_reference_points.sum() * 0
        return {"loss": nothing}
    _, found, _ = network.loss_function(
        logits[:, -1], labels, logits.device, boxes[:, -1], network.config, logits, boxes,
        enc_topk_logits=of_images(raw.enc_topk_logits), enc_topk_bboxes=of_images(raw.enc_topk_bboxes),
        denoising_meta_values=said, predicted_corners=of_images(raw.intermediate_predicted_corners),
        initial_reference_points=of_images(raw.initial_reference_points),
    )  # fmt: skip
    kinds: dict[str, list[Tensor]] = {}
    for name, value in found.items():
        kinds.setdefault("_".join(name.split("_")[:2]), []).append(value)
    return {name: torch.stack(values).sum() for name, values in sorted(kinds.items())}


def _beginning(path: str) -> str:
    """Of a module's path, with its last dot."""
    depth = 2 if path.startswith("model.") else 1
    return ".".join(path.split(".")[:depth]) + "."


@torch.no_grad()
def _transfer(source: nn.Module, target: nn.Module, old: Sequence[str], new: Sequence[str]) -> None:
    """Weights that fit, and rows of classes by name."""
    given, places = source.state_dict(), target.state_dict()
    rows = [(new.index(name), old.index(name)) for name in new if name in old]
    for path, place in places.items():
        value = given.get(path)
        if value is None:
            continue
        if any(part in path for part in _OF_CLASSES):
            for here, there in rows:
                place[here].copy_(value[there])
        elif value.shape == place.shape:
            place.copy_(value)
