"""A family of another package, without the engine's networks, keeps the contract, too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from edgekd.detectors import families
from edgekd.testing.training import TrainableContract
from tests.detectors.toy import ToyFamily


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    families.family_names()  # the built-in ones first
    monkeypatch.setitem(families._REGISTRY, "toy", ToyFamily())
    yield


class TestToy(TrainableContract):
    family, model = "toy", "toy-s"
    modules: ClassVar[tuple[str, ...]] = ("tests.detectors.toy_registered",)
