"""The engine's default of every argument, whatever it is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.training.engines.process import prepare


def engine_defaults() -> Mapping[str, Any]:
    """Argument -> value."""
    prepare()
    from ultralytics.utils import DEFAULT_CFG_DICT

    return dict(DEFAULT_CFG_DICT)
