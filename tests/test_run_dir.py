"""Stages are done once, and again when a file is not what it was."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from edgekd.errors import EnvironmentFault, InputError
from edgekd.run_dir import directory, manifest
from tests.run_dirs import Work, held


def test_a_stage_is_done_once(tmp_path: Path) -> None:
    with held(tmp_path / "run") as run:
        work = Work(run, "out/a.txt", "b.txt")
        assert run.stage("export/x", {"weight": 1.5, "names": ["a"]}, work) is True
        assert run.stage("export/x", {"names": ["a"], "weight": 1.5}, work) is False
    with held(tmp_path / "run") as run:
        assert run.stage("export/x", {"weight": 1.5, "names": ["a"]}, work) is False
    assert work.times == 1


@pytest.mark.parametrize(
    "spoil", [lambda path: path.unlink(), lambda path: path.write_text("x"), lambda path: path.touch()]
)
def test_a_stage_is_done_again_when_an_output_is_not_what_it_was(tmp_path: Path, spoil) -> None:
    with held(tmp_path / "run") as run:
        work = Work(run, "out/a.txt", "b.txt")
        run.stage("x", {}, work)
        before = (run.path / "b.txt").read_text()
        spoil(run.path / "b.txt")
        again = not (run.path / "b.txt").is_file() or (run.path / "b.txt").read_text() != before
        assert run.stage("x", {}, work) is again
        assert work.times == 1 + again


def test_a_stage_is_done_again_when_its_inputs_differ(tmp_path: Path) -> None:
    with held(tmp_path / "run") as run:
        work = Work(run, "a.txt")
        assert [run.stage("x", {"seed": seed}, work) for seed in (0, 1, 1, 0)] == [True, True, False, True]


def test_a_stage_that_failed_is_not_done(tmp_path: Path) -> None:
    def fail() -> list[str]:
        raise ZeroDivisionError

    with held(tmp_path / "run") as run:
        work = Work(run, "a.txt")
        run.stage("x", {}, work)
        with pytest.raises(ZeroDivisionError):
            run.stage("x", {"seed": 1}, fail)
    with held(tmp_path / "run") as run:
        assert run.stage("x", {}, work) is True, "what a failed attempt may have overwritten counts as gone"


def test_manifest(tmp_path: Path) -> None:
    with held(tmp_path / "run") as run:
        run.accept()
        run.stage("x", {"code": 7}, Work(run, "a.txt"))
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert (manifest["schema"], manifest["recipe"], manifest["base"]) == ("edgekd.manifest/1", "a", str(tmp_path))
    entry = manifest["stages"]["x"]
    # printf 'a.txt 1' | sha256sum
    assert entry["outputs"] == {"a.txt": "664a07325e99bc4c4bc3e8a560c921ed5e0e8e81e5d47fbe31fab2a0ab553415"}
    assert set(entry) == {"status", "inputs_sha256", "code", "outputs", "versions", "seconds", "finished"}
    assert entry["code"] == 7
    assert {"edgekd", "torch", "ultralytics", "numpy"} <= set(entry["versions"])
    assert (tmp_path / "run/recipe.lock.yaml").read_text() == "name: a\n"


def test_the_hash_of_an_output_is_known_to_the_stages_behind(tmp_path: Path) -> None:
    with held(tmp_path / "run") as run:
        run.stage("student", {}, Work(run, "student.pt"))
        assert len(run.output_hash("student", "student.pt")) == 64
        with pytest.raises(
            InputError, match=rf"stage 'export/x' has not been done; run 'edgekd export {run.path}' first"
        ):
            run.output_hash("export/x", "edgekd.json")
        with pytest.raises(InputError, match="stage 'teacher' has not been done; run 'edgekd run' first"):
            run.output_hash("teacher", "teacher.json")


class TestFilesThatAreNotWhatTheyWere:
    def test_are_named_all_at_once_with_what_mends_them(self, tmp_path: Path) -> None:
        with held(tmp_path / "run") as run:
            run.stage("validate/a", {}, Work(run, "a.json", "b.json"))
            run.stage("student", {}, Work(run, "c.pt"))
            run.require_intact(["validate/a", "student"])
            (run.path / "a.json").write_text("a.json")
            (run.path / "b.json").unlink()
            (run.path / "c.pt").write_text("")
            with pytest.raises(InputError) as caught:
                run.require_intact(["validate/a", "student"])
        run_dir = tmp_path / "run"
        assert caught.value.problems == (
            f"{run_dir}/a.json: is not what stage 'validate/a' wrote (edited, cut or damaged since); "
            f"run 'edgekd validate {run_dir}' again",
            f"{run_dir}/b.json: is gone since stage 'validate/a' wrote it; run 'edgekd validate {run_dir}' again",
            f"{run_dir}/c.pt: is not what stage 'student' wrote (edited, cut or damaged since); "
            f"run 'edgekd run RECIPE --out {run_dir}' again",
        )

    def test_that_cannot_be_read_are_the_machines_fault(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with held(tmp_path / "run") as run:
            run.stage("x", {}, Work(run, "a.json"))

            def broken(path: Path) -> str:
                raise OSError(errno.EIO, "Input/output error")

            monkeypatch.setattr(manifest, "sha256_file", broken)
            with pytest.raises(EnvironmentFault, match=r"a\.json: cannot be read \(Input/output error\); mend"):
                run.require_intact(["x"])

    def test_inputs_are_compared_whichever_version_did_the_stage(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inputs = {"edgekd": "0.0.1", "code": 1, "weight": 2}
        monkeypatch.setattr(directory, "__version__", "0.0.1")
        with held(tmp_path / "run") as run:
            run.stage("x", inputs, Work(run, "a.json"))
        now = {**inputs, "edgekd": "9.9.9", "code": 3}
        assert run.is_of("x", now)
        assert not run.is_of("x", {**now, "weight": 3})
