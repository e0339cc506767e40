"""Accuracy-aware fallback: layers go back to float, the most sensitive first, until the artifact is accurate enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from edgekd.errors import InputError
from edgekd.progress import progress, say

Made = TypeVar("Made")


@dataclass(frozen=True)
class Trial(Generic[Made]):
    """What was tried.

    Attributes:
        float_layers: how many of the most sensitive layers were left in float.
        made: the artifact.
        ap: of it.
    """

    float_layers: int
    made: Made
    ap: float


@dataclass(frozen=True)
class Settled(Generic[Made]):
    """The chosen trial, and all of them in the order in which they were made, as (float layers, AP)."""

    chosen: Trial[Made]
    trials: list[tuple[int, float]] = field(default_factory=list)


def settle(
    order: Sequence[str],
    make: Callable[[Sequence[str]], Made],
    accuracy: Callable[[Made], float],
    *,
    float_ap: float,
    max_drop: float | None,
    most: int,
    where: str,
) -> Settled[Made]:
    """Find the fewest layers that must stay float for an AP drop within `max_drop`.

    The number is doubled until it is enough (0, 1, 2, 4, ...), then halved into the last gap. With more layers in float
    the AP need not rise at every step; the result is the fewest that was tried and was enough.

    Args:
        order: layers, the most sensitive first.
        make: an artifact with the given layers left in float.
        accuracy: its AP.
        float_ap: what the drop is taken from.
        max_drop: None takes whatever AP all layers quantised have.
        most: how many layers may go back at most.
        where: of messages: target and step.

    Raises:
        InputError: not even `most` layers in float are enough.
    """
    tried: dict[int, Trial[Made]] = {}
    low = float("-inf") if max_drop is None else float_ap - max_drop

    def enough(count: int) -> bool:
        tried[count] = trial = _try(count, order, make, accuracy)
        say(f"{where}: {count} layers in float: AP {trial.ap:.4f}, in float {float_ap:.4f}")
        return trial.ap >= low

    limit = min(most, len(order))
    failed, count = -1, 0
    with progress(f"{where}: fallback", _worst_case(limit)) as advance:
        while not enough(count):
            advance()
            if count >= limit:
                raise _refusal(list(tried.values()), len(order), float_ap, max_drop or 0.0, where)
            failed, count = count, min(max(2 * count, 1), limit)
        while count - failed > 1:
            advance()
            middle = (failed + count) // 2
            if enough(middle):
                count = middle
            else:
                failed = middle
    return Settled(tried[count], [(trial.float_layers, trial.ap) for trial in tried.values()])


def _try(
    count: int, order: Sequence[str], make: Callable[[Sequence[str]], Made], accuracy: Callable[[Made], float]
) -> Trial[Made]:
    made = make(order[:count])
    return Trial(count, made, accuracy(made))


def _worst_case(limit: int) -> int:
    """Trials at most: doubling to `limit`, then halving."""
    return 2 * limit.bit_length() + 1


def _refusal(tried: Sequence[Trial[Made]], layers: int, float_ap: float, max_drop: float, where: str) -> InputError:
    best = max(tried, key=lambda trial: trial.ap)
    return InputError(
        f"{where}: max_drop: {max_drop:g} AP cannot be kept on the train images: the least drop is "
        f"{float_ap - best.ap:.4f}, with {best.float_layers} of {layers} layers in float; train the student for 8 bits "
        "(in the recipe, quantize: {mode: qat}), raise max_drop, or allow more layers with max_float_share"
    )
