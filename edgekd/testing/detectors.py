"""What every detector of every family does. A family's tests inherit `DetectorContract`, or `TrainableContract`.

    class TestMine(TrainableContract):
        family, model = "mine", "mine-s"

`pytest` then finds the tests, in which each line is a promise of `edgekd.detectors.contract`. Networks have the random
weights that the family gives them; choose the smallest model.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from itertools import pairwise
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from edgekd.detectors import families
from edgekd.detectors.capture import run
from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.contract import Asked, Detector
from edgekd.detectors.outputs import DetectorOutput
from edgekd.detectors.spec import DenseHead, Needs, Part, RegionHead, Spec
from edgekd.errors import InputError
from edgekd.testing.names import NamesContract
from edgekd.testing.predictions import (
    NAMES,
    all_logits,
    check_dense,
    check_queries,
    check_rows,
    check_towers,
    images_of,
    scores_of,
)
from edgekd.testing.queries import QueryContract
from edgekd.testing.regions import RegionContract, check_regions

_OTHER_ORDER = ("bird", "owl", "cat", "dog")
_WHOLE: frozenset[Part] = frozenset({"class_logits", "boxes"})


@cache
def _opened(family: str, model: str, names: tuple[str, ...], channels: int) -> Detector:
    torch.manual_seed(0)
    opened = families.open_detector(family, Asked(model, None, names, channels, "test"))
    opened.module.eval()
    return opened


class DetectorContract(NamesContract, QueryContract, RegionContract):
    """Of a detector that can teach.

    Attributes:
        family, model: as a recipe names them.
        tolerance_px: of boxes, between ways to compute them.
        has_tails: False for a dense head whose towers do not end in one prediction per class and cell.
    """

    family: ClassVar[str]
    model: ClassVar[str]
    tolerance_px: ClassVar[float] = 1e-2
    has_tails: ClassVar[bool] = True

    def open(self, names: Sequence[str] = NAMES, channels: int = 3) -> Detector:
        """One with random weights, in eval mode; shared by tests, which must not change it."""
        return _opened(self.family, self.model, tuple(names), channels)

    def test_what_it_says_of_itself(self) -> None:
        detector = self.open()
        spec = detector.spec
        assert spec.family == self.family
        assert spec.class_names == NAMES
        assert spec.input_channels == 3
        assert spec.parameters == sum(value.numel() for value in detector.module.parameters())
        keys = [tap.key for tap in spec.taps]
        assert len(keys) == len(set(keys))
        for role in {tap.role for tap in spec.taps}:
            strides = [tap.stride for tap in spec.taps_of(role)]
            assert all(one <= other for one, other in pairwise(strides))
        if isinstance(spec.head, DenseHead):
            assert list(spec.head.strides) == sorted(spec.head.strides)

    @pytest.mark.parametrize(("height", "width"), [(2, 2), (2, 3), (3, 1)])
    def test_taps_are_where_they_say(self, height: int, width: int) -> None:
        detector = self.open()
        images = images_of(detector.spec, 1, height, width)
        with torch.no_grad():
            output = run(detector, images, Needs(detector.spec.taps))
        assert set(output.taps) == {tap.key for tap in detector.spec.taps}
        for tap in detector.spec.taps:
            sides = tuple(-(-side // tap.stride) for side in images.shape[2:])
            assert output.taps[tap.key].shape == (1, tap.channels, *sides), tap

    def test_a_tap_runs_alone(self) -> None:
        """What of the head a tap lies in is its `part`."""
        detector = self.open()
        images = images_of(detector.spec, 1)
        with torch.no_grad():
            whole = run(detector, images, Needs(detector.spec.taps)).taps
            for tap in detector.spec.taps:
                alone = run(detector, images, Needs((tap,))).taps
                assert list(alone) == [tap.key]
                torch.testing.assert_close(alone[tap.key], whole[tap.key])

    def test_a_module_that_is_named_becomes_a_tap(self) -> None:
        detector = self.open()
        known = {tap.path for tap in detector.spec.taps}
        path = next(
            name for name, part in detector.module.named_modules() if isinstance(part, nn.Conv2d) and name not in known
        )
        other = detector.with_taps([path, "no.such.module"])
        assert other.spec.named_paths == (path,)
        assert detector.spec.named_paths == ()
        assert other.module is detector.module
        tap = next(tap for tap in other.spec.taps if tap.role == "named")
        images = images_of(detector.spec, 1)
        with torch.no_grad():
            found = run(other, images, Needs((tap,))).taps[tap.key]
        assert found.shape == (1, tap.channels, *(-(-side // tap.stride) for side in images.shape[2:]))

    def test_what_is_not_asked_for_is_not_there(self) -> None:
        detector = self.open()
        images = images_of(detector.spec, 1)
        with torch.no_grad():
            whole = run(detector, images, Needs(parts=_WHOLE))
            nothing = run(detector, images, Needs())
            logits = run(detector, images, Needs(parts=frozenset({"class_logits"})))
            boxes = run(detector, images, Needs(parts=frozenset({"boxes"})))
        assert (dict(nothing.dense), nothing.queries, nothing.regions) == ({}, None, None)
        for branch, found in whole.dense.items():
            torch.testing.assert_close(logits.dense[branch].class_logits, found.class_logits)
            torch.testing.assert_close(boxes.dense[branch].boxes_px, found.boxes_px)
            with pytest.raises(RuntimeError, match="add 'class_logits'"):
                _ = boxes.dense[branch].class_logits
            with pytest.raises(RuntimeError, match="add 'boxes'"):
                _ = logits.dense[branch].boxes_px

    @pytest.mark.parametrize(("height", "width"), [(2, 3), (3, 2)])
    def test_predictions(self, height: int, width: int) -> None:
        detector = self.open()
        images = images_of(detector.spec, 2, height, width)
        with torch.no_grad():
            output = run(detector, images, Needs(parts=_WHOLE))
        if isinstance(detector.spec.head, DenseHead):
            assert tuple(output.dense) == detector.spec.branches
            for found in output.dense.values():
                check_dense(found, detector.spec.head, images, len(NAMES))
        elif isinstance(detector.spec.head, RegionHead):
            check_regions(output, detector.spec.head, images, len(NAMES))
        else:
            check_queries(output, detector.spec, images, len(NAMES))

    def test_other_numbers_of_channels(self) -> None:
        for channels in (1, 4):
            detector = self.open(channels=channels)
            assert detector.spec.input_channels == channels
            assert torch.isfinite(scores_of(detector, images_of(detector.spec, 1))).all()

    def test_it_can_be_traced(self) -> None:
        detector, parts = self.open(), _WHOLE
        if detector.spec.head.kind == "region":
            pytest.skip("which regions are looked at is decided by the image")
        images = images_of(detector.spec, 1)
        names = sorted(detector.compute(images, parts))

        class Network(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.module = detector.module

            def forward(self, given: Tensor) -> tuple[Tensor, ...]:
                found = detector.compute(given, parts)
                return tuple(found[name] for name in names)

        with torch.no_grad():
            traced = torch.jit.trace(Network().eval(), images, check_trace=False)  # type: ignore[no-untyped-call]
            for expected, found in zip(Network()(images), traced(images), strict=True):
                torch.testing.assert_close(found, expected)

    def test_frozen_it_gives_the_same_and_is_another(self) -> None:
        detector, teacher = self.open(), self.open().frozen()
        images = images_of(detector.spec, 1)
        assert not any(part.training for part in teacher.module.modules())
        assert not any(value.requires_grad for value in teacher.module.parameters())
        own = {value.data_ptr() for value in detector.module.parameters()}
        assert not own & {value.data_ptr() for value in teacher.module.parameters()}
        torch.testing.assert_close(scores_of(teacher, images), scores_of(detector, images), atol=1e-4, rtol=1e-3)

    def test_frozen_it_never_changes(self) -> None:
        """Also where somebody trains what it was made of."""
        detector = self.open()
        source = detector.with_module(deepcopy(detector.module))
        teacher = source.frozen()
        before = {name: value.clone() for name, value in teacher.module.state_dict().items()}
        with torch.no_grad():
            for value in source.module.parameters():
                value.add_(1)
            source.module.train()
            run(teacher, images_of(detector.spec, 1), Needs(detector.spec.taps, _WHOLE))
        assert all(torch.equal(value, before[name]) for name, value in teacher.module.state_dict().items())
        assert not teacher.module.training

    def test_around_another_network_it_is_the_same(self) -> None:
        detector = self.open()
        other = detector.with_module(deepcopy(detector.module))
        assert other.spec == detector.spec
        assert other.module is not detector.module

    def test_classes_of_the_data_may_be_unknown_and_in_another_order(self) -> None:
        detector = self.open()
        with torch.no_grad():
            output = run(detector, images_of(detector.spec, 1), Needs(parts=_WHOLE))
        mapped = ClassMap.by_name(NAMES, _OTHER_ORDER).apply(output)
        for before, after in zip(all_logits(output), all_logits(mapped), strict=True):
            for column, name in enumerate(_OTHER_ORDER):
                if name in NAMES:
                    assert torch.equal(after[..., column], before[..., NAMES.index(name)])
        found = (*mapped.dense.values(), mapped.queries, mapped.regions)
        known = [one.known_classes for one in found if one is not None]
        assert known or (isinstance(detector.spec.head, RegionHead) and not detector.spec.head.gives)
        assert all(one is not None and one.tolist() == [True, False, True, True] for one in known)

    def test_what_is_exported_finds_the_same(self) -> None:
        detector = self.open()
        images = images_of(detector.spec, 2)
        for head in detector.spec.branches or (None,):
            predictor = detector.export_module(head)
            assert not predictor.training
            assert not any(value.requires_grad for value in predictor.parameters())
            with torch.no_grad():
                output = run(detector, images, Needs(parts=_WHOLE))
                found = predictor(images)
            if detector.spec.head.kind == "region":
                check_rows(found, images, len(NAMES))
            elif predictor.decode == "dense":
                boxes, scores = found
                dense = output.dense[head or "one2many"]
                torch.testing.assert_close(boxes, dense.boxes_px, atol=self.tolerance_px, rtol=1e-4)
                torch.testing.assert_close(scores, dense.class_logits.sigmoid(), atol=1e-4, rtol=1e-3)
            else:
                assert predictor.decode == "end2end"
                self._check_rows(found, output, detector.spec, head)

    def _check_rows(self, rows: Tensor, output: DetectorOutput, spec: Spec, head: str | None) -> None:
        """Each row is a box with the score of one of its classes, best first."""
        assert rows.shape[2] == 6
        dense = output.dense.get(head or "")
        if dense is not None:
            boxes, logits = dense.boxes_px, dense.class_logits
        else:
            assert output.queries is not None
            boxes, logits = output.queries.boxes_px[-1], output.queries.class_logits[-1]
        for image, scores in enumerate(logits.sigmoid()):
            best = rows[image, :, 4]
            assert bool((best[:-1] >= best[1:] - 1e-6).all())
            torch.testing.assert_close(best[0], scores.max(), atol=1e-4, rtol=1e-3)
            apart = (rows[image, :, None, :4] - boxes[image]).abs().amax(-1)
            assert float(apart.min(-1).values.max()) < 10 * self.tolerance_px

    def test_the_exported_module_is_apart(self) -> None:
        detector, predictor = self.open(), self.open().export_module()
        own = {value.data_ptr() for value in detector.module.parameters()}
        assert not own & {value.data_ptr() for value in predictor.parameters()}

    def test_the_end_of_a_tower_ends_it(self) -> None:
        """Of a dense head: from what a level gives to the head, to its class logits."""
        detector = self.open()
        head = detector.spec.head
        if not isinstance(head, DenseHead) or not self.has_tails:
            assert detector.spec.towers == ()
            with pytest.raises(InputError, match="head_tail"):
                detector.head_tail("class_logits", 0, 0, "one2many")
            return
        images = images_of(detector.spec, 1)
        neck = detector.spec.taps_of("neck")
        with torch.no_grad():
            output = run(detector, images, Needs(neck, _WHOLE))
            for branch, dense in output.dense.items():
                parts = [
                    detector.head_tail("class_logits", level, 0, "one2many" if branch == "one2many" else "one2one")(
                        output.taps[tap.key]
                    ).flatten(2)
                    for level, tap in enumerate(neck)
                ]
                torch.testing.assert_close(torch.cat(parts, 2).transpose(1, 2), dense.class_logits)
            check_towers(detector, images)
        with pytest.raises(InputError, match="cut 99"):
            detector.head_tail("boxes", 0, 99, detector.spec.branches[0])
