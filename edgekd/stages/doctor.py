"""`edgekd doctor`: connects to a device and says what works there, and what to do about the rest."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgekd.agent.runtimes import runtime_names
from edgekd.devices import catalog, host_keys
from edgekd.devices.contract import Device, DeviceSpec
from edgekd.devices.faults import DeviceFault
from edgekd.devices.tools.probe import probe
from edgekd.devices.tools.spec import PROGRAMS
from edgekd.devices.tools.state import state
from edgekd.errors import InputError
from edgekd.measure.telemetry import hottest_c
from edgekd.progress import progress

SCHEMA = "edgekd.doctor/1"
Status = Literal["ok", "warning", "missing", "not installed", "unknown"]

_FEW_BYTES = 500_000_000
_LEAST_BYTES = 25_000_000  # yolo11n as it arrives, packed and unpacked, and the agent
_PIP = "{python} -m pip install {package}"
_REMEDIES = {
    "onnxruntime": f"{_PIP} (for the GPU of a Jetson, the wheel of its JetPack)",
    "openvino": _PIP,
    "ncnn": _PIP,
    "litert": _PIP,
    "tensorrt": "apt install python3-libnvinfer, for the system's Python; a venv sees it with --system-site-packages",
}
_PACKAGES = {"litert": "ai-edge-litert"}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        check: what.
        status: `missing` fails the device if it is `required`; `not installed` is optional and no fault; `unknown` if
            the device does not tell.
        found: what there is.
        remedy: what to do; empty if nothing.
        required: whether the device's file asks for it.
    """

    check: str
    status: Status
    found: str = ""
    remedy: str = ""
    required: bool = False


def examine(name: str, *, accept_host_key: bool = False) -> dict[str, Any]:
    """Look at everything that a measurement needs.

    Args:
        name: of a device, or the path of its file.
        accept_host_key: first ask the device for its host key and trust it from now on.

    Returns:
        `checks` in the order of the look, and `ok`: whether nothing that is required is missing.

    Raises:
        InputError: unknown device, or one that has no host key.
    """
    spec = catalog.load(name)
    checks: list[Check] = []
    try:
        if accept_host_key:
            checks.append(_accepted(spec))
        with catalog.open_device(spec) as device:
            checks.append(Check("connection", "ok", f"{spec.transport}", required=True))
            checks += _checks(device)
    except DeviceFault as fault:
        checks.append(Check("connection", "missing", fault.kind, fault.problems[0], required=True))
    ok = not any(check.required and check.status == "missing" for check in checks)
    return {
        "schema": SCHEMA, "device": spec.name, "transport": spec.transport, "ok": ok,
        "checks": [asdict(check) for check in checks],
    }  # fmt: skip


