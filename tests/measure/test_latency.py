"""Latency figures by hand; percentiles by their definition; what makes a run invalid."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgekd.measure.latency import PHASES, PROTOCOLS, Protocol, drift_percent, histogram, percentile, summarise

ANY = Protocol("any", 1, warmup_seconds=0, min_count=1, min_seconds=0, needs_steady=True)


def process(times_ms, pre=0.0, post=0.0):
    """One process's samples from end-to-end times."""
    whole = np.round(np.asarray(times_ms, float) * 1e6).astype(np.int64)
    pre_ns, post_ns = (np.full(len(whole), round(part * 1e6)) for part in (pre, post))
    return {"pre": pre_ns, "inference": whole - pre_ns - post_ns, "post": post_ns, "end_to_end": whole}


@pytest.mark.parametrize("count", [64, 65, 70, 99, 100, 101, 130, 662, 700, 1000])
@pytest.mark.parametrize("percent", [50, 90, 95, 99])
def test_percentile_is_the_smallest_sample_that_enough_samples_do_not_exceed(count, percent):
    samples = np.random.default_rng(count).permutation(count).astype(float)
    least = {50: 1, 90: 64, 95: 130, 99: 662}[percent]
    smallest = min(value for value in samples if 100 * (samples <= value).sum() >= percent * count)
    assert percentile(samples, percent) == (smallest if count >= least else None)


@pytest.mark.parametrize(("percent", "least"), [(90, 64), (95, 130), (99, 662)])
def test_a_percentile_needs_its_count(percent, least):
    assert percentile(np.arange(least - 1), percent) is None
    assert percentile(np.arange(least), percent) == math.ceil(percent * least / 100) - 1


def test_figures_by_hand():
    summary = summarise([process([4, 1, 2, 10], pre=0.25, post=0.5)], ANY)
    assert summary.latency_ms["end_to_end"] == {
        "p50": 2, "p90": None, "p95": None, "p99": None, "mean": 4.25, "mad": 1, "min": 1, "max": 10, "count": 4,
    }  # fmt: skip
    assert summary.latency_ms["inference"]["p50"] == 1.25
    assert summary.latency_ms["pre"]["mean"] == 0.25
    assert tuple(summary.latency_ms) == PHASES
    assert summary.cv == pytest.approx(math.sqrt((0.0625 + 10.5625 + 5.0625 + 33.0625) / 3) / 4.25)
    assert summary.process_p50_ms == (2,)
    assert summary.valid


def test_processes_are_pooled_and_no_outlier_is_dropped():
    summary = summarise([process([1.0] * 50), process([1.0] * 49 + [500.0])], ANY)
    figures = summary.latency_ms["end_to_end"]
    assert (figures["count"], figures["max"], figures["p90"]) == (100, 500, 1)
    assert figures["mean"] == pytest.approx(5.99)
    assert sum(summary.histogram["counts"]) == 100
    assert summary.process_p50_ms == (1, 1)


def test_drift_is_the_slope_over_the_run_and_deaf_to_outliers():
    line = np.linspace(9, 11, 1000)
    assert drift_percent(line) == pytest.approx(20, abs=0.5)
    assert drift_percent(line[::-1]) == pytest.approx(-20, abs=0.5)
    line[::50] = 400
    assert drift_percent(line) == pytest.approx(20, abs=0.5)
    assert drift_percent([3.0] * 200) == 0
    assert drift_percent([3.0]) == 0
    assert drift_percent([1.0, 2.0, 3.0]) == pytest.approx(100)


def test_drift_is_that_of_the_process_that_drifts_most():
    summary = summarise([process(np.linspace(10, 10.1, 200)), process(np.linspace(11, 9, 200))], ANY)
    assert summary.drift_percent == pytest.approx(-20, abs=0.5)


def test_histogram_counts_everything_in_equal_bins_and_one_for_the_tail():
    body = np.random.default_rng(0).normal(10, 0.1, 2000)
    shown = histogram(np.append(body, [90.0] * 5))
    edges, counts = np.array(shown["edges_ms"]), np.array(shown["counts"])
    assert counts.sum() == 2005
    assert len(counts) + 1 == len(edges) <= 61
    assert np.diff(edges)[:-1] == pytest.approx(np.diff(edges)[0])
    assert edges[-1] == 90
    assert edges[-2] < 10.5
    assert 20 <= len(counts) - 1 <= 45  # Freedman-Diaconis: 2 IQR n^(-1/3) = 0.021 ms over about 0.58 ms


def test_histogram_of_odd_samples():
    assert histogram(np.array([2.0, 2.0]))["counts"] == [2]
    assert sum(histogram(np.array([1.0, 2.0]))["counts"]) == 2
    spike = histogram(np.append(np.full(90, 1.0), np.full(10, 2.0)))  # no spread between the quartiles
    assert len(spike["counts"]) == 60
    assert (spike["counts"][0], spike["counts"][-1]) == (90, 10)


def test_too_short_a_run_is_invalid_with_every_reason():
    summary = summarise([process([1.0] * 100)], Protocol("full", 3, 2, 1024, 60, needs_steady=True))
    assert summary.invalid_reasons == (
        "1 of at least 3 processes (protocol full)",
        "too short: 100 of at least 1024 samples a process (protocol full)",
        "too short: 0.10 of at least 60 s a process (protocol full)",
    )


def test_a_whole_run_is_valid():
    summary = summarise([process([25.0] * 150)] * 3, PROTOCOLS["quick"], [True] * 3)
    assert summary.valid
    assert summary.notes == ()


@pytest.mark.parametrize(("needs_steady", "valid"), [(True, False), (False, True)])
def test_an_unsteady_warm_up_is_invalid_or_noted_by_protocol(needs_steady, valid):
    protocol = Protocol("any", 1, 0, 1, 0, needs_steady)
    summary = summarise([process([1.0])] * 3, protocol, [True, False, False])
    said = summary.notes if valid else summary.invalid_reasons
    assert summary.valid is valid
    assert said == ("the warm-up never became steady (process 2, 3 of 3)",)


@pytest.mark.parametrize(("second", "noted"), [(10.5, False), (10.6, True)])
def test_processes_that_disagree_are_noted(second, noted):
    summary = summarise([process([10.0] * 9), process([second] * 9)], ANY)
    assert summary.valid
    assert (len(summary.notes) == 1) is noted
    if noted:
        assert summary.notes[0].startswith("the processes' medians differ by 6.0% (10 to 10.6 ms)")


def test_phases_must_belong_together():
    samples = process([1.0, 2.0])
    samples["pre"] = samples["pre"][:1]
    with pytest.raises(ValueError, match="process 1 must have the same number of samples"):
        summarise([samples], ANY)
    with pytest.raises(ValueError, match="no process"):
        summarise([], ANY)
