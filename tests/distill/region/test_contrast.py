import pytest
import torch
from torch import Tensor

from edgekd.distill.region import contrast as module
from edgekd.distill.region.contrast import PER_STEP, Memory


def rows(*values: float) -> Tensor:
    return torch.tensor(values).unsqueeze(1).repeat(1, 2)


def usable(memory: Memory, step: int) -> list[float]:
    vectors, of_former_steps = memory.before(step)
    return vectors[of_former_steps, 0].tolist()


def test_the_oldest_make_room() -> None:
    memory = Memory(3, 2)
    assert usable(memory, 0) == []
    memory.add(rows(1, 2), 0)
    assert usable(memory, 0) == []  # a step does not contrast with itself
    assert usable(memory, 1) == [1, 2]
    memory.add(rows(3, 4), 1)
    assert usable(memory, 1) == [2] and usable(memory, 2) == [4, 2, 3]
    memory.add(rows(5, 6, 7, 8), 2)
    assert usable(memory, 3) == [7, 5, 6]  # at most as many as there is room for


def test_what_is_not_finite_is_left_out() -> None:
    memory = Memory(4, 2)
    memory.add(rows(1, float("nan"), float("inf"), 2), 0)
    assert usable(memory, 1) == [1, 2]


def test_a_resumed_memory_is_the_one_that_was_saved() -> None:
    memory, other = Memory(5, 2), Memory(5, 2)
    memory.add(rows(1, 2, 3), 0)
    other.load_state_dict(memory.state_dict())
    for one in (memory, other):
        one.add(rows(4, 5, 6), 1)
    assert usable(memory, 2) == usable(other, 2) == [6, 2, 3, 4, 5]


def test_all_ranks_give_theirs_and_get_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: dict[int, Tensor] = {}

    def gather(into: list[Tensor], own: Tensor) -> None:
        """Two ranks, of which this process is one after the other."""
        blocks[len(blocks)] = own.clone()
        for rank, block in enumerate(into):
            block.copy_(blocks.get(rank, torch.zeros_like(own)))

    monkeypatch.setattr(module.ranks, "size", lambda: 2)
    monkeypatch.setattr(module.dist, "all_gather", gather)
    module._of_all_ranks(rows(1, 2))
    found = module._of_all_ranks(rows(3))
    assert found[:, 0].tolist() == [1, 2, 3] and blocks[0].shape == blocks[1].shape == (PER_STEP, 3)
