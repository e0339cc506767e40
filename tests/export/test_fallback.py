"""Fallback against accuracies that are known: which layers go back to float, in which order, and when it ends."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from edgekd.errors import InputError
from edgekd.export.fallback import Settled, settle

ORDER = [f"layer{index}" for index in range(20)]


class Fake:
    """An artifact is the tuple of its float layers; its AP is 0.5 less a hundredth for each that should be float."""

    def __init__(self, needed: int, order: Sequence[str] = ORDER) -> None:
        self.needed = set(order[:needed])
        self.made: list[tuple[str, ...]] = []

    def make(self, float_layers: Sequence[str]) -> tuple[str, ...]:
        self.made.append(tuple(float_layers))
        return tuple(float_layers)

    def ap(self, float_layers: tuple[str, ...]) -> float:
        return 0.5 - 0.01 * len(self.needed - set(float_layers))

    def settle(self, max_drop: float | None, most: int = 10) -> Settled[tuple[str, ...]]:
        return settle(
            ORDER, self.make, self.ap, float_ap=0.5, max_drop=max_drop, most=most, where="onnx-int8: options.onnx-int8"
        )


@pytest.mark.parametrize("needed", range(11))
def test_the_fewest_layers_that_are_enough(needed: int) -> None:
    fake = Fake(needed)
    settled = fake.settle(0.0)
    assert settled.chosen.made == tuple(ORDER[:needed])
    assert settled.chosen.ap == 0.5
    assert all(made == tuple(ORDER[: len(made)]) for made in fake.made)  # the most sensitive first


def test_the_number_is_doubled_then_halved_into_the_gap() -> None:
    fake = Fake(6)
    settled = fake.settle(0.0)
    assert [len(made) for made in fake.made] == [0, 1, 2, 4, 8, 6, 5]
    assert [count for count, _ in settled.trials] == [0, 1, 2, 4, 8, 6, 5]
    assert [ap for _, ap in settled.trials] == pytest.approx([0.44, 0.45, 0.46, 0.48, 0.5, 0.5, 0.49])


def test_a_drop_that_is_allowed_needs_fewer() -> None:
    assert Fake(6).settle(0.025).chosen.float_layers == 4
    assert Fake(6).settle(0.1).chosen.float_layers == 0


def test_without_a_limit_nothing_goes_back() -> None:
    fake = Fake(6)
    settled = fake.settle(None)
    assert (settled.chosen.float_layers, settled.trials) == (0, [(0, 0.44)])
    assert fake.made == [()]


def test_what_cannot_be_reached_is_one_line_with_the_best_and_the_remedy() -> None:
    fake = Fake(15)
    with pytest.raises(InputError) as caught:
        fake.settle(0.005, most=10)
    assert caught.value.problems == (
        "onnx-int8: options.onnx-int8: max_drop: 0.005 AP cannot be kept on the train images: the least drop is "
        "0.0500, with 10 of 20 layers in float; train the student for 8 bits (in the recipe, quantize: {mode: qat}), "
        "raise max_drop, or allow more layers with max_float_share",
    )
    assert [len(made) for made in fake.made] == [0, 1, 2, 4, 8, 10]


def test_no_layer_may_go_back() -> None:
    fake = Fake(1)
    with pytest.raises(InputError, match="with 0 of 20 layers in float"):
        fake.settle(0.005, most=0)
    assert fake.made == [()]
