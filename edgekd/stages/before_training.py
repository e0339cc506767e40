"""What is known before a training, and would stop the stages behind it: nothing of it may cost a training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgekd import ranks
from edgekd.devices import catalog
from edgekd.devices.contract import DeviceSpec
from edgekd.devices.faults import DeviceFault
from edgekd.errors import EnvironmentFault, InputError
from edgekd.export.contract import TargetSpec, step
from edgekd.export.graph_parts import layers
from edgekd.export.int8 import ignored
from edgekd.export.int8_options import Int8Options
from edgekd.export.targets import run_steps
from edgekd.gate.policy import PER_ARTIFACT
from edgekd.stages.binding import Bound
from edgekd.stages.context import Context
from edgekd.stages.doctor import lacking
from edgekd.stages.export import source_of
from edgekd.stages.models import check_runtime
from edgekd.stages.prepared_file import check_prepared
from edgekd.stages.quantization_images import check_images, int8_options
from edgekd.stages.recorded_teachers import require_recorded

_OPSET = TargetSpec.model_fields["opset"].default


def check_ready(context: Context, *, to_the_end: bool = True, prepare: bool = True) -> None:
    """Refuse what cannot be trained, exported, measured or judged in the end.

    Args:
        to_the_end: what is trained is exported and measured, too: ask the devices.
        prepare: install the converters that targets need.

    Raises:
        InputError: one line per problem of the recipe.
        EnvironmentFault: one line per thing that this machine or a device lacks.
    """
    bound = context.bound
    if to_the_end:
        check_measurable(bound)
    check_images(context)
    check_prepared(context)
    require_recorded(context)
    check_runtime(bound)
    ranks.on_main(lambda: _try_exports(context))
    if to_the_end:
        ranks.on_main(lambda: check_environment(bound, prepare))


def check_measurable(bound: Bound) -> None:
    """Refuse budgets on what the recipe never measures: their verdict could only be `inconclusive`.

    Raises:
        InputError: one line per budget.
    """
    gate, where = bound.gate, f"{bound.where}: gate"
    problems = []
    measured = {
        f"{target.name}@{device.name}"
        for target in bound.targets
        for device in bound.devices
        if target.runtime in device.runtimes
    }
    if gate.min_gain is not None and not bound.recipe.control:
        problems.append(f"{where}.min_gain: there is no control to gain over; set control: true, or leave it out")
    if gate.max_ap_drop is not None and not measured:
        problems.append(
            f"{where}.max_ap_drop: nothing is exported and measured; name targets in export and devices in devices, or "
            "leave it out"
        )
    if gate.min_images_per_second and not bound.recipe.profile.throughput:
        problems.append(
            f"{where}.min_images_per_second: no load is measured; name one in profile.throughput, e.g. [{{streams: 2}}]"
        )
    for budget in PER_ARTIFACT:
        problems += [
            f"{where}.{budget}.{name}: the device does not have the runtime of the target; name another of "
            f"{', '.join(sorted(measured))}"
            for name in getattr(gate, budget)
            if name not in measured
        ]
    if problems:
        raise InputError(*problems)


def _try_exports(context: Context) -> None:
    """Export the untrained student where its graph may hold a surprise, or where the names of its layers count."""
    own_model = Path(context.bound.recipe.student.model or "").suffix in (".yaml", ".yml")
    problems: list[str] = []
    for target in context.bound.targets:
        patterns = [
            (name, options.ignore) for name, options in int8_options(target) if isinstance(options, Int8Options)
        ]
        if own_model or target.opset != _OPSET or any(ignore for _, ignore in patterns):
            try:
                _try_export(context, target, patterns)
            except InputError as error:
                problems += [f"{context.bound.where}: export: {problem}" for problem in error.problems]
    if problems:
        raise InputError(*problems)


def _try_export(context: Context, target: TargetSpec, patterns: Sequence[tuple[str, Sequence[str]]]) -> None:
    import onnx

    to_onnx = target.model_copy(update={"steps": target.steps[:1], "precision": "fp32"})
    with tempfile.TemporaryDirectory() as folder:
        source = source_of(context, target, context.pair.student, "")
        made = run_steps(source, to_onnx, Path(folder) / "trial")
        found = layers(onnx.load(made.model_path, load_external_data=False).graph)
    for name, ignore in patterns:
        ignored(found, ignore, f"{target.name}: options.{name}")


def check_environment(bound: Bound, prepare: bool) -> None:
    """See that this machine has what makes the targets, and the devices what measures them.

    Args:
        prepare: install the converters that targets need.

    Raises:
        EnvironmentFault: one line per thing that is lacking.
    """
    where = bound.where
    steps = [(target.name, step(name)) for target in bound.targets for name in target.steps]
    problems = [f"{where}: export: {name}: {reason}" for name, one in steps if (reason := one.missing())]
    for device in bound.devices:
        runtimes = {target.runtime for target in bound.targets} & set(device.runtimes)
        problems += [f"{where}: devices: {problem}" for problem in _unready(device, sorted(runtimes))]
    if problems:
        raise EnvironmentFault(*problems)
    for _, one in steps if prepare else ():
        one.prepare()


def _unready(spec: DeviceSpec, runtimes: Sequence[str]) -> Iterator[str]:
    if not runtimes:
        return
    try:
        with catalog.open_device(spec) as device:
            for check in lacking(device, runtimes):
                yield f"{spec.name}: {check.check}: {check.found}; {check.remedy}".rstrip("; ")
    except DeviceFault as fault:
        yield f"{fault.problems[0]}; 'edgekd distill' trains without the devices"
