"""Why a program does not start, from what shell or loader said of it: reasons that look alike have other remedies."""

from __future__ import annotations

import re

# The first that is found decides. What lacks a library also says "No such file", and so does what lacks a loader.
_REASONS = (
    (
        r"error while loading shared libraries|cannot open shared object|CANNOT LINK EXECUTABLE|version `.+' not found",
        "it lacks a library ({said}); put that beside it (in `tools`, `push` a folder with both), or take a program"
        " built for this system",
    ),
    (
        r"[Pp]ermission denied|Operation not permitted",
        "permission denied; chmod 755 it, and if it is executable, its file system is mounted noexec: move it to"
        " another (what edgekd brings lies in `folder`)",
    ),
    (
        r"Exec format error|cannot execute binary file|not executable|Syntax error|\bELF",
        "exec format error: it is no program of this processor ({machine}); take one that was built for it",
    ),
    (
        r"No such file|not found",
        "not found; install it or correct the path, and if the file is there, what is missing is the interpreter or"
        " loader that it names: take a program built for this system",
    ),
)
_MACHINES = {  # e_machine of an ELF header, and what `uname -m` may say of a device that runs it
    0x03: ("x86", r"i\d86|x86_64|amd64"),
    0x28: ("32-bit ARM", r"arm.*|aarch64"),
    0x3E: ("x86-64", r"x86_64|amd64"),
    0xB7: ("64-bit ARM", r"aarch64|arm64"),
    0xF3: ("RISC-V", r"riscv.*"),
}
_ELF, _HEADER_BYTES = b"\x7fELF", 20


def why(said: str, machine: str | None) -> str:
    """Reason and remedy.

    Args:
        said: on standard error, or the system's word for an error.
        machine: of the device, as `uname -m` has it.
    """
    last = (said.strip().splitlines() or ["no reason given"])[-1].strip()[:200]
    for pattern, text in _REASONS:
        if re.search(pattern, said):
            return text.format(said=last, machine=machine or "unknown")
    return f"{last}; see that it runs there by hand"


def other_machine(header: bytes, machine: str | None) -> str | None:
    """What processor a program is for, where that is not the device's; None where it is, or where that is not known.

    Args:
        header: its first 20 bytes.
    """
    if len(header) < _HEADER_BYTES or not header.startswith(_ELF) or not machine:
        return None
    code = int.from_bytes(header[18:20], "big" if header[5] == 2 else "little")
    name, runs_it = _MACHINES.get(code, (f"a processor of ELF number {code}", ""))
    known = any(re.fullmatch(pattern, machine) for _, pattern in _MACHINES.values())
    return name if known and not re.fullmatch(runs_it, machine) else None
