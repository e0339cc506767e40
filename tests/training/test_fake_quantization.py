"""What 8 bits leave of weights and inputs: by hand, beside ONNX, behind a batch norm; and its ranges."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from edgekd.training import fake_quantization
from edgekd.training.fake_quantization import (
    FakeQuantization,
    Grid,
    fake_quantized_input,
    fake_quantized_weight,
)


class Tiny(nn.Module):
    """Two convolutions with a batch norm between them, where a student has its layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.SiLU(inplace=True), nn.Conv2d(4, 1, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.model(images)
        return result


class Layers:
    """What fake quantisation asks of a student."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def quantisable(self, float_predictions: bool = False) -> dict[str, nn.Conv2d]:
        return {path: part for path, part in self.module.named_modules() if isinstance(part, nn.Conv2d)}


def span(low: float, high: float) -> Tensor:
    return torch.tensor([low, high], dtype=torch.float32)


class TestByHand:
    def test_weights(self) -> None:
        weight = torch.tensor([[1.27, -0.5, 0.004], [-2.54, 0.029, 0.031], [0.0, 0.0, 0.0]])
        expected = torch.tensor([[1.27, -0.5, 0.0], [-2.54, 0.02, 0.04], [0.0, 0.0, 0.0]])
        assert_close(fake_quantized_weight(weight), expected)
        assert fake_quantized_weight(weight.half()).dtype == torch.float16

    @pytest.mark.parametrize(
        ("low", "high", "given", "expected"),
        [
            (-1.0, 1.55, [-1.0, -1.004, 0.0, 0.014, 0.016, 1.55], [-1.0, -1.0, 0.0, 0.01, 0.02, 1.55]),
            (-1.0, 1.55, [-7.0, 7.0], [-1.0, 1.55]),
            (1.0, 2.55, [0.0, 0.5, 3.0], [0.0, 0.5, 2.55]),  # widened to hold 0
            (-2.55, -1.0, [0.0, -0.5, -3.0], [0.0, -0.5, -2.55]),
            (0.0, 0.0, [0.0, 1.0], [0.0, 0.0]),
        ],
    )
    def test_inputs(self, low: float, high: float, given: list[float], expected: list[float]) -> None:
        found = fake_quantized_input(torch.tensor(given), span(low, high), symmetric=False)
        assert_close(found, torch.tensor(expected), atol=1e-6, rtol=0)

    def test_symmetric_inputs(self) -> None:
        given = torch.tensor([-0.3, 0.004, 0.006, 1.27, 9.0, -9.0])
        found = fake_quantized_input(given, span(-0.3, 1.27), symmetric=True)
        assert_close(found, torch.tensor([-0.3, 0.0, 0.01, 1.27, 1.27, -1.28]))


class TestBesideOnnx:
    """Scales are powers of two here, so that both divide exactly and round ties alike."""

    def onnx(self, values: Tensor, scale: Any, zero: Any, axis: int | None) -> Tensor:
        import onnx
        import onnxruntime

        keys = {} if axis is None else {"axis": axis}
        graph = onnx.helper.make_graph(
            [
                onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **keys),
                onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **keys),
            ],
            "qdq",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(values.shape))],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, list(values.shape))],
            [onnx.numpy_helper.from_array(scale, "s"), onnx.numpy_helper.from_array(zero, "z")],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(None, {"x": values.numpy()})[0])

    def test_weights(self) -> None:
        torch.manual_seed(0)
        scale = torch.tensor([2.0**-5, 2.0**-9, 2.0**3])
        weight = (torch.rand(3, 4, 3, 3) * 2 - 1) * 127 * scale.view(3, 1, 1, 1)
        weight[:, 0, 0, 0] = -127 * scale
        weight[:, 1, 0, 0] = 2.5 * scale  # a tie
        expected = self.onnx(weight, scale.numpy(), np.zeros(3, np.int8), 0)
        assert torch.equal(fake_quantized_weight(weight), expected)

    @pytest.mark.parametrize("symmetric", [False, True])
    def test_inputs(self, symmetric: bool) -> None:
        torch.manual_seed(0)
        step = 2.0**-6
        values = torch.randn(4, 1000) * 80 * step
        values[0, 0] = 3.5 * step
        low, high, zero = (-50.0, 127.0, np.int8(0)) if symmetric else (-100.0, 155.0, np.uint8(100))
        expected = self.onnx(values, np.float32(step), np.asarray(zero), None)
        assert torch.equal(fake_quantized_input(values, span(low * step, high * step), symmetric), expected)

    @pytest.mark.parametrize("symmetric", [False, True])
    def test_grid_is_that_of_the_tools_that_quantise(self, symmetric: bool) -> None:
        from onnxruntime.quantization.quant_utils import compute_scale_zp

        torch.manual_seed(1)
        for _ in range(20):
            low, high = (float(value) for value in torch.randn(2).sort().values)
            levels = (-127, 127) if symmetric else (0, 255)
            kind = np.int8 if symmetric else np.uint8
            limits = (np.array(value, kind) for value in levels)
            zero, scale = compute_scale_zp(np.float32(low), np.float32(high), *limits, symmetric=symmetric)
            inside = torch.arange(*levels) - int(zero)
            values = inside * float(scale)
            assert_close(fake_quantized_input(values, span(low, high), symmetric), values, atol=1e-6, rtol=1e-5)


def test_a_batch_norm_commutes_with_it() -> None:
    """Folded into the convolution or not, negative factors included: the same int8 weights."""
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.randn(16))
        norm.bias.normal_()
        norm.running_mean.normal_()  # type: ignore[union-attr]
        norm.running_var.uniform_(0.1, 4)  # type: ignore[union-attr]
        assert bool((norm.weight < 0).any())
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()  # type: ignore[operator]
        shift = norm.bias - norm.running_mean * factor
        folded = fake_quantized_weight(conv.weight * factor.view(-1, 1, 1, 1))
        assert_close(folded, fake_quantized_weight(conv.weight) * factor.view(-1, 1, 1, 1))
        images = torch.rand(2, 3, 8, 8)
        apart = norm(nn.functional.conv2d(images, fake_quantized_weight(conv.weight)))
        assert_close(apart, nn.functional.conv2d(images, folded, shift), atol=1e-5, rtol=1e-5)


def test_gradients_pass_straight_through() -> None:
    weight = torch.tensor([[1.27, -0.5, 0.004], [-2.54, 0.029, 0.031]], requires_grad=True)
    pull = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    (fake_quantized_weight(weight) * pull).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, pull)
    values = torch.tensor([-3.0, -1.0, 0.3, 1.55, 2.0], requires_grad=True)
    fake_quantized_input(values, span(-1.0, 1.55), symmetric=False).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


class TestRanges:
    def batches(self) -> list[Tensor]:
        """Lowest and highest value: (-1, 3), (-3, 5), (0, 1), (-9, 9)."""
        torch.manual_seed(0)
        found = []
        for low, high in ((-1.0, 3.0), (-3.0, 5.0), (0.0, 1.0), (-9.0, 9.0)):
            images = low + (high - low) * torch.rand(2, 2, 5, 5)
            images.view(-1)[:2] = span(low, high)
            found.append(images)
        return found

    def test_moving_average(self) -> None:
        """Decay 0.75: the batches weigh 1, 1/2, 1/3, 1/4."""
        student, part = Tiny(), FakeQuantization(Grid(range_decay=0.75))
        expected = [(-1, 3), (-2, 4), (-4 / 3, 3), (-4 / 3 - 23 / 12, 4.5)]
        for images, (low, high) in zip(self.batches(), expected, strict=True):
            part.on(Layers(student), observing=True)
            student(images)
            part.end_batch()
            assert_close(part.spans["model.0"], span(low, high))
        assert part.batches == 4
        assert part.counts == {"model.0": 4, "model.3": 4}
        frozen = part.spans["model.0"].clone()
        part.on(Layers(student))
        student(100 * self.batches()[0])
        part.end_batch()
        assert torch.equal(part.spans["model.0"], frozen)
        assert part.batches == 4

    def test_a_batch_is_clipped_to_the_ranges_before_it(self) -> None:
        student, part = Tiny(), FakeQuantization()
        conv: Any = student.model[0]
        first, second, *_ = self.batches()
        for images, known in ((first, span(-1, 3)), (second, span(-1, 3))):  # the first batch has its own
            part.on(Layers(student), observing=True)
            expected = nn.functional.conv2d(fake_quantized_input(images, known, False),
                                            fake_quantized_weight(conv.weight))  # fmt: skip
            assert torch.equal(conv(images), expected)
            part.end_batch()

    def test_a_convolution_that_runs_twice(self) -> None:
        student, part = Tiny(), FakeQuantization()
        part.on(Layers(student), observing=True)
        for images in self.batches()[1:3]:
            student.model[0](images)
        part.end_batch()
        assert part.spans["model.0"].tolist() == [-3, 5]
        assert list(part.spans) == ["model.0"], "the other did not run"

    def test_state(self) -> None:
        student, part = Tiny(), FakeQuantization()
        part.on(Layers(student), observing=True)
        student(self.batches()[0])
        part.end_batch()
        buffer = io.BytesIO()
        torch.save(part.state_dict(), buffer)
        buffer.seek(0)
        other = FakeQuantization()
        other.load_state_dict(torch.load(buffer, weights_only=True), torch.device("cpu"))
        for each in (part, other):
            each.on(Layers(student), observing=True)
            student(self.batches()[1])
            each.end_batch()
        assert part.counts == other.counts
        assert all(torch.equal(value, other.spans[path]) for path, value in part.spans.items())

    def test_all_ranks_have_the_widest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        other = torch.tensor([[-5.0, 1.0], [0.0, 2.0]])

        def all_reduce(values: Tensor, op: Any) -> None:
            assert op == torch.distributed.ReduceOp.MAX
            values.copy_(torch.maximum(values, other * torch.tensor([-1.0, 1.0])))

        monkeypatch.setattr(fake_quantization.ranks, "size", lambda: 2)
        monkeypatch.setattr(fake_quantization.dist, "all_reduce", all_reduce)
        found = fake_quantization._over_ranks(torch.tensor([[-1.0, 3.0], [-1.0, 1.0]]))
        assert found.tolist() == [[-5, 3], [-1, 2]]
