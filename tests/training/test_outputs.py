"""The files of a training."""

from __future__ import annotations

from pathlib import Path

from edgekd.training.outputs import _write_csv


def test_rows_that_an_earlier_version_kept_have_empty_cells(tmp_path: Path) -> None:
    """A training that is resumed after an update has rows of both."""
    _write_csv(tmp_path / "epochs.csv", [{"epoch": 1, "ap": 0.5}, {"epoch": 2, "ap": 0.6, "lr": 0.01}])
    assert (tmp_path / "epochs.csv").read_text() == "epoch,ap,lr\n1,0.5,\n2,0.6,0.01\n"
