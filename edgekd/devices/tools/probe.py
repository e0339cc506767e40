"""Whether a timing program is there, starts, and what it is: for `edgekd doctor`."""

from __future__ import annotations

from edgekd.agent.tensorrt.trtexec import version_in
from edgekd.devices.contract import Device
from edgekd.devices.faults import DeviceFault
from edgekd.devices.tools.bench import brought, check_program
from edgekd.devices.tools.programs import PROGRAMS
from edgekd.devices.tools.spec import PROGRAMS as NAMES

_START_S = 60.0


def probe(device: Device, runtime: str) -> str:
    """The program of a runtime in words, with its version where it tells one.

    Raises:
        DeviceFault: it is missing, may not be started, or does not start.
    """
    name, known = NAMES[runtime], PROGRAMS[runtime]
    program, libraries = brought(device, name, known.path, device.spec.tools[runtime])
    check_program(device, name, program)
    if known.version_words is None:
        return f"{program} (not started: it has no option that does nothing)"
    words = [program, *known.version_words]
    words = ["env", f"LD_LIBRARY_PATH={libraries}", *words] if libraries else words
    try:
        reply = device.shell(words, timeout_s=_START_S)
    except DeviceFault as fault:
        if fault.kind != "tool_missing":
            raise
        reason = fault.problems[0].partition("cannot be started: ")[2]
        raise DeviceFault(
            "tool_missing", f"device {device.spec.name}: {name}: {program} does not start there: {reason}"
        ) from fault
    version = version_in((reply.out + reply.err).decode("utf-8", errors="replace"))
    return f"{version} ({program})" if version else f"{program} (starts; it tells no version)"
