import pytest
import torch
from torch import nn

from edgekd.detectors.spec import Tap
from edgekd.distill.query.deformable import Pyramid
from edgekd.distill.query.extractor import Extractor, Extractors, Shape
from edgekd.distill.query.student_pyramid import StudentPyramid

SMALL = Shape(queries=6, width=16)


def parameters(*modules: nn.Module) -> int:
    return sum(value.numel() for module in modules for value in module.parameters())


@pytest.mark.parametrize("levels", [3, 4, 5])
def test_a_pair_has_about_the_published_number_of_parameters(levels: int) -> None:
    """1.56 M at width 256 with N = 200; heads and the projection of levels are counted apart."""
    pair = Extractors(Shape(), [256] * levels, classes=80)
    heads = [head for one in (pair.content, pair.positional) for head in (one.classify, one.regress)]
    assert parameters(pair) - parameters(pair.levels, *heads) == pytest.approx(1.6e6, rel=0.1)


def test_what_is_extracted_depends_on_query_place_and_pyramid_alone() -> None:
    """The same `f_e` for both sides: an equal pyramid gives equal embeddings, another gives others."""
    torch.manual_seed(0)
    pair = Extractors(SMALL, (4, 6), 3)
    pyramid = pair.pyramid([torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4, 4)])
    queries = pair.content.queries(pyramid)
    found = pair.content(queries, pyramid)
    assert found.shape == queries.values.shape == (2, 6, 16)
    assert torch.equal(pair.content(queries, Pyramid(pyramid.cells.clone(), pyramid.sizes)), found)
    other = pair.content(queries, Pyramid(pyramid.cells + torch.randn_like(pyramid.cells), pyramid.sizes))
    assert (other - found).abs().mean() > 0.01
    logits, boxes = pair.content.predictions(found, queries)
    assert logits.shape == (2, 6, 3) and boxes.shape == (2, 6, 4)
    assert ((boxes > 0) & (boxes < 1)).all()


def test_queries_see_the_image_they_are_of() -> None:
    torch.manual_seed(0)
    pair = Extractors(SMALL, (4,), 3)
    pyramid = pair.pyramid([torch.randn(2, 4, 8, 8)])
    learned = pair.content.queries(pyramid).values
    assert (learned[0] - learned[1]).abs().mean() > 0.01
    boxes = torch.rand(2, 6, 4) * 0.5 + 0.1
    given = pair.positional.queries(pyramid, boxes)
    torch.testing.assert_close(given.places, boxes)  # at the start nothing moves them
    assert (given.values[0] - pair.positional.queries(pyramid, boxes + 0.1).values[0]).abs().mean() > 0.001


def test_the_start_gives_every_class_one_percent() -> None:
    extractor = Extractor(SMALL, 2, 3, positional=True)
    logits, _ = extractor.predictions(torch.zeros(1, 6, 16), extractor.queries(
        Pyramid.of([torch.zeros(1, 16, 4, 4), torch.zeros(1, 16, 2, 2)]), torch.full((1, 6, 4), 0.5)
    ))  # fmt: skip
    torch.testing.assert_close(logits.sigmoid(), torch.full((1, 6, 3), 0.01))


def taps(*strides: int) -> list[Tap]:
    return [Tap("neck", f"neck.{stride}", stride, 4) for stride in strides]


@pytest.mark.parametrize(
    "ours, theirs, expected",
    [((8, 16, 32), (8, 16, 32), [8, 16, 32]), ((8, 16, 32), (8, 16, 32, 64, 128), [8, 16, 32, 32, 32]),
     ((8, 16, 32), (4, 8), [8, 8]), ((16,), (8, 16, 32), [16, 16, 16]), ((4, 8, 64), (16, 32), [8, 64])],
)  # fmt: skip
def test_each_level_of_the_teacher_has_the_nearest_of_the_student(
    ours: tuple[int, ...], theirs: tuple[int, ...], expected: list[int]
) -> None:
    adapter = StudentPyramid(taps(*ours), theirs, SMALL, layers=1)
    assert [tap.stride for tap in adapter.sources] == expected
    maps = [torch.randn(2, 4, 128 // tap.stride, 96 // tap.stride) for tap in adapter.sources]
    found = adapter(maps)
    assert found.sizes == tuple((level.shape[2], level.shape[3]) for level in maps)
    assert found.cells.shape == (2, sum(level[0, 0].numel() for level in maps), 16)


def test_without_layers_the_adapter_is_linear() -> None:
    adapter = StudentPyramid(taps(8), (8,), SMALL, layers=0)
    assert [name for name, _ in adapter.named_parameters()] == ["linear.0.weight", "linear.0.bias"]
    one, two = torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2)
    nothing = adapter([torch.zeros(1, 4, 2, 2)]).cells
    sums = adapter([one]).cells + adapter([two]).cells - nothing
    torch.testing.assert_close(adapter([one + two]).cells, sums)
