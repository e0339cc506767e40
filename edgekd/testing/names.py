"""What every family does with the names of its models."""

from __future__ import annotations

from typing import ClassVar

import pytest

from edgekd.detectors import families
from edgekd.detectors.contract import Asked, Detector
from edgekd.errors import InputError
from edgekd.testing.predictions import NAMES


class NamesContract:
    """Part of `DetectorContract`."""

    family: ClassVar[str]
    model: ClassVar[str]

    def open(self) -> Detector:
        """See `DetectorContract`."""
        raise NotImplementedError

    def test_names_of_models_are_its_own(self) -> None:
        family = families.family(self.family)
        assert family.missing() is None
        assert self.model in family.models()
        assert families.meant(self.model, None) == self.family
        with pytest.raises(InputError, match="here"):
            family.open(Asked("no-such-model", None, NAMES, 3, "here"))

    def test_another_model_is_found_out(self) -> None:
        """And its own is not."""
        family, detector = families.family(self.family), self.open()
        assert family.differing(self.model, detector, "test") == []
        others = [name for name in family.models() if name != self.model]
        if others:
            assert family.differing(others[0], detector, "test")
