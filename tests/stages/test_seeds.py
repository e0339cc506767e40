"""Several seeds of one recipe: what is trained, which goes on, and what the gain is."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.atomic import sha256_file
from edgekd.measure.paired_gain import paired_gain
from edgekd.recipe.schema import Recipe
from edgekd.stages.seeds import pairs_of, select, trained_models
from tests.stages.tiny import edgekd, read, weights, write_recipe

pytest_plugins = ("tests.stages.whole_run",)


def recipe(**changes: object) -> Recipe:
    content = {"name": "x", "data": {"format": "digits"}, "student": {"model": "yolo11p"}, "control": True}
    return Recipe.model_validate({**content, **changes})


@pytest.mark.parametrize(
    ("rule", "students", "expected"),
    [
        ("first", [0.1, 0.5, 0.3], 0),
        ("best", [0.1, 0.5, 0.3], 1),
        ("best", [0.2, 0.5, 0.5], 1),
        ("median", [0.1, 0.5, 0.3], 2),
        ("median", [0.4, 0.1, 0.3, 0.2], 3),  # of four the second lowest
        ("median", [0.3, 0.3, 0.3], 1),
        ("median", [0.7], 0),
    ],
)
def test_which_seed_goes_on(rule: str, students: list[float], expected: int) -> None:
    assert select(rule, students) == expected


def test_without_seeds_there_is_one_pair_in_the_folders_of_old() -> None:
    (model,) = trained_models(recipe(seed=7), "student")
    assert (model.stage, model.folder, model.title) == ("student", "student", "student")
    models = trained_models(recipe(seeds=[3, 5]), "control")
    assert [model.stage for model in models] == ["control/seed-3", "control/seed-5"]
    assert [model.folder for model in models] == ["seeds/3/control", "seeds/5/control"]


def test_one_seed_has_a_gain_without_an_interval_and_no_control_no_gain() -> None:
    pairs = pairs_of(recipe(seed=7), [{"control": 0.2, "student": 0.3}])
    assert pairs["seeds"] == [{"seed": 7, "control_ap": 0.2, "student_ap": 0.3}]
    assert pairs["gain"]["mean"] == pytest.approx(0.1) and pairs["gain"]["low"] is None
    alone = pairs_of(recipe(seeds=[1, 2], control=False), [{"student": 0.3}, {"student": 0.4}])
    assert alone["gain"] is None and [row["control_ap"] for row in alone["seeds"]] == [None, None]


class TestARun:
    """Two seeds of the tiny recipe, to the verdict."""

    @pytest.fixture(scope="class")
    def run(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("seeds")
        weights(folder / "teacher.safetensors", "yolo11n")
        weights(folder / "student.safetensors", "yolo11p")
        gate = {"min_ap": 0.0, "min_gain": -1.0}
        data = {"format": "digits", "imgsz": 64, "train": 8, "val": 8, "test": 8}
        changes = {"seeds": [4, 2], "select": "best", "export": [], "gate": gate, "distill": ["logit"], "data": data}
        path = write_recipe(folder / "tiny.yaml", **changes)
        ended = edgekd("run", path, "--out", folder / "run")
        assert ended.code == 0, ended.err
        return folder / "run"

    def test_each_seed_is_a_training_of_its_own(self, run: Path) -> None:
        hashes = {
            (seed, role): sha256_file(run / f"seeds/{seed}/{role}/student.pt")
            for seed in (4, 2)
            for role in ("control", "student")
        }
        assert len(set(hashes.values())) == 4
        found = read(run / "seeds.json")
        for row in found["seeds"]:
            for role in ("control", "student"):
                metrics = read(run / f"seeds/{row['seed']}/{role}/metrics.json")
                assert metrics["ap"] == row[f"{role}_ap"] and metrics["weights_sha256"] == hashes[row["seed"], role]
        expected = paired_gain(*([row[f"{role}_ap"] for row in found["seeds"]] for role in ("student", "control")))
        assert (found["gain"]["mean"], found["gain"]["low"]) == pytest.approx((expected.mean, expected.low))

    def test_the_chosen_pair_is_the_run_s(self, run: Path) -> None:
        found = read(run / "seeds.json")
        best = max(found["seeds"], key=lambda row: row["student_ap"])
        assert found["selected"] == best["seed"] or len({row["student_ap"] for row in found["seeds"]}) == 1
        for role in ("control", "student"):
            source = run / f"seeds/{found['selected']}/{role}"
            for name in ("student.pt", "student.safetensors", "metrics.json", "epochs.csv"):
                assert (run / role / name).read_bytes() == (source / name).read_bytes()
        assert (run / "student/terms.csv").is_file() and not (run / "control/terms.csv").exists()

    def test_the_gate_judges_the_lower_end(self, run: Path) -> None:
        (check,) = [check for check in read(run / "verdict.json")["checks"] if check["metric"] == "min_gain"]
        assert check["value"] == read(run / "seeds.json")["gain"]["low"]
        assert "lower end of its 95 % interval over 2 seeds" in check["detail"]

    def test_test_is_measured_of_every_pair(self, run: Path) -> None:
        found = read(run / "test.json")
        assert found["images"] == 8 and list(found["models"]) == ["teacher", "control", "student"]
        assert [row["seed"] for row in found["seeds"]] == [4, 2]
        selected = read(run / "seeds.json")["selected"]
        (row,) = [row for row in found["seeds"] if row["seed"] == selected]
        assert row["student_ap"] == found["models"]["student"]["ap"]

    def test_another_rule_trains_nothing(self, run: Path) -> None:
        ended = edgekd("run", run.parent / "tiny.yaml", "--out", run, "--set", "select=first")
        assert ended.code == 0, ended.err
        trained = {f"{role}/seed-{seed}" for role in ("control", "student") for seed in (4, 2)}
        assert trained <= set(ended.kept)
        assert read(run / "seeds.json")["selected"] == 4
        assert (run / "student/student.pt").read_bytes() == (run / "seeds/4/student/student.pt").read_bytes()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"seeds": [1, 1]}, "seeds: the same seed twice; leave one out"),
        ({"seeds": [1, 2], "seed": 3}, "seed: 3: only without 'seeds'; add it to them, or leave one of the two out"),
        ({"select": "best"}, "select: best: only with several 'seeds'; set them, or leave it out"),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, object], problem: str, tmp_path: Path) -> None:
    ended = edgekd("check", write_recipe(tmp_path / "tiny.yaml", **changes))
    assert ended.code == 2 and any(line.endswith(problem) for line in ended.problems), ended.err
