"""What heat leaves of the speed of a board: one artifact for minutes, with its sensors of power and heat."""

from __future__ import annotations

from collections.abc import Iterator

from edgekd.evidence import artifacts
from edgekd.evidence.contract import Experiment, Setting, Work, register
from edgekd.evidence.experiments.targets import BUILT_IN, cannot, places, sources_of
from edgekd.export.targets import load_target
from edgekd.stages.export import export_stage
from edgekd.stages.on_device import profile_stage


def offers(setting: Setting) -> Iterator[Experiment]:
    """With the first target that runs there."""
    minutes = setting.scale.sustained_minutes
    place = places(setting)[-1 if setting.here else 0]
    names = setting.scale.targets or BUILT_IN
    target = next((one for one in names if load_target(one, {}, one).runtime in place.runtimes), names[0])
    lacking = None if place.runtimes else "no runtime is usable there"
    if not setting.machine["device"]["has_agent"]:
        lacking = "the device has no agent, which alone reads sensors while it runs"
    elif setting.here and setting.scale.name == "full":
        lacking = "is for boards; 'power' watches this machine's card"
    yield Experiment(
        "sustained", f"{target} for {minutes:g} minutes: speed, power, heat", "sustained", 80, 60 * minutes + 180,
        {"target": target}, lacking or cannot(target), sources_of(target),
    )  # fmt: skip


def run(work: Work) -> None:
    """The protocol `sustained` at the size at which latency counts."""
    target, device = work.arguments["target"], artifacts.device_file(work.setting, work.folder, None)
    name = artifacts.device_name(device)
    minutes = {"protocol": "sustained", "sustained_minutes": work.scale.sustained_minutes}
    entries = [artifacts.calm(target)]
    with artifacts.student_run(work.scale, work.folder, device, entries, measured=False, profile=minutes) as context:
        export_stage(context)
        profile_stage(context)
        work.keep(target=target, **artifacts.latency(context, target, name))


register("sustained", offers, run)
