"""Weights of RTMDet in and out: checkpoints of mmdetection and mmyolo, and what edgekd writes.

Every weight of a file must have its place and every place its weight; a file that is not so is refused with what is
wrong. Nothing that a file names is run (`torch_file`). An mmengine checkpoint keeps in `state_dict` the weights that
its validations judged: the averaged ones, where there was an average.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgekd.atomic import write_bytes, write_json
from edgekd.detectors import described, torch_file
from edgekd.detectors.rtmdet.names import as_mmdetection, is_mmyolo
from edgekd.detectors.rtmdet.network import RTMDet
from edgekd.detectors.rtmdet.scales import PREFIX, SCALES, Scale, model_names
from edgekd.errors import InputError, unknown
from edgekd.files import open_regular

FILES = tuple(f"student{suffix}" for suffix in (".safetensors", ".json", ".pth"))
_CLASS_LAYERS = "bbox_head.rtm_cls."
_REMEDY = "give an RTMDet checkpoint of mmdetection or mmyolo (.pth), or the student of an edgekd run"
_MANY = 3  # names that a message shows


@dataclass(frozen=True)
class Weights:
    """What a file holds.

    Attributes:
        tensors: by mmdetection's names.
        class_names: None where the file has none.
        exponential: how the head was trained (`Scale.exponential`); None where the file does not say.
    """

    tensors: dict[str, Tensor]
    class_names: tuple[str, ...] | None
    exponential: bool | None


class Refused(ValueError):
    """Why a file is not opened: the end of a sentence that begins with its name."""


def build(model: str, class_names: tuple[str, ...], channels: int, where: str) -> RTMDet:
    """A network with random weights from torch's global generator.

    Args:
        model: `rtmdet-p` to `rtmdet-x`.
        channels: C of the images.
        where: key of the recipe, for messages.

    Raises:
        InputError: no such scale.
    """
    if model not in model_names():
        raise InputError(f"{where}: {unknown('model', model, model_names())}")
    return RTMDet(SCALES[model.removeprefix(PREFIX)], class_names, channels)


def load(path: Path, where: str) -> tuple[RTMDet, str]:
    """Read a network, fp32, eval mode, on the CPU, and its model name.

    Args:
        path: `.pth` of mmdetection, mmyolo or edgekd, or `.safetensors` of edgekd, or the `.json` beside that.
        where: key of the recipe, for messages.

    Raises:
        InputError: missing, truncated, of another family, or of no size that is known.
    """
    try:
        if path.suffix.lower() == ".json":
            path = path.with_suffix(".safetensors")
        open_regular(path).close()
        weights = _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _read_checkpoint(path)
        name = _model_of(weights.tensors)
        return _filled(name, weights), name
    except OSError as error:
        raise InputError(f"{where}: {path} cannot be read ({error.strerror}); {_REMEDY}") from error
    except (Refused, torch_file.NotReadable) as error:
        raise InputError(f"{where}: {path} {error}; {_REMEDY}") from error


def save(network: RTMDet, name: str, folder: Path, facts: Mapping[str, Any]) -> None:
    """Write a network as safetensors, the first of `FILES`; its header says what it is, and `facts`.

    Args:
        name: model name.
    """
    described.write(network, folder / FILES[0], {**_said(network, name), **facts}, half=False)


def publish(network: RTMDet, name: str, folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the other two of `FILES`: what the weights are, for people and other tools, and mmdetection's own form.

    Args:
        name: model name.
    """
    order = "blue, green, red" if network.has_colours else "as the data has them"
    convention = {
        "channels": order, "range": [0, 255], "mean": network.mean.flatten().tolist(),
        "std": network.std.flatten().tolist(), "pad": 114,
    }  # fmt: skip
    write_json(folder / FILES[1], {**_said(network, name), "input": convention, **facts})
    settings = f"model = dict(bbox_head=dict(exp_on_reg={network.scale.exponential}))"
    meta = {"dataset_meta": {"classes": network.class_names}, "cfg": settings}
    tensors = {key: value.detach().cpu() for key, value in network.state_dict().items()}
    buffer = io.BytesIO()
    torch.save({"meta": meta, "state_dict": tensors}, buffer)
    write_bytes(folder / FILES[2], buffer.getvalue())


def is_ours(content: Any) -> bool:
    """Whether what a `.pth` holds looks like an RTMDet, of whatever size."""
    state = content.get("state_dict") if isinstance(content, dict) else None
    names = [name.removeprefix("module.") for name in state if isinstance(name, str)] if isinstance(state, dict) else []
    return any(name.startswith("bbox_head.") and ".rtm_cls." in name for name in names)


def unnamed(count: int) -> tuple[str, ...]:
    """Names of classes that nobody named."""
    return tuple(f"class {index}" for index in range(count))


def _said(network: RTMDet, name: str) -> dict[str, Any]:
    classes, exponential = list(network.class_names), network.scale.exponential
    return {"family": "rtmdet", "model": name, "classes": classes, "exponential": exponential}


def transfer(source: RTMDet, target: RTMDet) -> None:
    """Start a network from another one's weights, wherever they fit.

    What scores a class goes with its name. Classes that `source` does not know keep what is fresh in `target`
    (`RTMDetHead.reset_classes`): without the prior of fresh ones a fine-tune collapses.
    """
    columns = [source.class_names.index(name) if name in source.class_names else -1 for name in target.class_names]
    known = torch.tensor([column >= 0 for column in columns])
    own, tensors = target.state_dict(), source.state_dict()
    for key, value in tensors.items():
        if key.startswith(_CLASS_LAYERS):
            tensors[key] = own[key].clone()
            tensors[key][known] = value[[column for column in columns if column >= 0]]
    target.load_state_dict(
        {key: value for key, value in tensors.items() if value.shape == own[key].shape}, strict=False
    )