def shown(result: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """A table for people, and the remedies below it."""
    table = [{key: check[key] for key in ("check", "status", "found")} for check in result["checks"]]
    remedies = [f"{check['check']}: {check['remedy']}" for check in result["checks"] if check["remedy"]]
    return table, remedies


def lacking(device: Device, runtimes: Sequence[str]) -> Iterator[Check]:
    """What an open device lacks to run or time artifacts of some runtimes.

    Raises:
        DeviceFault: it cannot be asked.
    """
    checks: list[Check] = []
    if device.spec.has_agent:
        told = _ask(device, "doctor")
        checks += _libraries(told)
        for name in runtimes:  # whether the device's file calls them optional or not
            yield from (check for check in _runtime(device, name, told["executable"]) if check.status != "ok")
    checks += _tools(device, [name for name in device.spec.tools if name in runtimes])
    yield from (check for check in checks if check.required and check.status == "missing")


def _accepted(spec: DeviceSpec) -> Check:
    if spec.transport != "ssh":
        raise InputError(
            f"--accept-host-key: device {spec.name} is reached by {spec.transport}; only ssh has host keys"
        )
    accepted = host_keys.accept(spec)
    before = f", in place of {accepted.replaced}" if accepted.replaced else ""
    return Check("host key", "ok", f"{accepted.fingerprint}, now trusted{before} ({accepted.file})")


def _checks(device: Device) -> Iterator[Check]:
    facts = device.facts()
    yield Check("system", "ok", f"{facts['system']} {facts['release']} {facts['machine']}, {facts['cores']} cores")
    yield _space(facts)
    if not device.spec.has_agent:
        yield from _tools(device, device.spec.tools)
        yield from _state(device)
        return
    names = [*device.spec.runtimes, *(name for name in runtime_names() if name not in device.spec.runtimes)]
    try:
        told = _ask(device, "doctor")
        yield Check("python", "ok", f"{told['python']} ({told['executable']})", required=True)
        yield from _libraries(told)
        with progress(f"doctor {device.spec.name}", len(names)) as advance:
            for name in names:
                yield from _runtime(device, name, told["executable"])
                advance()
        yield from _programs(device.spec, told["programs"])
        yield from _tools(device, device.spec.tools)
        yield from _state(device)
    except DeviceFault as fault:
        name = "python" if fault.kind == "python" else "agent"
        yield Check(name, "missing", fault.kind, fault.problems[0], required=True)


def _space(facts: dict[str, Any]) -> Check:
    free = facts["free_bytes"]
    if free is None:
        return Check("free space", "unknown", f"in {facts['folder']}")
    amount = f"{free / 1e9:.1f} GB" if free >= 1e9 else f"{free / 1e6:.0f} MB"
    found, remedy = f"{amount} in {facts['folder']}", "free some, or set `folder` to another disk"
    if free < _LEAST_BYTES:
        fits = f"not even a small model fits ({_LEAST_BYTES / 1e6:.0f} MB with the agent); {remedy}"
        return Check("free space", "missing", found, fits, required=True)
    return Check("free space", "warning", found, remedy) if free < _FEW_BYTES else Check("free space", "ok", found)


def _libraries(told: dict[str, Any]) -> Iterator[Check]:
    numpy, cv2 = told["libraries"]["numpy"], told["libraries"]["cv2"]
    if numpy:
        yield Check("numpy", "ok", numpy, required=True)
    else:
        remedy = f"apt install python3-numpy, or {told['executable']} -m pip install numpy"
        yield Check("numpy", "missing", "", remedy, required=True)
    yield Check("cv2", "ok" if cv2 else "unknown", cv2 or "not there; pre-processing takes numpy, and says so")


def _runtime(device: Device, name: str, python: str) -> Iterator[Check]:
    """A row for each that the device should or may have, and for what else it has."""
    listed, optional = name in device.spec.runtimes, name in device.spec.optional
    check = f"runtime {name}"
    remedy = _REMEDIES[name].format(python=python, package=_PACKAGES.get(name, name)) if name in _REMEDIES else ""
    try:
        told = _ask(device, "doctor", "--runtime", name)["runtime"]
    except DeviceFault as fault:
        if fault.kind != "crashed":
            raise
        told = {"unusable": f"kills the process that imports it ({fault.problems[0]})", "installed": True}
    if told["unusable"] is None:
        yield Check(check, "ok", str(told["version"]), required=listed and not optional)
    elif optional and not told["installed"]:
        yield Check(check, "not installed", f"only targets of {name} need it", f"for targets of {name}: {remedy}")
    elif optional:
        yield Check(check, "warning", told["unusable"], f"for targets of {name}, install it again: {remedy}")
    elif listed:
        remedy += ", or take it out of the device's `runtimes`"
        yield Check(check, "missing", told["unusable"], remedy, required=True)


def _programs(spec: DeviceSpec, programs: dict[str, str | None]) -> Iterator[Check]:
    trtexec = programs["trtexec"]
    if trtexec:
        yield Check("trtexec", "ok", trtexec)
    elif "tensorrt" in spec.runtimes:
        yield Check(
            "trtexec", "warning", "not there", "apt install libnvinfer-bin; without it the engine is built in Python"
        )


def _tools(device: Device, runtimes: Collection[str]) -> Iterator[Check]:
    """The timing programs that the device's file names for some runtimes."""
    with progress(f"programs of {device.spec.name}", len(runtimes)) as advance:
        for runtime in runtimes:
            name = f"program {PROGRAMS[runtime]}"
            try:
                yield Check(name, "ok", probe(device, runtime), required=True)
            except DeviceFault as fault:
                yield Check(name, "missing", fault.kind, fault.problems[0], required=True)
            advance()


def _state(device: Device) -> Iterator[Check]:
    """Clocks, heat and power, as far as the device tells."""
    spec, told = device.spec, _telemetry(device)
    state, platform = told["telemetry"], told.get("platform") or {}
    emulated = spec.says_emulated or platform.get("emulated")
    if emulated:
        yield Check("processor", "warning", f"emulated: {emulated}", "AP counts here; measure latency on the hardware")
    governors = {str(governor) for governor in (state.get("governors") or {}).values()}
    absent = state.get("absent", {})
    if not governors:
        yield Check("clocks", "unknown", absent.get("governors", ""))
    elif governors == {"performance"} or (state.get("clocks") or {}).get("locked"):
        yield Check("clocks", "ok", ", ".join(sorted(governors)))
    else:
        remedy = (
            "for steady figures: 'sudo jetson_clocks' or 'cpupower frequency-set -g performance'; edgekd changes none"
        )
        yield Check("clocks", "warning", f"floating ({', '.join(sorted(governors))})", remedy)
    yield from _heat(spec, hottest_c(state.get("temperatures_c")), absent)
    mode = (state.get("power_mode") or {}).get("name")
    if spec.power_mode and mode != spec.power_mode:
        found = mode or absent.get("power_mode", "not told")
        remedy = f"sudo nvpmodel -m ID of {spec.power_mode}, or correct `power_mode`; edgekd changes none"
        yield Check("power mode", "missing" if mode else "unknown", found, remedy, required=bool(mode))
    elif mode:
        yield Check("power mode", "ok", mode)
    rails = state.get("power_mw")
    yield Check("power rails", "ok" if rails else "unknown", ", ".join(rails) if rails else absent.get("power_mw", ""))


def _heat(spec: DeviceSpec, hottest: float | None, absent: dict[str, str]) -> Iterator[Check]:
    if hottest is None:
        yield Check("temperature", "unknown", absent.get("temperatures_c", ""))
    elif spec.start_below_c is not None and hottest >= spec.start_below_c:
        remedy = f"measurements wait until it is below {spec.start_below_c:g} (start_below_c)"
        yield Check("temperature", "warning", f"{hottest:.1f} degrees", remedy)
    else:
        yield Check("temperature", "ok", f"{hottest:.1f} degrees")


def _telemetry(device: Device) -> dict[str, Any]:
    """From the agent, or without it what the device itself tells."""
    return _ask(device, "state") if device.spec.has_agent else {"telemetry": state(device), "platform": {}}


def _ask(device: Device, *arguments: str) -> dict[str, Any]:
    """The first event of a short run of the agent."""
    events: list[dict[str, Any]] = []
    device.run(arguments, events.append)
    return events[0]
