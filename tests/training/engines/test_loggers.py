"""The engine's loggers: what they show, where they write, and that they change nothing.

The engine's callbacks are dumb under pytest, so trainings run in processes of their own.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import textwrap
from collections import defaultdict
from pathlib import Path

import pytest

from edgekd.errors import EnvironmentFault
from edgekd.training.arguments import check_arguments
from edgekd.training.engines import loggers
from edgekd.training.engines.loggers import require_installed
from edgekd.training.fit import fit
from tests.stages.tiny import edgekd, write_recipe
from tests.training.helpers import methods, plan, teachers

Watched = tuple[Path, "subprocess.CompletedProcess[str]"]
ROOT = Path(__file__).parents[3]
pytest.importorskip("tensorboard", reason="tensorboard is not installed; it is in edgekd[dev]")


def process(program: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the home and all caches in `folder`."""
    (folder / "home").mkdir(parents=True, exist_ok=True)
    (folder / "cwd").mkdir(exist_ok=True)
    dropped = ("PYTEST", "YOLO_CONFIG", "MPLCONFIG", "MLFLOW", "WANDB", "XDG", "TORCH")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    own = {"HOME": str(folder / "home"), "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=folder / "cwd", env={**kept, **own}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of every scalar in TensorBoard's files, as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


TRAINING = """
    from pathlib import Path
    from tests.training.helpers import methods, plan, teachers
    from edgekd.training.fit import fit
    from dataclasses import replace
    from edgekd.training.arguments import OwnArguments
    made = plan(Path({data!r}), distillers=methods(logit=dict(), cwd=dict()), epochs=2)
    fit(replace(made, own=OwnArguments(loggers={names!r})), teachers(), Path({folder!r}), "student")
"""


@pytest.fixture(scope="module")
def watched(
    tiny_digits: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("watched")
    run = folder / "run" / "student"
    done = process(TRAINING.format(data=str(tiny_digits), names=["tensorboard"], folder=str(run)), folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_every_term_is_shown_with_its_value(watched: Watched) -> None:
    student = watched[0] / "run" / "student"
    shown = scalars(student / "logs")
    sums: dict[tuple[str, int], list[float]] = defaultdict(list)
    with (student / "terms.csv").open() as stream:
        for row in csv.DictReader(stream):
            batch = 1 if row["term"] == "detection" else 8
            sums[row["term"], int(float(row["epoch"])) + 1].append(float(row["weighted"]) / batch)
    terms = {term for term, _ in sums} - {"detection"}
    assert terms == {"logit.class", "cwd.feature"}
    for term in terms:
        steps = shown[f"train/kd/{term}"]
        assert [step for step, _ in steps] == [1, 2]
        for step, value in steps:
            values = sums[term, step]
            assert len(values) == 3  # 24 images in batches of 8
            assert value == pytest.approx(sum(values) / len(values), abs=2e-5)
            assert value > 0


def test_what_the_engine_shows_is_shown_too(watched: Watched) -> None:
    shown = scalars(watched[0] / "run" / "student" / "logs")
    with (watched[0] / "run" / "student" / "epochs.csv").open() as stream:
        epochs = list(csv.DictReader(stream))
    columns = {
        "ap": "metrics/mAP50-95(B)", "precision": "metrics/precision(B)", "recall": "metrics/recall(B)",
        "box_loss": "train/box_loss", "val_box_loss": "val/box_loss", "val_cls_loss": "val/cls_loss",
        "val_dfl_loss": "val/dfl_loss", "lr": "lr/pg1",
    }  # fmt: skip
    assert set(columns) <= set(epochs[0])
    for column, tag in columns.items():
        found = [value for _, value in shown[tag][:2]]
        assert found == pytest.approx([float(row[column]) for row in epochs], abs=2e-5)
    assert not [tag for tag in shown if tag.startswith("val/kd/")], "validation has no teacher"
    assert {"lr/pg0", "train/cls_loss", "train/dfl_loss", "val/box_loss", "metrics/mAP50(B)"} <= set(shown)


def test_it_says_where_and_writes_nowhere_else(watched: Watched) -> None:
    folder, done = watched
    logs = folder / "run" / "student" / "logs"
    assert f"tensorboard: {logs} (tensorboard --logdir {folder / 'run'})" in done.stderr.splitlines()
    assert all("/events.out.tfevents." in f"/{name}" for name in files(logs))
    assert files(folder / "home") == files(folder / "cwd") == []
    assert not (folder / "run" / "student" / "engine").exists()


def test_the_weights_are_the_same_without(watched: Watched, tiny_digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "it's here" / "student"  # the engine, left alone, looks for weights in `its here`
    fit(plan(tiny_digits, distillers=methods(logit={}, cwd={}), epochs=2), teachers(), folder, "student")
    theirs = watched[0] / "run" / "student" / "student.pt"
    assert (folder / "student.pt").read_bytes() == theirs.read_bytes()
    assert not (folder / "logs").exists()


# Stand-ins for MLflow and W&B: they note each call in a file and answer as the real ones do.
FAKES = {
    "mlflow/__init__.py": """
        import os
        from types import SimpleNamespace
        __version__ = "3"
        _run = None
        def note(*parts):
            with open(os.environ["NOTES"], "a") as stream: print(*parts, file=stream)
        def set_experiment(name): note("experiment", name)
        def autolog(): pass
        def active_run(): return _run
        def start_run(run_name=None):
            global _run
            _run = SimpleNamespace(info=SimpleNamespace(run_id=os.environ.pop("MLFLOW_RUN_ID", "id1")))
            note("start", run_name, _run.info.run_id, os.environ["MLFLOW_TRACKING_URI"])
            return _run
        def get_tracking_uri(): return os.environ["MLFLOW_TRACKING_URI"]
        def log_params(params): note("params", params["name"], params["project"])
        def log_metrics(metrics, step):
            for key, value in metrics.items(): note("metric", step, key, value)
        def log_artifact(path): note("artifact", path)
        def end_run(status): note("end", status)
    """,
    "sqlalchemy.py": "",
    "wandb/__init__.py": """
        import os
        from types import SimpleNamespace
        __version__ = "0"
        run = None
        def note(*parts):
            with open(os.environ["NOTES"], "a") as stream: print(*parts, file=stream)
        class Run:
            id, url, config = "id2", "https://example.org/run", SimpleNamespace(setdefaults=lambda _: None)
            def define_metric(self, *_, **__): pass
            def log(self, metrics, commit):
                for key, value in metrics.items(): note("metric", key, value)
            def log_artifact(self, *_, **__): note("artifact")
        def init(project, name, dir, **_):
            global run
            if os.environ.get("WANDB_BREAKS"): raise ConnectionError("no route")
            run = Run()
            note("init", project, name, dir, os.environ.get("WANDB_MODE"), os.environ.get("WANDB_CACHE_DIR"))
        def finish(exit_code=0): note("finish", exit_code)
    """,
}


def with_fakes(folder: Path) -> dict[str, str]:
    for name, content in FAKES.items():
        path = folder / "fakes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content))
    return {"PYTHONPATH": f"{folder / 'fakes'}:{ROOT}", "NOTES": str(folder / "notes")}


def trained_with_fakes(name: str, tiny_digits: Path, folder: Path, **environment: str) -> tuple[list[str], str]:
    program = TRAINING.format(data=str(tiny_digits), names=[name], folder=str(folder / "run" / "student"))
    done = process(program, folder, **with_fakes(folder), **environment)
    assert done.returncode == 0, done.stderr
    notes = folder / "notes"
    return notes.read_text().splitlines() if notes.exists() else [], done.stderr


@pytest.mark.slow
def test_mlflow_writes_into_the_run(tiny_digits: Path, tmp_path: Path) -> None:
    notes, err = trained_with_fakes("mlflow", tiny_digits, tmp_path)
    store = f"sqlite:///{tmp_path}/run/student/logs/mlflow.db"
    assert notes[:3] == ["experiment run", f"start student id1 {store}", "params student run"]
    for term in ("logit.class", "cwd.feature"):
        for epoch in (0, 1):
            (line,) = [note for note in notes if note.startswith(f"metric {epoch} train/kd/{term} ")]
            assert float(line.split()[-1]) > 0
    assert notes[-1] == "end FINISHED"
    assert not [note for note in notes if note.startswith("artifact")]
    assert f"mlflow: {store} (mlflow ui --backend-store-uri {store})" in err.splitlines()


@pytest.mark.slow
def test_mlflow_goes_to_the_users_server(tiny_digits: Path, tmp_path: Path) -> None:
    notes, _ = trained_with_fakes("mlflow", tiny_digits, tmp_path, MLFLOW_TRACKING_URI="http://example.org")
    assert notes[1] == "start student id1 http://example.org"


@pytest.mark.slow
def test_wandb_is_offline_in_the_run_without_an_account(tiny_digits: Path, tmp_path: Path) -> None:
    notes, err = trained_with_fakes("wandb", tiny_digits, tmp_path)
    logs = tmp_path / "run" / "student" / "logs"
    assert notes[0] == f"init run student {logs} offline {logs}/wandb"
    for term in ("logit.class", "cwd.feature"):
        assert len([note for note in notes if note.startswith(f"metric train/kd/{term} ")]) == 2
    assert "finish 0" in notes
    assert not [note for note in notes if note.startswith("artifact")]
    assert f"wandb: {logs}/wandb (wandb sync {logs}/wandb/offline-run-*)" in err.splitlines()


@pytest.mark.slow
def test_wandb_with_an_account_is_left_alone(tiny_digits: Path, tmp_path: Path) -> None:
    notes, err = trained_with_fakes("wandb", tiny_digits, tmp_path, WANDB_API_KEY="x")
    logs = tmp_path / "run" / "student" / "logs"
    assert notes[0] == f"init run student {logs} None {logs}/wandb"
    assert "wandb: https://example.org/run" in err.splitlines()


@pytest.mark.slow
def test_a_logger_that_fails_is_dropped(tiny_digits: Path, tmp_path: Path) -> None:
    notes, err = trained_with_fakes("wandb", tiny_digits, tmp_path, WANDB_BREAKS="1")
    assert notes == []
    assert "warning: wandb: ConnectionError: no route; the training goes on without it" in err.splitlines()
    assert (tmp_path / "run" / "student" / "student.pt").is_file()


def test_the_environment_is_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setattr(loggers, "require_installed", lambda _: None)
    monkeypatch.setattr(loggers, "_attach", lambda *_: seen.append(os.environ["MLFLOW_TRACKING_URI"]))
    seen: list[str] = []
    logs = tmp_path / "run" / "student" / "logs"
    for resumed in (False, True, False):
        with loggers.attached(None, ["mlflow", "mlflow"], logs, resumed):
            assert os.environ.get("MLFLOW_RUN_ID") == ("id7" if resumed else None)
            (logs / "mlflow.run").write_text("id7")
    assert seen == [f"sqlite:///{logs}/mlflow.db"] * 3
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert files(logs) == ["mlflow.run"]
    with loggers.attached(None, [], logs, resumed=False):
        assert not logs.exists(), "the logs of an earlier training say nothing about this one"


def test_names_and_packages_are_checked(tmp_path: Path, tiny_digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Exception, match=r"r\.yaml: train\.loggers: got .*'comet'.*, each tensorboard, mlflow or wandb"):
        check_arguments({"loggers": ["tensorboard", "comet"]}, True, "r.yaml")
    check_arguments({"loggers": ["tensorboard", "mlflow", "wandb"]}, True, "r.yaml")
    monkeypatch.setattr(loggers, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentFault) as error:
        require_installed(["wandb", "tensorboard"])
    assert error.value.problems == tuple(
        f"train.loggers: {name} is not installed; pip install {name}, or leave it out"
        for name in ("wandb", "tensorboard")
    )
    data = {"format": "yolo", "path": str(tiny_digits)}
    recipe = write_recipe(
        tmp_path / "x.yaml", data=data, teacher=None, student={"model": "yolo11p"}, distill=[], export=[], gate={},
        train={"loggers": ["wandb"]},
    )  # fmt: skip
    for command in (["check", recipe], ["run", recipe, "--out", tmp_path / "out"]):
        ended = edgekd(*command)
        assert (ended.code, ended.problems) == (
            4, ["train.loggers: wandb is not installed; pip install wandb, or leave it out"]
        )  # fmt: skip
    assert not (tmp_path / "out" / "student").exists()
