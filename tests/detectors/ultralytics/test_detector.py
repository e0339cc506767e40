"""The Ultralytics family against the engine's own forward pass."""

from __future__ import annotations

import pytest
import torch

from edgekd.detectors.capture import Capture, run
from edgekd.detectors.contract import Asked
from edgekd.detectors.spec import Needs, Part, QueryHead, Tap
from edgekd.detectors.ultralytics.detector import UltralyticsDetector
from edgekd.errors import InputError

NAMES = ("cat", "dog", "owl")
BOTH: frozenset[Part] = frozenset({"class_logits", "boxes"})
HEAD = Needs(parts=BOTH)


def detector(name: str, channels: int = 3) -> UltralyticsDetector:
    torch.manual_seed(0)
    built = UltralyticsDetector.opened(Asked(name, None, NAMES, channels, "student"))
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
        output = run(dense, images, HEAD)
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
    neck = dense.spec.taps_of("neck")
    with torch.no_grad():
        plain, fused = (run(one, images, Needs(neck, BOTH)) for one in (dense, dense.frozen()))
    for path in [tap.key for tap in neck]:
        torch.testing.assert_close(fused.taps[path], plain.taps[path], atol=1e-4, rtol=1e-4)
    for name in dense.spec.branches:
        torch.testing.assert_close(fused.dense[name].class_logits, plain.dense[name].class_logits, atol=1e-3, rtol=1e-3)
    assert not any(parameter.requires_grad for parameter in dense.frozen().module.parameters())


