"""What a `searched` loss may be put together from: the choices of each part, by kind of knowledge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

from pydantic import Field, model_validator

from edgekd.distill.boxes import BoxLoss
from edgekd.distill.config import FeatureConfig, Weight
from edgekd.errors import unknown

Kind = Literal["global", "fgbg", "instance", "logits", "localisation"]
Attention = Literal["none", "spatial", "channel", "mask"]
Scale = Literal["none", "pool2", "pool4", "local2", "local4"]
# norm: standardised along an axis, unit: of length 1 along it; n images, c channels, hw positions, batch all but c.
Normalise = Literal[
    "none", "norm_n", "norm_c", "norm_hw", "norm_batch", "unit_n", "unit_c", "unit_hw", "min_max", "softmax_c",
    "softmax_hw",
]  # fmt: skip
LogitTransform = Literal[
    "none", "norm_n", "norm_c", "norm_batch", "unit_n", "unit_c", "min_max", "reshape_n", "reshape_c", "softmax_c"
]
BoxTransform = Literal["none", "softmax_n", "softmax_c", "pow2", "sigmoid"]
FeatureDistance = Literal["smooth_l1", "l1", "l2", "kl", "cosine", "pearson", "ssim"]
LogitDistance = Literal["smooth_l1", "l1", "l2", "kl", "cosine", "pearson", "correlation"]
Transform: TypeAlias = LogitTransform | BoxTransform
Distance: TypeAlias = FeatureDistance | LogitDistance | BoxLoss

_FEATURE = {
    "attention": get_args(Attention), "scale": get_args(Scale), "normalise": get_args(Normalise),
    "distance": get_args(FeatureDistance),
}  # fmt: skip
# Per kind of knowledge the keys that it has, and what each may be.
CHOICES: Mapping[Kind, Mapping[str, tuple[str, ...]]] = {
    "global": _FEATURE,
    "fgbg": _FEATURE,
    "instance": _FEATURE,
    "logits": {"transform": get_args(LogitTransform), "distance": get_args(LogitDistance)},
    "localisation": {"transform": get_args(BoxTransform), "distance": get_args(BoxLoss)},
}
WEIGHTS = (0.1, 0.5, 1.0, 2.0, 5.0, 8.0, 10.0)  # those that the paper searches
# What the paper's search found for anchor-free detectors (its table 5), where a recipe leaves a key out.
DEFAULTS: Mapping[Kind, Mapping[str, str]] = {
    "global": {"attention": "channel", "scale": "pool2", "normalise": "unit_n", "distance": "l1"},
    "fgbg": {"attention": "mask", "scale": "none", "normalise": "unit_c", "distance": "l1"},
    "instance": {"attention": "spatial", "scale": "none", "normalise": "unit_n", "distance": "l1"},
    "logits": {"transform": "norm_batch", "distance": "l2"},
    "localisation": {"transform": "sigmoid", "distance": "eiou"},
}
_KEYS = ("attention", "scale", "normalise", "transform", "distance")


class SearchedConfig(FeatureConfig):
    """Keys of `searched`. Parts that are left out are those that the paper found for the kind."""

    weight: Weight = Field(1.0, description="factor; the paper searches 0.1, 0.5, 1, 2, 5, 8 and 10")
    knowledge: Kind = Field("global", description="what of the teacher: maps, objects and background, ...")
    attention: Attention | None = Field(None, description="of maps, first: what is weighted or hidden")
    scale: Scale | None = Field(None, description="of maps, second: pooled, or cut into 2 x 2 or 4 x 4 patches")
    normalise: Normalise | None = Field(None, description="of maps, third")
    transform: Transform | None = Field(None, description="of logits and of the distances to a box's edges")
    distance: Distance | None = Field(None, description="between both sides; of boxes iou, giou, diou, ciou, eiou")
    size: int = Field(14, ge=1, le=28, description="cells per side of an instance")

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, given: Any) -> Any:
        """Written out, so that a locked recipe says what was trained."""
        if not isinstance(given, Mapping):
            return given
        defaults = DEFAULTS.get(given.get("knowledge", "global"), {})
        return {**given, **{key: value for key, value in defaults.items() if given.get(key) is None}}

    @model_validator(mode="after")
    def _of_its_kind(self) -> SearchedConfig:
        choices = CHOICES[self.knowledge]
        for key in _KEYS:
            value = getattr(self, key)
            if key not in choices and value is not None:
                allowed = ", ".join(choices)
                raise ValueError(f"{key}: not of knowledge {self.knowledge}, which has {allowed}; leave it out")
            if key in choices and value not in choices[key]:
                raise ValueError(f"{key}: {unknown(f'{key} of {self.knowledge}', value, choices[key])}")
        return self

    @property
    def parts(self) -> dict[str, str]:
        """The chosen parts by key, those of the kind alone."""
        return {key: getattr(self, key) for key in CHOICES[self.knowledge]}
