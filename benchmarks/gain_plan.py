"""Which trainings `distill_gain.py` asks for: settings, weights that are tried, and rows in their order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from gain_rows import COMBINED, PAIRS, VARIANTS, Row

# Weight of PKD.
TWINS: dict[str, float | str] = {
    "rtmdet-to-yolo": 3.0, "yolo-to-rtmdet": "auto", "faster-rcnn": 3.0, "rtdetr-to-yolo": 3.0,
}  # fmt: skip
SETTINGS = {
    # images of the splits, schedule, weights tried per method, seeds of the report; who learns from whom, if no YOLO
    "screen": {"train": 800, "test": 400, "epochs": 8, "tries": 0, "report_seeds": ()},
    "small": {"train": 800, "test": 400, "epochs": 16, "tries": 2, "report_seeds": (100, 101, 102)},
    "full": {"train": 1600, "test": 1000, "epochs": 40, "tries": 4, "report_seeds": tuple(range(100, 110))},
    "rtdetr": {"train": 1600, "test": 400, "epochs": 4, "tries": 0, "report_seeds": (), "pair": "rtdetr"},
    "rtmdet": {"train": 800, "test": 400, "epochs": 24, "tries": 0, "report_seeds": (), "pair": "rtmdet"},
    "photographs": {"epochs": 30, "tries": 0, "report_seeds": (), "pair": "photographs"},
    **{
        twin: {"train": 800, "test": 400, "epochs": 16, "tries": 0, "report_seeds": (), "pair": twin}
        for twin in TWINS
    },
}  # fmt: skip
TUNE_SEEDS = (0, 1, 2)
BEST, BEST_SEEDS = 8, (100, 101, 102, 103, 104)
CLAIMED = ("logit+ld+score_l2",)  # of what README shows figures
# The first ones: that a DETR's loss of predictions gives more than one of maps, and this more than none.
ON_QUERIES = (
    "detrdistill-prediction", "detrdistill-features", "kd_detr", "qskd", "od_detr", "dlim", "clockdistill",
    "detrdistill",
)  # fmt: skip
# Factors around each method's published or default weight, the most plausible first.
WEIGHTS = {
    "logit": (0.5, 1.0, 2.0, 0.25),
    "ld": (1.0, 2.0, 4.0, 0.5),
    "logit+ld": (1.0,),  # the quickstart's pair, as it stands there: not tuned
    "logit+ld+score_l2": (1.0,),
    "logit+ld+mimic": (1.0, 2.0),
    "logit+ld+score_l2+mimic": (1.0, 2.0),
    "fitnet": (1.0, 5.0, 0.2, 20.0),
    "cwd": (1.0, 5.0, 10.0, 0.2),
    "pkd": (1.0, 3.0, 0.3, 10.0),
    "score_l2": (1.0, 6.0, 0.3, 2.0),
    "distill_model": (1.0, 6.0, 0.3, 2.0),
}
TUNED = ("control", *WEIGHTS)


def screen_rows(methods: Sequence[str]) -> Iterator[Row]:
    """Everything once, on val."""
    yield Row("control", 0.0, TUNE_SEEDS[0], "val")
    yield Row("distill_model", 6.0, TUNE_SEEDS[0], "val")
    for method in methods:
        yield Row(method, "auto", TUNE_SEEDS[0], "val")


def query_rows(methods: Sequence[str]) -> Iterator[Row]:
    """Of a pair of detectors with queries: what is made for them by a share of the loss and of the gradient, on val."""
    yield Row("control", 0.0, TUNE_SEEDS[0], "val")
    for share in ("", ":gradient"):
        for method in methods:
            yield Row(f"{method}{share}", "auto", TUNE_SEEDS[0], "val")


def more_query_rows(screened: Sequence[dict[str, Any]]) -> Iterator[Row]:
    """Of each method, the share that gave more, with two more seeds."""
    aps = {row["method"]: row["ap"] for row in screened if row["split"] == "val" and row["seed"] == TUNE_SEEDS[0]}
    better: dict[str, str] = {}
    for shared in sorted(aps, key=aps.__getitem__):
        better[shared.partition(":")[0]] = shared
    for seed in TUNE_SEEDS[1:]:
        for name, shared in sorted(better.items()):
            yield Row(shared, 0.0 if name == "control" else "auto", seed, "val")


def best_query_rows(screened: Sequence[dict[str, Any]]) -> Iterator[Row]:
    """The two of the highest mean AP on val with fresh seeds, on test, beside the control."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in screened:
        if row["split"] == "val" and row["method"] != "control":
            found[row["method"]].append(row["ap"])
    whole = [method for method, aps in found.items() if len(aps) == len(TUNE_SEEDS)]
    best = sorted(whole, key=lambda method: -sum(found[method]))[:2]
    for seed in BEST_SEEDS:
        yield Row("control", 0.0, seed, "test")
        for method in best:
            yield Row(method, "auto", seed, "test")


