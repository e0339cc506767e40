"""What a search refuses before it trains, and what it outlives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekd.errors import EnvironmentFault
from edgekd.run_dir.manifest import MANIFEST_SCHEMA
from edgekd.search.distillers import proxy
from edgekd.training.fit import fit
from tests.search.distillers.test_search import SEARCH
from tests.stages.tiny import edgekd, write_recipe


@pytest.fixture
def recipe(folder: Path) -> Path:
    return write_recipe(folder / "tiny.yaml", distill=[], search=SEARCH)


def made_by_edgekd(out: Path, stages: dict[str, Any]) -> Path:
    out.mkdir()
    content = {"schema": MANIFEST_SCHEMA, "recipe": "tiny", "base": str(out.parent), "stages": stages}
    (out / "manifest.json").write_text(json.dumps(content))
    return out


@pytest.fixture
def trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: Any) -> None:
        raise AssertionError("something was trained")

    monkeypatch.setattr(proxy, "fit", fit)


@pytest.mark.usefixtures("trains_nothing")
def test_a_cluster_that_does_not_answer_is_refused_before_anything_is_trained(recipe: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    out = tmp_path / "S"
    ended = edgekd("search", recipe, "--out", out, "--set", "search.ray=localhost:1", "--set", "threads=1")
    assert ended.code == 4 and ended.problems[0].startswith("search.ray: no Ray cluster answers at localhost:1; ")
    assert not (out / "search.json").exists()


@pytest.mark.usefixtures("trains_nothing")
def test_the_directory_of_a_run_is_refused(recipe: Path, tmp_path: Path) -> None:
    done = {"status": "done", "inputs_sha256": "0", "code": 1, "outputs": {}}
    out = made_by_edgekd(tmp_path / "R", stages={"teacher": done, "student": done})
    (problem,) = edgekd("search", recipe, "--out", out).problems
    assert problem == (
        f"--out {out}: holds a run (its stages: teacher, student), no search; choose another --out, or --fresh to "
        "delete it"
    )
    assert not (out / "search.json").exists()


def test_the_directory_of_a_search_is_refused_by_a_run(recipe: Path, tmp_path: Path) -> None:
    out = made_by_edgekd(tmp_path / "S", stages={})
    (out / "search.json").write_text("{}")
    (problem,) = edgekd("run", recipe, "--out", out).problems
    assert problem == f"--out {out}: holds a search, no run; choose another --out, or --fresh to delete it"
    for command in ("report", "gate", "export"):
        (problem,) = edgekd(command, out).problems
        assert problem == f"{out}: holds a search, no run; 'edgekd search show {out}' prints it"
    assert sorted(entry.name for entry in out.iterdir() if entry.name != ".lock") == ["manifest.json", "search.json"]


@pytest.mark.usefixtures("trains_nothing")
def test_a_damaged_description_of_the_search_is_one_line(recipe: Path, tmp_path: Path) -> None:
    out = made_by_edgekd(tmp_path / "S", stages={})
    (out / "search.json").write_text("{")
    (problem,) = edgekd("search", recipe, "--out", out).problems
    assert problem.startswith(f"{out / 'search.json'}: does not hold what edgekd wrote there (JSONDecodeError")


def test_a_trial_without_memory_has_failed_and_the_others_go_on(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of control, logits and global the second."""
    begun: list[str] = []

    def once(*arguments: Any) -> None:
        begun.append(arguments[3])
        if begun.count("trial") == 1 and arguments[3] == "trial":
            raise EnvironmentFault("train: out of memory; lower train.batch or train.imgsz")
        fit(*arguments)

    monkeypatch.setattr(proxy, "fit", once)
    ended = edgekd("search", recipe, "--out", tmp_path / "S", "--json")
    assert ended.code == 0, ended.err
    assert [one["status"] for one in ended.json["trials"]] == ["complete", "failed", "complete"]
    assert ended.json["trials"][1]["why"] == "train: out of memory; lower train.batch or train.imgsz"


def test_without_any_trial_that_ended_it_is_no_success(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: Any) -> None:
        if arguments[3].startswith("trial"):
            raise EnvironmentFault("train: out of memory; lower train.batch or train.imgsz")
        fit(*arguments)

    monkeypatch.setattr(proxy, "fit", never)
    ended = edgekd("search", recipe, "--out", tmp_path / "S")
    assert ended.code == 4
    assert "edgekd: error: search: no trial came to its end (the last: train: out of memory; lower " in ended.err
    assert (tmp_path / "S" / "report.json").is_file()
    assert "no trial came to its end" in edgekd("search", "apply", tmp_path / "S", "--out", tmp_path / "a.yaml").err


def test_the_control_as_the_best_is_said(tmp_path: Path, folder: Path, recipe: Path) -> None:
    """Where nothing is taught, a recipe that distils nothing is written, and said to be one."""
    one = write_recipe(folder / "one.yaml", distill=[], search={**SEARCH, "trials": 1})
    assert edgekd("search", one, "--out", tmp_path / "S").code == 0
    written = edgekd("search", "apply", tmp_path / "S", "--out", tmp_path / "found.yaml")
    assert written.code == 0 and "note: the control was best: the recipe distils nothing" in written.out


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"kinds": ["logit"]}, "search.kinds: unknown kind 'logit'"),
        ({"proxy": {"images": 900}}, "search.proxy: 900 images and 6 held out are 906, but train has 24"),
        ({"proxy": {"imgsz": 80}}, "search.proxy.imgsz: 80 is not a multiple of 32"),
        (
            {"workers": 2, "strategy": "divide"},
            "search.workers: strategy 'divide' decides each trial by the one before",
        ),
    ],
)
def test_a_check_refuses_what_a_search_would(folder: Path, changes: dict[str, Any], text: str) -> None:
    path = write_recipe(folder / "wrong.yaml", distill=[], search=changes)
    ended = edgekd("check", path, "--no-estimate")
    assert ended.code == 2 and text in ended.err


def test_a_check_says_nothing_of_a_search_that_nobody_asks_for(folder: Path) -> None:
    """A student of queries alone: no kind of knowledge serves it."""
    for search in ({}, {"students": {"sizes": [64]}}):
        path = write_recipe(folder / "query.yaml", distill=[], student={"model": "rtdetr-p"}, search=search)
        assert edgekd("check", path, "--no-estimate").code == 0