def _read_checkpoint(path: Path) -> Weights:
    file = torch_file.read(path)
    content = file.content
    stored = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(stored, dict):
        raise Refused("holds no state_dict, so it is no checkpoint of mmdetection")
    tensors = file.tensors({key: value for key, value in stored.items() if isinstance(key, str)})
    meta = content.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    exponential = False if is_mmyolo(tensors) else None  # mmyolo's head has distances at every size
    settings = meta.get("cfg")
    if isinstance(settings, str) and "bbox_head" in settings:
        exponential = re.search(r"exp_on_reg\s*=\s*True", settings) is not None
    return Weights(as_mmdetection(tensors), _names(meta), exponential)


def _names(meta: Mapping[str, Any]) -> tuple[str, ...] | None:
    for place in (meta.get("dataset_meta"), meta):
        for key in ("classes", "CLASSES"):
            found = place.get(key) if isinstance(place, dict) else None
            if isinstance(found, (list, tuple)) and found and all(isinstance(name, str) for name in found):
                return tuple(found)
    return None


def _read_safetensors(path: Path) -> Weights:
    try:
        header, tensors = described.read(path)
    except Exception as error:  # whatever a header made up breaks
        raise Refused(f"is not a detector written by edgekd, or is damaged ({type(error).__name__})") from error
    if header.get("family") != "rtmdet":
        raise Refused("holds no RTMDet")
    return Weights(tensors, _names(header), header.get("exponential") is True)


def _model_of(tensors: Mapping[str, Tensor]) -> str:
    """By the width of the stem and the depth of the second stage and the neck.

    Raises:
        Refused: it is none of ours.
    """
    stem = tensors.get("backbone.stem.2.conv.weight")
    if stem is None or "bbox_head.rtm_cls.0.weight" not in tensors:
        raise Refused("holds no RTMDet (no backbone.stem and bbox_head.rtm_cls)")
    found = (len(stem), _count(tensors, "backbone.stage2.1.blocks"), _count(tensors, "neck.top_down_blocks.0.blocks"))
    known = {(one.channels(64), one.blocks(6), one.neck_blocks): name for name, one in SCALES.items()}
    if found not in known:
        width, depth, neck = found
        raise Refused(
            f"holds an RTMDet of no size that is known here (stem of {width} channels, {depth} blocks in stage 2, "
            f"{neck} in the neck; known: {', '.join(model_names())})"
        )
    return f"{PREFIX}{known[found]}"


def _channels(tensors: Mapping[str, Tensor]) -> int:
    first = tensors.get("backbone.stem.0.conv.weight")
    return 3 if first is None or first.ndim != 4 else first.shape[1]


def _count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    return len({key.split(".")[prefix.count(".") + 1] for key in tensors if key.startswith(f"{prefix}.")})


def _filled(name: str, weights: Weights) -> RTMDet:
    tensors = weights.tensors
    layer = tensors["bbox_head.rtm_cls.0.weight"]
    classes = len(layer)
    names = weights.class_names or unnamed(classes)
    if len(names) != classes:
        raise Refused(f"names {len(names)} classes and has {classes}")
    with torch.device("meta"):
        network = RTMDet(_scale(name, weights.exponential), names, _channels(tensors))
    _check(tensors, network.state_dict())
    counters = {key: torch.zeros((), dtype=torch.int64) for key in network.state_dict() if key not in tensors}
    wide = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
    network.load_state_dict({**wide, **counters}, assign=True)
    network.reset_input()
    return network.eval()


def _scale(name: str, exponential: bool | None) -> Scale:
    scale = SCALES[name.removeprefix(PREFIX)]
    return scale if exponential is None else replace(scale, exponential=exponential)


def _check(tensors: Mapping[str, Tensor], places: Mapping[str, Tensor]) -> None:
    """Whether every weight has its place, and every place its weight.

    Raises:
        Refused: it is not so, or the levels do not share their convolutions, or a weight is no number.
    """
    missing = [key for key in places if key not in tensors and not key.endswith("num_batches_tracked")]
    foreign = [key for key in tensors if key not in places]
    wrong = [key for key, value in tensors.items() if key in places and value.shape != places[key].shape]
    for problem, keys in (("lacks", missing), ("has no place for", foreign)):
        if keys:
            raise Refused(f"is no RTMDet as known here: it {problem} {_shown(keys)}")
    if wrong:
        key = wrong[0]
        raise Refused(f"has {key} of shape {tuple(tensors[key].shape)}, not {tuple(places[key].shape)}")
    for key, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise Refused(f"holds a NaN or an infinity in {key}")
        first = re.sub(r"^(bbox_head\.(?:cls|reg)_convs)\.\d+(\.\d+\.conv\.)", r"\1.0\2", key)
        if first != key and not torch.equal(value, tensors[first]):
            raise Refused(f"has levels with convolutions of their own ({key})")


def _shown(keys: Sequence[str]) -> str:
    more = len(keys) - _MANY
    return ", ".join(keys[:_MANY]) + (f" and {more} more" if more > 0 else "")
