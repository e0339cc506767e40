"""Knowledge as bytes and back: exact in float32, within the type's rounding elsewhere, and as small as computed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgekd.distill.packing import Block, Points, Storage
from edgekd.errors import InputError

A, K = 12, 10


def whole(_: str) -> None:
    return None


def by_confidence(_: str) -> Points:
    return Points("confidence")


def head(batch: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(batch, A, K, generator=generator)
    return {"logits": logits, "confidence": logits.sigmoid().amax(-1), "classes": logits.argmax(-1)}


def maps(batch: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    scale = torch.tensor([0.01, 1.0, 100.0, 0.0]).view(1, 4, 1, 1)
    return {"model.16": scale * torch.randn(batch, 4, 6, 6, generator=generator)}


@pytest.mark.parametrize("knowledge", [head(), maps()], ids=["head", "maps"])
def test_float32_comes_back_bit_for_bit(knowledge: dict[str, Tensor]) -> None:
    block = Block.of(knowledge, whole, "fp32", 0)
    raw = block.pack(knowledge, "any")
    assert raw.dtype == torch.uint8 and raw.shape == (3, block.size_bytes)
    back = block.unpack(raw)
    assert back.keys() == knowledge.keys()
    assert all(torch.equal(back[key], value) and back[key].dtype == value.dtype for key, value in knowledge.items())


def test_bytes_are_those_that_the_types_take() -> None:
    kept = 4 * 36
    assert Block.of(maps(), whole, "fp32", 0).size_bytes == 4 * kept
    assert Block.of(maps(), whole, "fp16", 0).size_bytes == 2 * kept
    assert Block.of(maps(), whole, "int8", 0).size_bytes == kept + 2 * 4  # a scale per channel
    points = Block.of(head(), by_confidence, "fp16", 5)  # places, logits, confidence, and classes as they are
    assert points.size_bytes == 5 * 4 + 2 * 5 * K + 2 * 5 + 8 * 5
    assert points.values == A * K + A + A


@pytest.mark.parametrize(("storage", "error"), [("fp16", 2.0**-11), ("int8", 0.5 / 127 * 1.001)])
def test_maps_are_as_exact_as_their_type(storage: Storage, error: float) -> None:
    (found,) = (
        Block.of(maps(), whole, storage, 0).unpack(Block.of(maps(), whole, storage, 0).pack(maps(), "x")).values()
    )
    (given,) = maps().values()
    largest = given.abs().amax((2, 3), keepdim=True)
    bound = (given.abs() if storage == "fp16" else largest) * error + 1e-7
    assert bool(((found - given).abs() <= bound).all())
    assert found[:, 3].eq(0).all()  # a channel of zeros has no scale


def test_float16_has_no_infinity() -> None:
    knowledge = {"far": torch.tensor([[1e6, -1e6, 1.0]])}
    block = Block.of(knowledge, whole, "fp16", 0)
    assert block.unpack(block.pack(knowledge, "x"))["far"].tolist() == [[65504.0, -65504.0, 1.0]]


def test_the_surest_points_stay_where_they_were() -> None:
    knowledge = head()
    block = Block.of(knowledge, by_confidence, "fp32", 5)
    back = block.unpack(block.pack(knowledge, "any"))
    for image in range(3):
        best = knowledge["confidence"][image].topk(5).indices
        rest = [point for point in range(A) if point not in best.tolist()]
        for key, value in knowledge.items():
            assert torch.equal(back[key][image][best], value[image][best])
            assert not back[key][image][rest].any()


@pytest.mark.parametrize("points", [0, A, 1000])
def test_nothing_is_left_out_where_all_points_are_wanted(points: int) -> None:
    block = Block.of(head(), by_confidence, "fp32", points)
    assert block == Block.of(head(), whole, "fp32", 0)


def test_a_block_is_what_its_json_says() -> None:
    block = Block.of(head(), by_confidence, "int8", 5)
    assert Block.from_json(block.as_json()) == block


def test_knowledge_of_another_size_is_refused_by_name() -> None:
    block = Block.of(maps(), whole, "fp16", 0)
    with pytest.raises(
        InputError, match=r"^cwd: its knowledge 'model.16' has another size for other images \(\(4, 6, 6\), "
    ):
        block.pack({"model.16": torch.zeros(2, 4, 5, 5)}, "cwd")


@pytest.mark.parametrize("points", [0, 5])
def test_what_is_read_lies_in_memory_as_what_was_computed(points: int) -> None:
    knowledge = head()
    knowledge["logits"] = knowledge["logits"].transpose(1, 2).contiguous().transpose(1, 2)
    block = Block.of(knowledge, by_confidence, "fp32", points)
    back = block.unpack(block.pack(knowledge, "any"))
    assert back["logits"].stride() == knowledge["logits"].stride() == (A * K, 1, A)
    assert back["confidence"].is_contiguous()
    if not points:
        assert torch.equal(back["logits"], knowledge["logits"])


def test_boxes_of_layers_of_queries_are_never_in_8_bits() -> None:
    """One scale for a layer of boxes in an image of 640 px would be steps of 5 px."""
    boxes = torch.rand(2, 3, 50, 4) * 640
    (field,) = Block.of({"boxes": boxes}, lambda _key: None, "int8", 0).fields
    assert field.storage == "float16"
    (field,) = Block.of({"maps": torch.rand(2, 3, 50, 5)}, lambda _key: None, "int8", 0).fields
    assert field.storage == "int8"
