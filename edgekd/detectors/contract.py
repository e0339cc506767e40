"""What edgekd asks of a detector, of any family, as teacher and as student, and of a family that opens detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from edgekd.detectors.outputs import Batch, DetectorOutput, Guidance, TrainingPass
from edgekd.detectors.spec import Branch, Needs, Part, Spec
from edgekd.detectors.style import TrainingStyle
from edgekd.types import FloatArray, Split


class Detector(Protocol):
    """Any teacher or student of any family. `edgekd.detectors.capture.run` makes a pass of one.

    `module` is the family's own network: what is trained, saved and exported, without a wrapper.
    """

    spec: Spec
    module: nn.Module

    def with_taps(self, paths: Sequence[str]) -> Detector:
        """The same detector, in whose spec the modules at these paths are taps, too (role `named`).

        Paths that do not exist, and modules whose output is not (B, C, H, W), are left out: level matching names them.
        """
        ...

    def with_module(self, module: nn.Module) -> Detector:
        """The same detector around another network of this architecture."""
        ...

    def frozen(self) -> Detector:
        """A copy for use as a teacher: eval mode, no gradients."""
        ...

    def compute(self, images: Tensor, parts: frozenset[Part]) -> dict[str, Tensor]:
        """Parts of the head as tensors by name, the batch first; it can be traced and compiled.

        Every layer is called as a module, so that hooks see what a tap asks for. Of a query head also those parts that
        its spec `gives`: nothing else is asked of it. `decoder` wants whatever `assemble` makes a decoder of that can
        be asked (`edgekd.detectors.queries.Decoder`), the memory; attention of a layer is computed for no other layer.
        """
        ...

    def assemble(self, heads: Mapping[str, Tensor], taps: Mapping[str, Tensor], images: Tensor) -> DetectorOutput:
        """The common form of what `compute` returned for these images and of the taps' maps."""
        ...

    def head_tail(self, part: Part, level: int, cut: int, branch: Branch) -> nn.Module:
        """The last layers of a dense head's tower: from the (B, C, H, W) behind its first `cut` layers to its output.

        The output is (B, K, H, W) class logits, in the detector's own order of classes, or (B, 4 * bins, H, W) logits
        of left, top, right, bottom; without a distribution (B, 4, H, W) distances in strides.

        Raises:
            InputError: the head has no such tower, or is not that deep.
        """
        ...

    def export_module(self, head: Branch | None = None) -> nn.Module:
        """A plain module from images to (boxes xyxy px (B, N, 4), scores (B, N, K)), or (B, k, 6) if end-to-end.

        On the CPU, fp32, in eval mode, and apart from `module`. Its attribute `decode` says which: `dense` or
        `end2end`.
        """
        ...


