"""`edgekd shortlist` with a device of our own making (`bench.py`): what is measured, when, and what is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekd import api
from edgekd.detectors import families
from edgekd.errors import InputError
from edgekd.search.facts import FactsStore
from edgekd.search.students import Candidate, default_sizes
from edgekd.search.verdicts import Result
from tests.search.bench import MODELS, Bench, law, look, recipe, run
from tests.search.made import measured
from tests.stages.tiny import edgekd


def test_an_answer_comes_after_few_measurements_and_is_that_of_all(bench: Bench) -> None:
    recipe(gate={"max_p90_ms": {"onnx-fp32@local": 60.0}})
    few = run("--folder", "few", "--json")
    measured_few = len(bench.names)
    every = run("--folder", "every", "--all", "--json")
    assert (few.code, every.code) == (0, 0)
    assert len(bench.names) - measured_few == 24
    assert measured_few <= 9
    assert few.json["best"] == every.json["best"]
    assert few.json["best"] == [
        "yolov8p-640/onnx-fp32", "yolo11s-320/onnx-fp32", "yolo11n-640/onnx-fp32",
    ]  # 24, 42 and 49 ms; better ones take 62 and more  # fmt: skip
    assert set(few.json["best"]) < set(every.json["front"])  # smaller ones are faster, and keep the budget too
    for one in few.json["candidates"]:
        if one["status"] == "open":
            assert one["reason"].startswith(("predicted", "no better than"))
            assert one["p90_ms"] is None
            assert one["predicted"]["p90"]["low_ms"] > 0


def test_a_prediction_is_never_printed_as_a_measurement(bench: Bench) -> None:
    recipe(gate={"max_p90_ms": {"onnx-fp32@local": 60.0}})
    ended = run()
    table = ended.out.split("not measured", maxsplit=1)[0]
    assert all(name.partition("-")[0] in table for name in bench.names)
    skipped = [name for name in ("yolo11m-640/onnx-fp32", "yolov8s-640/onnx-fp32") if name not in bench.names]
    assert skipped
    for name in skipped:
        assert name not in table
    assert "not measured, predicted beyond its budget: " in ended.out
    page = Path("runs/shortlist-street/local.html").read_text()
    assert "no figure of it is a measurement" in page
    assert "<circle" in page
    assert page.count("<circle") == 2 * len(bench.names) + sum(
        not n.startswith(("yolo11p", "yolov8p")) for n in bench.names
    )


def test_a_second_call_measures_nothing(bench: Bench) -> None:
    recipe(gate={"max_p90_ms": {"onnx-fp32@local": 60.0}})
    first, before = run("--json").json, len(bench.names)
    assert run("--json").json == first
    assert len(bench.names) == before


@pytest.mark.parametrize(
    "edit", [lambda text: text[:40], lambda text: text.replace('"p90_ms"', '"q90_ms"'), lambda _: "[]"]
)
def test_measurements_that_were_edited_are_no_bug(bench: Bench, edit: Callable[[str], str]) -> None:
    recipe({"models": ["yolo11p"], "sizes": [320]})
    run("--folder", "kept")
    file = Path("kept/measured.json")
    file.write_text(edit(file.read_text()))
    ended = run("--folder", "kept")
    assert (ended.code, ended.problems) == (2, [f"{file}: is damaged; remove it, what it names is measured again"])


def test_facts_that_were_edited_are_looked_up_again(bench: Bench) -> None:
    recipe({"models": ["yolo11p"], "sizes": [320]})
    first = run("--folder", "kept", "--json").json
    file = Path("kept/models.json")
    text = file.read_text()
    assert '"gflops"' in text
    file.write_text(text.replace('"gflops"', '"gflopz"'))
    assert run("--folder", "kept", "--json").json == first


def test_what_decides_a_result_has_it_measured_again_and_nothing_else_has(bench: Bench) -> None:
    recipe({"models": ["yolo11p"], "sizes": [320]})
    run("--set", "gate.max_p90_ms.onnx-fp32@local=5", "--set", "seed=3", "--set", "train.epochs=7")
    run()
    assert bench.names == ["yolo11p-320/onnx-fp32"]
    run("--set", "search.students.protocol=full")
    run("--set", "search.students.protocol=full", "--set", "export=[{target: onnx-fp32, opset: 16}]")
    assert len(bench.names) == 3


def test_a_process_that_is_killed_leaves_what_it_measured(bench: Bench) -> None:
    def dies(candidate: Candidate) -> Result:
        if len(bench.names) == 3:
            raise KeyboardInterrupt
        return law(candidate)

    recipe({"models": ["yolo11p", "yolo11n"], "sizes": [640, 480, 320]})
    bench.answer = dies
    assert run("--all").code == 130
    bench.answer = law
    assert run("--all").code == 0
    assert len(bench.names) == 7  # the third was begun twice
    assert sorted(set(bench.names)) == sorted(bench.names[:2] + bench.names[3:])


def test_without_any_that_keeps_the_budget_the_nearest_is_named(bench: Bench) -> None:
    recipe({"models": ["yolo11n", "yolo11p"], "sizes": [320]}, gate={"max_p90_ms": {"onnx-fp32@local": 5.0}})
    ended = run()
    assert ended.code == 1
    assert (
        "no candidate keeps the budgets; the nearest is yolo11p-320/onnx-fp32: 1.26 times max_p90_ms (5.00 ms); raise "
        "it, or name smaller students or sizes in search.students\n"
    ) in ended.out
    assert (
        json.loads(Path("runs/shortlist-street/local.json").read_text())["nearest"]["name"] == "yolo11p-320/onnx-fp32"
    )


def test_memory_is_a_budget_too(bench: Bench) -> None:
    gate = {"max_p90_ms": {"onnx-fp32@local": 500.0}, "max_memory_mb": {"onnx-fp32@local": 105.0}}
    recipe({"models": ["yolo11p", "yolo11n"], "sizes": [320]}, gate=gate)
    found = {one["name"]: one for one in run("--json", "--all").json["candidates"]}
    assert found["yolo11p-320/onnx-fp32"]["fits"] is True
    assert found["yolo11n-320/onnx-fp32"]["fits"] is False
    assert found["yolo11n-320/onnx-fp32"]["excess"]["max_memory_mb"] == pytest.approx(110.4 / 105)


def test_a_disturbed_measurement_is_no_measurement_and_is_done_again(bench: Bench) -> None:
    recipe({"models": ["yolo11p", "yolo11n"], "sizes": [320]})
    bench.answer = lambda one: Result("invalid", "the machine was busy") if "11n" in one.model else law(one)
    ended = run()
    assert ended.code == 4
    assert "yolo11n-320/onnx-fp32: INVALID: the machine was busy" in ended.out
    bench.answer = law
    assert run().code == 0
    assert bench.names == ["yolo11p-320/onnx-fp32", "yolo11n-320/onnx-fp32", "yolo11n-320/onnx-fp32"]


def test_what_cannot_be_made_is_told_and_not_tried_again(bench: Bench) -> None:
    recipe({"models": ["yolo11p", "yolo11n"], "sizes": [320]})
    bench.answer = lambda one: Result("impossible", "cannot be made: no") if "11n" in one.model else law(one)
    assert run().code == 0
    assert "yolo11n-320/onnx-fp32: cannot be made: no" in run().out
    assert len(bench.names) == 2


def test_so_many_and_no_more(bench: Bench) -> None:
    recipe()
    ended = run("--most", "2")
    assert len(bench.names) == 2
    assert "not measured, not measured yet: " in ended.out


def test_what_was_not_measured_may_still_keep_the_budget(bench: Bench) -> None:
    """A call that measures one may not say that none serves; the whole one finds it: 6.3 ms."""
    bench.answer = lambda one: measured(*((10.0, 11.0) if one.target.name == "onnx-fp32" else (5.0, 6.3)))
    budgets = {"max_p90_ms": {"onnx-fp32@local": 8.0, "openvino-fp32@local": 8.0}}
    recipe({"models": ["yolo11p"], "sizes": [320], "targets": ["onnx-fp32", "openvino-fp32"]}, gate=budgets)
    ended = run("--most", "1")
    assert ended.code == 3
    assert (
        "none measured so far keeps the budgets (the nearest: yolo11p-320/onnx-fp32, 1.38 times max_p90_ms); 1 may: go "
        "on by the same command without --most\n"
    ) in ended.out
    whole = run("--json")
    assert (whole.code, whole.json["best"]) == (0, ["yolo11p-320/openvino-fp32"])


def test_without_a_budget_all_that_may_matter_is_measured(bench: Bench) -> None:
    recipe({"models": ["yolo11p", "yolo11n", "yolo11s"]})
    ended = run("--json")
    assert len(bench.names) == 6
    assert ended.json["front"] == [
        "yolo11p-320/onnx-fp32", "yolo11n-320/onnx-fp32", "yolo11p-640/onnx-fp32", "yolo11s-320/onnx-fp32",
        "yolo11n-640/onnx-fp32", "yolo11s-640/onnx-fp32",
    ]  # fmt: skip


def test_the_default_space_is_every_student_at_three_sizes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "else", (1.0, 1.0))
    monkeypatch.setattr(FactsStore, "_look", lambda self, model, where: look(self, "else", where))
    recipe(search=None)
    names = [one["name"] for one in run("--most", "1", "--json").json["candidates"]]
    for name in ("yolo11n-640", "yolo12x-480", "yolo26p-320", "rtdetr-l-640", "rtmdet-tiny-320"):
        assert f"{name}/onnx-fp32" in names
    here = [name for name in families.family_names() if not families.family(name).missing()]
    assert len(names) == 3 * sum(len(families.student_models(name)) for name in here)
    assert not any(name.startswith(("retinanet", "fasterrcnn", "detr", "rf-detr")) for name in names)
    assert default_sizes(640) == [640, 480, 320]
    assert default_sizes(96) == [96, 64]


def test_targets_are_the_recipes_or_all_of_the_device_and_of_the_precisions_asked_for(bench: Bench) -> None:
    def targets(**students: Any) -> set[str]:
        recipe({"models": ["yolo11p"], "sizes": [320], **students}, export=["onnx-fp32", "openvino-fp16"])
        return {one["target"] for one in run("--most", "1", "--json").json["candidates"]}

    assert targets() == {"onnx-fp32", "openvino-fp16"}
    assert targets(precisions=["fp16"]) == {"openvino-fp16"}
    assert targets(targets=["openvino-int8"]) == {"openvino-int8"}
    recipe({"models": ["yolo11p"], "sizes": [320], "precisions": ["fp32"]}, export=[])
    assert {"onnx-fp32", "openvino-fp32"} <= {one["target"] for one in run("--most", "1", "--json").json["candidates"]}


def test_a_second_device_learns_its_order_from_the_first(bench: Bench) -> None:
    Path("devices").mkdir()
    Path("devices/board.yaml").write_text("transport: local\nruntimes: [onnxruntime]\n")
    gate = {"max_p90_ms": {"onnx-fp32@local": 60.0, "onnx-fp32@board": 600.0}}
    recipe(gate=gate, devices=["local", "board"])
    assert run("--device", "local", "--all").code == 0
    bench.names.clear()
    bench.answer = lambda one: measured(*(10 * figure for figure in (law(one).p50_ms or 0, law(one).p90_ms or 0)))
    ended = run("--device", "board", "--json")
    assert ended.json["best"][-1] == "yolo11n-640/onnx-fp32"
    nearest = ["yolov8n-640/onnx-fp32", "yolov8s-320/onnx-fp32", "yolo11n-640/onnx-fp32"]  # 621, 531 and 492 ms
    assert bench.names[1:4] == nearest
    assert len(bench.names) <= 8


def test_in_python_it_is_what_the_command_says(bench: Bench) -> None:
    path = recipe(gate={"max_p90_ms": {"onnx-fp32@local": 30.0}})
    found = api.shortlist(api.Recipe.load(path), quiet=True)
    measured = len(bench.names)
    assert measured > 0
    assert found == edgekd("shortlist", path, "--json").json
    assert found == api.shortlist(path, most=0, quiet=True)
    assert len(bench.names) == measured, "what was measured is not measured again"
    assert f"best: {', '.join(found['best'])}" in found._repr_html_()
    with pytest.raises(InputError, match="shortlist: most: at least 0, got -1"):
        api.shortlist(path, most=-1)
