"""The process that trains: made ready for the engine before anything imports it."""

from __future__ import annotations

from pathlib import Path

from edgekd.detectors.ultralytics.guard import SETTINGS_FOLDER, guard

__all__ = ["PACKAGES", "SETTINGS_FOLDER", "prepare"]

PACKAGES = ("torch", "ultralytics")  # whose versions decide what a training gives, whatever is trained


def prepare(config_dir: Path | None = None) -> None:
    """Switch off what the engine would do beside training: downloads, telemetry, settings at home.

    Args:
        config_dir: where it may keep its settings; a temporary folder that is removed at exit when None.
    """
    guard(config_dir)
