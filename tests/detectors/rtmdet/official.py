"""The official RTMDet, for comparison: mmdetection from a folder of its own, with empty stand-ins for what it lacks.

    pip install --no-deps --target DIR mmdet==3.3.0 mmengine==0.10.7 mmcv-lite==2.1.0 addict termcolor
    EDGEKD_MMDET=DIR python -m pytest tests/detectors/rtmdet/test_official.py

None of the compiled operations (`mmcv.ops`) is used by RTMDet up to its losses.
"""

from __future__ import annotations

import builtins
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

FOLDER = os.environ.get("EDGEKD_MMDET", "")
REASON = "set EDGEKD_MMDET to a folder with mmdet 3.3.0, mmengine 0.10.7 and mmcv-lite 2.1.0 (official.py says how)"
_ABSENT = ("mmcv.ops", "yapf", "terminaltables", "shapely", "six")


def present() -> bool:
    """Whether there is one to compare with."""
    return bool(FOLDER) and (Path(FOLDER) / "mmdet" / "__init__.py").is_file()


class _StandIn(types.ModuleType):
    """A module that has whatever class is asked for, empty."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(builtins, name, None) or type(name, (), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, names: list[str]) -> None:
        self.names = names

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if any(fullname == name or fullname.startswith(f"{name}.") for name in self.names):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> Any:
        return _StandIn(spec.name)

    def exec_module(self, module: Any) -> None:
        pass


@cache
def registries() -> tuple[Any, Any]:
    """mmdetection's registry of models, and its class for ground truth."""
    sys.path.append(FOLDER)
    sys.meta_path.insert(0, _Finder([name for name in _ABSENT if name == "mmcv.ops" or not _installed(name)]))
    import mmdet.models  # noqa: F401
    from mmdet.registry import MODELS
    from mmengine.structures import InstanceData

    return MODELS, InstanceData


def build(scale: str, classes: int) -> Any:
    """The official network of a scale from mmdetection's own configuration, in parts: backbone, neck, bbox_head."""
    models, _ = registries()
    from mmengine.config import ConfigDict

    config = _config(scale)
    config["bbox_head"]["num_classes"] = classes
    for part in config.values():
        part["norm_cfg"] = {"type": "BN"}  # SyncBN needs several processes
    head = ConfigDict(config["bbox_head"])
    assigner = {"type": "DynamicSoftLabelAssigner", "topk": 13}
    head["train_cfg"] = ConfigDict(assigner=assigner, allowed_border=-1, pos_weight=-1, debug=False)
    parts = {name: models.build(ConfigDict(config[name])) for name in ("backbone", "neck")}
    import torch

    return torch.nn.ModuleDict({**parts, "bbox_head": models.build(head)})


def _config(scale: str) -> dict[str, dict[str, Any]]:
    """What its configuration files say of the model: the large one's, and what the scale's own changes."""
    folder = Path(FOLDER) / "mmdet" / ".mim" / "configs" / "rtmdet"
    chain = {"tiny": ("l", "s", "tiny"), "l": ("l",)}.get(scale, ("l", scale))
    merged: dict[str, dict[str, Any]] = {"backbone": {}, "neck": {}, "bbox_head": {}}
    for name in chain:
        text = (folder / f"rtmdet_{name}_8xb32-300e_coco.py").read_text()
        found: dict[str, Any] = {}
        exec(text.partition("train_pipeline")[0], found)
        for part, values in merged.items():
            values.update(found["model"].get(part, {}))
    merged["backbone"].pop("init_cfg", None)  # pretrained weights
    return merged


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
