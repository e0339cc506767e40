"""Why a method cannot read what it needs of a teacher, and which methods serve a pair that another does not."""

from __future__ import annotations

from edgekd.detectors.spec import DenseHead, RegionHead, Spec
from edgekd.distill.contract import Distiller, Pair, distiller_names, distiller_type
from edgekd.distill.requirements import unmet
from edgekd.training.teacher_network import RuntimeName
from edgekd.training.teacher_runtime import RUNTIMES

_ON_QUERIES = ("query", "feature", "logit")
_SHOWN = 6


def instead_of(name: str, pair: Pair) -> str:
    """`; methods that serve this pair: ...`, for a method on queries that is refused: others on queries first.

    Empty for a method of another kind, most of whose like fit or do not fit with it.
    """
    if distiller_type(name).card.level not in _ON_QUERIES:
        return ""
    kinds = [(one, distiller_type(one)) for one in distiller_names() if one != name]
    fitting = [(one, kind.card.level) for one, kind in kinds if not unmet(kind.requires, pair)]
    ordered = sorted(fitting, key=lambda entry: entry[1] not in _ON_QUERIES)
    names = [one for one, _ in ordered[:_SHOWN]] + (["..."] if len(ordered) > _SHOWN else [])
    return f"; methods that serve this pair: {', '.join(names)} (edgekd methods --for RECIPE)" if names else ""


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
