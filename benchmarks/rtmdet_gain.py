"""Is MKD more than mmyolo's CWD? A small RTMDet pair on `digits`: control, CWD and MKD with the same seeds, on test.

    python benchmarks/rtmdet_gain.py --out runs/rtmdet-gain        # the teacher, then 25 trainings of minutes each
    python benchmarks/rtmdet_gain.py --out runs/rtmdet-gain --set train.epochs=40

Runs `edgekd run` on the recipes digits-rtmdet-teacher and digits-rtmdet-mkd; what is finished is kept, and the same
command goes on. Published weights are 1 for both, as the paper and mmyolo have them; `auto` holds either method at a
fifth of the detection loss. Prints one JSON object: AP per seed, and paired differences with 95 % t intervals. Where
the teacher is no better than the control, nothing is judged, and that is told.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from paired import ROOT, environment

METHODS = {
    "mkd": "[{method: mkd, weight: 1.0}]",
    "cwd": "rtmdet-mmyolo",
    "mkd auto": "[{method: mkd, weight: auto}]",
    "cwd auto": "[{method: cwd, normalise: channel, weight: auto}]",
}
PAIRS = (("mkd", "cwd"), ("mkd auto", "cwd auto"))


def main() -> None:
    """Train what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102, 103, 104])
    parser.add_argument("--set", action="append", default=[], dest="sets", help="of the students' recipe")
    parser.add_argument("--set-teacher", action="append", default=[], help="of the teacher's recipe")
    options = parser.parse_args()
    run("digits-rtmdet-teacher", options.out / "teacher", options.set_teacher)
    weights = (options.out / "teacher/student/student.safetensors").resolve()
    shared = [f"teacher.weights={weights}", f"seeds={options.seeds}", *options.sets]
    found = {}
    for name, distill in METHODS.items():
        control = f"control={'true' if not found else 'false'}"  # one for all: it knows no method
        out = options.out / name.replace(" ", "-")
        run("digits-rtmdet-mkd", out, [*shared, f"distill={distill}", control])
        found[name] = json.loads((out / "test.json").read_text(encoding="utf-8"))
    print(json.dumps({"options": {**vars(options), "out": str(options.out)}, **report(found)}, indent=1))


def run(recipe: str, out: Path, sets: list[str]) -> None:
    """A run of a recipe, or what is left of it. Its verdict is not asked for."""
    command = [sys.executable, "-m", "edgekd", "run", str(ROOT / "recipes" / f"{recipe}.yaml"), "--out", str(out)]
    subprocess.run([*command, *(part for one in sets for part in ("--set", one))], check=False, stdout=sys.stderr)


def report(found: dict[str, Any]) -> dict[str, Any]:
    """AP on test of everything, and what differs.

    Args:
        found: method -> content of its run's test.json; the first one has the controls.
    """
    from edgekd.measure.paired_gain import paired_gain

    first = next(iter(found.values()))
    control = [row["control_ap"] for row in first["seeds"]]
    students = {name: [row["student_ap"] for row in one["seeds"]] for name, one in found.items()}
    teacher = first["models"]["teacher"]["ap"]
    judged = teacher > max(control)
    return {
        "teacher": teacher, "teacher_is_better": judged, "control": control, "students": students,
        "minus_control": {name: asdict(paired_gain(ap, control)) for name, ap in students.items()},
        "mkd_minus_cwd": {name: asdict(paired_gain(students[name], students[other])) for name, other in PAIRS},
        "verdict": None if judged else "teacher too weak: not judged",
        **environment("torch"),
    }  # fmt: skip


if __name__ == "__main__":
    main()