def rtmdet_rows() -> Iterator[Row]:
    """MKD against mmyolo's CWD: with the published weights, which are 1 for both, and with automatic ones."""
    for seed in BEST_SEEDS:
        yield Row("control", 0.0, seed, "test")
        for method in ("mkd", "cwd"):
            for weight in ("auto", 1.0):
                yield Row(method, weight, seed, "test")


def twin_rows(weight: float | str) -> Iterator[Row]:
    """PKD as the recipe digits-... of a pair across families has it, three seeds; and the teacher itself."""
    yield Row("teacher", 0.0, 0, "test")
    for seed in BEST_SEEDS[:3]:
        yield Row("control", 0.0, seed, "test")
        yield Row("pkd", weight, seed, "test")


# Settings that have their rows, whatever methods there are.
FIXED: dict[str, Callable[[], Iterator[Row]]] = {
    "rtmdet": rtmdet_rows,
    **{twin: partial(twin_rows, weight) for twin, weight in TWINS.items()},
}


def photographs_rows(methods: Sequence[str]) -> Iterator[Row]:
    """The methods named, three seeds, on the split that the source held back."""
    for seed in BEST_SEEDS[:3]:
        for method in methods:
            known = {"control": 0.0, "distill_model": 6.0, **dict.fromkeys(COMBINED, 1.0)}
            yield Row(method, known.get(method, "auto"), seed, "val")


def best_rows(screened: Sequence[dict[str, Any]]) -> Iterator[Row]:
    """The best of the screening with fresh seeds, on test; control, the engine's own and what is claimed as well."""
    automatic = [row for row in screened if row["weight"] == "auto"]
    best = sorted(automatic, key=lambda row: -row["ap"])[:BEST]
    chosen = {"control": 0.0, "distill_model": 6.0, **dict.fromkeys(CLAIMED, 1.0)}
    for seed in BEST_SEEDS:
        for method, weight in chosen.items():
            yield Row(method, weight, seed, "test")
        for row in best:
            yield Row(row["method"], "auto", seed, "test")


def tune_rows(setting: dict[str, Any], methods: Sequence[str]) -> Iterator[Row]:
    """Control, then every method and weight, on val; seed by seed, so that a part of them says something already."""
    for seed in TUNE_SEEDS:
        if "control" in methods:
            yield Row("control", 0.0, seed, "val")
        for turn in range(setting["tries"]):
            for method, weights in WEIGHTS.items():
                if method in methods and turn < len(weights):
                    yield Row(method, weights[turn], seed, "val")


def report_rows(setting: dict[str, Any], chosen: dict[str, float], methods: Sequence[str]) -> Iterator[Row]:
    """The chosen weights with fresh seeds, on test."""
    for seed in setting["report_seeds"]:
        for method, weight in {"control": 0.0, **chosen}.items():
            if method in methods:
                yield Row(method, weight, seed, "test")


def choose(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Per method, the weight of the highest mean AP on val."""
    scores: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["split"] == "val" and row["method"] != "control":
            scores[row["method"]][row["weight"]].append(row["ap"])
    return {
        method: max(weights, key=lambda weight: sum(weights[weight]) / len(weights[weight]))
        for method, weights in scores.items()
    }


def every_method(pair: str = "yolo") -> list[str]:
    """All of edgekd's that serve the pair, but those that prepare; parts of them, and rows of several; for YOLOs a
    gradient's share of the best known."""
    from edgekd.data.digits import CLASS_NAMES
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.families import open_detector, trainable
    from edgekd.distill.contract import Pair, distiller_names, distiller_type
    from edgekd.distill.requirements import unmet

    package, models = "edgekd.", PAIRS[pair]
    student, teacher = (
        trainable(open_detector(None, Asked(model, None, CLASS_NAMES, 3, model)), model)
        for model in (models.student, models.teacher)
    )
    sides = Pair.of(student.spec, teacher, range(len(CLASS_NAMES)), CLASS_NAMES)
    kinds = {name: distiller_type(name) for name in distiller_names()}
    own = [
        name
        for name, kind in kinds.items()
        if kind.__module__.startswith(package) and not kind.prepares and not unmet(kind.requires, sides)
    ]
    parts = [name for name, (method, _) in VARIANTS.items() if name not in own and method in own]
    combined = [name for name, members in COMBINED.items() if set(members) <= set(own)]
    gradient = [f"{name}:gradient" for name in ("logit", "score_l2", *combined)] if pair == "yolo" else []
    return [*own, *parts, *combined, *gradient]
