"""Host, local device and agent together."""

import numpy as np
import pytest

from edgekd.devices import catalog, run_agent
from edgekd.errors import EnvironmentFault
from edgekd.measure.latency import Protocol
from edgekd.measure.latency_events import summarise_events
from edgekd.testing.artifacts import expected_scores, make_images, write_artifact, write_pack

# The count decides: the time that samples take is less than that of the clock wherever the process has to wait.
RULES = Protocol("mine", 2, warmup_seconds=0.05, min_count=4096, min_seconds=0.05, needs_steady=False, max_waited=1)


def test_predict_and_profile(tmp_path):
    artifact, pack = write_artifact(tmp_path / "tiny"), write_pack(tmp_path, 5)
    with catalog.open_device(catalog.load("local")) as device:
        prediction = run_agent.predict(device, artifact, pack, conf=0.001, iou=0.7, max_det=300, threads=1)
        events = run_agent.profile(device, artifact, pack, protocol=RULES, threads=1, record=tmp_path / "x.jsonl")
    for found, scores in zip(prediction.detections, expected_scores(make_images(5)), strict=True):
        np.testing.assert_allclose(found.scores, np.sort(scores.ravel())[::-1], atol=1e-6)
    summary = summarise_events(events, protocol=RULES, target="tiny", device="local")
    assert summary["valid"], summary["invalid_reasons"]
    assert summary["latency_ms"]["end_to_end"]["count"] >= 128
    assert summary["environment"]["threads"] == 1
    assert summary["load_ms"] > 0


def test_the_agents_own_words_reach_the_user(tmp_path):
    artifact, pack = write_artifact(tmp_path / "tiny"), write_pack(tmp_path)
    (artifact / "model.onnx").write_bytes(b"x")
    with (
        catalog.open_device(catalog.load("local")) as device,
        pytest.raises(
            EnvironmentFault, match=r"device local: agent predict: artifact: .*model\.onnx: sha256 is 2d711642b726"
        ),
    ):
        run_agent.predict(device, artifact, pack, conf=0.001, iou=0.7, max_det=300, threads=1)
