"""The pair that the tests of whole searches begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stages.tiny import weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With weights of a teacher and of a student, for the recipes that a module writes there."""
    made = tmp_path_factory.mktemp("search")
    weights(made / "teacher.safetensors", "yolo11n")
    weights(made / "student.safetensors", "yolo11p")
    return made