@runtime_checkable
class Trainable(Detector, Protocol):
    """A detector that can also be trained: its own loss, what that loss decided, and what is done to its layers."""

    def with_taps(self, paths: Sequence[str]) -> Trainable:
        """See `Detector.with_taps`."""
        ...

    def with_module(self, module: nn.Module) -> Trainable:
        """See `Detector.with_module`."""
        ...

    def rebuilt(self, class_names: Sequence[str], with_weights: bool) -> Trainable:
        """The same architecture anew, for these classes: weights from torch's global generator.

        Args:
            with_weights: then those of this detector, wherever they fit.
        """
        ...

    def training_pass(self, batch: Batch, needs: Needs, guidance: Guidance) -> TrainingPass:
        """Forward and loss on a batch, in training mode; what methods read comes from the same pass.

        Of a query head that are predictions of all layers, denoising queries apart, and the parts that its spec
        `gives`; a `decoder` that is asked about queries uses the weights and the memory of this pass, with gradients.

        Images without labels (`Batch.view`) go through the network, and are no part of the loss.
        """
        ...

    def loss_scale(self, batch_size: int) -> float:
        """What the family multiplies its mean losses with (v8-type: the batch size; RT-DETR: 1)."""
        ...

    def layers(self) -> tuple[nn.Module, ...]:
        """Parts of `module` that do most of a pass's work; each may be computed anew in the backward pass."""
        ...

    def sections(self) -> Mapping[str, tuple[str, ...]]:
        """`backbone`, `neck` and `head`: how paths of their modules in `module` begin, each with its last dot."""
        ...

    def quantisable(self, float_predictions: bool = False) -> dict[str, nn.Conv2d]:
        """Convolutions that an int8 artifact computes in 8 bits, by their path in `module`.

        Args:
            float_predictions: leave out those whose outputs are class logits and boxes.
        """
        ...

    def save(self, folder: Path, arguments: Mapping[str, Any], size_px: int) -> None:
        """Write the trained weights as the first of the family's `student_files`.

        Args:
            arguments: of the training, as the engine had them; nothing of the machine.
            size_px: that it was trained at.
        """
        ...

    def publish(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Write the others of the family's `student_files`, fit to be the teacher of another recipe.

        Args:
            facts: what was measured of it: AP, data, recipe.
        """
        ...


@runtime_checkable
class Recorded(Detector, Protocol):
    """A detector that looks at no image: what it found in those of the data is known, and nothing else.

    Attributes:
        source: key of the recipe and file, for messages.
    """

    source: str

    def on(
        self, splits: Mapping[str, Split], numbered: Set[str], category_ids: Sequence[int]
    ) -> dict[str, list[FloatArray]]:
        """Split -> per image (k, 6) x1 y1 x2 y2 px of the original image, score, class; best first.

        Args:
            splits: of the data, and the images without labels.
            numbered: names of the splits whose image ids are COCO's.
            category_ids: of the data's classes, in their order.

        Raises:
            InputError: a category or an image that cannot be told, a box outside of its image.
        """
        ...


@dataclass(frozen=True)
class Asked:
    """What a recipe says of a detector.

    Attributes:
        model: a name, or the path of a description; None where the weights say what they are of.
        weights: None: random weights, from torch's global generator.
        class_names: of the data, for random weights; empty where the data was not opened.
        channels: C of the images.
        where: key of the recipe, for messages.
    """

    model: str | None
    weights: Path | None
    class_names: tuple[str, ...]
    channels: int
    where: str


class Family(Protocol):
    """Opens the detectors of one library or paper. `edgekd.detectors.families.register` makes it known to recipes.

    Attributes:
        name: how recipes and specs call it.
        student_files: names of what a trained student leaves, `student.` and a suffix: first the weights that count,
            written by `Trainable.save`, then those of `Trainable.publish`. `open` reads each.
        train_defaults: keys of `train:` that are laid under those of a recipe whose student is of this family.
        style: how its students are trained where that is not the engine's way.
        teach_only: optional; names among its models that can teach, but not be trained.
        packages: distributions whose versions decide what a training gives, beside torch and the engine.
    """

    name: str
    student_files: tuple[str, ...]
    train_defaults: Mapping[str, Any]
    style: TrainingStyle
    packages: tuple[str, ...]

    def missing(self) -> str | None:
        """Why this machine cannot open its detectors, with the remedy; None if it can. Imports nothing heavy."""
        ...

    def models(self) -> list[str]:
        """Names that `model` may have, for messages."""
        ...

    def accepts(self, model: str | None, weights_path: Path | None) -> bool:
        """Whether a recipe without `family` means this one. Looks at names and at what a file says of itself."""
        ...

    def open(self, asked: Asked) -> Detector:
        """A detector on the CPU, in fp32.

        Raises:
            InputError: nothing given, unreadable, or of another family.
        """
        ...

    def differing(self, model: str, detector: Detector, where: str) -> list[str]:
        """What of a detector is not as the model of that name has it; empty if it is of that model.

        Args:
            where: of the name, for messages.

        Raises:
            InputError: there is no such model.
        """
        ...