def test_taps_state_stride_and_channels(dense: UltralyticsDetector) -> None:
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        output = run(dense, images, Needs(dense.spec.taps))
    for role in ("backbone", "neck", "head_cls", "head_box"):
        assert [tap.stride for tap in dense.spec.taps_of(role)] == [8, 16, 32]
    for tap in dense.spec.taps:
        assert tuple(output.taps[tap.path].shape[1:]) == (tap.channels, 64 // tap.stride, 64 // tap.stride)


def test_unused_heads_are_not_run() -> None:
    pico = detector("yolo11p")
    pico.head.cv2.register_forward_pre_hook(lambda *_: pytest.fail("the box head ran"))
    output = run(pico, torch.rand(1, 3, 64, 64), pico.spec.needs("model.16", parts=["class_logits"]))
    assert output.taps["model.16"].shape == (1, 32, 8, 8)
    with pytest.raises(RuntimeError, match="boxes were not computed"):
        _ = output.dense["one2many"].boxes_px


@pytest.mark.parametrize("head", ["one2many", "one2one"])
def test_export_module_of_two_branches(head: str) -> None:
    two = detector("yolo26p")
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        reference = run(two, images, HEAD).dense[head]
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
    head = transformer.spec.head
    assert isinstance(head, QueryHead)
    assert (head.layers, head.queries, head.width, head.strides) == (6, 300, 256, (8, 16, 32))
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        output = run(transformer, images, transformer.spec.needs("model.21", parts=["class_logits"]))
        rows = transformer.export_module()(images)
    assert output.queries is not None
    assert output.queries.class_logits.shape == (1, 1, 84, 3)
    assert output.queries.layers == (5,), "the last one alone, in inference"
    assert output.taps["model.21"].shape == (1, 256, 8, 8)
    best = output.queries.class_logits[-1].sigmoid().max()
    torch.testing.assert_close(rows[0, 0, 4], best, atol=1e-5, rtol=0)
    assert rows.shape[-1] == 6


def test_other_channel_counts_are_built() -> None:
    gray = detector("yolo11p", channels=1)
    assert run(gray, torch.rand(1, 1, 64, 64), gray.spec.needs("model.16")).taps["model.16"].shape[1] == 32


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
        UltralyticsDetector.opened(Asked(name, None, NAMES, 3, "student"))
    assert text in error.value.problems[0]


def test_named_taps_inside_a_block_survive_fusion_and_in_place_activations() -> None:
    pico = detector("yolo11p")
    path = "model.16.cv2.conv"
    plain, pico = pico, pico.with_taps([path, "model.16", "nowhere"])
    assert (plain.spec.named_paths, pico.spec.named_paths) == ((), (path,))
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
            found = run(side, images, Needs((tap,))).taps[path]
            torch.testing.assert_close(found, expected[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("path", ["model.23.cv3.0.0", "model.23.cv2.1", "model.23.cv3.2"])
def test_a_named_tap_inside_the_head_makes_the_head_run(path: str) -> None:
    """The head is run in parts, so a tap in it says which part it needs."""
    pico = detector("yolo11p").with_taps([path])
    tap = pico.spec.taps_of("named")[0]
    assert tap.part == ("boxes" if "cv2" in path else "class_logits")
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        found = run(pico.frozen(), images, Needs((tap,)))
    assert tuple(found.taps[path].shape) == (1, tap.channels, 64 // tap.stride, 64 // tap.stride)


def test_a_head_tail_continues_the_tower() -> None:
    pico = detector("yolo26p")
    images = torch.rand(2, 3, 64, 64)
    for part, role in (("class_logits", "head_cls"), ("boxes", "head_box")):
        tap = pico.spec.taps_of(role)[1]
        with torch.no_grad():
            output = run(pico, images, Needs((tap,), BOTH))
            whole = pico.compute(images, BOTH)[f"one2many {'boxes' if part == 'boxes' else 'scores'}"]
            tail = pico.head_tail(part, 1, 2, "one2many")(output.taps[tap.key])
        assert torch.equal(tail.flatten(2), whole[..., 64:80]), "16 points of the level of stride 16"
    with pytest.raises(InputError, match="cut 3 of a tower of 3 layers; choose 0 to 2"):
        pico.head_tail("boxes", 0, 3, "one2many")


def test_a_module_that_runs_once_per_level_is_captured_at_every_call() -> None:
    tower = torch.nn.Conv2d(1, 1, 1)
    network = torch.nn.ModuleDict({"tower": tower})
    levels = [torch.rand(1, 1, size, size) for size in (8, 4, 2)]
    taps = [Tap("head_cls", "tower", 64 // len(level[0, 0]), 1, call=call) for call, level in enumerate(levels)]
    capture = Capture(network, [taps[0], taps[2]])
    for _ in range(2):
        wanted = [tower(level) for level in levels]
        maps = capture.take()
        assert list(maps) == ["tower", "tower@2"]
        assert torch.equal(maps["tower"], wanted[0]) and torch.equal(maps["tower@2"], wanted[2])
    capture.remove()
    tower(levels[0])
    assert capture.take() == {}


def test_needs_merge_without_repeating() -> None:
    first, second = Tap("neck", "a", 8, 4), Tap("head_cls", "b", 8, 4, part="class_logits")
    merged = Needs.merged([Needs((first,)), Needs((first, second), frozenset({"boxes"}))])
    assert merged == Needs((first, second), frozenset({"boxes"}))
    assert merged.head == {"boxes", "class_logits"}


def test_towers_of_a_yolo() -> None:
    """Behind the first of two blocks and behind both, for every level and branch."""
    for name, branches in (("yolo11p", ["one2many"]), ("yolo26p", ["one2many", "one2one"])):
        built = detector(name)
        assert len(built.spec.towers) == 2 * 3 * len(branches)
        for tower in built.spec.towers:
            prefix = "one2one_" if tower.branch == "one2one" else ""
            kind = "cv3" if tower.part == "class_logits" else "cv2"
            start = f"model.{built.head.i}.{prefix}{kind}.{tower.level}"
            assert [tap.path for tap in tower.taps] == [f"{start}.0", f"{start}.1"]
            assert [tap.stride for tap in tower.taps] == [(8, 16, 32)[tower.level]] * 2
            whole = built.head_tail(tower.part, tower.level, 1, tower.branch)
            assert whole[0] is built.module.get_submodule(tower.taps[1].path)  # type: ignore[index]
