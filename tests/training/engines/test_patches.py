"""What edgekd changes about the engine lasts as long as one of its trainings, and is noticed where it has no effect."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Protocol

import pytest

from edgekd.detectors.ultralytics.guard import guard
from edgekd.errors import EnvironmentFault
from edgekd.training.engines import patches
from edgekd.training.engines.build import make_trainer
from edgekd.training.engines.precision import amp_is_sound
from edgekd.training.engines.protocol import Average, EngineTrainer, EngineValidator
from edgekd.training.engines.style import Styled
from tests.training.helpers import plan

guard()

from ultralytics.data import utils as data_utils  # noqa: E402
from ultralytics.engine import trainer as engine_trainer  # noqa: E402
from ultralytics.utils import callbacks, checks, downloads, torch_utils  # noqa: E402

ROOT = Path(__file__).parents[3]


class Plain(Protocol):
    """What every protocol has."""


# Every name of every module and class of the engine, before and after: what differs was changed by edgekd.
UNTOUCHED = """
    import sys
    from pathlib import Path
    import ultralytics
    from ultralytics import YOLO
    from ultralytics.models.rtdetr import train
    from ultralytics.utils import SETTINGS, callbacks, events

    def names():
        modules = {name: vars(module) for name, module in sys.modules.items() if name.startswith("ultralytics")}
        known = [(value.__module__, value) for content in modules.values() for value in dict(content).values()
                 if isinstance(value, type) and value.__module__ in modules]
        owners = {**modules, **{f"{name}.{kind.__qualname__}": vars(kind) for name, kind in known}}
        return {(name, key): id(value) for name, content in owners.items() for key, value in dict(content).items()}

    import matplotlib.font_manager  # the engine loads it where it first draws
    before, settings = names(), dict(SETTINGS)
    assert ("ultralytics.engine.model.Model", "train") in before  # which is `YOLO.train`
    del before["ultralytics.nn.tasks._SafeLoad", "_registry"]  # the engine's own: filled when it first reads weights
    import edgekd.cli, edgekd.pipeline
    from tests.training.helpers import methods, plan, teachers
    from edgekd.training.fit import fit
    fit(plan(Path(sys.argv[1]), distillers=methods(logit=dict())), teachers(), Path(sys.argv[2]), "student")
    after = names()
    changed = [key for key, value in before.items() if after.get(key) != value]
    fresh = [key for key in after if key[0] + key[1] == "ultralytics.engine.trainerenumerate"]
    print("changed", changed, fresh, dict(SETTINGS) == settings)
"""


def test_a_finished_training_leaves_the_engine_as_it_was(tiny_digits: Path, tmp_path: Path) -> None:
    """In a process that had the engine before it had edgekd."""
    command = [sys.executable, "-c", textwrap.dedent(UNTOUCHED), str(tiny_digits), str(tmp_path / "out")]
    config = {"YOLO_CONFIG_DIR": str(tmp_path / "config"), "YOLO_OFFLINE": "true", "ULTRALYTICS_SAFE_LOAD": "1"}
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), **config}
    (tmp_path / "config").mkdir()
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.stdout.splitlines()[-1:] == ["changed [] [] True"], done.stderr[-2000:]


def test_while_a_training_runs(tiny_digits: Path, tmp_path: Path) -> None:
    seen: list[tuple[Any, ...]] = []

    def look(_: Any) -> None:
        seen.append((engine_trainer.check_amp, data_utils.check_font("Arial.ttf"), vars(engine_trainer)["enumerate"]))
        with pytest.raises(ConnectionError, match=r"yolo26n\.pt is not there, and downloads are off"):
            downloads.attempt_download_asset("yolo26n.pt")

    trainer = make_trainer(plan(tiny_digits), {}, tmp_path)
    assert engine_trainer.check_amp is checks.check_amp
    trainer.add_callback("on_train_start", look)
    trainer.train()
    assert seen == [(amp_is_sound, None, patches.numbered)]
    assert engine_trainer.check_amp is checks.check_amp
    assert data_utils.check_font is checks.check_font
    assert "enumerate" not in vars(engine_trainer)
    assert downloads.attempt_download_asset.__module__ == "ultralytics.utils.downloads"
    assert callbacks.add_integration_callbacks is callbacks.base.add_integration_callbacks
    used = {*EngineTrainer.__annotations__, *vars(EngineTrainer)} - {*vars(Protocol), *vars(Plain)}
    assert [name for name in used if not hasattr(trainer, name)] == [], (
        "the engine's trainer has all that is used of it"
    )
    assert {"optimizer", "tloss", "lf", "_setup_train", "validate"} < used
    assert [name for name in Average.__annotations__ if not hasattr(trainer.ema, name)] == []
    assert [name for name in EngineValidator.__annotations__ if not hasattr(trainer.validator, name)] == []


def test_a_training_that_fails_leaves_the_engine_as_it_was(tiny_digits: Path, tmp_path: Path) -> None:
    def fail(_: Any) -> None:
        raise RuntimeError("no")

    trainer = make_trainer(plan(tiny_digits), {}, tmp_path)
    trainer.add_callback("on_train_start", fail)
    with pytest.raises(RuntimeError):
        trainer.train()
    assert engine_trainer.check_amp is checks.check_amp
    assert "enumerate" not in vars(engine_trainer)


def test_no_service_is_attached(tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither telemetry nor a logger, whatever the user's settings are."""
    from ultralytics.utils import SETTINGS

    for name in ("sync", "tensorboard", "mlflow", "wandb"):
        monkeypatch.setitem(SETTINGS, name, True)
    trainer = make_trainer(plan(tiny_digits), {}, tmp_path)
    own = {function.__module__ for functions in trainer.callbacks.values() for function in functions}
    assert own <= {"ultralytics.utils.callbacks.base"}


