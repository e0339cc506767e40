"""A whole search of a tiny pair: what it leaves, that it goes on, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from edgekd import api
from edgekd.errors import InputError
from edgekd.recipe.load import read_recipe
from edgekd.recipe.schema import Recipe
from edgekd.recipe.search import SearchRecipe
from edgekd.search.distillers import proxy
from edgekd.search.distillers.proxy import Extent, extent_of
from edgekd.search.distillers.space import space_of
from edgekd.stages.binding import bind_recipe
from edgekd.training.fit import fit
from edgekd.training.plan import FitPlan
from tests.stages.tiny import Ended, edgekd, read, write_recipe

SEARCH: dict[str, Any] = {
    "trials": 3, "repeats": 0, "kinds": ["logits", "global"],
    "proxy": {"images": 8, "held_out": 6, "steps": 2, "warm_steps": 1},
}  # fmt: skip


def recipe(folder: Path, name: str = "tiny.yaml", **changes: Any) -> Path:
    return write_recipe(folder / name, distill=[], search={**SEARCH, **changes})


@pytest.fixture(scope="module")
def rates() -> dict[str, float]:
    """First learning rate of each kind of training of `done`."""
    return {}


@pytest.fixture(scope="module")
def done(folder: Path, rates: dict[str, float]) -> tuple[Path, Ended]:
    def noted(plan: FitPlan, teachers: Any, out: Path, title: str, *more: Any) -> None:
        rates[title] = plan.train["lr0"]
        fit(plan, teachers, out, title, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proxy, "fit", noted)
        return folder / "S", edgekd("search", recipe(folder), "--out", folder / "S", "--json")


def test_in_python_a_recipe_object_goes_on_with_it(folder: Path, done: tuple[Path, Ended]) -> None:
    whole = api.Recipe.load(recipe(folder))
    made = api.Recipe(base=folder, **whole.content)
    assert api.search(made, done[0], quiet=True)["trials"] == done[1].json["trials"]


def test_what_a_search_says_and_leaves(done: tuple[Path, Ended]) -> None:
    out, ended = done
    assert ended.code == 0
    report = ended.json
    assert report == read(out / "report.json")
    assert [row["stage"] for row in report["trials"]] == ["control", "published", "published"]
    assert report["trials"][0]["distill"] == [] and report["ended"] == "all 3 trials are done"
    assert report["proxy"] == {
        "images": 8, "held_out": 6, "steps_per_pass": 1, "passes": 2, "warm_passes": 1, "lr_factor": 0.2, "steps": 2,
        "size_px": 64,
    }  # fmt: skip
    assert report["space"]["entries"] == 10_780 + 490 and report["noise"]["deviation"] is None
    assert set(report["errors"]) == {"teacher", "before", "after"}
    assert {kind for row in report["trials"] for entry in row["distill"] for kind in [entry["knowledge"]]} == {
        "global", "logits",
    }  # fmt: skip
    assert not (out / "trial").exists() and not (out / "proxy" / "warm" / "resume.pt").exists()


def test_the_held_out_images_are_others_of_train(done: tuple[Path, Ended]) -> None:
    view = done[0] / "proxy" / "view" / "images"
    train, held_out = ({path.resolve() for path in (view / name).iterdir()} for name in ("train", "val"))
    assert (len(train), len(held_out), train & held_out) == (8, 6, set())
    assert {path.parent.name for path in train | held_out} == {"train"}


def test_it_is_shown_as_a_page_and_in_words(done: tuple[Path, Ended]) -> None:
    out = done[0]
    shown = edgekd("search", "show", out)
    assert shown.code == 0
    assert "control: AP" in shown.out and "the proxy chooses" in shown.out
    page = (out / "report.html").read_text()
    assert "<h1>Search for tiny</h1>" in page and "Errors by kind" in page and "script" not in page


def test_what_it_found_becomes_a_recipe_and_a_preset(done: tuple[Path, Ended], folder: Path) -> None:
    out = done[0]
    (folder / "other").mkdir()
    written = edgekd("search", "apply", out, "--out", folder / "other" / "found.yaml", "--json")
    assert written.code == 0
    bound = bind_recipe(folder / "other" / "found.yaml")
    assert [config.model_dump()["knowledge"] for _, config in bound.distillers] == [
        entry["knowledge"] for entry in read(out / "report.json")["best"]["distill"]
    ]
    assert bound.recipe.name == "tiny-searched"
    assert bound.weights_path(bound.recipe.student) and (folder / "other" / bound.recipe.student.weights).exists()  # type: ignore[operator]
    twice = edgekd("search", "apply", out, "--out", folder / "other" / "found.yaml")
    assert twice.code == 2 and "exists; choose another file" in twice.err
    preset = yaml.safe_load((out / "best.yaml").read_text())
    if preset["distill"]:  # the best may be the control
        content = read_recipe(recipe(folder, "uses.yaml"), (f"distill={out / 'best.yaml'}",))
        assert [dict(one, place=None) for one in content["distill"]] == [
            dict(one, place=None) for one in preset["distill"]
        ]


def test_it_goes_on_where_it_was_and_nothing_is_trained_twice(done: tuple[Path, Ended], folder: Path) -> None:
    again = edgekd("search", recipe(folder), "--out", done[0], "--json")
    assert again.code == 0 and again.json["trials"] == done[1].json["trials"]
    assert again.kept == ["search_warm", "search_errors", "search_after"] and "trial 3" not in again.err


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"kinds": ["logits"]}, "holds a search that differs in space.global.attention"),
        ({"proxy": {**SEARCH["proxy"], "steps": 3, "images": 9}}, "holds a search that differs in proxy.data.train"),
    ],
)
def test_a_search_of_something_else_says_what_differs(
    done: tuple[Path, Ended], folder: Path, changes: dict[str, Any], text: str
) -> None:
    (problem,) = edgekd("search", recipe(folder, **changes), "--out", done[0]).problems
    assert text in problem and problem.endswith("choose another --out, or --fresh to delete it")


def test_a_trial_goes_on_from_the_warm_student_with_a_fifth_of_its_rate(
    done: tuple[Path, Ended], rates: dict[str, float]
) -> None:
    trial = pytest.approx(2e-5)
    warm = "training the student that trials start from"
    assert rates == {warm: 1e-4, "trial": trial, "trial without a teacher": trial}


def test_of_a_student_without_weights_errors_noise_and_first_trials_share_trainings(folder: Path) -> None:
    """One of errors and control, three more of two seeds, none of the two trials and of finals, the best once more."""
    keys = {"proxy": {"images": 8, "held_out": 6, "steps": 2}, "trials": 2, "repeats": 2}
    path = write_recipe(folder / "new.yaml", distill=[], student={"model": "yolo11p"}, search={**SEARCH, **keys})
    trained: list[str] = []

    def counted(plan: FitPlan, teachers: Any, out: Path, title: str, *more: Any) -> None:
        trained.append(f"{title}, seed {plan.seed}")
        fit(plan, teachers, out, title, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proxy, "fit", counted)
        ended = edgekd("search", path, "--out", folder / "N", "--json")
    assert ended.code == 0, ended.err
    report = ended.json
    control, published = report["trials"]
    assert report["errors"]["before"]["ap"] == pytest.approx(control["score"], abs=1e-5)
    alone, taught = "trial without a teacher, seed", "trial, seed"
    assert trained[:4] == [f"{alone} 0", f"{taught} 0", f"{taught} 1", f"{alone} 1"] and len(trained) == 5
    assert [(one["why"], one["steps"]) for one in report["trials"]] == [("trained before the first trial", 0)] * 2
    noise = report["noise"]
    assert (control["score"], published["score"]) == (noise["control"][0], noise["candidate"][0])
    assert noise["steps"] == 4 * 2 and noise["deviation"] == noise_of(noise["candidate"], noise["control"])
    (finalist,) = report["finals"]["finalists"]  # of the seed that the noise has trained, too
    assert (finalist["number"], finalist["scores"]) == (1, noise["candidate"][1:])
    assert report["finals"]["control"] == noise["control"][1:] and report["finals"]["seeds"] == [1]
    shown = edgekd("search", "show", folder / "N").out
    assert f"finals, AP over the control with other seeds (1): trial 1 {finalist['gain']:+.3f}" in shown
    assert "<b>Finals</b>" in (folder / "N" / "report.html").read_text()
    assert set(report["errors"]) == {"teacher", "before", "after"} and not (folder / "N" / "trial").exists()


def noise_of(candidate: list[float], control: list[float]) -> float:
    """Of two seeds."""
    (first, second) = (one - other for one, other in zip(candidate, control, strict=True))
    return pytest.approx(1.04836 * abs(first - second))  # type: ignore[return-value]


def extent(train: int, **keys: Any) -> Extent:
    recipe = Recipe.model_validate({
        "name": "x", "data": {"format": "digits"}, "student": {"model": "yolo11p"}, "search": {"proxy": keys},
    })  # fmt: skip
    split = SimpleNamespace(images=[None] * train)
    context = SimpleNamespace(
        bound=SimpleNamespace(recipe=recipe, where="x"), data=SimpleNamespace(splits={"train": split})
    )
    return extent_of(context)  # type: ignore[arg-type]


def test_how_much_a_trial_trains() -> None:
    """Batches of 16: half of train and a quarter of it by default, whole passes, a fifth of the rate."""
    assert extent(100) == Extent(50, 25, 4, 24, 0, 1.0)
    assert extent(100_000) == Extent(5_000, 1_000, 313, 24, 0, 1.0)
    assert extent(100, images=64, held_out=36, steps=10, warm_steps=0) == Extent(64, 36, 4, 2, 0, 1.0)
    assert extent(100, images=64, held_out=36, steps=1, warm_steps=1).steps == 4
    assert extent(100, warm_steps=8).lr_factor == 0.2 and extent(100, lr_factor=0.5).lr_factor == 0.5
    assert extent(2) == Extent(1, 1, 1, 24, 0, 1.0)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"kinds": ["logit"]}, "search.kinds: unknown kind 'logit'"),
        ({"space": {"global": {"scale": []}}}, "search.space.global.scale: is empty, and so is the space"),
        ({"space": {"global": {"scales": ["none"]}}}, "search.space.global: unknown key 'scales'"),
        ({"space": {"global": {"scale": ["pool3"]}}}, "search.space.global.scale: unknown scale 'pool3'"),
        ({"space": {"global": {"scale": ["none", "none"]}}}, "search.space.global.scale: none is given twice; leave"),
        ({"space": {"global": {"weight": [1, 1.0]}}}, "search.space.global.weight: 1.0 is given twice; leave one out"),
        ({"space": {"global": {"weight": [0]}}}, "search.space.global.weight: got 0.0, allowed: numbers above 0"),
        ({"kinds": ["global"], "space": {"fgbg": {"scale": ["none"]}}}, "search.space: unknown kind 'fgbg'"),
    ],
)
def test_a_space_of_what_there_is_not_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError) as caught:
        space_of(SearchRecipe.model_validate(changes), None, "x.yaml")  # type: ignore[arg-type]
    assert caught.value.problems[0].startswith(f"x.yaml: {text}")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"imgsz": 80},
            "search.proxy.imgsz: 80 is not a multiple of 32, the student's largest stride; choose 64 or 96",
        ),
        ({"images": 20, "held_out": 6}, "20 images and 6 held out are 26, but train has 24; lower images or held_out"),
    ],
)
def test_a_proxy_that_cannot_be_trained_is_refused(
    folder: Path, tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    ended = edgekd("search", recipe(folder, proxy=changes), "--out", tmp_path / "S")
    assert ended.code == 2 and text in ended.err


def test_what_is_no_recipe_is_not_written(done: tuple[Path, Ended], tmp_path: Path) -> None:
    copy = tmp_path / "S"
    shutil.copytree(done[0], copy, symlinks=True)
    report = read(copy / "report.json")
    report["best"] = {**report["trials"][0], "distill": [{"method": "none such"}]}
    (copy / "report.json").write_text(json.dumps(report))
    ended = edgekd("search", "apply", copy, "--out", tmp_path / "found.yaml")
    assert ended.code == 2 and "unknown method 'none such'" in ended.err
    assert not (tmp_path / "found.yaml").exists()


def test_kinds_that_cannot_serve_the_pair_are_left_out_or_refused(folder: Path, tmp_path: Path) -> None:
    path = write_recipe(
        folder / "query.yaml", distill=[], student={"model": "rtdetr-p"}, search={**SEARCH, "kinds": ["logits"]}
    )
    ended = edgekd("search", path, "--out", tmp_path / "S")
    assert ended.code == 2 and "search.kinds: logits: searched: knowledge logits needs a dense head" in ended.err


def test_without_a_teacher_or_a_search_there_is_nothing_to_do(folder: Path, tmp_path: Path) -> None:
    path = write_recipe(folder / "alone.yaml", distill=[], teacher=None, search=SEARCH)
    assert "search: needs a 'teacher'" in edgekd("search", path, "--out", tmp_path / "S").err
    assert "no finished search" in edgekd("search", "show", tmp_path / "S").err
    (tmp_path / "S").mkdir()
    (tmp_path / "S/search.json").write_text("{}")
    (tmp_path / "S/report.json").write_text("{}")
    for arguments in (("show", tmp_path / "S"), ("apply", tmp_path / "S", "--out", tmp_path / "applied.yaml")):
        ended = edgekd("search", *arguments)
        assert ended.code == 2
        assert f"{tmp_path / 'S/report.json'}: does not hold what edgekd wrote there (KeyError: 'trials')" in ended.err
    shutil.rmtree(tmp_path / "S")
    assert "search: --out is missing" in edgekd("search", path).err
    assert "search: got show" in edgekd("search", "show").err


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["budgeted", "divide"])
def test_two_searches_of_one_seed_and_one_that_was_stopped_find_the_same(folder: Path, strategy: str) -> None:
    small = {"population": 2, "iterations": 0, "weights_iterations": 0}
    found = []
    for name, trials in (("one", (6,)), ("two", (3, 6))):
        for most in trials:
            path = recipe(folder, f"{strategy}.yaml", trials=most, strategy=strategy, evolution=small)
            ended = edgekd("search", path, "--out", folder / f"{strategy}-{name}", "--json")
            assert ended.code == 0, ended.err
        found.append(json.loads(ended.out))
    assert found[0] == found[1] and len(found[0]["trials"]) == 6
    assert any(value for row in found[0]["trials"] for value in row["values"]), "all scores are 0: nothing is compared"


@pytest.mark.slow
def test_workers_train_noise_and_finals_to_the_same_scores(folder: Path) -> None:
    """Two seeds in two processes; what they say is gone behind a search in which nothing failed."""
    keys = {"proxy": {"images": 8, "held_out": 6, "steps": 2}, "trials": 2, "repeats": 3}
    found = []
    for workers in (1, 2):
        path = write_recipe(
            folder / "side.yaml", distill=[], threads=1, student={"model": "yolo11p"},
            search={**SEARCH, **keys, "workers": workers},
        )  # fmt: skip
        ended = edgekd("search", path, "--out", folder / f"W{workers}", "--json")
        assert ended.code == 0, ended.err
        found.append({key: ended.json[key] for key in ("noise", "finals", "best")})
    assert found[0] == found[1] and len(found[0]["finals"]["seeds"]) == 2
    assert not (folder / "W2" / "trials").exists()
