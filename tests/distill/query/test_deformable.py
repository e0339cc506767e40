import pytest
import torch

from edgekd.distill.query.deformable import DeformableAttention, Pyramid, sample
from edgekd.distill.query.layers import Layer, SelfAttention, sine_positions


def reference() -> object:
    return pytest.importorskip(
        "transformers.models.deformable_detr.modeling_deformable_detr", reason="the `transformers` package"
    )


def pyramid(width: int, sizes: tuple[tuple[int, int], ...] = ((8, 12), (4, 6), (2, 3))) -> Pyramid:
    return Pyramid.of([torch.randn(2, width, *size) for size in sizes])


def starts(sizes: tuple[tuple[int, int], ...]) -> torch.Tensor:
    counts = torch.tensor([0, *(height * width for height, width in sizes)])
    return counts.cumsum(0)[:-1]


def test_samples_equal_those_of_the_reference() -> None:
    """Locations reach outside the image, too."""
    kernel = reference().MultiScaleDeformableAttention()  # type: ignore[attr-defined]
    torch.manual_seed(0)
    maps = pyramid(16)
    locations, weights = torch.rand(2, 5, 4, 3, 2, 2) * 1.4 - 0.2, torch.rand(2, 5, 4, 3, 2)
    expected = kernel(
        maps.cells.view(2, -1, 4, 4), torch.tensor(maps.sizes), list(maps.sizes), starts(maps.sizes), locations,
        weights, 64,
    )  # fmt: skip
    torch.testing.assert_close(sample(maps, 4, locations, weights), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dimensions", [2, 4])
def test_the_module_equals_the_reference(dimensions: int) -> None:
    module = reference()
    config = module.DeformableDetrConfig(  # type: ignore[attr-defined]
        d_model=32, num_feature_levels=3, use_timm_backbone=False, use_pretrained_backbone=False
    )
    torch.manual_seed(1)
    theirs = module.DeformableDetrMultiscaleDeformableAttention(  # type: ignore[attr-defined]
        config, num_heads=8, n_points=4
    )
    ours, maps = DeformableAttention(32, 3), pyramid(32)
    for name, other in (
        ("offsets", "sampling_offsets"), ("weights", "attention_weights"), ("values", "value_proj"),
        ("output", "output_proj"),
    ):  # fmt: skip
        layer = getattr(theirs, other)
        torch.nn.init.normal_(layer.weight, std=0.2)
        getattr(ours, name).load_state_dict(layer.state_dict())
    queries, references = torch.randn(2, 7, 32, requires_grad=True), torch.rand(2, 7, dimensions)
    expected, _ = theirs(
        hidden_states=queries, encoder_hidden_states=maps.cells, reference_points=references[:, :, None].expand(
            -1, -1, 3, -1
        ), spatial_shapes=torch.tensor(maps.sizes), spatial_shapes_list=list(maps.sizes),
        level_start_index=starts(maps.sizes),
    )  # fmt: skip
    found = ours(queries, references, maps)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(result.square().sum(), queries)[0] for result in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_at_the_start_heads_look_into_eight_directions() -> None:
    """As Deformable DETR's: the longer coordinate of the n-th point is n cells, the same on all levels."""
    fresh = DeformableAttention(32, 2)
    offsets = fresh.offsets.bias.view(8, 2, 4, 2)
    torch.testing.assert_close(offsets[0, :, 2], torch.tensor([[3.0, 0], [3, 0]]))
    torch.testing.assert_close(offsets[1, :, 0], torch.tensor([[1.0, 1], [1, 1]]))
    torch.testing.assert_close(offsets[6, 1, 3], torch.tensor([0.0, -4]), atol=1e-5, rtol=0)
    assert fresh.offsets.weight.abs().sum() == fresh.weights.weight.abs().sum() == fresh.weights.bias.abs().sum() == 0


def test_one_point_in_the_middle_of_a_cell_gives_the_cell() -> None:
    maps = pyramid(4, ((2, 2), (1, 1)))
    at = torch.tensor([[0.75, 0.25], [0.5, 0.5]]).view(1, 1, 1, 2, 1, 2).expand(2, 1, 1, 2, 1, 2)
    weights = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2, 1).expand(2, 1, 1, 2, 1)
    torch.testing.assert_close(sample(maps, 1, at, weights)[:, 0], maps.cells[:, 1])  # the first row's second cell
    torch.testing.assert_close(sample(maps, 1, at, 1 - weights)[:, 0], maps.cells[:, 4])


def test_what_lies_outside_counts_as_zero() -> None:
    maps = pyramid(4, ((2, 2),))
    weights = torch.ones(2, 1, 1, 1, 1)
    assert sample(maps, 1, torch.full((2, 1, 1, 1, 1, 2), 2.0), weights).abs().sum() == 0


def test_centres_of_cells() -> None:
    found = pyramid(4, ((1, 2), (1, 1))).centres()
    assert found.tolist() == [[0.25, 0.5], [0.75, 0.5], [0.5, 0.5]]


def test_attention_among_queries_equals_torchs() -> None:
    torch.manual_seed(2)
    ours, theirs = SelfAttention(16, 4), torch.nn.MultiheadAttention(16, 4, batch_first=True)
    theirs.load_state_dict({
        "in_proj_weight": ours.inputs.weight, "in_proj_bias": ours.inputs.bias, "out_proj.weight": ours.output.weight,
        "out_proj.bias": ours.output.bias,
    })  # fmt: skip
    queries = torch.randn(2, 5, 16)
    torch.testing.assert_close(ours(queries), theirs(queries, queries, queries)[0], rtol=1e-4, atol=1e-5)


def test_places_are_encoded_as_in_detr() -> None:
    """At (0, 0) sines are 0 and cosines 1; the first two channels are those of y."""
    assert sine_positions(torch.zeros(1, 2), 8).tolist() == [[0.0, 1.0] * 4]
    found = sine_positions(torch.tensor([[0.0, 0.25]]), 8)[0]
    torch.testing.assert_close(found[:2], torch.tensor([1.0, 0.0]), atol=1e-6, rtol=0)
    assert found[4:].tolist() == [0.0, 1.0] * 2


def test_a_layer_has_the_parts_that_it_is_asked_for() -> None:
    def parameters(**given: object) -> int:
        layer = Layer(32, 2, heads=4, points=2, **given)  # type: ignore[arg-type]
        return sum(value.numel() for value in layer.parameters())

    attention = sum(value.numel() for value in DeformableAttention(32, 2, 4, 2).parameters())
    assert parameters(hidden=0) == attention + 2 * 32
    assert parameters(hidden=16) == attention + 4 * 32 + 2 * 32 * 16 + 16 + 32
    assert parameters(hidden=0, among_queries=True) == attention + 4 * 32 + 4 * 32 * 33
