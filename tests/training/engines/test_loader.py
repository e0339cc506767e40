"""A loader that goes on from a kept position hands out what the uninterrupted one would have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from edgekd.detectors.ultralytics.guard import guard
from edgekd.training.engines.loader import ResumableLoader

guard()

from ultralytics.data.build import build_dataloader  # noqa: E402

PASSES = 4
RESET_BEFORE = 2  # the pass before which the engine resets its loader, as it does when it closes the mosaic


class Numbers(torch.utils.data.Dataset[int]):
    """Images are their own indices."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return index


def loader(count: int, workers: int = 0) -> ResumableLoader:
    torch.manual_seed(5)
    return ResumableLoader(build_dataloader(Numbers(count), 3, workers, pin_memory=False, device="cpu"))


def batches(
    data: ResumableLoader, first_pass: int = 0, before_batch: Callable[[int], None] = lambda _: None
) -> list[list[int]]:
    """Every batch from a pass on; the engine resets the loader before one of them, and where it resumes behind that."""
    seen: list[list[int]] = []
    for number in range(first_pass, PASSES):
        if number >= RESET_BEFORE and number in (RESET_BEFORE, first_pass):
            data.reset()
        data.before_batch = lambda number=number: before_batch(number)  # type: ignore[misc]
        seen += [batch.tolist() for batch in data]
    return seen


@pytest.mark.parametrize("count", [12, 10])  # the last batch is full, or is not
@pytest.mark.parametrize("workers", [0, 1])
def test_every_position_can_be_returned_to(count: int, workers: int) -> None:
    positions: list[tuple[int, dict[str, Any]]] = []
    whole = loader(count, workers)
    expected = batches(whole, 0, lambda number: positions.append((number, whole.position())))
    per_pass = len(expected) // PASSES
    assert len(positions) == PASSES * (per_pass + 1)  # before each batch, and behind the last one
    for number, position in positions[:: 1 if workers == 0 else 6]:
        again = loader(count, workers)
        again.first_batch = position["index"]
        again.before_pass = lambda again=again, position=position: seek_once(again, position)  # type: ignore[misc]
        assert batches(again, number) == expected[number * per_pass + position["index"] :]
        again.close()
    whole.close()


def seek_once(data: ResumableLoader, position: dict[str, Any]) -> None:
    data.seek(position)
    data.before_pass = lambda: None


def test_it_draws_as_the_engines_own_loader_does() -> None:
    torch.manual_seed(5)
    plain = build_dataloader(Numbers(12), 3, 0, pin_memory=False, device="cpu")
    assert [batch.tolist() for _ in range(2) for batch in plain] == batches(loader(12))[:8]


def test_each_pass_hands_out_every_image_once() -> None:
    seen = batches(loader(10))
    for number in range(PASSES):
        assert sorted(index for batch in seen[4 * number : 4 * number + 4] for index in batch) == list(range(10))


def test_workers_leave_signals_to_the_main_process() -> None:
    import os
    import signal
    import time

    data = loader(12, workers=1)
    passing = iter(data)
    next(passing)
    worker = data.iterator._workers[0]
    for kind in (signal.SIGTERM, signal.SIGINT):
        os.kill(worker.pid, kind)
    time.sleep(0.2)
    assert worker.is_alive()
    assert len(list(passing)) == 3
    data.close()
    assert not worker.is_alive()
