"""Stages are done once, and a run directory takes neither strangers nor two processes."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from edgekd.errors import EnvironmentFault, InputError
from edgekd.run_dir import RunDir


def held(path: Path, name: str = "a", *, fresh: bool = False, locked: str = "name: a\n"):
    return RunDir.held(path, name, path.parent, locked, fresh=fresh)


class Work:
    """An action that counts how often it was done, and writes what it is told to."""

    def __init__(self, run: RunDir, *names: str) -> None:
        self.run, self.names, self.times = run, names, 0

    def __call__(self) -> list[str]:
        self.times += 1
        for name in self.names:
            path = self.run.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name} {self.times}")
        return list(self.names)


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
        run.stage("x", {}, Work(run, "a.txt"))
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert (manifest["schema"], manifest["recipe"], manifest["base"]) == ("edgekd.manifest/1", "a", str(tmp_path))
    entry = manifest["stages"]["x"]
    # printf 'a.txt 1' | sha256sum
    assert entry["outputs"] == {"a.txt": "664a07325e99bc4c4bc3e8a560c921ed5e0e8e81e5d47fbe31fab2a0ab553415"}
    assert set(entry) == {"status", "inputs_sha256", "outputs", "versions", "seconds", "finished"}
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


class TestWhoseItIs:
    def test_another_recipe_is_refused(self, tmp_path: Path) -> None:
        with held(tmp_path / "run"):
            pass
        with (
            pytest.raises(InputError, match="holds a run of recipe 'a', not 'b'; choose another --out, or --fresh"),
            held(tmp_path / "run", "b"),
        ):
            pass

    @pytest.mark.parametrize("fresh", [False, True])
    def test_a_strangers_folder_is_left_alone(self, tmp_path: Path, fresh: bool) -> None:
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos/cat.jpg").write_text("cat")
        with (
            pytest.raises(InputError, match=r"--out .*photos: .*; choose an empty or new directory"),
            held(tmp_path / "photos", fresh=fresh),
        ):
            pass
        assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]

    @pytest.mark.parametrize("fresh", [False, True])
    def test_a_file_is_refused(self, tmp_path: Path, fresh: bool) -> None:
        (tmp_path / "run").write_text("x")
        with pytest.raises(InputError, match="choose an empty or new directory"), held(tmp_path / "run", fresh=fresh):
            pass
        assert (tmp_path / "run").read_text() == "x"

    @pytest.mark.parametrize(
        "content", ["", "{", "[]", "null", '{"schema": "edgekd.manifest/0"}', '{"schema": "edgekd.manifest/1"}']
    )
    def test_a_damaged_manifest_is_refused_but_may_be_deleted(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run/manifest.json").write_text(content)
        with pytest.raises(InputError, match=r"manifest\.json: damaged, or of another version"), held(tmp_path / "run"):
            pass
        with held(tmp_path / "run", fresh=True) as run:
            assert run.manifest["stages"] == {}

    def test_what_a_process_left_that_was_killed_at_once_is_no_obstacle(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run/.lock").touch()
        (tmp_path / "run/.manifest.json.77.tmp").write_text("{")
        with held(tmp_path / "run") as run:
            assert run.manifest["recipe"] == "a"

    def test_existing(self, tmp_path: Path) -> None:
        with pytest.raises(
            InputError, match=r"no run directory \(no manifest.json\); make one with 'edgekd run RECIPE"
        ):
            RunDir.existing(tmp_path)
        with held(tmp_path / "run"):
            pass
        assert RunDir.existing(tmp_path / "run").manifest["recipe"] == "a"


class TestFresh:
    def test_deletes_the_run_and_nothing_that_it_links_to(self, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        (tmp_path / "images/cat.jpg").write_text("cat")
        with held(tmp_path / "run") as run:
            run.stage("x", {}, Work(run, "out/a.txt"))
            (run.path / "out/link").symlink_to(tmp_path / "images")
            (run.path / "link").symlink_to(tmp_path / "images")
        with held(tmp_path / "run", "b", fresh=True) as run:
            assert run.manifest["stages"] == {}
            assert run.manifest["recipe"] == "b"
            assert {path.name for path in run.path.iterdir()} == {".lock", "manifest.json", "recipe.lock.yaml"}
        assert (tmp_path / "images/cat.jpg").read_text() == "cat"

    def test_of_the_current_folder_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with held(tmp_path / "run"):
            pass
        monkeypatch.chdir(tmp_path / "run")
        with pytest.raises(InputError, match="is the current folder"), held(Path(), fresh=True):
            pass
        assert (tmp_path / "run/manifest.json").is_file()

    def test_of_nothing_is_a_new_run(self, tmp_path: Path) -> None:
        with held(tmp_path / "deep/run", fresh=True) as run:
            assert run.manifest["stages"] == {}


def _hold(path: Path, started, end) -> None:
    with held(path):
        started.set()
        end.wait(20)


class TestTwoProcesses:
    @pytest.mark.parametrize("fresh", [False, True])
    def test_the_second_is_refused_and_changes_nothing(self, tmp_path: Path, fresh: bool) -> None:
        context = multiprocessing.get_context("fork")
        started, end = context.Event(), context.Event()
        first = context.Process(target=_hold, args=(tmp_path / "run", started, end))
        first.start()
        try:
            assert started.wait(20)
            with (
                pytest.raises(EnvironmentFault, match="another edgekd process works in it"),
                held(tmp_path / "run", fresh=fresh, locked="name: a\nseed: 7\n"),
            ):
                pass
            assert (tmp_path / "run/recipe.lock.yaml").read_text() == "name: a\n"
        finally:
            end.set()
            first.join(20)

    def test_the_lock_of_a_killed_process_is_free(self, tmp_path: Path) -> None:
        context = multiprocessing.get_context("fork")
        started, end = context.Event(), context.Event()
        first = context.Process(target=_hold, args=(tmp_path / "run", started, end))
        first.start()
        assert started.wait(20)
        first.kill()
        first.join(20)
        with held(tmp_path / "run"):
            pass
