"""Artifacts that take uint8 NHWC and suppress inside their graph: same detections, and less to do around the model."""

from __future__ import annotations

import json
from argparse import Namespace

import numpy as np
import pytest

from edgekd.agent.pipeline import Pipeline
from edgekd.agent.postprocess import Settings, settings
from edgekd.agent.predict import detect_batch
from edgekd.agent.preprocess import input_shape, to_input
from edgekd.agent.profile import Loop
from edgekd.agent.protocol import AgentError
from edgekd.export.artifacts import open_artifact
from edgekd.export.contract import Artifact
from edgekd.export.onnx_nms import append_nms
from edgekd.export.onnx_uint8 import take_uint8
from edgekd.testing.artifacts import make_images, write_artifact, write_pack
from tests.export.graphs import spec

NMS = {"conf": 0.45, "iou": 0.7, "max_det": 5}


def folded(folder, order="RGB", batch=2):
    """The tiny artifact with both ends folded in."""
    plain = open_artifact(write_artifact(folder / "plain", batch=batch))
    plain = Artifact(plain.folder, plain.sidecar.model_copy(update={"tools": {"edgekd": "0"}}))
    options = {"nms": NMS, "input": {"channel_order": order}}
    target = spec(nms="in_graph", input="uint8_nhwc", options=options)
    for name in ("nms", "uint8"):
        (folder / name).mkdir()
    return take_uint8(append_nms(plain, target, folder / "nms"), target, folder / "uint8").folder


def lane(artifact, pack, **changes):
    arguments = {"conf": 0.001, "iou": None, "max_det": None, "threads": 1, "batch": None, "provider": None}
    given = {"artifact": artifact, "pack": pack, "frame": (24, 32), "provider_options": {}}
    return Pipeline(Namespace(**{**arguments, **given, **changes}))


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_same_detections_as_with_both_outside(tmp_path, order):
    pack = write_pack(tmp_path, 5)
    inside = lane(folded(tmp_path / "folded", order), pack)
    outside = lane(write_artifact(tmp_path / "tiny", batch=2), pack, conf=0.45, max_det=5)
    assert (inside.buffer.shape, inside.buffer.dtype) == ((2, 8, 8, 3), np.uint8)
    assert inside.settings == Settings(0.45, 0.7, 5)
    counts = []
    for start in (0, 2, 4):
        for ours, theirs in zip(detect_batch(inside, start), detect_batch(outside, start), strict=True):
            counts.append(len(ours.scores))
            for one, other in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(one, other)
    assert len(counts) == 5
    assert sum(counts) > 10


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_the_letterbox_writes_into_the_models_input(tmp_path, order):
    pipeline = lane(folded(tmp_path / "folded", order), write_pack(tmp_path))
    loop = Loop(pipeline, pipeline.arguments)
    assert loop._letterboxed is pipeline.buffer
    pipeline.buffer[...] = 0
    loop.prepare()
    first = make_images(1)[0]
    inner = pipeline.buffer[0, 1:7]  # 24x32 becomes 6x8
    assert (pipeline.buffer[0, [0, 7]] == 114).all()
    wanted = first[..., ::-1] if order == "BGR" else first
    # Nearest neighbour up and bilinear down again: what is left of the image correlates with its channels in order.
    for channel in range(3):
        kept = [np.corrcoef(inner[..., channel].ravel(), wanted[1:7, :, one].ravel())[0, 1] for one in range(3)]
        assert int(np.argmax(kept)) == channel
    assert set(loop.step()) == {"pre_ns", "inference_ns", "post_ns", "end_to_end_ns"}


def test_thresholds_in_force():
    assert settings(0.25, None, None, None) == Settings(0.25, 0.7, 300)
    assert settings(0.25, 0.5, 7, None) == Settings(0.25, 0.5, 7)
    assert settings(0.25, None, None, NMS) == Settings(0.45, 0.7, 5)
    assert settings(0.5, 0.7, 3, NMS) == Settings(0.5, 0.7, 3)
    assert settings(0.5, None, 300, NMS) == Settings(0.5, 0.7, 5)


def test_another_iou_than_the_graphs_is_refused():
    with pytest.raises(AgentError) as caught:
        settings(0.25, 0.6, None, NMS)
    assert caught.value.message == (
        "--iou 0.6: the NMS inside the graph uses 0.7; leave --iou out, or export the target again with "
        "'options: {nms: {iou: 0.6}}'"
    )


def test_a_sidecar_that_states_another_input_type_is_refused(tmp_path):
    artifact = folded(tmp_path / "folded")
    sidecar = json.loads((artifact / "edgekd.json").read_text())
    (artifact / "edgekd.json").write_text(json.dumps({**sidecar, "input_dtype": "float32"}))
    with pytest.raises(AgentError) as caught:
        lane(artifact, write_pack(tmp_path))
    assert caught.value.message == "edgekd.json: input_dtype is float32, but the model takes uint8; export it again"


def test_every_form_of_input_by_hand():
    image = np.array([[[[51, 102, 255], [0, 0, 51]]]], dtype=np.uint8)  # one row of two pixels
    for layout, shape in (("NCHW", (1, 3, 1, 2)), ("NHWC", (1, 1, 2, 3))):
        assert input_shape(layout, 1, 3, (1, 2)) == shape
        out = np.empty(shape, dtype=np.float32)
        to_input(image, layout, "BGR", 255.0, out)
        blue = out[0, 0, 0] if layout == "NCHW" else out[0, 0, :, 0]
        np.testing.assert_allclose(blue, [1.0, 0.2])
    pixels = np.empty((1, 1, 2, 3), dtype=np.uint8)
    to_input(image, "NHWC", "RGB", 255.0, pixels)
    np.testing.assert_array_equal(pixels, image)
