"""Why a method cannot read what it needs of a teacher, and which methods serve a pair that another does not."""

from __future__ import annotations

from collections.abc import Callable

from edgekd.detectors.spec import DenseHead, QueryHead, RegionHead, Spec
from edgekd.distill.contract import Distiller, Pair, distiller_names, distiller_type
from edgekd.training.teacher_network import RuntimeName
from edgekd.training.teacher_runtime import RUNTIMES

_ON_QUERIES = ("query", "feature", "logit")
_BETWEEN_ANY = ("pkd", "unikd")  # what docs/transformers.md names first for a pair of which one side has no queries
_SHOWN = 6


def instead_of(name: str, pair: Pair, serves: Callable[[str], bool]) -> str:
    """`; methods that serve this pair: ...`, for a method that is refused: those on queries first.

    Empty where neither the pair nor the method has to do with queries: most methods fit or do not fit alike there.

    Args:
        serves: whether a method serves the pair.
    """
    heads = (pair.student.head, pair.teacher.head)
    if distiller_type(name).card.level not in _ON_QUERIES and not any(isinstance(head, QueryHead) for head in heads):
        return ""
    names = [one for one in distiller_names() if one != name and serves(one)]
    ordered = sorted(names, key=_rank)
    shown = ordered[:_SHOWN] + (["..."] if len(ordered) > _SHOWN else [])
    return f"; methods that serve this pair: {', '.join(shown)} (edgekd methods --for RECIPE)" if shown else ""


def _rank(name: str) -> int:
    if name in _BETWEEN_ANY:
        return 1
    on_queries = distiller_type(name).card.level in _ON_QUERIES and name != "searched"  # which reads maps of any pair
    return 0 if on_queries else 2


def unreadable(runtime: RuntimeName, part: Distiller, teacher: Spec) -> list[str]:
    """Why a method cannot read what it needs from the teacher as the recipe runs it."""
    needs, head = part.wiring.teacher, teacher.head
    parts, read = needs.head, needs.head_names
    if isinstance(head, RegionHead) and (needs.at_points or (parts and not head.gives)):
        return [
            f"reads {read} of the teacher; teacher {teacher.name} has a region head, whose "
            "predictions belong to no point or query of a student; use a method that reads maps or regions, or its "
            "detections as labels (data.unlabelled)"
        ]
    if "class_logits" in parts and isinstance(head, DenseHead) and head.activation != "sigmoid":
        return [
            f"takes the sigmoid of the teacher's class logits; those of teacher {teacher.name} are for a "
            f"{head.activation}: use a method that reads maps alone"
        ]
    if not parts or RUNTIMES[runtime].gives(head):
        return []
    others = " or ".join(name for name, other in RUNTIMES.items() if other.gives(head))
    return [
        f"reads {read} of the teacher; teacher {teacher.name} has a {head.kind} head, whose "
        f"outputs runtime {runtime} cannot give; set teacher.runtime to {others}"
    ]
