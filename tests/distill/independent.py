"""Other people's code for the same losses, where it is installed: single files of mmrazor 1.0.0."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from torch import nn


class _Registry:
    def register_module(self, *_args: object, **_keywords: object) -> Any:
        return lambda kind: kind


class _Connector(nn.Module):
    """What its connectors inherit, without mmengine's ways of initialising weights."""

    def __init__(self, init_cfg: object = None) -> None:
        super().__init__()

    def forward(self, *inputs: Any) -> Any:
        return self.forward_train(*inputs)


def of_mmrazor(file: str, name: str) -> Any:
    """The class `name` of mmrazor's `models/<file>`; the test is skipped where mmrazor is not installed.

    Only that file is run: the package itself needs mmengine, mmcv and older versions of torch.
    """
    found = importlib.util.find_spec("mmrazor")
    if found is None or not found.submodule_search_locations:
        pytest.skip("mmrazor is not installed (pip install --no-deps mmrazor==1.0.0)")
    path = Path(next(iter(found.submodule_search_locations))) / "models" / file
    spec = importlib.util.spec_from_file_location(f"mmrazor_alone.{path.stem}", path)
    assert spec is not None and spec.loader is not None
    alone = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for module in _surroundings():
            patch.setitem(sys.modules, module.__name__, module)
        spec.loader.exec_module(alone)
    return getattr(alone, name)


def _surroundings() -> list[ModuleType]:
    """What its files import: a registry that registers nothing, and the base class."""
    registry, base = ModuleType("mmrazor.registry"), ModuleType("mmrazor_alone.base_connector")
    registry.MODELS, base.BaseConnector = _Registry(), _Connector  # type: ignore[attr-defined]
    package = ModuleType("mmrazor_alone")
    package.__path__ = []
    return [ModuleType("mmrazor"), registry, package, base]
