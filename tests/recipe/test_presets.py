"""Presets: names that stand for a list of methods, and what is said where one is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekd.errors import InputError
from edgekd.recipe.load import load_recipe, read_recipe
from edgekd.recipe.presets import load_preset, preset_files

HEAD = "name: a\ndata: {format: digits}\nstudent: {model: yolo11p}\nteacher: {weights: t.pt}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "presets").mkdir()
    return tmp_path


def methods(folder: Path, distill: str, *overrides: str) -> list[tuple[str, dict[str, Any]]]:
    (folder / "a.yaml").write_text(f"{HEAD}distill: {distill}\n")
    return [(entry.method, entry.rest) for entry in load_recipe(folder / "a.yaml", overrides).distill]


def problem(folder: Path, distill: str, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        methods(folder, distill, *overrides)
    (only,) = caught.value.problems
    return only.removeprefix(f"{folder / 'a.yaml'}: ")


QUICKSTART = [("logit", {"weight": 1.0}), ("ld", {"weight": 1.0}), ("score_l2", {"weight": 6.0})]


def test_a_name_stands_for_a_list(folder: Path) -> None:
    assert methods(folder, "quickstart") == QUICKSTART


@pytest.mark.parametrize(
    "name", ["quickstart", "rtmdet-mmyolo", "damo-yolo", "detkds-two-stage", "detkds-one-stage", "detkds-anchor-free"]
)
def test_all_that_are_built_in_can_be_read(name: str) -> None:
    assert name in preset_files() and load_preset(name)["about"]


def test_in_a_list_it_is_combined_with_own_entries(folder: Path) -> None:
    found = methods(folder, "[pkd, quickstart, {method: fitnet, weight: 2}]")
    assert found == [("pkd", {}), *QUICKSTART, ("fitnet", {"weight": 2})]


def test_overrides_see_methods_alone_and_may_name_one(folder: Path) -> None:
    assert methods(folder, "quickstart", "distill.1.weight=3")[1] == ("ld", {"weight": 3})
    assert methods(folder, "[pkd]", "distill=quickstart") == QUICKSTART
    assert methods(folder, "quickstart", "distill=[]") == []


def test_own_ones_stand_in_the_current_folder_or_at_a_path(folder: Path) -> None:
    (folder / "presets" / "mine.yaml").write_text("about: mine\ndistill: [pkd, {method: cwd, tau: 4.0}]\n")
    (folder / "else.yaml").write_text("about: elsewhere\ndistill: [ld]\n")
    assert methods(folder, "mine") == [("pkd", {}), ("cwd", {"tau": 4.0})]
    assert methods(folder, "[mine, ./else.yaml]") == [("pkd", {}), ("cwd", {"tau": 4.0}), ("ld", {})]


def test_training_under_quantisation_takes_them_too(folder: Path) -> None:
    (folder / "a.yaml").write_text(f"{HEAD}quantize: {{mode: qat, distill: damo-yolo}}\n")
    (entry,) = load_recipe(folder / "a.yaml").quantize.distill
    assert (entry.method, entry.rest["schedule"]) == ("cwd", {"decay": "cosine", "final": 0.1})


def test_an_unknown_name_suggests_a_near_one(folder: Path) -> None:
    told = problem(folder, "rtmdet-mmyol")
    assert told == (
        "distill: must be a list, got 'rtmdet-mmyol'; write [rtmdet-mmyol], or the name of a preset (known: damo-yolo, "
        "detkds-anchor-free, detkds-one-stage, detkds-two-stage, quickstart, rtmdet-mmyolo; "
        "did you mean 'rtmdet-mmyolo'?)"
    )
    assert problem(folder, "[pkd, ./none.yaml]").startswith("distill[1]: ./none.yaml: no such preset file")


def test_a_preset_takes_no_keys(folder: Path) -> None:
    told = problem(folder, "[{method: quickstart, weight: 2}]")
    assert told == "distill[0]: a preset has no further keys; copy its methods to change them"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("distill: [pkd]", "'about' is missing; a preset has the keys about and distill"),
        ("about: a\ndistill: [pkd]\nname: b", "'name' is no key of one; a preset has the keys about and distill"),
        ("about: a\ndistill: pkd", "about must be text and distill a list of methods, got 'pkd'"),
        ("about: a\ndistill: []", "about must be text and distill a list of methods, got []"),
        ("about: a\ndistill: [7]", "distill[0]: must name a method, got 7"),
        ("about: a\ndistill: [{weight: 7}]", "distill[0]: must name a method, got {'weight': 7}"),
    ],
)
def test_a_faulty_file_says_what_is_wrong(folder: Path, text: str, told: str) -> None:
    (folder / "presets" / "mine.yaml").write_text(text)
    found = problem(folder, "mine")
    assert found.startswith("distill: preset ") and found.endswith(told)


def test_a_user_cannot_write_a_place(folder: Path) -> None:
    assert "distill[0].place: is no key of a method" in problem(folder, "[{method: pkd, place: here}]")


def test_entries_know_their_preset(folder: Path) -> None:
    (folder / "a.yaml").write_text(f"{HEAD}distill: [pkd, quickstart]\n")
    places = [entry.get("place") for entry in read_recipe(folder / "a.yaml")["distill"]]
    assert places == [None, *(f"preset quickstart: distill[{index}]" for index in range(3))]
