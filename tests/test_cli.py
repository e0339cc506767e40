"""The command line: usage errors, exit codes, and that `--json` prints JSON and nothing else."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekd import __version__, pipeline
from edgekd.cli.app import app
from edgekd.errors import Bug, DivergedError, EnvironmentFault, InputError
from tests.stages.tiny import edgekd

COMMANDS = [
    "init", "run", "prepare", "distill", "knowledge", "export", "validate", "profile", "bundle", "report", "check",
    "data", "shortlist", "search", "gate", "compare", "history", "evidence", "targets", "devices", "doctor", "methods",
    "schema",
]  # fmt: skip


class TestUsage:
    def test_every_command_says_what_it_does(self) -> None:
        assert [command.name or command.callback.__name__ for command in app.registered_commands] == COMMANDS
        shown = edgekd("--help")
        assert shown.code == 0
        for name in COMMANDS:
            assert name in shown.out
            assert edgekd(name, "--help").code == 0

    def test_version(self) -> None:
        ended = edgekd("--version")
        assert (ended.code, ended.out, ended.err) == (0, f"{__version__}\n", "")

    def test_nothing_asked_shows_the_help(self) -> None:
        ended = edgekd()
        assert ended.code == 2
        assert "Usage" in ended.out + ended.err
        assert "error" not in ended.err

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (["rum"], "No such command 'rum'"),
            (["run", "quickstart", "--out", "x", "--fresch"], "No such option: --fresch"),
            (["data", "digits", "--train", "many"], "Invalid value for '--train'"),
        ],
    )
    def test_errors_are_one_line(self, arguments: list[str], text: str) -> None:
        ended = edgekd(*arguments)
        assert (ended.code, ended.out) == (2, "")
        assert len(ended.problems) == 1
        assert text in ended.problems[0]
        assert ended.problems[0].endswith("; see 'edgekd --help'")

    @pytest.mark.parametrize(
        ("command", "default"),
        [
            ("run", "10m"), ("knowledge", "runs/NAME of the recipe's file"), ("shortlist", "runs/shortlist-NAME"),
            ("report", "side-by-side.html"),
        ],
    )  # fmt: skip
    def test_help_names_a_default_that_is_made_up_later(self, command: str, default: str) -> None:
        shown = " ".join(edgekd(command, "--help").out.replace("\u2502", " ").split())
        assert f"[default: ({default})]" in shown

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (["search", "show", "x", "--set", "a=1"], "search show: --set and --fresh are for a search itself; write "),
            (
                ["search", "apply", "x", "--out", "y", "--fresh"],
                "search apply: --set and --fresh are for a search itself",
            ),
            (
                ["knowledge", "show", "x", "--fresh"],
                "knowledge show: --out, --set and --fresh are for the knowledge of",
            ),
            (
                ["knowledge", "show", "x", "--out", "y"],
                "knowledge show: --out, --set and --fresh are for the knowledge",
            ),
            (["methods", "--set", "a=1"], "Invalid value: --set and --architecture-only are about a recipe"),
        ],
    )
    def test_an_option_that_would_do_nothing_is_refused(self, arguments: list[str], text: str) -> None:
        ended = edgekd(*arguments)
        assert (ended.code, ended.out, len(ended.problems)) == (2, "", 1)
        assert text in ended.problems[0]

    @pytest.mark.parametrize("command", [["history"], ["baseline", "list"]])
    def test_no_baselines_is_said(self, command: list[str], tmp_path: Path) -> None:
        ended = edgekd(*command, "--store", tmp_path)
        line = f"{tmp_path}: no baselines; keep one with 'edgekd baseline save RUN NAME'\n"
        assert (ended.code, ended.out) == (0, line)
        assert edgekd(*command, "--store", tmp_path, "--json").json == []


class TestLists:
    @pytest.mark.parametrize(
        ("command", "first"), [("targets", "onnx-fp32"), ("devices", "local"), ("methods", "logit")]
    )
    def test_for_programs_and_for_people(self, command: str, first: str) -> None:
        rows = edgekd(command, "--json").json
        assert first in [row[command.removesuffix("s")] for row in rows]
        shown = edgekd(command)
        assert shown.code == 0
        assert first in shown.out

    def test_methods_say_what_they_are(self) -> None:
        rows = {row["method"]: row for row in edgekd("methods", "--json").json}
        assert {"fitnet", "cwd", "pkd", "score_l2", "logit", "ld"} <= set(rows)
        assert "tau" in rows["cwd"]["keys"]
        assert all(row["about"] for row in rows.values())

    def test_data_of_a_changed_recipe(self) -> None:
        sizes = [part for change in ("train=12", "val=4", "test=2") for part in ("--set", f"data.{change}")]
        splits = edgekd("data", "quickstart", *sizes, "--json").json["splits"]
        assert {name: split["images"] for name, split in splits.items()} == {"train": 12, "val": 4, "test": 2}

    def test_schema(self) -> None:
        assert edgekd("schema").json["title"] == "edgekd recipe"


class TestData:
    def test_digits_in_both_layouts(self, tmp_path: Path) -> None:
        options = ("--imgsz", 32, "--train", 3, "--val", 2, "--test", 2, "--seed", 1)
        ended = edgekd("data", "digits", "--out", tmp_path / "set", *options, "--json")
        assert ended.code == 0
        assert ended.json["data_yaml"] == str(tmp_path / "set/data.yaml")
        assert (tmp_path / "set/annotations").is_dir()
        assert len(list((tmp_path / "set/images/train").iterdir())) == 3
        text = edgekd("data", "digits", "--out", tmp_path / "set", *options)
        assert (text.code, text.out.splitlines()[0]) == (0, f"data_yaml: {tmp_path / 'set/data.yaml'}")

    def test_of_a_recipe(self, tmp_path: Path, tiny_digits: Path) -> None:
        recipe = tmp_path / "a.yaml"
        recipe.write_text(f"name: a\ndata: {{format: yolo, path: {tiny_digits}}}\nstudent: {{model: yolo11p}}\n")
        ended = edgekd("data", recipe, "--json")
        assert ended.code == 0
        assert {name: split["images"] for name, split in ended.json["splits"].items()} == {
            "train": 24,
            "val": 8,
            "test": 8,
        }


class TestHabits:
    """Of people who know other tools: the error says what to type."""

    @pytest.mark.parametrize(
        ("typed", "text"),
        [
            ("train data=data.yaml", "No such command 'train'; 'edgekd run RECIPE --out RUN' trains and measures, "
                "'edgekd distill RECIPE --out RUN' trains alone"),
            ("detect train", "No such command 'detect'; edgekd always detects: 'edgekd run RECIPE --out RUN'"),
            ("val", "No such command 'val'; 'edgekd validate RUN' measures AP of what a run exported"),
            ("predict", "No such command 'predict'; the student opens in Ultralytics, e.g. 'yolo predict "
                "model=RUN/student/student.pt source=IMAGE', and 'edgekd bundle RUN --target T' packs an exported file "
                "with an example"),
            ("gat", "No such command 'gat'. Did you mean 'gate'?; see 'edgekd --help'"),
            ("baseline xyz", "No such command 'xyz'; there are save, list, show"),
            ("run", "Missing argument 'recipe'; give a recipe: a YAML file, or a built-in one such as quickstart"),
            ("run quickstart", "Missing option '--out'; name a folder to write, e.g. --out runs/first"),
            ("run quickstart --out x --epochs 10", "No such option: --epochs; write --set train.epochs=..."),
            ("run quickstart --out x --model yolo11n", "No such option: --model; write --set student.model=..."),
            ("run quickstart --project x", "No such option: --project; write --out RUN"),
            ("run quickstart --out x --resume", "No such option: --resume; a run goes on by itself: give the same "
                "command"),
            ("run quickstart --out x --nonsense", "No such option: --nonsense; see 'edgekd --help'"),
            ("run quickstart --out x epochs=10", "Got unexpected extra argument(s) (epochs=10); write --set "
                "train.epochs=10"),
            ("export x format=onnx", "Got unexpected extra argument(s) (format=onnx); write --set export=[onnx-fp32]"),
            ("gate", "Missing argument 'run_dir'; give the directory of a run: what --out of 'edgekd run' named"),
            ("doctor local", "Got unexpected extra argument(s) (local); write --device local"),
            ("doctor --device cpu", "unknown device 'cpu' (known: android, jetson-agx-orin, jetson-nano-jetpack4, "
                "jetson-orin-nano, jetson-orin-nx, local, raspberry-pi-5, x86-openvino; did you mean 'local'?); "
                "give one "
                "of these or the path of a YAML file"),
            ("run best.pt --out x", "best.pt: is a file of weights, not a recipe; name it in one: teacher: "
                "{weights: best.pt}"),
        ],
    )  # fmt: skip
    def test_what_to_type_instead(self, typed: str, text: str) -> None:
        ended = edgekd(*typed.split())
        assert (ended.code, ended.out) == (2, "")
        assert ended.problems == [text]

    def test_help_by_one_letter(self) -> None:
        assert edgekd("run", "-h").out == edgekd("run", "--help").out

    def test_a_recipe_for_a_run(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text("name: a\n")
        assert edgekd("gate", tmp_path / "a.yaml").problems == [
            f"{tmp_path}/a.yaml: is a file, not a run directory; make one with 'edgekd run RECIPE --out RUN'"
        ]

    def test_a_run_for_a_recipe(self, tmp_path: Path) -> None:
        (tmp_path / "recipe.lock.yaml").write_text("name: a\n")
        assert edgekd("check", tmp_path).problems == [
            f"{tmp_path}: is a run directory, not a recipe; its own is {tmp_path}/recipe.lock.yaml, and commands on "
            f"the "
            f"run such as 'edgekd export {tmp_path}' take the directory"
        ]


class TestErrors:
    """Whatever happens inside a command, it ends with a code and lines that say what to do."""

    def ending(self, monkeypatch: pytest.MonkeyPatch, error: BaseException, *options: str) -> tuple[int, str]:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(pipeline, "run", fail)
        ended = edgekd(*options, "run", "quickstart", "--out", "x")
        assert ended.out == ""
        return ended.code, ended.err

    @pytest.mark.parametrize(
        ("error", "code", "text"),
        [
            (InputError("a: wrong", "b: wrong"), 2, "edgekd: error: a: wrong\nedgekd: error: b: wrong\n"),
            (EnvironmentFault("disk: full"), 4, "edgekd: error: disk: full\n"),
            (DivergedError("train: nan"), 5, "edgekd: error: train: nan\n"),
            (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/y"), 4,
             "edgekd: error: /x/y: No space left on device; free space or choose another --out\n"),
            (OSError(errno.EROFS, os.strerror(errno.EROFS)), 4,
             "edgekd: error: disk: Read-only file system; free space or choose another --out\n"),
            (KeyError("a\nb"), 70, "edgekd: bug: KeyError: 'a\\nb'; please report it with the output of --debug\n"),
            (Bug("a: wrong"), 70, "edgekd: bug: a: wrong; please report it with the output of --debug\n"),
            (ValueError("a\nb"), 70, "edgekd: bug: ValueError: a b; please report it with the output of --debug\n"),
        ],
    )  # fmt: skip
    def test_kinds(self, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, text: str) -> None:
        assert self.ending(monkeypatch, error) == (code, text)

    def test_an_interruption(self, monkeypatch: pytest.MonkeyPatch) -> None:
        code, text = self.ending(monkeypatch, KeyboardInterrupt())
        assert code == 130
        assert text.splitlines()[-1] == (
            "edgekd: error: interrupted; the same command goes on from the last finished stage"
        )
        assert "Traceback" not in text

    def test_debug_shows_the_traceback(self, monkeypatch: pytest.MonkeyPatch) -> None:
        code, text = self.ending(monkeypatch, InputError("a: wrong"), "--debug")
        assert code == 2
        assert text.startswith("Traceback")
        assert text.endswith("edgekd: error: a: wrong\n")

    def test_debug_shows_where_a_bug_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        code, text = self.ending(monkeypatch, ValueError("a\x1bbug"), "--debug")
        assert code == 70, "1 would be the gate's"
        assert text.startswith("Traceback")
        assert text.splitlines()[-2:] == [
            "ValueError: a\\x1bbug",
            "edgekd: bug: ValueError: a\\x1bbug; please report it with the output of --debug",
        ]

    @pytest.mark.parametrize(
        "error",
        [
            MemoryError(),
            OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
            ImportError("libtorch_cpu.so: failed to map segment from shared object"),
            RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried"),
        ],
    )
    def test_too_little_memory(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        code, text = self.ending(monkeypatch, error)
        assert code == 4
        assert text.startswith("edgekd: error: memory: not enough of it (")
        assert text.endswith("; free some, or lower train.batch or imgsz\n")

    @pytest.mark.parametrize("code", [0, 1, 3, 4])
    def test_the_verdict_is_the_exit_code(self, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
        outcome: Callable[..., pipeline.Outcome] = lambda *_, **__: pipeline.Outcome({"ap": 0.5}, "AP 0.5", code)  # noqa: E731
        monkeypatch.setattr(pipeline, "run", outcome)
        assert edgekd("run", "quickstart", "--out", "x").out == "AP 0.5\n"
        ended = edgekd("run", "quickstart", "--out", "x", "--json")
        assert (ended.code, json.loads(ended.out)) == (code, {"ap": 0.5})
