from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

from edgekd.errors import InputError
from edgekd.report.collect import collect
from tests.report.make_run import CLASSES, MODEL_BYTES, make_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "quickstart")


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_promised_keys_and_values(run: Path) -> None:
    report = collect(run)
    assert report["schema"] == "edgekd.report/2"
    assert report["recipe"] == "quickstart"
    assert (report["teacher"]["ap"], report["control"]["ap"]) == (0.6124, 0.4591)
    assert (report["student"]["ap"], report["student"]["ap50"]) == (0.4973, 0.7873)
    assert report["gain"]["ap"] == pytest.approx(0.0382)
    assert report["gain"]["gap_closed"] == pytest.approx(0.0382 / 0.1533)
    assert report["gain"]["normalised"] == pytest.approx(0.0382 / 0.4591)
    assert report["teacher"]["errors"]["counts"]["missed"] == 96
    assert report["verdict"]["status"] == "pass"
    assert report["verdict"]["reasons"] == []
    assert [(a["target"], a["device"]) for a in report["artifacts"]] == [
        ("onnx-fp16", "local"),
        ("onnx-fp32", "local"),
        ("openvino-fp16", "local"),
        ("openvino-fp32", "local"),
    ]
    fp32 = report["artifacts"][1]
    assert (fp32["ap"], fp32["ap50"], fp32["parity"]["max_abs"]) == (0.4973, 0.7873, 0.00014)
    assert fp32["latency_ms"]["p50"] == 2.18
    assert fp32["latency_ms"]["p90"] == 2.41
    assert fp32["latency_ms"]["p95"] == pytest.approx(2.41 * 1.08)
    assert fp32["latency_ms"]["p99"] is None
    assert fp32["stages_ms"]["inference"]["p50"] == pytest.approx(0.72 * 2.18)
    assert fp32["size_bytes"] == MODEL_BYTES
    assert fp32["sha256"] == hashlib.sha256(bytes(MODEL_BYTES)).hexdigest()
    assert report["artifacts"][0]["ap_drop"] == pytest.approx(0.4973 - 0.4971)
    assert [a["pareto"] for a in report["artifacts"]] == [False, True, False, True]
    assert (report["best"]["target"], report["best"]["device"]) == ("openvino-fp32", "local")
    assert report["devices"]["local"]["threads"] == 2
    terms = {term["term"]: term for term in report["distillation"]["terms"]}
    assert list(terms) == ["logit/cls", "ld/box", "detection"]
    assert terms["detection"]["steps"] == 400
    assert terms["ld/box"]["mean_share"] == pytest.approx(0.15, abs=0.002)


def test_it_is_json_without_private_paths_and_hashes_what_it_read(run: Path) -> None:
    report = collect(run)
    text = json.dumps(report, allow_nan=False)
    assert "/somewhere/private" not in text
    assert str(run.parent) not in text
    for name, digest in report["files"].items():
        assert hashlib.sha256((run / name).read_bytes()).hexdigest() == digest
    assert {"recipe.lock.yaml", "verdict.json", "student/terms.csv", "export/onnx-fp32/model.onnx"} <= set(
        report["files"]
    )
    assert "manifest.json" not in report["files"]
    assert report == collect(run)


def test_stages_that_were_not_run_are_null_and_never_zero(run: Path) -> None:
    for folder in ("teacher", "control", "export", "validate", "profile"):
        shutil.rmtree(run / folder)
    for name in ("verdict.json", "manifest.json", "data/split.json", "student/first_steps.json", "student/terms.csv"):
        (run / name).unlink()
    report = collect(run)
    assert report["teacher"]["ap"] is None
    assert report["control"]["ap"] is None
    assert report["student"]["ap"] == 0.4973
    assert report["student"]["source"] == "student/metrics.json"
    assert report["gain"] == {"ap": None, "gap_closed": None, "normalised": None}
    assert report["artifacts"] == []
    assert report["best"] is None
    assert report["verdict"] == {"status": None, "reasons": [], "checks": []}
    assert (report["data"], report["manifest"], report["devices"], report["warnings"]) == (None, None, {}, [])


def test_an_artifact_without_profile_or_validation_keeps_its_row(run: Path) -> None:
    (run / "profile/onnx-fp16@local.json").unlink()
    for folder in ("validate", "profile"):
        (run / folder / "openvino-fp32@local.json").unlink()
    rows = {(a["target"], a["device"]): a for a in collect(run)["artifacts"]}
    half = rows["onnx-fp16", "local"]
    assert half["ap"] == 0.4971
    assert half["latency_ms"]["p50"] is None
    assert (half["valid"], half["pareto"], half["sources"]["latency"]) == (None, None, None)
    exported = rows["openvino-fp32", None]
    assert exported["ap"] is None
    assert exported["size_bytes"] == MODEL_BYTES


def test_leftovers_of_a_former_recipe_are_not_shown(run: Path) -> None:
    with (run / "recipe.lock.yaml").open("a") as stream:
        stream.write("export:\n- target: onnx-fp16\n- onnx-fp32\n- openvino-fp16\ndevices: [local]\ncontrol: false\n")
    shutil.copy(run / "validate/onnx-fp32@local.json", run / "validate/onnx-fp32@other.json")
    report = collect(run)
    assert [(a["target"], a["device"]) for a in report["artifacts"]] == [
        ("onnx-fp16", "local"),
        ("onnx-fp32", "local"),
        ("openvino-fp16", "local"),
    ]
    assert (report["control"]["ap"], report["control"]["name"], report["gain"]["ap"]) == (None, None, None)


