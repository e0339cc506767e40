"""What tests of `edgekd shortlist` share."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.search import shortlist
from edgekd.search.facts import FactsStore
from edgekd.search.untrained import ShortlistContext
from tests.search.bench import Bench, look


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_digits: Path) -> Bench:
    made = Bench()
    monkeypatch.chdir(tmp_path)
    Path("data.link").symlink_to(tiny_digits.parent)
    monkeypatch.setattr(ShortlistContext, "measure", lambda _, candidate: made.measure(candidate))
    monkeypatch.setattr(FactsStore, "_look", look)
    monkeypatch.setattr(shortlist, "check_environment", lambda bound, prepare: None)
    return made
