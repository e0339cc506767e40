"""What the stages of one run share: the bound recipe, the run directory, and the data set and detectors once needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from edgekd import __version__, ranks
from edgekd.cores import set_threads
from edgekd.data import config as data_config
from edgekd.data.config import DataSet
from edgekd.data.pack import Pack
from edgekd.errors import InputError
from edgekd.run_dir import RunDir
from edgekd.stages.binding import Bound
from edgekd.stages.models import RunDetectors, build_detectors
from edgekd.training.engines.process import prepare

# Raise a stage's number when its code changes what it writes: finished stages of older code are then done again.
CODE_VERSIONS = {
    "data": 2,
    "teacher": 3,
    "prepare": 2,
    "knowledge": 1,
    "control": 1,
    "student": 1,
    "student_qat": 1,
    "accuracy": 2,
    "seeds": 1,
    "pseudo_labels": 1,
    "test": 2,
    "export": 4,
    "validate": 3,
    "runs_there": 1,
    "profile": 3,
    "gate": 4,
    "report": 10,
    "search_warm": 1,
    "search_errors": 2,
    "search_after": 1,
}


@dataclass
class Context:
    """One run.

    Attributes:
        allow_changed: go on from the saved state of a training that has changed since.
        turn_seconds: how long to wait for another run that is on a device.
        anew: profile what was profiled already.
        thorough: read all of a store of knowledge, to find what is damaged.
        prepared: label of a method -> what its preparation left, once that was looked for.
        trained: whether the student's weights say anything; False: nothing of it depends on images.
    """

    trained: ClassVar[bool] = True
    bound: Bound
    run: RunDir
    allow_changed: bool = False
    turn_seconds: float = 0.0
    anew: bool = False
    thorough: bool = False
    prepared: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        prepare(self.path / ".engine")
        os.environ.setdefault("MPLCONFIGDIR", str(self.path / ".engine"))  # the engine asks matplotlib for fonts
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(self.path / ".engine" / "inductor"))  # torch.compile
        set_threads(self.bound.recipe.threads)

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.run.path.resolve()

    @cached_property
    def data(self) -> DataSet:
        """The validated data set; ranks ask for it together, and rank 0 validates."""
        return ranks.on_main(lambda: data_config.load(self.bound.data, self.path / "data", self.bound.base))

    def require_same_data(self, doing: str) -> None:
        """See that what was read of the data set still holds: what was made of it would belong to neither state.

        Ranks ask for it together. Files that were changed and changed back meanwhile are not found out.

        Args:
            doing: for the message, e.g. `the student was trained`.

        Raises:
            InputError: a file was changed, added or removed.
        """
        problems = ranks.on_main(self._changes)
        if problems:
            raise InputError(
                f"data: was changed while {doing}, which so belongs to no state of it; begin anew with --fresh, or take"
                " it as it is with --allow-changed",
                *problems,
            )

    def _changes(self) -> list[str]:
        """What differs, a line each."""
        try:
            now = data_config.load(self.bound.data, self.path / "data", self.bound.base)
        except InputError as error:
            return list(error.problems)
        changed = []
        before, after = (
            {**data.splits, **({"unlabelled": data.unlabelled.split} if data.unlabelled else {})}
            for data in (self.data, now)
        )
        for name, split in before.items():
            other = after.get(name)
            if other is None or other.content_hash != split.content_hash:
                count = 0 if other is None else len(other.images)
                changed.append(f"data: {name}: {len(split.images):,} images were read before, {count:,} now, or others")
        return changed

    @cached_property
    def pair(self) -> RunDetectors:
        """Student and teacher."""
        return build_detectors(self.bound, self.data.class_names, self.data.channels)

    @property
    def size_px(self) -> tuple[int, int]:
        """[H, W] of validation."""
        return self.bound.recipe.imgsz_px, self.bound.recipe.imgsz_px

    def pack(self, size_px: tuple[int, int] | None = None, split: str = "val") -> Pack:
        """Letterboxed images of a split."""
        from edgekd.data import pack

        folder = self.path / "data" / "packs"
        return pack.build(self.data.splits[split], size_px or self.size_px, self.data.channels, folder)

    def stage(
        self, name: str, inputs: Mapping[str, Any], action: Callable[[], Sequence[str]], *, together: bool = False
    ) -> bool:
        """`RunDir.stage` with what every stage depends on added; `name` may carry a part, as in `export/onnx-fp32`."""
        return self.run.stage(name, self.with_common(name, inputs), action, together=together)

    def with_common(self, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """A stage's inputs with what every stage depends on."""
        kind, _, _ = name.partition("/")
        return {"edgekd": __version__, "code": CODE_VERSIONS[kind], "data": self.data_identity, **inputs}

    @cached_property
    def data_identity(self) -> dict[str, Any]:
        """What the data is: classes, channels, and the content hash per split."""
        hashes = {name: split.content_hash for name, split in sorted(self.data.splits.items())}
        return {"class_names": list(self.data.class_names), "channels": self.data.channels, "splits": hashes}
