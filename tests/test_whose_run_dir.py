"""A run directory takes neither strangers, nor another recipe, nor two processes."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from edgekd.errors import EnvironmentFault, InputError
from edgekd.run_dir import RunDir, require_recipe
from tests.run_dirs import Work, held


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

    @pytest.mark.parametrize("entry", ["x", "null", "{}", '{"outputs": ["a"]}', '{"outputs": {"a": 1}}'])
    def test_a_manifest_whose_entries_are_none_is_damaged(self, tmp_path: Path, entry: str) -> None:
        (tmp_path / "run").mkdir()
        entry = json.dumps(entry) if entry == "x" else entry
        text = f'{{"schema": "edgekd.manifest/1", "recipe": "a", "base": "/", "stages": {{"gate": {entry}}}}}'
        (tmp_path / "run/manifest.json").write_text(text)
        with pytest.raises(
            InputError, match=r"manifest\.json: damaged; choose another --out, or move this folder away"
        ):
            RunDir.existing(tmp_path / "run")

    @pytest.mark.parametrize("fresh", [False, True])
    @pytest.mark.parametrize("content", ["", "{", '{"schema": "edgekd.manifest/1", "st'])
    def test_a_damaged_manifest_proves_nothing(self, tmp_path: Path, content: str, fresh: bool) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run/manifest.json").write_text(content)
        (tmp_path / "run/report.html").write_text("a page of somebody else's")
        with pytest.raises(InputError) as caught, held(tmp_path / "run", fresh=fresh):
            pass
        assert str(caught.value) == (
            f"{tmp_path}/run/manifest.json: damaged; choose another --out, or move this folder away"
        )
        assert (tmp_path / "run/report.html").is_file()

    @pytest.mark.parametrize("content", ['{"schema": "edgekd.manifest/0"}', '{"schema": "edgekd.manifest/1"}'])
    def test_a_manifest_of_another_version_is_refused_but_may_be_deleted(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run/manifest.json").write_text(content)
        with (
            pytest.raises(
                InputError, match=r"manifest\.json: of another version of edgekd; .* --fresh to delete the run"
            ),
            held(tmp_path / "run"),
        ):
            pass
        with held(tmp_path / "run", fresh=True) as run:
            assert run.manifest["stages"] == {}

    @pytest.mark.parametrize("fresh", [False, True])
    @pytest.mark.parametrize("content", ["[]", "null", '{"name": "my web app", "icons": []}', '{"schema": 3}'])
    def test_a_folder_with_another_programs_manifest_is_left_alone(
        self, tmp_path: Path, content: str, fresh: bool
    ) -> None:
        files = {"manifest.json": content, "index.html": "<html>", "data/users.json": "{}", "verdict.json": "{}"}
        for name, text in files.items():
            (tmp_path / "app" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "app" / name).write_text(text)
        with pytest.raises(InputError) as caught, held(tmp_path / "app", fresh=fresh):
            pass
        what = "--fresh empties run directories only, and this is none" if fresh else "exists and is no edgekd run"
        assert str(caught.value) == f"--out {tmp_path}/app: {what}; choose an empty or new directory"
        assert {name: (tmp_path / "app" / name).read_text() for name in files} == files

    def test_what_a_process_left_that_was_killed_at_once_is_no_obstacle(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run/.lock").touch()
        (tmp_path / "run/.manifest.json.77.tmp").write_text("{")
        with held(tmp_path / "run") as run:
            assert run.manifest["recipe"] == "a"

    def test_existing(self, tmp_path: Path) -> None:
        with pytest.raises(
            InputError, match=r"no run directory \(no manifest.json of edgekd\); make one with 'edgekd run RECIPE"
        ):
            RunDir.existing(tmp_path)
        with held(tmp_path / "run"):
            pass
        assert RunDir.existing(tmp_path / "run").manifest["recipe"] == "a"


class TestFresh:
    def test_deletes_what_edgekd_wrote_and_names_what_stays(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "images").mkdir()
        (tmp_path / "images/cat.jpg").write_text("cat")
        ours = [
            "recipe.lock.yaml", "verdict.json", "report.html", "report.md", "report.json", "data/split.json",
            "data/packs/val-0123456789ab.npy", "data/train_view/view.json", "data/train_view/labels/train/1_a.txt",
            "data/digits/digits.json", "data/digits/images/train/a.png", "teacher/teacher.json", "student/student.pt",
            "student/resume.pt", "student/engine/weights/last.pt", "control/metrics.json", "export/onnx/model.onnx",
            "export/onnx/edgekd.json", "export/onnx/bisect.json", "export/.onnx.12.tmp/model.onnx",
            "validate/onnx@local.detections.jsonl", "profile/onnx@local.jsonl.partial", "bundles/onnx.zip",
            ".engine/settings.json", "student/.student.pt.77.tmp", "out/a.txt",
        ]  # fmt: skip
        theirs = [
            "notes.md", "student/notes.md", "export/onnx/README", "data/mine.json", "comparison/comparison.json",
            "bundles/mine.zip", "validate/mine.json", "empty",
        ]  # fmt: skip
        with held(tmp_path / "run") as run:
            run.stage("x", {}, Work(run, "out/a.txt"))
            for name in (*ours, *theirs[:-1]):
                (run.path / name).parent.mkdir(parents=True, exist_ok=True)
                (run.path / name).write_text('{"files": {"model.onnx": ""}}' if name.endswith("edgekd.json") else "x")
            (run.path / "empty").mkdir()
            (run.path / "out/link").symlink_to(tmp_path / "images")
            (run.path / "profile/b@local.json").symlink_to(tmp_path / "images/cat.jpg")
        with held(tmp_path / "run", "b", fresh=True) as run:
            assert (run.manifest["stages"], run.manifest["recipe"]) == ({}, "b")
            left = [str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_symlink()]
            left += [str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()]
            assert set(left) == {".lock", "manifest.json", "out/link", "profile/b@local.json", *theirs[:-1]}
            assert (run.path / "empty").is_dir()
            assert not (run.path / "student/engine").exists()
            assert not (run.path / "teacher").exists(), "folders that it leaves empty go, too"
        assert (tmp_path / "images/cat.jpg").read_text() == "cat"
        kept = sorted([*theirs, "out/link", "profile/b@local.json"])
        assert capsys.readouterr().err == (
            f"--fresh: {tmp_path}/run: left alone what edgekd did not write: {', '.join(kept[:5])} and 5 more\n"
        )

    @pytest.mark.parametrize("name", ["../outside.txt", "/{root}/outside.txt", "link/outside.txt"])
    def test_deletes_nothing_outside_whatever_a_manifest_names(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "elsewhere").mkdir()
        for folder in (tmp_path, tmp_path / "elsewhere"):
            (folder / "outside.txt").write_text("x")
        with held(tmp_path / "run"):
            (tmp_path / "run/link").symlink_to(tmp_path / "elsewhere")
        content = json.loads((tmp_path / "run/manifest.json").read_text())
        content["stages"]["x"] = {"outputs": {name.format(root=tmp_path): "0"}}
        (tmp_path / "run/manifest.json").write_text(json.dumps(content))
        with held(tmp_path / "run", fresh=True):
            pass
        assert (tmp_path / "outside.txt").is_file()
        assert (tmp_path / "elsewhere/outside.txt").is_file()

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


class TestTheLockedRecipe:
    def test_is_written_once_it_is_accepted(self, tmp_path: Path) -> None:
        with held(tmp_path / "run") as run:
            run.accept()
        before = (tmp_path / "run/manifest.json").read_text()
        with pytest.raises(ZeroDivisionError), held(tmp_path / "run", locked="name: a\nseed: 7\n"):
            raise ZeroDivisionError
        assert (tmp_path / "run/recipe.lock.yaml").read_text() == "name: a\n"
        assert (tmp_path / "run/manifest.json").read_text() == before
        with held(tmp_path / "run", locked="name: a\nseed: 7\n") as run:
            run.accept()
        assert (tmp_path / "run/recipe.lock.yaml").read_text() == "name: a\nseed: 7\n"
        require_recipe(tmp_path / "run")

    @pytest.mark.parametrize("content", ["name: ", "", "name: a\nseed: 8\n"])
    def test_cut_or_edited_is_noticed(self, tmp_path: Path, content: str) -> None:
        with held(tmp_path / "run") as run:
            run.accept()
        (tmp_path / "run/recipe.lock.yaml").write_text(content)
        with pytest.raises(InputError) as caught:
            require_recipe(tmp_path / "run")
        assert str(caught.value) == (
            f"{tmp_path}/run/recipe.lock.yaml: is not what edgekd wrote (edited, cut or damaged since); "
            f"run 'edgekd run RECIPE --out {tmp_path}/run' again, which keeps what is done, and give changes by --set"
        )
        (tmp_path / "run/recipe.lock.yaml").unlink()
        with pytest.raises(InputError, match=r"recipe\.lock\.yaml: is not there; run "):
            require_recipe(tmp_path / "run")

    @pytest.mark.parametrize("writes", [0, 1, 2])
    def test_a_kill_while_it_is_written_leaves_one_that_is_known(
        self, tmp_path: Path, writes: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Manifest, recipe, manifest: the process ends before the first, the second or the third of them."""
        with held(tmp_path / "run") as run:
            run.accept()
        replace, left = Path.replace, iter(range(writes))

        def until_killed(self: Path, target: Path) -> Path:
            if next(left, None) is None:
                raise ZeroDivisionError
            return replace(self, target)

        with held(tmp_path / "run", locked="name: a\nseed: 7\n") as run, pytest.raises(ZeroDivisionError):
            monkeypatch.setattr(Path, "replace", until_killed)
            run.accept()
        monkeypatch.undo()
        require_recipe(tmp_path / "run")


def _hold(path: Path, started, end) -> None:
    with held(path) as run:
        run.accept()
        started.set()
        end.wait(200)


class TestTwoProcesses:
    @pytest.mark.parametrize("fresh", [False, True])
    def test_the_second_is_refused_and_changes_nothing(self, tmp_path: Path, fresh: bool) -> None:
        context = multiprocessing.get_context("fork")
        started, end = context.Event(), context.Event()
        first = context.Process(target=_hold, args=(tmp_path / "run", started, end))
        first.start()
        try:
            assert started.wait(200)
            with (
                pytest.raises(EnvironmentFault, match="another edgekd process works in it"),
                held(tmp_path / "run", fresh=fresh, locked="name: a\nseed: 7\n"),
            ):
                pass
            assert (tmp_path / "run/recipe.lock.yaml").read_text() == "name: a\n"
        finally:
            end.set()
            first.join(200)

    def test_the_lock_of_a_killed_process_is_free(self, tmp_path: Path) -> None:
        context = multiprocessing.get_context("fork")
        started, end = context.Event(), context.Event()
        first = context.Process(target=_hold, args=(tmp_path / "run", started, end))
        first.start()
        assert started.wait(200)
        first.kill()
        first.join(200)
        with held(tmp_path / "run"):
            pass
