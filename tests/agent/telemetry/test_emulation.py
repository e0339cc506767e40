"""What gives an emulator away, and what does not: a virtual machine on its host's processor is none."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from edgekd.agent.telemetry.emulation import emulation
from tests.agent.telemetry import boards
from tests.agent.telemetry.golden import golden

X86, ARM, AARCH64, RISCV = 62, 40, 183, 243
MADE_UP = "a processor that QEMU has made up (CPU implementer 0x00, part 0x051)"


def machine(root: Path, cpuinfo: str | None, program: int | None = None, order: str = "<") -> Path:
    """A procfs.

    Args:
        program: the processor that the program is made for which runs the thread, as ELF numbers it.
        order: of its bytes.
    """
    if cpuinfo:
        boards.write(root / "proc/cpuinfo", golden(f"cpuinfo-{cpuinfo}.txt"))
    if program:
        (root / "proc/thread-self").mkdir(parents=True)
        head = b"\x7fELF\x02" + (b"\x01" if order == "<" else b"\x02") + bytes(10)
        (root / "proc/thread-self/exe").write_bytes(head + struct.pack(order + "HH", 3, program) + bytes(44))
    return root


@pytest.mark.parametrize(
    ("cpuinfo", "program", "name", "found"),
    [
        ("x86", X86, "aarch64", "aarch64 programs run by a program of x86"),
        ("x86", None, "aarch64", "aarch64 programs on a processor of GenuineIntel"),
        ("x86", X86, "armv7l", "armv7l programs run by a program of x86"),
        ("qemu-max", X86, "aarch64", "aarch64 programs run by a program of x86"),
        ("raspberry-pi-5", AARCH64, "x86_64", "x86_64 programs run by a program of ARM"),
        (None, X86, "riscv64", "riscv64 programs run by a program of x86"),
        ("qemu-max", AARCH64, "aarch64", MADE_UP),
        ("qemu-max", None, "aarch64", MADE_UP),
        ("qemu-tcg-x86", X86, "x86_64", "processor QEMU TCG CPU version 2.5+"),
    ],
)
def test_emulators(cpuinfo: str | None, program: int | None, name: str, found: str, tmp_path: Path) -> None:
    assert emulation(machine(tmp_path, cpuinfo, program), name) == found


@pytest.mark.parametrize(
    ("cpuinfo", "program", "name"),
    [
        ("raspberry-pi-5", AARCH64, "aarch64"),
        ("raspberry-pi-5", ARM, "aarch64"),  # a 32-bit system below a 64-bit kernel
        ("raspberry-pi-5", ARM, "armv8l"),
        ("arm-server-kvm", AARCH64, "aarch64"),
        ("arm-server-kvm", AARCH64, "arm64"),
        ("apple-vm", AARCH64, "aarch64"),
        ("x86", X86, "x86_64"),
        ("x86", 3, "x86_64"),  # a 32-bit program
        ("x86", X86, "i686"),
        ("qemu-kvm-x86", X86, "x86_64"),
        (None, X86, "a machine of tomorrow"),
        (None, 999, "aarch64"),
        (None, None, "aarch64"),
        (None, RISCV, "riscv64"),
    ],
)
def test_hardware_and_virtual_machines(cpuinfo: str | None, program: int | None, name: str, tmp_path: Path) -> None:
    assert emulation(machine(tmp_path, cpuinfo, program), name) is None


def test_a_program_in_another_order_of_bytes(tmp_path: Path) -> None:
    assert emulation(machine(tmp_path, None, 21, order=">"), "ppc64") is None
    assert emulation(tmp_path, "aarch64") == "aarch64 programs run by a program of POWER"


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"#!/bin/sh\n" + bytes(40)])
def test_what_is_no_program_says_nothing(content: bytes, tmp_path: Path) -> None:
    boards.write(tmp_path / "proc/thread-self/exe", "")
    (tmp_path / "proc/thread-self/exe").write_bytes(content)
    assert emulation(tmp_path, "aarch64") is None
