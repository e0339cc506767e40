"""What a method may ask of a pair. Each requirement says why a pair does not fit, naming both sides, or None.

Requirements are independent: all reasons of a pair are told at once. One that only makes sense where another holds
(bins, of dense heads) is silent where that one speaks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgekd.detectors.parts import QueryPart
from edgekd.detectors.spec import DenseHead, QueryHead, Spec
from edgekd.distill.contract import Pair, Requirement
from edgekd.distill.frozen import no_parts
from edgekd.distill.points import SharedPoints


def unmet(requires: tuple[Requirement, ...], pair: Pair) -> list[str]:
    """Every reason why a method cannot serve a pair; empty if it can."""
    return [reason for requirement in requires if (reason := requirement(pair)) is not None]


def dense_heads(pair: Pair) -> str | None:
    """Both heads are dense."""
    if _both_dense(pair):
        return None
    return "needs a dense head on both sides; " + _sides(pair, lambda spec: f"a {spec.head.kind} head")


def dense_teacher(pair: Pair) -> str | None:
    """The teacher's head is dense, the student's may be any."""
    if isinstance(pair.teacher.head, DenseHead):
        return None
    return "needs a dense head on the teacher; " + _sides(pair, lambda spec: f"a {spec.head.kind} head")


def box_distributions(pair: Pair) -> str | None:
    """Both heads have a box distribution of the same number of bins."""
    student, teacher = pair.student.head, pair.teacher.head
    if not _both_dense(pair) or student.bins == teacher.bins > 1:
        return None
    return "needs a box distribution of equal bins on both sides; " + _sides(pair, lambda s: f"reg_max={s.head.bins}")


def equal_bins(pair: Pair) -> str | None:
    """Both heads have a box distribution of the same number of bins, or both have none."""
    if not _both_dense(pair) or pair.student.head.bins == pair.teacher.head.bins:
        return None
    return "needs as many bins of the box distribution on both sides; " + _sides(
        pair, lambda s: f"reg_max={s.head.bins}"
    )


def shared_points(pair: Pair) -> str | None:
    """Both heads predict at the same points, as often at each, on one level at least."""
    student, teacher = pair.student.head, pair.teacher.head
    if not isinstance(student, DenseHead) or not isinstance(teacher, DenseHead):
        return None
    if SharedPoints.of(student, teacher).student_levels:
        return None
    return "needs the same points on both sides; " + _sides(pair, _points)


def single_anchors(pair: Pair) -> str | None:
    """Both heads predict once at each point."""
    student, teacher = pair.student.head, pair.teacher.head
    if not isinstance(student, DenseHead) or not isinstance(teacher, DenseHead):
        return None
    if student.anchors_per_cell == teacher.anchors_per_cell == 1:
        return None
    return "needs one prediction at each point; " + _sides(pair, _points)


def all_points_shared(pair: Pair) -> str | None:
    """The teacher predicts at every point of the student, as often at each."""
    student, teacher = pair.student.head, pair.teacher.head
    if not isinstance(student, DenseHead) or not isinstance(teacher, DenseHead):
        return None
    if len(SharedPoints.of(student, teacher).student_levels) == len(student.strides):
        return None
    return "needs all points of the student on the teacher; " + _sides(pair, _points)


def all_classes_known(pair: Pair) -> str | None:
    """The teacher knows every class of the data set."""
    unknown = [name for name, known in zip(pair.class_names, pair.known, strict=False) if not known]
    if not unknown:
        return None
    return (
        f"needs a teacher that knows all classes of the data; the data has {some(pair.class_names)}, "
        f"teacher {pair.teacher.name} does not know {some(unknown)}"
    )


def head_towers(pair: Pair) -> str | None:
    """Both heads have towers that can be cut behind their first layer."""
    if not _both_dense(pair) or all(any(one.taps for one in side.towers) for side in (pair.student, pair.teacher)):
        return None
    return "needs heads whose towers can be cut; " + _sides(pair, lambda spec: f"{len(spec.towers)} such towers")


def lasting_teacher(pair: Pair) -> str | None:
    """The teacher stays the same, so that parts of it can be taken."""
    if pair.head_tail is not no_parts:
        return None
    return f"needs a teacher that stays the same; the average of student {pair.student.name} changes in every step"


def shared_classes(pair: Pair) -> str | None:
    """The teacher knows at least one class of the data set."""
    if not pair.class_names or any(pair.known):
        return None
    return (
        f"needs a class that the teacher knows; the data has {some(pair.class_names)}, "
        f"teacher {pair.teacher.name} knows {some(pair.teacher.class_names)}"
    )


def query_heads(pair: Pair) -> str | None:
    """Both heads are decoders of queries."""
    if isinstance(pair.student.head, QueryHead) and isinstance(pair.teacher.head, QueryHead):
        return None
    return "needs a query head on both sides; " + _sides(pair, lambda spec: f"a {spec.head.kind} head")


def query_distributions(pair: Pair) -> str | None:
    """Both decoders predict a distribution of each box edge, of whatever number of bins."""
    student, teacher = pair.student.head, pair.teacher.head
    if not isinstance(student, QueryHead) or not isinstance(teacher, QueryHead) or min(student.bins, teacher.bins) > 1:
        return None
    return "needs box distributions of queries on both sides, as D-FINE and DEIMv2 have them; " + _sides(
        pair, lambda spec: f"{spec.head.bins} bins" if spec.head.bins > 1 else "none"
    )


def query_teacher(pair: Pair) -> str | None:
    """The teacher's head is a decoder of queries, the student's may be dense, too."""
    if isinstance(pair.teacher.head, QueryHead) and isinstance(pair.student.head, QueryHead | DenseHead):
        return None
    return "needs a query head on the teacher, and that or a dense one on the student; " + _sides(
        pair, lambda spec: f"a {spec.head.kind} head"
    )


def memories(pair: Pair) -> str | None:
    """Both encoders give their memory as maps, at one equal stride at least."""
    student, teacher = pair.student.head, pair.teacher.head
    if not isinstance(student, QueryHead) or not isinstance(teacher, QueryHead):
        return None
    given = all("memory" in head.gives for head in (student, teacher))
    if given and set(student.strides) & set(teacher.strides):
        return None
    return "needs the encoder's memory at an equal stride on both sides; " + _sides(pair, _memory)


def class_content(pair: Pair) -> str | None:
    """The teacher has content of queries by class, as denoising queries are made of."""
    if not isinstance(pair.teacher.head, QueryHead) or "class_embedding" in pair.teacher.head.gives:
        return None
    return (
        f"needs content of queries by class on the teacher, and teacher {pair.teacher.name} has none (no denoising "
        f"queries); student {pair.student.name} cannot do without"
    )


def same_layers(pair: Pair) -> str | None:
    """Both decoders have as many layers."""
    student, teacher = pair.student.head, pair.teacher.head
    if not isinstance(student, QueryHead) or not isinstance(teacher, QueryHead) or student.layers == teacher.layers:
        return None
    return "needs as many decoder layers on both sides; " + _sides(
        pair, lambda spec: f"{getattr(spec.head, 'layers', 0)} layers"
    )


def both_asked(pair: Pair) -> str | None:
    """Decoders on either side can be asked about queries of the method's own."""
    asked = [head for head in (pair.student.head, pair.teacher.head) if isinstance(head, QueryHead)]
    return _given(pair, asked, "decoder", "a decoder that can be asked")


