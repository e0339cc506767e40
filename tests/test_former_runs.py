"""A run of an earlier version keeps all that it has, whenever the renaming is interrupted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekd import former_runs
from edgekd.former_runs import take_over
from edgekd.run_dir import RunDir

FILES = {
    "baseline/student.pt": "weights", "baseline/epochs.csv": "epoch,ap\n", "baseline/metrics.json": '{"ap": 0.5}',
    "validate/baseline@host.json": '{"schema": "edgekd.accuracy/1", "model": "baseline", "ap": 0.5}',
    "validate/baseline@host.detections.jsonl": '{"image_id": 1}\n', "student/student.pt": "other weights",
}  # fmt: skip
NEW = {
    "control/student.pt": "weights", "control/epochs.csv": "epoch,ap\n", "control/metrics.json": '{"ap": 0.5}',
    "validate/control@host.detections.jsonl": '{"image_id": 1}\n', "student/student.pt": "other weights",
}  # fmt: skip


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def manifest(tmp_path: Path) -> dict[str, Any]:
    """Of a run in `tmp_path`, whose files are written."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def entry(*names: str) -> dict[str, Any]:
        return {
            "status": "done",
            "inputs_sha256": sha256(names[0]),
            "outputs": {name: sha256(FILES[name]) for name in names},
        }

    stages = {
        "baseline": entry("baseline/student.pt", "baseline/epochs.csv"),
        "accuracy/baseline": entry("baseline/metrics.json", *(name for name in FILES if "host" in name)),
        "student": entry("student/student.pt"),
    }
    content = {"schema": "edgekd.manifest/1", "recipe": "a", "base": str(tmp_path), "stages": stages}
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    return content


def files(run: Path) -> dict[str, str]:
    found = {str(path.relative_to(run)): path.read_text() for path in run.rglob("*") if path.is_file()}
    return {name: text for name, text in found.items() if name not in ("manifest.json", "recipe.lock.yaml", ".lock")}


def require_taken_over(run: Path) -> None:
    """All is there under its new name, and the manifest holds its hashes."""
    found = files(run)
    accuracy = found.pop("validate/control@host.json")
    assert json.loads(accuracy) == {"schema": "edgekd.accuracy/1", "model": "control", "ap": 0.5}
    assert found == NEW
    stages = json.loads((run / "manifest.json").read_text())["stages"]
    assert list(stages) == ["control", "accuracy/control", "student"], "in the order in which they were done"
    assert stages["control"]["inputs_sha256"] == sha256("baseline/student.pt"), "the stage need not be done again"
    assert stages["control"]["outputs"] == {name: sha256(NEW[name]) for name in list(NEW)[:2]}
    assert stages["accuracy/control"]["outputs"] == {
        "control/metrics.json": sha256(NEW["control/metrics.json"]),
        "validate/control@host.json": sha256(accuracy),
        "validate/control@host.detections.jsonl": sha256(NEW["validate/control@host.detections.jsonl"]),
    }


def test_all_is_renamed(tmp_path: Path, manifest: dict[str, Any]) -> None:
    after = take_over(tmp_path, "manifest.json", manifest)
    require_taken_over(tmp_path)
    assert after == json.loads((tmp_path / "manifest.json").read_text())
    assert take_over(tmp_path, "manifest.json", after) == after
    require_taken_over(tmp_path)


@pytest.mark.usefixtures("manifest")
def test_whoever_enters_takes_over(tmp_path: Path) -> None:
    with RunDir.held(tmp_path, "a", tmp_path, "name: a\n") as run:
        assert "control" in run.manifest["stages"]
    require_taken_over(tmp_path)


@pytest.mark.parametrize("place", ["write_json", "write_bytes", "Path.rename", "Path.unlink"])
@pytest.mark.parametrize("count", [1, 2])
def test_a_kill_loses_nothing(
    place: str, count: int, tmp_path: Path, manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first or the second call of each of its steps."""
    owner, name = (Path, place.partition(".")[2]) if "." in place else (former_runs, place)
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def killed(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            raise KeyboardInterrupt
        return original(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        try:
            take_over(tmp_path, "manifest.json", manifest)
        except KeyboardInterrupt:
            assert calls == count
    take_over(tmp_path, "manifest.json", json.loads((tmp_path / "manifest.json").read_text()))
    require_taken_over(tmp_path)


def test_a_file_that_is_not_whole_is_not_vouched_for(tmp_path: Path, manifest: dict[str, Any]) -> None:
    (tmp_path / "validate/baseline@host.json").write_text('{"model": "baseline", "ap": 0.9}')
    stages = take_over(tmp_path, "manifest.json", manifest)["stages"]
    assert not (tmp_path / "validate/control@host.json").exists(), "so the stage is done again"
    assert stages["accuracy/control"]["outputs"]["validate/control@host.json"] == sha256(
        FILES["validate/baseline@host.json"]
    )


def test_a_training_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    """No stage is finished yet; its state lies in the folder."""
    (tmp_path / "baseline").mkdir()
    (tmp_path / "baseline/resume.pt").write_text("state")
    take_over(tmp_path, "manifest.json", {"stages": {}})
    assert files(tmp_path) == {"control/resume.pt": "state"}


def test_what_has_todays_names_stays_as_it_is(tmp_path: Path) -> None:
    """And where both are there, nothing is overwritten."""
    for name in ("baseline", "control"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "student.pt").write_text(name)
    manifest = {"stages": {name: {"outputs": {}} for name in ("baseline", "control")}}
    assert take_over(tmp_path, "manifest.json", manifest) == manifest
    assert files(tmp_path) == {"baseline/student.pt": "baseline", "control/student.pt": "control"}
