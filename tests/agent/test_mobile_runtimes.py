"""ncnn and LiteRT on tiny models written by hand, whose every output is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.agent import __main__ as agent
from edgekd.agent.pipeline import Pipeline
from edgekd.agent.protocol import AgentError
from edgekd.agent.runtimes import open_model
from edgekd.testing.artifacts import QUADRANTS_PX, expected_scores, make_images, write_pack
from tests.agent.tiny_mobile import NCNN_GRAPH, write_litert, write_ncnn

PACKAGES = {"ncnn": "ncnn", "litert": "ai_edge_litert"}
WRITERS = {"ncnn": write_ncnn, "litert": write_litert}


@pytest.fixture(params=["ncnn", "litert"])
def runtime(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(PACKAGES[request.param], reason=f"the package {PACKAGES[request.param]} is not installed")
    return str(request.param)


@pytest.fixture
def litert() -> None:
    pytest.importorskip("ai_edge_litert", reason="the package ai_edge_litert is not installed")


@pytest.fixture
def ncnn() -> None:
    pytest.importorskip("ncnn", reason="the package ncnn is not installed")


def pipeline(artifact: Path, pack: Path, *more: str) -> Pipeline:
    command = ["predict", "--artifact", str(artifact), "--pack", str(pack), "--conf", "0.45", "--max-det", "4", *more]
    return Pipeline(agent.parser().parse_args(command))


def refusal(call: Any, *arguments: Any, **more: Any) -> str:
    with pytest.raises(AgentError) as caught:
        call(*arguments, **more)
    return caught.value.message


def test_outputs_are_those_of_the_graph(tmp_path: Path, runtime: str) -> None:
    lane = pipeline(WRITERS[runtime](tmp_path / "tiny"), write_pack(tmp_path, 5))
    images = make_images(5)
    assert lane.buffer.shape == ((1, 3, 8, 8) if runtime == "ncnn" else (1, 8, 8, 3))
    for image, expected in zip(images, expected_scores(images), strict=True):
        lane.put(image[None])
        outputs = dict(zip(lane.runtime.output_names, lane.infer(), strict=True))
        assert sorted(outputs) == ["boxes", "scores"]
        np.testing.assert_array_equal(outputs["boxes"], QUADRANTS_PX[None])
        np.testing.assert_allclose(outputs["scores"], expected[None], atol=1e-6)
        assert {output.dtype.name for output in outputs.values()} == {"float32"}


def test_results_stay_when_the_next_image_comes(tmp_path: Path, runtime: str) -> None:
    lane = pipeline(WRITERS[runtime](tmp_path / "tiny"), write_pack(tmp_path, 2))
    kept = []
    for image in make_images(2):
        lane.put(image[None])
        kept.append(dict(zip(lane.runtime.output_names, lane.infer(), strict=True))["scores"])
    np.testing.assert_allclose(np.concatenate(kept), expected_scores(make_images(2)), atol=1e-6)


def test_the_agent_runs_it_from_image_to_detections(
    tmp_path: Path, runtime: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    artifact, pack = WRITERS[runtime](tmp_path / "tiny"), write_pack(tmp_path, 3)
    assert agent.main(["predict", "--artifact", str(artifact), "--pack", str(pack), "--conf", "0.45"]) == 0
    events = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    (environment,) = (event for event in events if event["event"] == "environment")
    assert environment["runtime"]["name"] == runtime
    assert environment["runtime"]["providers"] == (["CPU"] if runtime == "ncnn" else ["XNNPACK"])
    assert environment["runtime"]["options"]["num_threads"] == 1
    assert len([event for event in events if event["event"] == "detections"]) == 3


@pytest.mark.usefixtures("litert")
class TestLiteRt:
    def test_outputs_of_8_bits_come_as_what_they_stand_for(self, tmp_path: Path) -> None:
        lane = pipeline(write_litert(tmp_path / "tiny", quantised=True), write_pack(tmp_path, 1))
        lane.put(make_images(1))
        scores = dict(zip(lane.runtime.output_names, lane.infer(), strict=True))["scores"]
        expected = expected_scores(make_images(1))
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores * 255, np.round(scores * 255), atol=1e-4)
        assert 1e-5 < np.abs(scores - expected).max() <= 0.5 / 255 + 1e-6

    def test_on_its_own_kernels_when_asked(self, tmp_path: Path) -> None:
        lane = pipeline(write_litert(tmp_path / "tiny"), write_pack(tmp_path, 1), "--provider", "CPU")
        assert lane.runtime.providers == ["CPU"]
        assert lane.runtime.options["delegated_parts"] == 0
        lane.put(make_images(1))
        np.testing.assert_allclose(lane.infer()[1], expected_scores(make_images(1)), atol=1e-6)

    def test_a_graph_that_xnnpack_leaves_alone_is_no_xnnpack_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from edgekd.agent.runtimes import litert_runtime

        monkeypatch.setattr(litert_runtime, "_delegated", lambda _: 0)
        folder = write_litert(tmp_path / "tiny")
        assert refusal(open_model, "litert", folder / "model.tflite", 1, "fp32") == (
            "litert: asked for XNNPACK, got CPU; a silent fallback would be measured as if it were the device"
        )

    def test_an_unknown_provider_is_refused(self, tmp_path: Path) -> None:
        folder = write_litert(tmp_path / "tiny")
        message = refusal(open_model, "litert", folder / "model.tflite", 1, "fp32", ["GPU"])
        assert message == "litert runs on XNNPACK or CPU, not on GPU"

    def test_a_file_that_is_no_model(self, tmp_path: Path) -> None:
        path = tmp_path / "model.tflite"
        path.write_bytes(b"nothing of the kind")
        assert refusal(open_model, "litert", path, 1, "fp32").startswith("litert cannot load model.tflite: ")


@pytest.mark.usefixtures("ncnn")
class TestNcnn:
    def test_half_precision_for_fp16_alone(self, tmp_path: Path) -> None:
        for precision, half in (("fp16", True), ("fp32", False)):
            folder = write_ncnn(tmp_path / precision, precision=precision)
            opened = open_model("ncnn", folder / "model.param", 1, precision)
            assert {opened.options[f"use_fp16_{kind}"] for kind in ("packed", "storage", "arithmetic")} == {half}
            assert not opened.options["use_bf16_storage"]

    def test_a_layer_that_it_does_not_know(self, tmp_path: Path) -> None:
        folder = write_ncnn(tmp_path / "tiny", NCNN_GRAPH.replace("Permute", "Permutation"))
        assert refusal(open_model, "ncnn", folder / "model.param", 1, "fp32") == (
            "ncnn cannot load model.param and model.bin (see standard error); it may lack a layer that a newer ncnn "
            "has: update it, or export again"
        )

    def test_an_output_that_cannot_be_computed(self, tmp_path: Path) -> None:
        class OutOfMemory:
            def extract(self, _: str) -> Any:
                return -100, None

        opened: Any = open_model("ncnn", write_ncnn(tmp_path / "tiny") / "model.param", 1, "fp32")
        message = refusal(opened._extract, OutOfMemory(), "scores")
        assert message == "ncnn cannot compute output 'scores' (code -100); export the artifact again"
