import pytest

from edgekd.distill.contract import Distiller
from edgekd.errors import InputError

from ..helpers import build, random_output, spec, terms

OURS, THEIRS = spec("small", (4, 6)), spec("large", (5, 6))


def value(method: Distiller) -> float:
    return terms(method, random_output(OURS), random_output(THEIRS, seed=1))["feature"].item()


def test_is_the_sum_of_its_parts_behind_one_aligner() -> None:
    keys = {"scales": (1, 3)}, {"zeta": 0.4}, {"tau": 2.0}
    whole = build("mkd", OURS, THEIRS, scales=(1, 3), zeta=0.4, tau=2.0)
    names = ("mkd_pool", "mkd_frequency", "mkd_align")
    parts = [build(name, OURS, THEIRS, **key) for name, key in zip(names, keys, strict=True)]
    for part in parts:
        part.load_state_dict(whole.state_dict())
    found = terms(whole, random_output(OURS), random_output(THEIRS, seed=1))
    assert list(found) == ["pool", "frequency", "align"]
    assert [term.item() for term in found.values()] == [value(part) for part in parts]
    assert len(list(whole.parameters())) == 2, "one aligner a level"


def test_parts_alone_weigh_as_much_as_in_the_whole() -> None:
    """alpha is the weight, 1 as published, of each part and of all."""
    weights = [build(name, OURS, THEIRS).config.weight for name in ("mkd", "mkd_pool", "mkd_frequency", "mkd_align")]
    assert weights == [1.0] * 4


def test_magnitude_beside_a_detection_loss() -> None:
    """Three levels as at 96 px of maps that have nothing in common: with alpha 1, about a detection loss of 8."""
    side = spec("a", (64, 64, 64), (8, 16, 32))
    found = terms(
        build("mkd", side, side), *(random_output(side, size_px=96, batch=16, seed=seed) for seed in range(2))
    )
    total = sum(term.item() for term in found.values())
    assert 0.7 < total / 8 < 1.4
    assert all(0.1 < term.item() / total < 0.8 for term in found.values()), "no part drowns the others"


def test_no_part_is_left_for_maps_of_one_cell() -> None:
    """Per image a channel of one cell is its own mean: nothing to compare, and nothing that is not finite."""
    side = spec("a", (4,), (32,))
    found = terms(build("mkd", side, side), *(random_output(side, batch=1, seed=seed) for seed in range(2)))
    assert [term.item() for term in found.values()] == pytest.approx([0.0] * 3, abs=1e-6)


def test_other_strides_are_refused() -> None:
    with pytest.raises(InputError, match="mkd: no level of equal stride: student small neck has strides 8; teacher"):
        build("mkd", spec("small", (4,), (8,)), spec("vit", (4,), (16,)))
