"""Cards, and which methods serve a pair."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekd.distill.contract import distiller_names, distiller_type
from edgekd.errors import InputError
from edgekd.recipe.lookup import find
from edgekd.recipe.presets import preset_files
from edgekd.stages.binding import bind_recipe
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
        assert [row["key"] for row in keys if not row["about"]] == []
        shown = {line.partition(":")[0] for line in lines[2:]}
        always = ("title", "venue", "level", "needs", "reads of the student", "reads of the teacher", "published gain")
        assert shown >= {*always, "weight published at", "package"}
        assert "what its pair decides" not in "".join(lines), "each serves one of two plain pairs"


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
    assert card["reads of the student"] == ["boxes"]
    assert card["reads of the teacher"] == ["boxes", "class_logits"]
    assert "weight published at: none; the default is our own" in shown_card(card)[0]
    region = next(row for row in card["keys"] if row["key"] == "region")
    assert (region["default"], region["allowed"]) == ("confidence", ["confidence", "foreground"])
    json.dumps(card)
    shown = next(row for row in shown_card(card)[1] if row["key"] == "region")
    assert (shown["default"], shown["allowed"]) == ("confidence", "confidence, foreground")


def test_a_card_says_what_a_method_does_beside_its_terms() -> None:
    lines, keys = shown_card(method_card("gkd"))
    assert "reads of the student: taps neck" in lines and "looks at all train images: yes" in lines
    schedule = next(row for row in keys if row["key"] == "schedule")
    assert schedule["default"] == "warmup_epochs=0.0, decay=linear, final=0.0"
    taps = next(row for row in keys if row["key"] == "taps")
    assert (taps["default"], taps["about"]) == ("neck", "a role or module paths; levels are matched by stride")
    assert "is prepared before any student: yes" in shown_card(method_card("unikd"))[0]
    assert "steers the student's loss: yes" in shown_card(method_card("lad"))[0]
    assert "trains apart from the student: discriminator" in shown_card(method_card("gankd"))[0]


def test_presets_are_listed_and_shown() -> None:
    rows = {row["method"]: row for row in edgekd("methods", "--json").json}
    assert (rows["quickstart"]["level"], rows["quickstart"]["methods"]) == ("preset", ["logit", "ld", "score_l2"])
    assert (
        rows["cwd"]["keys"]["tau"] == 1.0
        and rows["cwd"]["keys"]["weight"] == distiller_type("cwd").config_type().weight
    )
    assert "logit, ld, score_l2" in " ".join(edgekd("methods").out.split())
    assert edgekd("methods", "damo-yolo", "--json").json["distill"] == [
        {"method": "cwd", "weight": 1.0, "schedule": {"decay": "cosine"}, "normalise": "channel"}
    ]
    shown = edgekd("methods", "rtmdet-mmyolo")
    assert shown.out.startswith("rtmdet-mmyolo: normalised channel-wise") and "until_share: 0.93" in shown.out
    with pytest.raises(InputError, match="did you mean the preset 'damo-yolo'"):
        method_card("damo-yol")


def test_the_preset_of_the_quickstart_is_its_recipe() -> None:
    bound = bind_recipe(find("recipes", "quickstart"))
    again = bind_recipe(find("recipes", "quickstart"), ("distill=quickstart",))
    assert again.distillers == bound.distillers
    assert again.locked() == bound.locked(), "a locked recipe holds methods, wherever they come from"


def test_no_preset_has_the_name_of_a_method(folder: Path) -> None:
    assert not set(preset_files()) & set(distiller_names())
    (Path.cwd() / "presets").mkdir()
    (Path.cwd() / "presets" / "logit.yaml").write_text("about: x\ndistill: [pkd]\n")
    ended = edgekd("check", write_recipe(folder / "tiny.yaml"), "--architecture-only")
    assert ended.code == 2 and ended.problems[0].endswith(
        "presets/logit.yaml has the name of a method; rename the file"
    )


def test_a_mistake_inside_a_preset_names_preset_and_key(folder: Path) -> None:
    (folder / "mine.yaml").write_text("about: x\ndistill: [{method: cwd, tauu: 2}, {method: pdk}]\n")
    recipe = write_recipe(folder / "tiny.yaml", distill=["logit", str(folder / "mine.yaml")])
    ended = edgekd("check", recipe)
    place = f"{recipe}: preset {folder / 'mine.yaml'}: distill"
    assert ended.code == 2
    assert ended.problems[0].startswith(f"{place}[0].tauu: unknown key 'tauu'")
    assert ended.problems[1].startswith(f"{place}[1].method: unknown method 'pdk'")


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
    assert rows["ld"]["why not"] == [
        "ld needs a box distribution of equal bins on both sides; student yolo26p has reg_max=1, "
        "teacher yolo11n has reg_max=16"
    ]
    assert rows["cwd"]["why not"] == []
    shown = edgekd("methods", "--for", recipe)
    assert shown.code == 0 and "serves" in shown.out
    order = [row["serves"] for row in rows.values()]
    assert order == sorted(order, reverse=True), "those that serve come first"


def test_which_methods_serve_a_recipe_whose_files_are_elsewhere(folder: Path) -> None:
    recipe = write_recipe(folder / "tiny.yaml", teacher={"model": "yolo11n", "weights": "nowhere.pt"}, distill=["cwd"])
    assert edgekd("methods", "--for", recipe).code == 2
    ended = edgekd("methods", "--for", recipe, "--architecture-only", "--json")
    assert ended.code == 0, ended.err
    assert {row["method"] for row in ended.json if row["serves"]} >= {"cwd", "ld", "pkd"}
    assert "name it with --for RECIPE" in edgekd("methods", "--architecture-only").err


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
