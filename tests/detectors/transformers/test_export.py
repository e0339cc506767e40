"""RT-DETR and D-FINE as ONNX, and as a teacher that OpenVINO runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.spec import Needs
from edgekd.export.contract import Source
from edgekd.export.targets import load_target, run_steps
from edgekd.training.teacher import Teacher
from tests.detectors.transformers.folders import NAMES, network, opened, write

pytest.importorskip("transformers", reason="the extra hf is not installed")

HEIGHT, WIDTH = 96, 128


@pytest.fixture(scope="module", params=[pytest.param("rt-detr-p", marks=pytest.mark.slow), "dfine-p"])
def detector(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return opened(write(network(request.param), tmp_path_factory.mktemp("export") / request.param))


def images_of(height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def detections_alike(found: Tensor, expected: Tensor) -> None:
    """Rows of nearly equal scores may change places."""
    torch.testing.assert_close(found[..., 4], expected[..., 4], atol=1e-4, rtol=1e-3)
    same = found[..., 5] == expected[..., 5]
    assert float(same.float().mean()) > 0.9
    apart = (found[..., :4] - expected[..., :4]).abs().amax(-1)
    assert float((apart < 0.1).float().mean()) > 0.9


def test_onnx(detector: Any, tmp_path: Path) -> None:
    import onnxruntime

    module = detector.export_module()
    source = Source(module, "end2end", NAMES, 3, (HEIGHT, WIDTH), detector.spec.size_multiple, "5eed" * 16)
    target = load_target("onnx-fp32", {"batch": "dynamic", "size": "dynamic"}, "test")
    artifact = run_steps(source, target, tmp_path / "onnx")
    session = onnxruntime.InferenceSession(artifact.model_path, providers=["CPUExecutionProvider"])
    for size in ((HEIGHT, WIDTH), (64, 96)):
        images = images_of(*size)
        with torch.no_grad():
            expected = module(images)
        (found,) = session.run(None, {"images": images.numpy()})
        detections_alike(torch.from_numpy(found), expected)


def test_openvino_runs_the_teachers_maps(detector: Any) -> None:
    """Compared with torch at each new size by the runtime itself."""
    needs = Needs(detector.spec.taps_of("neck"))
    same = ClassMap.identity(len(NAMES))
    plain, fast = (Teacher(detector.frozen(), same, runtime) for runtime in ("eager", "openvino"))
    for size in ((HEIGHT, WIDTH), (64, 96)):
        expected, found = (one.forward(images_of(*size), needs).taps for one in (plain, fast))
        for tap in needs.taps:
            torch.testing.assert_close(found[tap.key], expected[tap.key], atol=1e-2, rtol=1e-2)
