"""Which view an epoch shows."""

from __future__ import annotations

import pytest

from edgekd.training.views import View, Views, coded, decoded


def names(views: Views) -> list[str]:
    return [views.of_epoch(epoch).name for epoch in range(views.epochs)]


def test_epochs_cycle_through_views() -> None:
    assert names(Views(2, 0, 5)) == ["open-0", "open-1", "open-0", "open-1", "open-0"]
    assert Views(2, 0, 5).all() == (View(0), View(1))


def test_epochs_without_mosaic_have_views_of_their_own() -> None:
    views = Views(2, 0, 6, closing=3)
    assert names(views) == ["open-0", "open-1", "open-0", "closed-0", "closed-1", "closed-0"]
    assert views.all() == (View(0), View(1), View(0, True), View(1, True))


def test_no_more_views_than_epochs_are_made() -> None:
    assert Views(8, 0, 3).all() == (View(0), View(1), View(2))
    assert Views(8, 0, 3, closing=3).all() == (View(0, True), View(1, True), View(2, True))


@pytest.mark.parametrize("view", [View(0), View(3), View(0, True), View(7, True)])
def test_a_number_stands_for_image_and_view(view: View) -> None:
    assert [decoded(coded(view, index, 24), 24) for index in (0, 5, 23)] == [(view, 0), (view, 5), (view, 23)]


def test_seeds_differ_by_all_that_decides_a_sample() -> None:
    seeds = {
        view.seed(of, index) for of in (0, 1) for view in (View(0), View(1), View(0, True)) for index in range(100)
    }
    assert len(seeds) == 600 and all(0 <= seed < 2**63 for seed in seeds)
    assert View(0).seed(0, 0) == View(0).seed(0, 0)
