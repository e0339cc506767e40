"""A saved state of another training is not gone on from by mistake, and a damaged file is no state."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from edgekd.errors import InputError
from edgekd.training import resume as resume_module
from edgekd.training.resume import FILE, Resume


class TestIdentity:
    """A state of another training is not gone on from by mistake."""

    NOW: ClassVar[dict[str, Any]] = {
        "edgekd": "1",
        "train": {"lr0": 0.1, "optimizer": "SGD", "batch": 8},
        "world_size": 1,
        "data": {"a": 1},
    }

    def written(self, folder: Path) -> Path:
        path = folder / FILE
        writer = Resume(path, self.NOW)
        writer.done, writer.best = True, torch.zeros(3, dtype=torch.uint8)

        class Trainer:
            epoch = 6
            train_loader = type("Loader", (), {"index": 12})

        writer._write(Trainer(), None)
        return path

    def test_its_own(self, tmp_path: Path) -> None:
        resume = Resume(self.written(tmp_path), self.NOW)
        resume.load()
        assert resume.done
        assert torch.equal(resume.best, torch.zeros(3, dtype=torch.uint8))  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"train": {**NOW["train"], "lr0": 0.2}}, "differs in train.lr0 (0.1, now 0.2); --allow-changed goes on"),
            ({"edgekd": "2", "world_size": 4}, "differs in edgekd (1, now 2), world_size (1, now 4); --allow-changed"),
        ],
    )
    def test_another_may_be_allowed(self, tmp_path: Path, change: dict[str, Any], text: str) -> None:
        path, other = self.written(tmp_path), {**self.NOW, **change}
        with pytest.raises(InputError) as refused:
            Resume(path, other).load()
        assert str(refused.value).startswith(f"{path}: the saved training, from epoch 7, batch 12, {text}")
        Resume(path, other, allow_changed=True).load()

    def test_another_model_or_optimiser_is_never_allowed(self, tmp_path: Path) -> None:
        other = {**self.NOW, "train": {"lr0": 0.2, "optimizer": "AdamW", "batch": 8}}
        for allowed in (False, True):
            with pytest.raises(InputError, match=r"differs in train\.optimizer \(SGD, now AdamW\); --fresh begins"):
                Resume(self.written(tmp_path), other, allow_changed=allowed).load()

    def test_the_epoch_is_begun_anew_where_batches_are_others(self, tmp_path: Path) -> None:
        for change, same in (({"train": {**self.NOW["train"], "lr0": 1}}, True), ({"data": {"a": 2}}, False)):
            resume = Resume(self.written(tmp_path), {**self.NOW, **change}, allow_changed=True)
            resume.load()
            assert resume._same_place is same

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a state at all"])
    def test_a_damaged_file(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / FILE).write_bytes(content)
        with pytest.raises(InputError, match="the saved training cannot be read; delete the file to begin it anew"):
            Resume(tmp_path / FILE, {}).load()

    def test_a_file_that_would_run_code(self, tmp_path: Path) -> None:
        class Bomb:
            def __reduce__(self) -> Any:
                return Path.touch, (tmp_path / "exploded",)

        torch.save({"schema": resume_module.SCHEMA, "log": Bomb()}, tmp_path / FILE)
        with pytest.raises(InputError, match="cannot be read"):
            Resume(tmp_path / FILE, {}).load()
        assert not (tmp_path / "exploded").exists()
