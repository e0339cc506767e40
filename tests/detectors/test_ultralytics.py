"""The Ultralytics family against the engine's own forward pass."""

from __future__ import annotations

import pytest
import torch

from edgekd.detectors.ultralytics import UltralyticsDetector
from edgekd.errors import InputError

NAMES = ("cat", "dog", "owl")
BOTH = frozenset({"class_logits", "boxes"})


def detector(name: str, channels: int = 3) -> UltralyticsDetector:
    torch.manual_seed(0)
    built = UltralyticsDetector.from_recipe(name, None, NAMES, channels, "student")
    for key, parameter in built.module.named_parameters():  # away from the initial state, in which all boxes are equal
        if ".dfl." not in key:  # the bins' positions, constants in the guise of a weight
            parameter.data += 0.02 * torch.randn_like(parameter)
    for layer in built.module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean += 0.05 * torch.randn_like(layer.running_mean)
            layer.running_var *= 1.2
    built.module.eval()
    return built


@pytest.fixture(scope="module", params=["yolov8p", "yolo11p", "yolo12n", "yolo26p"])
def dense(request: pytest.FixtureRequest) -> UltralyticsDetector:
    return detector(request.param)


def test_forward_equals_the_engine(dense: UltralyticsDetector) -> None:
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        decoded, raw = dense.module(images)
        output = dense.forward(images, (), BOTH)
    branches = raw if "one2many" in raw else {"one2many": raw}
    assert set(output.dense) == set(branches) == set(dense.spec.branches)
    for name, expected in branches.items():
        found = output.dense[name]
        assert torch.equal(found.class_logits, expected["scores"].transpose(1, 2))
        assert found.level_sizes == ((8, 12), (4, 6), (2, 3))
        assert found.class_logits.shape == (2, 126, 3)
    centre, size = decoded[:, :2].transpose(1, 2), decoded[:, 2:4].transpose(1, 2)
    expected_boxes = torch.cat([centre - size / 2, centre + size / 2], -1)
    torch.testing.assert_close(output.dense["one2many"].boxes_px, expected_boxes, atol=1e-3, rtol=0)


def test_fused_teacher_equals_the_original(dense: UltralyticsDetector) -> None:
    images = torch.rand(1, 3, 64, 64)
    taps = tuple(tap.path for tap in dense.spec.taps_of("neck"))
    with torch.no_grad():
        plain, fused = dense.forward(images, taps, BOTH), dense.frozen().forward(images, taps, BOTH)
    for path in taps:
        torch.testing.assert_close(fused.taps[path], plain.taps[path], atol=1e-4, rtol=1e-4)
    for name in dense.spec.branches:
        torch.testing.assert_close(fused.dense[name].class_logits, plain.dense[name].class_logits, atol=1e-3, rtol=1e-3)
    assert not any(parameter.requires_grad for parameter in dense.frozen().module.parameters())


def test_taps_state_stride_and_channels(dense: UltralyticsDetector) -> None:
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        output = dense.forward(images, tuple(tap.path for tap in dense.spec.taps), frozenset({"class_logits", "boxes"}))
    for role in ("backbone", "neck", "head_cls", "head_box"):
        assert [tap.stride for tap in dense.spec.taps_of(role)] == [8, 16, 32]
    for tap in dense.spec.taps:
        assert tuple(output.taps[tap.path].shape[1:]) == (tap.channels, 64 // tap.stride, 64 // tap.stride)


def test_unused_heads_are_not_run() -> None:
    pico = detector("yolo11p")
    pico.head.cv2.register_forward_pre_hook(lambda *_: pytest.fail("the box head ran"))
    output = pico.forward(torch.rand(1, 3, 64, 64), ("model.16",), frozenset({"class_logits"}))
    assert output.taps["model.16"].shape == (1, 32, 8, 8)
    with pytest.raises(RuntimeError, match="boxes were not computed"):
        _ = output.dense["one2many"].boxes_px


@pytest.mark.parametrize("head", ["one2many", "one2one"])
def test_export_module_of_two_branches(head: str) -> None:
    two = detector("yolo26p")
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        reference = two.forward(images, (), BOTH).dense[head]
        exported = two.export_module(head)(images)  # type: ignore[arg-type]
    if head == "one2many":
        boxes, scores = exported
        torch.testing.assert_close(boxes, reference.boxes_px, atol=1e-3, rtol=0)
        torch.testing.assert_close(scores, reference.class_logits.sigmoid(), atol=1e-5, rtol=0)
        return
    rows = exported
    assert rows.shape == (2, 84, 6)
    best = reference.class_logits.sigmoid().flatten(1).max(1)
    torch.testing.assert_close(rows[:, 0, 4], best.values, atol=1e-5, rtol=0)
    point, label = best.indices // 3, best.indices % 3
    assert torch.equal(rows[:, 0, 5].long(), label)
    torch.testing.assert_close(rows[0, 0, :4], reference.boxes_px[0, point[0]], atol=1e-3, rtol=0)


def test_rtdetr_reads_queries_without_denoising() -> None:
    transformer = detector("rtdetr-l")
    assert transformer.spec.head_kind == "query"
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        output = transformer.forward(images, ("model.21",), frozenset({"class_logits"}))
        rows = transformer.export_module()(images)
    assert output.queries is not None
    assert output.queries.class_logits.shape == (1, 1, 84, 3)
    assert output.taps["model.21"].shape == (1, 256, 8, 8)
    best = output.queries.class_logits[-1].sigmoid().max()
    torch.testing.assert_close(rows[0, 0, 4], best, atol=1e-5, rtol=0)
    assert rows.shape[-1] == 6


def test_other_channel_counts_are_built() -> None:
    assert (
        detector("yolo11p", channels=1).forward(torch.rand(1, 1, 64, 64), ("model.16",)).taps["model.16"].shape[1] == 32
    )


def test_pico_scale_is_an_eighth_of_the_width() -> None:
    assert detector("yolo11p").module.model[0].conv.out_channels == 8  # 64 * 0.125


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("yolo27n", "student.model: unknown model 'yolo27n'"),
        ("yolo11z", "student.model: unknown scale 'z' (known: l, m, n, p, s, x) of yolo11"),
        ("rtdetr-xx", "did you mean 'rtdetr-x'?"),
    ],
)
def test_unknown_models_are_named(name: str, text: str) -> None:
    with pytest.raises(InputError) as error:
        UltralyticsDetector.from_recipe(name, None, NAMES, 3, "student")
    assert text in error.value.problems[0]


def test_named_taps_inside_a_block_survive_fusion_and_in_place_activations() -> None:
    pico = detector("yolo11p")
    path = "model.16.cv2.conv"
    pico.name_taps([path, "model.16", "nowhere"])
    assert pico.spec.named_paths == (path,)
    tap = pico.spec.taps_of("named")[0]
    assert (tap.stride, tap.channels) == (8, 32)
    images = torch.rand(1, 3, 64, 64)
    expected: list[torch.Tensor] = []
    handle = pico.module.get_submodule(path).register_forward_hook(
        lambda _m, _i, output: expected.append(output.clone())
    )
    with torch.no_grad():
        pico.module(images)
        handle.remove()
        for side in (pico, pico.frozen()):
            torch.testing.assert_close(side.forward(images, (path,)).taps[path], expected[0], atol=1e-4, rtol=1e-4)
