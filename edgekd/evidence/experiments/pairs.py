"""Is 8 bits quicker than 16 there? Two artifacts of one student, interleaved, with an interval of their ratio."""

from __future__ import annotations

from collections.abc import Iterator

from edgekd.atomic import read_json
from edgekd.evidence import artifacts
from edgekd.evidence.contract import Experiment, Setting, Work, register
from edgekd.evidence.experiments.targets import Place, cannot, places, sources_of
from edgekd.export.targets import load_target
from edgekd.stages.compare import Rules, compare
from edgekd.stages.compared_artifact import subject
from edgekd.stages.data import data_stage
from edgekd.stages.export import export_stage


def offers(setting: Setting) -> Iterator[Experiment]:
    """For each pair and place that has its runtime."""
    for number, (one, other) in enumerate(setting.scale.pairs):
        for place in places(setting):
            if place.options or load_target(one, {}, one).runtime not in place.runtimes:
                continue
            arguments = {"reference": one, "candidate": other, "variant": place.variant}
            lacking = place.lacking or _lacking(setting, one, other)
            yield Experiment(
                f"{other} against {one}{place.label}", f"latency of {other} over that of {one}{place.label}", "pair",
                _value(place) + number, 240, arguments, lacking, sources_of(one, other),
            )  # fmt: skip


def _value(place: Place) -> int:
    return place.value + 15


def _lacking(setting: Setting, *targets: str) -> str | None:
    if not setting.machine["device"]["has_agent"]:
        return "the device has no agent, which alone runs two artifacts interleaved"
    return next((why for target in targets if (why := cannot(target))), None)


def run(work: Work) -> None:
    """Both made at the size at which latency counts; accuracy is that of the targets' own experiments."""
    names = (work.arguments["reference"], work.arguments["candidate"])
    device = artifacts.device_file(work.setting, work.folder / "devices", work.arguments["variant"])
    entries = [artifacts.calm(name) for name in names]
    with artifacts.student_run(work.scale, work.folder, device, entries, measured=False) as context:
        data_stage(context)
        export_stage(context)
        context.pack()
        export = context.path / "export"
    rules = Rules(max_slowdown=0.0, accuracy=False, looks=work.scale.looks)
    sides = [subject(export / name, None) for name in names]
    compare(
        sides[0], sides[1], device, rules, work.folder / "compared", turn_seconds=60.0, quiet_seconds=work.scale.wait_s
    )
    found = read_json(work.folder / "compared" / "comparison.json")
    work.keep(**{key: found[key] for key in ("latency", "verdict", "contention")}, looks=list(rules.looks))


register("pair", offers, run)