def test_what_was_absorbed_stands_beside_the_teacher(run: Path) -> None:
    """Of the recipe's methods, a repeated one by its number; what another recipe left is not shown."""
    for label in ("score_l2", "score_l22", "unikd", "score_l2x"):
        figures = {"ap": 0.25, "ap50": 0.5, "ap75": 0.2, "teacher_ap": 0.6}
        (run / "prepare" / label).mkdir(parents=True)
        (run / "prepare" / label / "metrics.json").write_text(json.dumps(figures))
    recipe = yaml.safe_load((run / "recipe.lock.yaml").read_text())
    (run / "recipe.lock.yaml").write_text(yaml.safe_dump({**recipe, "distill": [{"method": "score_l2"}]}))
    found = collect(run)["prepared"]
    assert [part["method"] for part in found] == ["score_l2", "score_l22"]
    assert found[0] == {"method": "score_l2", "ap": 0.25, "ap50": 0.5, "ap75": 0.2, "teacher_ap": 0.6}


def test_warnings_name_what_a_reader_must_not_overlook(run: Path) -> None:
    edit(run / "validate/teacher@host.json", ap=0.41)
    edit(run / "validate/student@host.json", ap=0.45)
    edit(run / "export/onnx-fp16/parity.json", passed=False)
    edit(run / "profile/onnx-fp32@local.json", valid=False, invalid_reasons=["too short", "throttled"])
    (run / "export/openvino-fp16/model.onnx").write_bytes(b"something else")
    split = run / "data/split.json"
    missing = {"split": "train", "kind": "missing image", "count": 2, "examples": ["a.png", "b.png"]}
    edit(split, warnings=["val: every image is in train"], problems=[{**missing, "handled": "the image is left out"}])
    assert collect(run)["warnings"] == [
        "The teacher (AP 0.410) is not better than the control (AP 0.459).",
        "The teacher (AP 0.410) is worse than its student (AP 0.450).",
        "The student (AP 0.450) is not better than the control (AP 0.459).",
        "The teacher has AP 0.410 in validate/teacher@host.json, but 0.612 in its own stage.",
        "The student has AP 0.450 in validate/student@host.json, but 0.497 in its own stage.",
        "Loss term ld/box: share 0.4 % is under 1 %: raise its weight",
        "onnx-fp16 does not agree with the torch student (see export/onnx-fp16/parity.json).",
        "openvino-fp16: model.onnx differs from the hash in export/openvino-fp16/edgekd.json.",
        "The latency of onnx-fp32@local is not valid: too short; throttled.",
        "Data, val: every image is in train.",
        "Data, train: missing image: 2 found (the image is left out), e.g. a.png, b.png.",
    ]


def test_a_share_that_leaves_its_bounds_later_is_named(run: Path) -> None:
    """Rows in which a term does not act (before its warm-up, after its end) do not count."""
    header = "step,epoch,term,value,weight,weighted,share\n"
    rows = [
        "0,0,detection,1,1,1,0.4", "0,0,logit/cls,1,1,1,0.6", "0,0,rest/a,1,0,0,0", "0,0,few/a,1,1,1,0.004",
        "9,1,detection,1,1,1,0.9", "9,1,logit/cls,1,1,1,0.5", "9,1,rest/a,1,1,1,0.2", "9,1,few/a,1,1,1,0.004",
    ]  # fmt: skip
    (run / "student/terms.csv").write_text(header + "\n".join(rows) + "\n")
    edit(run / "student/first_steps.json", terms=[{"term": "few/a", "warning": "too little"}])
    assert [warning for warning in collect(run)["warnings"] if warning.startswith("Loss")] == [
        "Loss term few/a: too little",
        "Loss term logit/cls: 55.00% of the loss, over all steps in which it acts.",
    ]


def test_an_invalid_latency_is_neither_on_the_front_nor_the_best(run: Path) -> None:
    edit(run / "profile/openvino-fp32@local.json", valid=False, invalid_reasons=["throttled"])
    report = collect(run)
    assert [a["pareto"] for a in report["artifacts"]] == [False, True, True, None]
    assert report["best"]["target"] == "openvino-fp16"


def test_the_command_is_the_one_that_was_given(run: Path) -> None:
    assert collect(run)["command"] == "edgekd run quickstart/recipe.lock.yaml --out quickstart"
    edit(run / "manifest.json", command="edgekd run recipes/quickstart.yaml --out runs/quickstart")
    assert collect(run)["command"] == "edgekd run recipes/quickstart.yaml --out runs/quickstart"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("verdict.json", '{"status": ', "is not valid JSON"),
        ("verdict.json", "[]", "holds a list, not an object"),
        ("verdict.json", '{"status": NaN}', "NaN is no measurement"),
        ("recipe.lock.yaml", "a: [", "is not valid YAML"),
        ("recipe.lock.yaml", "just text", "holds a str, not a mapping"),
    ],
)
def test_a_broken_file_is_bad_input_in_one_line(run: Path, name: str, content: str, problem: str) -> None:
    (run / name).write_text(content)
    with pytest.raises(InputError) as error:
        collect(run)
    assert str(error.value).startswith(str(run / name))
    assert problem in str(error.value)
    assert "run the stage that writes it again" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no run directory \(recipe.lock.yaml is missing\)"):
        collect(tmp_path)


def test_per_class_keeps_the_names_of_the_data(run: Path) -> None:
    assert tuple(collect(run)["student"]["per_class"]) == CLASSES
