"""Between the engine's trainer and detectors whose network is none of the engine's.

The engine reads attributes of what it trains (`stride`, `names`, `nc` ...), calls it with a batch for losses and with
images for predictions. Networks of its own are trained as they are; any other is trained in an `EngineShell`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.detectors.capture import run
from edgekd.detectors.contract import Trainable
from edgekd.detectors.outputs import DetectorOutput, Guidance
from edgekd.detectors.spec import NOTHING, DenseHead, Needs
from edgekd.detectors.ultralytics.detector import UltralyticsDetector
from edgekd.detectors.ultralytics.guard import guard
from edgekd.training.distillation import DistillationModule, unwrapped
from edgekd.training.engines.batch import batch_of

# Arguments that look into the network, or the loss, of the engine.
_OF_ITS_OWN = {
    "freeze": "counts layers of the engine's own networks",
    "compile": "is for the engine's own networks",
    "cls_pw": "weighs classes in the engine's own losses",
}
_PREDICTIONS = Needs(parts=frozenset({"class_logits", "boxes"}))


class EngineShell(nn.Module):
    """A detector as the engine's trainer and validator see a network of their own.

    Weights, averages and checkpoints are those of `network`, the family's own; the shell has none.

    Attributes:
        stride: (levels,) px, of which the engine takes the largest: images have multiples of it as sides.
        names, nc, args, criterion: as the engine sets and reads them; the criterion is the detector's own.
    """

    def __init__(self, detector: Trainable, class_names: Sequence[str]) -> None:
        super().__init__()
        self.network = detector.module  # not `module`, by which the engine knows a wrapper of its own
        self._holder = (detector,)  # a tuple: nn.Module does not register what lies in it
        self.stride = torch.tensor([float(detector.spec.size_multiple)])
        self.names, self.nc = dict(enumerate(class_names)), len(class_names)
        self.args: Any = None
        self.criterion = None

    @property
    def detector(self) -> Trainable:
        """Around `network`; a copy of the shell has one around its own."""
        return self._holder[0]

    def set_head_attr(self, **_: Any) -> None:
        """What the engine tells its own heads of the data: how many boxes to keep. This one keeps all."""

    def forward(self, x: Any, *_: Any, **__: Any) -> Any:
        """Losses for a batch; for images (B, 4 + K, N): centre and size of each box in px, and scores."""
        if isinstance(x, dict):
            return self.loss(x)
        return _as_predictions(run(self.detector, x, _PREDICTIONS), self.detector)

    def loss(self, batch: dict[str, Any], _preds: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss (n,), which the engine sums, and its parts by name; of a validation batch, too."""
        found = self.detector.training_pass(batch_of(batch), NOTHING, Guidance())
        return found.loss.reshape(-1), found.items


def network_of(detector: Trainable, class_names: Sequence[str]) -> nn.Module:
    """What the engine trains for a detector: its own network, or a shell around it."""
    return detector.module if is_engines(detector) else EngineShell(detector, class_names)


def unservable(detector: Trainable, train: Mapping[str, Any]) -> list[str]:
    """Why the engine cannot train a detector with these arguments: some are of its own networks; empty if it can."""
    if is_engines(detector):
        return []
    family = detector.spec.family
    reasons = [
        f"train.{key}: {why}, and the student is of family {family}; leave it out"
        for key, why in _OF_ITS_OWN.items()
        if train.get(key)
    ]
    optimizer = str(train.get("optimizer", "auto"))
    if optimizer.lower() in ("auto", "musgd"):
        reasons.append(f"train.optimizer: {optimizer} is for the engine's own networks; write AdamW or SGD")
    return reasons


def is_engines(detector: Trainable) -> bool:
    """Whether its network is one of the engine's."""
    guard()
    from ultralytics.nn.tasks import BaseModel

    return isinstance(detector.module, BaseModel)


def introduce(network: Any, class_names: Sequence[str]) -> None:
    """Tell a network what the engine tells it before a training: classes, and arguments, here the engine's defaults."""
    guard()
    from ultralytics.cfg import get_cfg

    network.args, network.nc, network.names = get_cfg(), len(class_names), dict(enumerate(class_names))


def detector_in(model: nn.Module) -> Trainable:
    """The detector of what the engine trains, averages or is given, inside all its wrappers."""
    inner = unwrapped(model)
    if isinstance(inner, DistillationModule):
        return inner.detector
    return inner.detector if isinstance(inner, EngineShell) else UltralyticsDetector(inner, "student")


def student_of(model: nn.Module) -> nn.Module:
    """The student's own network inside the engine's, DDP's and the distillation wrapper, and inside the shell."""
    inner = unwrapped(model)
    inner = inner.student if isinstance(inner, DistillationModule) else inner
    network: nn.Module = inner.network if isinstance(inner, EngineShell) else inner
    return network


def _as_predictions(output: DetectorOutput, detector: Trainable) -> Tensor:
    head = detector.spec.head
    if isinstance(head, DenseHead):
        dense = output.dense[head.branches[0]]
        boxes, logits = dense.boxes_px, dense.class_logits
    else:
        assert output.queries is not None
        boxes, logits = output.queries.boxes_px[-1], output.queries.class_logits[-1]
    classes = len(detector.spec.class_names)
    scores = logits.sigmoid() if head.activation == "sigmoid" else logits.softmax(-1)[..., :classes]
    centre, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    return torch.cat([centre, size, scores], -1).transpose(1, 2)
