import pytest
import torch

from edgekd.distill.blocks import BatchNorm, NonLocal, generator


def test_a_non_local_block_begins_as_the_identity() -> None:
    feature = torch.randn(2, 8, 5, 7)
    assert torch.equal(NonLocal(8, reduction=2, pool=2)(feature), feature)


def test_a_non_local_block_equals_its_definition() -> None:
    """Without pooling; the batch norm in eval mode with factor 1 changes nothing but rounding."""
    torch.manual_seed(0)
    block = NonLocal(6, reduction=2, pool=1).eval()
    torch.nn.init.ones_(block.norm.weight)
    feature = torch.randn(2, 6, 3, 4)
    query, key, value = (layer(feature).flatten(2) for layer in (block.query, block.key, block.value))
    context = torch.einsum("nci,ncj,ndj->ndi", query, key, value) / 12
    expected = feature + block.out(context.reshape(2, 3, 3, 4)) / (1 + 1e-5) ** 0.5
    assert torch.allclose(block(feature), expected, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (9, 12)])
def test_windows_are_cut_to_the_map(size: tuple[int, int]) -> None:
    assert NonLocal(4, reduction=8, pool=8)(torch.randn(2, 4, *size)).shape == (2, 4, *size)


def test_a_batch_norm_takes_a_single_value_per_channel() -> None:
    norm = BatchNorm(3)
    value = torch.tensor([1.0, -2.0, 3.0]).reshape(1, 3, 1, 1)
    assert torch.allclose(norm(value), value, atol=1e-4)
    assert torch.equal(norm.running_mean, torch.zeros(3)), "nothing is learnt from it"
    assert norm(torch.randn(2, 3, 1, 1)).mean().item() == pytest.approx(0.0, abs=1e-6)


def test_a_generator_keeps_the_shape() -> None:
    assert generator(5)(torch.randn(2, 5, 3, 4)).shape == (2, 5, 3, 4)