def test_whatever_is_overridden_is_looked_for() -> None:
    """A method that the engine no longer calls would do nothing, without a word."""
    from edgekd.training.engines.shell_trainer import ShellTrainer
    from edgekd.training.engines.trainer import StudentTrainer

    own = {name for kind in (StudentTrainer, Styled, ShellTrainer) for name in vars(kind) if not name.startswith("__")}
    called = {name for names in patches._TRAINER.values() for name in names}
    overridden = {name for name in own if hasattr(engine_trainer.BaseTrainer, name)}
    assert {"_setup_scheduler", "optimizer_step", "save_model"} < overridden
    assert overridden - called == {"train"}, "which edgekd calls itself"


class TestAnotherRelease:
    """One that no longer honours a patch is named where a training begins."""

    def refused(self, monkeypatch: pytest.MonkeyPatch, name: str, method: Any) -> str:
        monkeypatch.setattr("ultralytics.__version__", "8.4.999")
        monkeypatch.setattr(engine_trainer.BaseTrainer, name, method)
        with pytest.raises(EnvironmentFault) as error:
            patches.require_used()
        (problem,) = error.value.problems
        return problem

    def test_this_one_is_as_expected(self) -> None:
        patches.require_used()

    def test_a_loop_without_enumerate(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.refused(monkeypatch, "_do_train", lambda self: self.optimizer_step()) == (
            "train: ultralytics 8.4.999: TestAnotherRelease.test_a_loop_without_enumerate.<locals>.<lambda> no longer "
            "uses enumerate, which edgekd replaces; pip install ultralytics==8.4.190, which edgekd is tested with"
        )

    def test_a_hook_that_is_not_called(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def setup(self: Any) -> None:
            self.setup_model(), self._build_train_pipeline(), self.get_validator(), check_amp(), ModelEMA()

        check_amp = ModelEMA = lambda: None
        found = self.refused(monkeypatch, "_setup_train", setup)
        assert "BaseTrainer._setup_train no longer uses set_model_attributes, which edgekd relies on" in found

    def test_an_average_with_another_decay(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """That of a family's habits would be set, and not be read."""
        monkeypatch.setattr("ultralytics.__version__", "8.4.999")
        monkeypatch.setattr(torch_utils.ModelEMA, "update", lambda self, model: None)
        with pytest.raises(EnvironmentFault, match=r"8\.4\.999: ModelEMA\.update no longer uses decay, which edgekd"):
            patches.require_used()

    def test_a_method_that_is_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.refused(monkeypatch, "_build_train_pipeline", None)
        assert "BaseTrainer._build_train_pipeline no longer uses _setup_scheduler, build_optimizer, get_" in found

    def test_a_loop_that_numbers_batches_by_other_means(
        self, tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The name is looked up, and yet the loader is not asked for where to begin."""
        monkeypatch.setattr(patches, "numbered", enumerate)
        with pytest.raises(EnvironmentFault, match="its loop does not number the batches by enumerate"):
            make_trainer(plan(tiny_digits), {}, tmp_path).train()
