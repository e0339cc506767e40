from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgekd.report.collect import collect
from edgekd.report.files import RunFiles
from edgekd.report.plots import ap_over_epochs, latency_histograms, loss_terms, thinned
from edgekd.report.scatter import accuracy_against_latency
from edgekd.report.svg import Scale, element, log_ticks, round_ticks
from tests.report.make_run import make_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "quickstart")


def test_ticks_are_round() -> None:
    assert round_ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert round_ticks(13, 47) == pytest.approx([20, 30, 40])
    assert round_ticks(0.457, 0.503) == pytest.approx([0.46, 0.47, 0.48, 0.49, 0.50])
    assert log_ticks(0.9, 30) == pytest.approx([1, 2, 5, 10, 20])
    assert log_ticks(1e-4, 1e4) == pytest.approx([1e-4, 1e-2, 1, 1e2, 1e4])


def test_scales_map_ends_to_ends() -> None:
    linear, log = Scale(2, 6, 0, 100), Scale(1, 100, 200, 0, log=True)
    assert (linear(2), linear(3), linear(6)) == (0, 25, 100)
    assert log(10) == pytest.approx(100)


def test_elements_escape_text_and_attributes() -> None:
    made = element("text", "<b>", x=1.50, class_="a", stroke_width=2, fill=None, aria_label='"&')
    assert made == '<text x="1.5" class="a" stroke-width="2" aria-label="&#34;&amp;">&lt;b&gt;</text>'


def test_thinning_takes_means_of_equal_stretches() -> None:
    assert thinned([(0, 1), (1, 3), (2, 5), (3, 7), (4, 9)], most=3) == ((0.5, 2), (2.5, 6), (4, 9))
    assert thinned([(0, 1), (1, 3)], most=3) == ((0, 1), (1, 3))


def test_ap_over_epochs(run: Path) -> None:
    figure = ap_over_epochs(RunFiles(run), collect(run))
    assert figure is not None
    assert [(key.colour, key.value) for key in figure.legend] == [
        ("teacher", "0.612"),
        ("control", "0.459"),
        ("student", "0.497"),
    ]
    lines = re.findall(r'<polyline points="([^"]+)" class="line (\w+)"', str(figure.drawing))
    assert [(name, len(points.split())) for points, name in lines] == [
        ("teacher", 2),
        ("control", 20),
        ("student", 20),
    ]
    assert figure.sources == ("control/epochs.csv", "student/epochs.csv", "validate/teacher@host.json")


def test_missing_and_broken_cells_leave_gaps_not_zeros(run: Path) -> None:
    (run / "control/epochs.csv").unlink()
    (run / "student/epochs.csv").write_text("epoch, ap, ap50\n1, 0.2, 0.3\n2, , \n3, nan, nan\n4, 0.4, 0.5\n")
    figure = ap_over_epochs(RunFiles(run), collect(run))
    assert figure is not None
    points = re.findall(r'points="([^"]+)" class="line student"', str(figure.drawing))
    assert len(points[0].split()) == 2


def test_loss_terms_by_value_and_share(run: Path) -> None:
    weighted, share = loss_terms(RunFiles(run))
    assert [key.label for key in weighted.legend] == ["logit/cls", "ld/box", "detection"]
    assert len({key.colour for key in weighted.legend}) == 3
    assert "60 %" in str(share.drawing)
    assert str(share.drawing).count('class="level"') == 2


def test_histograms_tell_of_the_tail(run: Path) -> None:
    report = collect(run)
    figures = latency_histograms(report["artifacts"])
    assert [figure.title for figure in figures][:2] == ["onnx-fp16@local", "onnx-fp32@local"]
    tail = report["artifacts"][0]["histogram"]["counts"][-1]
    assert figures[0].note == f"384 samples; {tail} slower ones, up to 9.50 ms, lie to the right."
    assert [(key.label, key.value) for key in figures[0].legend] == [("p50", "2.61 ms"), ("p90", "2.94 ms")]
    assert figures[0].sources == ("profile/onnx-fp16@local.json",)


def test_histogram_of_one_value_alone(run: Path) -> None:
    artifact = collect(run)["artifacts"][0]
    artifact["histogram"] = {"edges_ms": [2.0, 2.0000000000000004], "counts": [384]}
    assert len(latency_histograms([artifact])) == 1


def test_scatter_names_every_artifact_once_and_no_label_covers_another(run: Path) -> None:
    figure = accuracy_against_latency(collect(run))
    assert figure is not None
    drawing = str(figure.drawing)
    labels = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="tick strong" text-anchor="(\w+)">([^<]+)<', drawing)
    assert sorted(label[3] for label in labels) == ["onnx-fp16", "onnx-fp32", "openvino-fp16", "openvino-fp32"]
    boxes = []
    for x, y, anchor, text in labels:
        left = float(x) - (len(text) * 6.4 if anchor == "end" else 0)
        boxes.append((left, float(y) - 11, left + len(text) * 6.4, float(y) + 3))
    for index, a in enumerate(boxes):
        assert not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in boxes[index + 1 :])
    assert drawing.count('class="point off"') == 2
    assert drawing.count('class="point"') == 2


def test_scatter_needs_a_point(run: Path) -> None:
    report = collect(run)
    for artifact in report["artifacts"]:
        artifact["valid"] = False
    assert accuracy_against_latency(report) is None
