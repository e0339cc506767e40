"""Cards, and which methods serve a pair."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.distill.contract import distiller_names, distiller_type
from edgekd.errors import InputError
from edgekd.stages.methods import list_methods, method_card, methods_for, shown_card
from tests.stages.tiny import edgekd, weights, write_recipe


def test_every_method_has_a_card() -> None:
    rows = list_methods()
    assert [row["method"] for row in rows] == distiller_names()
    for name in distiller_names():
        card = distiller_type(name).card
        assert card.about and card.title and card.venue
        lines, keys = shown_card(method_card(name))
        assert lines[0] == f"{name}: {card.about}"
        assert keys[0]["key"] == "weight" and {"schedule"} < {row["key"] for row in keys}


def test_the_card_of_ld() -> None:
    card = method_card("ld")
    assert (card["venue"], card["arxiv"], card["level"]) == ("CVPR 2022", "2102.12252", "head")
    assert card["weight published at"] is None, "a reduction of our own"
    assert "1333x800 px" in "".join(shown_card(method_card("pkd"))[0])
    assert card["needs"] == [
        "Both heads are dense",
        "Both heads have a box distribution of the same number of bins",
        "Both heads predict at the same points, as often at each, on one level at least",
        "The teacher knows at least one class of the data set",
    ]
    region = next(row for row in card["keys"] if row["key"] == "region")
    assert (region["default"], region["allowed"]) == ("confidence", "confidence, foreground")


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown method 'fitnett' .*did you mean 'fitnet'"):
        method_card("fitnett")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    weights(tmp_path / "teacher.safetensors", "yolo11n")
    return tmp_path


def test_which_methods_serve_a_recipe_and_why_the_others_do_not(folder: Path) -> None:
    """A student without box distributions, and taps that its teacher does not have: every reason, both sides named."""
    recipe = write_recipe(folder / "tiny.yaml", student={"model": "yolo26p"}, distill=["ld"])
    rows = {row["method"]: row for row in methods_for(recipe, ())}
    assert {name for name, row in rows.items() if row["serves"]} >= {"cwd", "fitnet", "logit", "pkd", "score_l2"}
    assert rows["ld"]["why not"] == (
        "ld needs a box distribution of equal bins on both sides; student yolo26p has reg_max=1, "
        "teacher yolo11n has reg_max=16"
    )
    shown = edgekd("methods", "--for", recipe)
    assert shown.code == 0 and "serves" in shown.out
    order = [row["serves"] for row in rows.values()]
    assert order == sorted(order, reverse=True), "those that serve come first"


def test_a_recipe_without_a_teacher_has_no_pair(folder: Path) -> None:
    recipe = write_recipe(folder / "tiny.yaml", teacher=None, distill=None, student={"model": "yolo11p"})
    ended = edgekd("methods", "--for", recipe)
    assert ended.code == 2
    assert ended.problems == [f"{recipe}: has no teacher; add one to see which methods serve the pair"]
    assert edgekd("methods", "cwd", "--for", recipe).code == 2


def test_a_tap_inside_the_teachers_head_is_run(folder: Path) -> None:
    """It passed the check and ended the first step with a bug's exit code."""
    method = {"method": "fitnet", "taps": "model.23.cv3.0.0"}
    weights(folder / "student.safetensors", "yolo11p")
    ended = edgekd("check", write_recipe(folder / "tiny.yaml", distill=[method]), "--dry-step", "--json")
    assert ended.code == 0, ended.err
    assert [term["term"] for term in ended.json["dry_step"]["terms"]] == ["detection", "fitnet.feature"]
