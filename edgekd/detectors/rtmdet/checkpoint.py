"""Weights of RTMDet in and out: checkpoints of mmdetection and mmyolo, and what edgekd writes.

Every weight of a file must have its place and every place its weight; a file that is not so is refused with what is
wrong. Nothing that a file names is run (`torch_file`). An mmengine checkpoint keeps in `state_dict` the weights that
its validations judged: the averaged ones, where there was an average.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgekd.atomic import atomic_path, write_bytes, write_json
from edgekd.detectors import torch_file
from edgekd.detectors.rtmdet.names import as_mmdetection, is_mmyolo
from edgekd.detectors.rtmdet.network import MEAN_BGR, STD_BGR, RTMDet
from edgekd.detectors.rtmdet.scales import PREFIX, SCALES, Scale, model_names
from edgekd.errors import InputError, unknown
from edgekd.files import open_regular

_HEADER = "edgekd"
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


def load(path: Path, model: str | None, where: str) -> tuple[RTMDet, str]:
    """Read a network, fp32, eval mode, on the CPU, and its model name.

    Args:
        path: `.pth` of mmdetection, mmyolo or edgekd, or `.safetensors` of edgekd.
        model: what it must be; None: whatever it is.
        where: key of the recipe, for messages.

    Raises:
        InputError: missing, truncated, of another family, or of another size.
    """
    try:
        open_regular(path).close()
        weights = _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _read_checkpoint(path)
        name = _model_of(weights.tensors)
        if model is not None and model != name:
            raise Refused(f"holds {name}, not {model}; correct 'model', or leave it out")
        return _filled(name, weights), name
    except OSError as error:
        raise InputError(f"{where}: {path} cannot be read ({error.strerror}); {_REMEDY}") from error
    except (Refused, torch_file.NotReadable) as error:
        raise InputError(f"{where}: {path} {error}; {_REMEDY}") from error


def save(network: RTMDet, name: str, folder: Path, facts: Mapping[str, Any], stem: str = "student") -> tuple[Path, ...]:
    """Write a network as safetensors, with a JSON that says what it is, and as mmdetection's own `.pth`.

    Args:
        name: model name.
        facts: of its training, for the JSON.
        stem: of the files' names.

    Returns:
        The files: safetensors, its JSON, `.pth`.
    """
    from safetensors.torch import save_file

    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in network.state_dict().items()}
    described = {
        "family": "rtmdet", "model": name, "classes": list(network.class_names),
        "exponential": network.scale.exponential,
    }  # fmt: skip
    paths = tuple(folder / f"{stem}{suffix}" for suffix in (".safetensors", ".json", ".pth"))
    with atomic_path(paths[0]) as temporary:
        save_file(tensors, temporary, metadata={_HEADER: json.dumps(described)})
        temporary.chmod(0o644)  # the library makes it readable for its owner alone
    convention = {"channels": "BGR", "range": [0, 255], "mean": MEAN_BGR, "std": STD_BGR, "pad": 114}
    write_json(paths[1], {**described, "input": convention, **facts})
    buffer = io.BytesIO()
    settings = f"model = dict(bbox_head=dict(exp_on_reg={network.scale.exponential}))"
    meta = {"dataset_meta": {"classes": tuple(network.class_names)}, "cfg": settings}
    torch.save({"meta": meta, "state_dict": tensors}, buffer)
    write_bytes(paths[2], buffer.getvalue())
    return paths


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
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as reader:
            header = json.loads((reader.metadata() or {}).get(_HEADER, "{}"))
            tensors = {key: reader.get_tensor(key).clone() for key in reader.keys()}  # noqa: SIM118
        if not isinstance(header, dict) or header.get("family") != "rtmdet":
            raise Refused("is no RTMDet that edgekd wrote")
        return Weights(tensors, _names(header), bool(header["exponential"]))
    except (SafetensorError, ValueError, KeyError) as error:
        if isinstance(error, Refused):
            raise
        raise Refused(f"is damaged ({type(error).__name__})") from error


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
    names = weights.class_names or tuple(f"class {index}" for index in range(classes))
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
