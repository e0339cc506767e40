"""What a distillation gained, in the figures that papers compare."""

from __future__ import annotations


def normalised_gain(student_ap: float, control_ap: float) -> float | None:
    """(AP with distillation - AP without) / AP without; None of a control that finds nothing.

    By it the survey Distilling Object Detectors compares methods that were published on different detectors.
    """
    return (student_ap - control_ap) / control_ap if control_ap > 0 else None


def gap_closed(student_ap: float, control_ap: float, teacher_ap: float | None) -> float | None:
    """The gain as a share of teacher minus control; None where the teacher is no better than the control."""
    gap = 0.0 if teacher_ap is None else teacher_ap - control_ap
    return (student_ap - control_ap) / gap if gap > 0 else None
