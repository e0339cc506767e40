"""Reading a recipe: overrides, and the text of every kind of error."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from edgekd.errors import InputError
from edgekd.recipe.load import bind, load_recipe, read_recipe

MINIMAL = "name: a\ndata: {format: digits}\nstudent: {model: yolo11p}\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "a.yaml"
    path.write_text(
        MINIMAL + "teacher: {weights: t.pt}\ndistill: [cwd, {method: pkd, weight: 2}]\nexport: [onnx-fp32]\n"
    )
    return path


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_recipe(path, overrides)
    return [problem.removeprefix(f"{path}: ") for problem in caught.value.problems]


class TestOverrides:
    @pytest.mark.parametrize(
        ("override", "value"),
        [
            ("seed=7", lambda recipe: recipe.seed == 7),
            ("train.epochs=3", lambda recipe: recipe.train == {"epochs": 3}),
            ("train={epochs: 3, amp: false}", lambda recipe: recipe.train == {"epochs": 3, "amp": False}),
            ("distill.1.weight=0.5", lambda recipe: recipe.distill[1].rest == {"weight": 0.5}),
            ("distill.0.weight=0.5", lambda recipe: recipe.distill[0].rest == {"weight": 0.5}),  # a short form
            ("distill=[]", lambda recipe: recipe.distill == ()),
            (
                "export.0.tolerance.max_abs_score=0.1",
                lambda recipe: recipe.export[0].rest["tolerance"] == {"max_abs_score": 0.1},
            ),
            ("train.lr0=1e-3", lambda recipe: recipe.train == {"lr0": 0.001}),
            ("gate={min_ap_per_class: {no: 0.5}}", lambda recipe: recipe.gate == {"min_ap_per_class": {"no": 0.5}}),
            ("gate.min_ap_per_class={7: 0.5}", lambda recipe: recipe.gate == {"min_ap_per_class": {"7": 0.5}}),
            ("student.model=a=b", lambda recipe: recipe.student.model == "a=b"),
            ("teacher=null", None),
            ("gate.max_p90_ms.onnx-fp32@local=5", lambda recipe: recipe.gate["max_p90_ms"] == {"onnx-fp32@local": 5}),
        ],
    )
    def test_change_one_place(self, recipe: Path, override: str, value) -> None:
        if value is None:
            assert problems(recipe, override) == ["'distill' needs a 'teacher'"]
        else:
            assert value(load_recipe(recipe, [override]))

    def test_later_ones_win(self, recipe: Path) -> None:
        assert load_recipe(recipe, ["seed=1", "seed=2"]).seed == 2

    def test_all_that_fit_nowhere_are_told(self, recipe: Path) -> None:
        bad = ["train.epochs", "=3", "seed=[", "distill.2.weight=1", "distill.-1.weight=1", "distill.x=1", "name.x=1"]
        nowhere = "no such place in the recipe; list items are numbered from 0"
        assert problems(recipe, *bad) == [
            "--set train.epochs: expected key.path=value, e.g. --set train.epochs=10",
            "--set =3: expected key.path=value, e.g. --set train.epochs=10",
            "--set seed=[: the value is not valid YAML (line 1: expected the node content, but found '<stream end>')",
            f"--set distill.2.weight=1: {nowhere}",
            f"--set distill.-1.weight=1: {nowhere}",
            f"--set distill.x=1: {nowhere}",
            f"--set name.x=1: {nowhere}",
        ]

    def test_a_new_key_is_checked_as_if_it_stood_in_the_file(self, recipe: Path) -> None:
        assert problems(recipe, "sead=3")[0].startswith("sead: unknown key 'sead' (known: control, data, ")
        assert problems(recipe, "sead=3")[0].endswith("did you mean 'seed'?)")


class TestFiles:
    @pytest.mark.parametrize(
        ("content", "text"),
        [
            (b"", "must be a mapping of keys, got NoneType"),
            (b"- a\n", "must be a mapping of keys, got list"),
            (b"name: [\n", "not valid YAML (line 2: expected the node content, but found '<stream end>')"),
            (b"name: a\nseed: 0\nname: b\n", "not valid YAML (line 3: key 'name' is given twice)"),
            (b"train: {epochs: 1, epochs: 2}\n", "not valid YAML (line 1: key 'epochs' is given twice)"),
            (b"name: no\n", "name: input should be a valid string, got False; put it in quotes"),
            (b"name: 12\n", "name: input should be a valid string, got 12; put it in quotes"),
            (b"name: a\nseed: 010\n", "not valid YAML (line 2: 010 has a leading zero, which YAML reads as octal; "),
            (b"\xff\xfe\x00", "is not UTF-8 text; give a YAML file"),
            (
                b"name: !!python/object/apply:os.system [echo]\n",
                "not valid YAML (line 1: the tag tag:yaml.org,2002:python/object/apply:os.system is not read",
            ),
        ],
    )
    def test_that_are_no_recipes(self, tmp_path: Path, content: bytes, text: str) -> None:
        path = tmp_path / "a.yaml"
        path.write_bytes(content)
        assert problems(path)[0].startswith(text)

    def test_that_are_not_there(self, tmp_path: Path) -> None:
        assert problems(tmp_path / "b.yaml") == ["cannot be read (No such file or directory); correct the path"]

    def test_short_forms_are_written_out(self, recipe: Path) -> None:
        content = read_recipe(recipe)
        assert content["distill"] == [{"method": "cwd"}, {"method": "pkd", "weight": 2}]
        assert content["export"] == [{"target": "onnx-fp32"}]


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    weight: float = Field(ge=0)


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    inner: Inner
    many: tuple[Inner, ...] = ()


def test_every_problem_of_a_section_is_one_line_with_its_place() -> None:
    with pytest.raises(InputError) as caught:
        bind(Outer, {"inner": {"weigth": 1}, "many": [{"weight": 1}, {"weight": -1}, 5]}, "x.yaml", "distill[0]")
    assert caught.value.problems == (
        "x.yaml: distill[0].inner.weight: missing; this key is required",
        "x.yaml: distill[0].inner.weigth: unknown key 'weigth' (known: weight; did you mean 'weight'?)",
        "x.yaml: distill[0].many[1].weight: input should be greater than or equal to 0, got -1",
        "x.yaml: distill[0].many[2]: must be a mapping of keys, got 5",
    )
