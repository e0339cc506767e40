"""Baselines: what is kept, what comes back, and what the budgets against them say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekd.errors import InputError
from edgekd.gate.baseline import Baseline, Entry, checks, fingerprint, load, load_all, names, save, unfit

ENVIRONMENT = {
    "platform": {"machine": "aarch64", "system": "Linux", "board": "Pi", "cpu_model": "A76", "cores_allowed": [0, 1]},
    "runtime": {"name": "onnxruntime", "version": "1.31"}, "threads": 2, "precision": "fp32",
    "telemetry": {"governors": ["performance"], "load_1min": 0.3, "temperatures_c": [40]}, "argv": ["profile"],
}  # fmt: skip


def entry(**changes: Any) -> Entry:
    given = {
        "target": "onnx", "device": "pi", "files": {"model.onnx": "0" * 64}, "size_bytes": 10, "ap": 0.5, "ap50": 0.7,
        "p50_ms": 10.0, "p90_ms": 12.0, "fingerprint": "f",
    }  # fmt: skip
    return Entry(**{**given, **changes})


def release(name: str = "v1", *entries: Entry, data: str = "d", saved: str = "2026-01-01T00:00:00Z") -> Baseline:
    return Baseline(
        name=name, saved=saved, recipe="r", edgekd="0.1", data=data, student_ap=0.5, artifacts=entries or (entry(),)
    )


def test_what_was_saved_is_read_back(tmp_path: Path) -> None:
    path = save(tmp_path / "store", release())
    assert path == tmp_path / "store/v1.json"
    assert load(tmp_path / "store", "v1") == release()


def test_releases_of_before_are_read(tmp_path: Path) -> None:
    """As the first version wrote them."""
    (tmp_path / "v0.json").write_text("""{
      "schema_version": "edgekd.baseline/1", "name": "v0", "saved": "2026-01-31T12:00:00Z", "recipe": "street",
      "edgekd": "0.1.0", "data": "d", "student_ap": 0.5,
      "artifacts": [{"target": "onnx-fp32", "device": "local", "files": {"model.onnx": "00"}, "size_bytes": 10,
        "ap": 0.5, "ap50": 0.7, "per_class": {"cat": 0.5}, "p50_ms": 1.5, "p90_ms": 2.0, "peak_memory_mb": 60.0,
        "images_per_second": null, "fingerprint": "f"}]
    }""")
    kept = load(tmp_path, "v0")
    assert (kept.student_ap, kept.artifacts[0].name, kept.artifacts[0].p50_ms) == (0.5, "onnx-fp32@local", 1.5)


def test_oldest_first(tmp_path: Path) -> None:
    for name, saved in (("b", "2026-03-01T00:00:00Z"), ("a", "2026-02-01T00:00:00Z"), ("c", "2026-01-01T00:00:00Z")):
        save(tmp_path, release(name, saved=saved))
    assert [one.name for one in load_all(tmp_path)] == ["c", "a", "b"]
    assert names(tmp_path / "none") == []


def test_a_taken_name(tmp_path: Path) -> None:
    save(tmp_path, release())
    with pytest.raises(InputError, match=r"v1\.json: is there already; choose another name, or replace it"):
        save(tmp_path, release("v1", entry(ap=0.1)))
    assert load(tmp_path, "v1") == release()
    save(tmp_path, release("v1", entry(ap=0.1)), replace=True)
    assert load(tmp_path, "v1").artifacts[0].ap == 0.1


@pytest.mark.parametrize("name", ["../v1", "a/b", "", ".hidden", "a b", "v1\n"])
def test_names_that_are_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="use letters, digits and"):
        load(tmp_path, name)


def test_what_is_not_there_and_what_is_no_baseline(tmp_path: Path) -> None:
    save(tmp_path, release())
    with pytest.raises(InputError, match=r"unknown baseline 'v2' \(known: v1\)"):
        load(tmp_path, "v2")
    (tmp_path / "v3.json").write_text('{"schema_version": "other"}')
    with pytest.raises(InputError, match=r"v3\.json: not a baseline of edgekd .*; save it again"):
        load_all(tmp_path)


def test_the_fingerprint_is_what_a_latency_depends_on() -> None:
    same = {**ENVIRONMENT, "argv": ["other"], "telemetry": {"governors": ["performance"], "load_1min": 9.0}}
    assert fingerprint(same) == fingerprint(ENVIRONMENT)
    for change in (
        {"threads": 4},
        {"runtime": {"name": "onnxruntime", "version": "1.32"}},
        {"telemetry": {"governors": ["powersave"]}},
        {"platform": {**ENVIRONMENT["platform"], "cpu_model": "A72"}},  # type: ignore[dict-item]
    ):
        assert fingerprint({**ENVIRONMENT, **change}) != fingerprint(ENVIRONMENT)


@pytest.mark.parametrize(
    ("now", "status", "text"),
    [
        (entry(ap=0.496), "pass", "AP 0.4960, v1 had 0.5000"),
        (entry(ap=0.495), "pass", "AP 0.4950, v1 had 0.5000"),
        (entry(ap=0.494), "fail", "AP 0.4940, v1 had 0.5000"),
        (entry(ap=None), "inconclusive", "no AP in this run"),
        (entry(target="other"), "inconclusive", "no AP in this run"),
    ],
)
def test_accuracy_against_a_release(now: Entry, status: str, text: str) -> None:
    (check,) = checks(release(), release("now", now), 0.005, None)
    assert (check.metric, check.subject, check.status) == ("against.max_ap_loss", "onnx@pi", status)
    assert check.detail == f"against.max_ap_loss: onnx@pi: {text}"


def test_accuracy_on_other_images() -> None:
    (check,) = checks(release(), release("now", data="e"), 0.005, None)
    assert check.status == "inconclusive"
    assert "v1 was measured on other validation images" in check.detail


@pytest.mark.parametrize(
    ("now", "status", "text"),
    [
        (entry(p50_ms=10.5), "pass", "median 10.5 ms, v1 had 10 ms (+5.0 %)"),
        (entry(p50_ms=11.0), "inconclusive", "(+10.0 %); taken at different times, so no proof"),
        (entry(p50_ms=9.0, fingerprint="g"), "inconclusive", "v1 was timed in another environment"),
        (entry(p50_ms=None), "inconclusive", "no valid latency in this run"),
    ],
)
def test_latency_never_fails_against_a_release(now: Entry, status: str, text: str) -> None:
    (check,) = checks(release(), release("now", now), None, 0.05)
    assert check.status == status
    assert text in check.detail


class TestUnfit:
    """What is kept has to be fit for a later comparison."""

    def row(self, **changes: Any) -> dict[str, Any]:
        given = {"target": "onnx", "device": "pi", "valid": True, "invalid_reasons": [], "spread": {"p50": 0.1}}
        return {**given, "throughput": [], **changes}

    def load(self, **changes: Any) -> dict[str, Any]:
        return {"streams": 4, "batch": 1, "valid": True, "invalid_reasons": [], "spread": 0.02, **changes}

    def test_sound_figures_and_none_at_all(self) -> None:
        assert list(unfit(self.row(throughput=[self.load()]))) == []
        assert list(unfit(self.row(valid=None, invalid_reasons=None, spread=None, device=None))) == []

    def test_invalid_ones(self) -> None:
        busy = {"valid": False, "invalid_reasons": ["the machine was busy: waited 61% of the time for a core"]}
        assert list(unfit(self.row(**busy, throughput=[self.load(**busy)]))) == [
            "onnx@pi: the latency is not valid: the machine was busy: waited 61% of the time for a core",
            "onnx@pi: the throughput of 4 streams, batch 1 is not valid: the machine was busy: waited 61% of the time"
            " for a core",
        ]

    def test_those_of_an_emulated_device_are_withheld_anyway(self) -> None:
        assert list(unfit(self.row(valid=False, invalid_reasons=["emulated: QEMU"]))) == []

    def test_too_wide_a_spread_names_the_limit(self) -> None:
        assert list(unfit(self.row(spread={"p50": 0.101}, throughput=[self.load(spread=0.3)]))) == [
            "onnx@pi: latency: the processes differ by 10.1%, at most 10% is allowed",
            "onnx@pi: throughput of 4 streams, batch 1: the processes differ by 30.0%, at most 10% is allowed",
        ]
