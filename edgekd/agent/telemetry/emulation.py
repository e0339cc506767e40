# SPDX-License-Identifier: Apache-2.0
"""Whether this machine's processor is played by a program, which makes every latency meaningless.

Certain signs alone. Virtual machines that run on their host's processor (KVM and the like) are none, whoever their
vendor. A whole machine emulated as a processor that exists shows no sign; its device file has to say so.
"""

from __future__ import annotations

import platform
import struct
from pathlib import Path
from typing import Optional

from .files import lines

_FAMILIES = {3: "x86", 62: "x86", 40: "ARM", 183: "ARM", 243: "RISC-V", 21: "POWER", 22: "S390"}  # e_machine of ELF
_PREFIXES = (
    ("x86", "x86"), ("amd64", "x86"), ("i386", "x86"), ("i686", "x86"), ("arm", "ARM"), ("aarch64", "ARM"),
    ("riscv", "RISC-V"), ("ppc", "POWER"), ("s390", "S390"),
)  # fmt: skip
# CPU implementer (reserved for software) and part (a Q) of QEMU's `max`. The implementer alone proves nothing: it is
# that of virtual machines on Apple's processors, too.
_QEMU_MAX = ("0x00", "0x051")


def emulation(root: Path = Path("/"), machine: Optional[str] = None) -> Optional[str]:
    """What gives an emulator away, in words; None: nothing does.

    Args:
        root: of procfs.
        machine: as `uname -m`; default: of this process.
    """
    machine = machine or platform.machine()
    claimed = _claimed(machine)
    # Of the thread, since QEMU's user mode puts the emulated program in the place of `self`.
    running = _family_of(root / "proc/thread-self/exe")
    if claimed and running and claimed != running:
        return "%s programs run by a program of %s" % (machine, running)
    parts = [line.partition(":") for line in lines(root / "proc/cpuinfo")]
    fields = {name.strip(): value.strip() for name, _, value in parts}
    if claimed == "ARM" and "vendor_id" in fields and "CPU implementer" not in fields:
        return "%s programs on a processor of %s" % (machine, fields["vendor_id"])
    if claimed == "ARM" and (fields.get("CPU implementer"), fields.get("CPU part")) == _QEMU_MAX:
        return "a processor that QEMU has made up (CPU implementer 0x00, part 0x051)"
    model = fields.get("model name", "")
    return "processor %s" % model if claimed == "x86" and model.startswith("QEMU TCG CPU") else None


def _claimed(machine: str) -> Optional[str]:
    return next((family for prefix, family in _PREFIXES if machine.lower().startswith(prefix)), None)


def _family_of(program: Path) -> Optional[str]:
    """Of the processor that a program is made for; None where it cannot be told."""
    try:
        with program.open("rb") as stream:
            head = stream.read(20)
    except OSError:
        return None
    if len(head) < 20 or not head.startswith(b"\x7fELF"):
        return None
    return _FAMILIES.get(struct.unpack("<H" if head[5] == 1 else ">H", head[18:20])[0])