def student_asked(pair: Pair) -> str | None:
    """The student's decoder can be asked about queries of the method's own."""
    asked = [head for head in (pair.student.head,) if isinstance(head, QueryHead)]
    return _given(pair, asked, "decoder", "a decoder that can be asked on the student")


def self_attentions(pair: Pair) -> str | None:
    """Self-attention of either decoder can be had."""
    heads = [head for head in (pair.student.head, pair.teacher.head) if isinstance(head, QueryHead)]
    return _given(pair, heads, "self_attention", "the decoder's self-attention on both sides")


def cross_attention_of_teacher(pair: Pair) -> str | None:
    """Cross-attention of the teacher's decoder can be had."""
    heads = [head for head in (pair.teacher.head,) if isinstance(head, QueryHead)]
    return _given(pair, heads, "cross_attention", "the decoder's cross-attention of the teacher")


def all_layers_of_teacher(pair: Pair) -> str | None:
    """Predictions and queries of each layer of the teacher's decoder can be had."""
    heads = [head for head in (pair.teacher.head,) if isinstance(head, QueryHead)]
    return _given(pair, heads, "layers", "predictions of each decoder layer of the teacher") or _given(
        pair, heads, "embeddings", "the decoder's queries of the teacher"
    )


def boxes_of_queries(pair: Pair) -> str | None:
    """The teacher's queries begin with boxes, which the student's decoder can be asked about."""
    head = pair.teacher.head
    if not isinstance(head, QueryHead) or "embeddings" not in head.gives:
        return None
    return _given(pair, [head], "reference_boxes", "queries that begin with boxes on the teacher")


def _given(pair: Pair, heads: Sequence[QueryHead], part: QueryPart, words: str) -> str | None:
    """None where all of these heads give the part."""
    if all(part in head.gives for head in heads):
        return None
    return f"needs {words}; " + _sides(pair, lambda spec: _gives(spec, part))


def _gives(spec: Spec, part: QueryPart) -> str:
    head = spec.head
    if not isinstance(head, QueryHead):
        return f"a {head.kind} head"
    return "it" if part in head.gives else "none"


def _memory(spec: Spec) -> str:
    head: Any = spec.head
    strides = ", ".join(map(str, head.strides))
    return f"memory at strides {strides}" if "memory" in head.gives and strides else "no memory to give"


def _both_dense(pair: Pair) -> bool:
    return isinstance(pair.student.head, DenseHead) and isinstance(pair.teacher.head, DenseHead)


def _points(spec: Spec) -> str:
    head: Any = spec.head
    return str(head.points)


def _sides(pair: Pair, show: Callable[[Spec], str]) -> str:
    student, teacher = pair.student, pair.teacher
    return f"student {student.name} has {show(student)}, teacher {teacher.name} has {show(teacher)}"


def some(names: Sequence[str], at_most: int = 5) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:at_most]) + (" ..." if len(names) > at_most else "")
