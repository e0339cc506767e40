"""Why a program does not start, in the words of many shells; and what an ELF header says."""

from __future__ import annotations

import pytest

from edgekd.devices.not_started import other_machine, why

DENIED = "permission denied; chmod 755 it, and if it is executable, its file system is mounted noexec"
FORMAT = "exec format error: it is no program of this processor (aarch64); take one that was built for it"
ABSENT = "not found; install it or correct the path, and if the file is there, what is missing is the interpreter"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("setsid: failed to execute /x: Permission denied", DENIED),
        ("sh: 1: /x: Permission denied", DENIED),
        ("/system/bin/sh: ./x: can't execute: Permission denied", DENIED),
        ("sh: 1: /x: Exec format error", FORMAT),
        ("bash: line 1: /x: cannot execute binary file: Exec format error", FORMAT),
        ("/system/bin/sh: ./x: not executable: 64-bit ELF file", FORMAT),
        ("/x: 1: \x7fELF\x02\x01\x01: not found", FORMAT),
        ('/x: 1: Syntax error: "(" unexpected', FORMAT),
        ("sh: 1: /x: not found", ABSENT),
        ("env: '/x': No such file or directory", ABSENT),
        ("/system/bin/sh: x: inaccessible or not found", ABSENT),
        ("bash: line 1: /x: cannot execute: required file not found", ABSENT),
        ("hello\n/x: error while loading shared libraries: libz.so: cannot open shared object file: No such file", (
            "it lacks a library (/x: error while loading shared libraries: libz.so: cannot open shared object file: No "
            "such file); put that beside it"
        )),
        ('CANNOT LINK EXECUTABLE "./x": library "libc++_shared.so" not found', "it lacks a library (CANNOT LINK"),
        ("./x: /lib/libc.so.6: version `GLIBC_2.38' not found (required by ./x)", "it lacks a library ("),
        ("Illegal instruction", "Illegal instruction; see that it runs there by hand"),
        ("\n\n", "no reason given; see that it runs there by hand"),
    ],
)  # fmt: skip
def test_reasons(said: str, reason: str) -> None:
    assert why(said, "aarch64").startswith(reason)


def header(machine: int, order: str = "little") -> bytes:
    start = b"\x7fELF\x02" + (b"\x01" if order == "little" else b"\x02") + bytes(12)
    return start + machine.to_bytes(2, "little" if order == "little" else "big")


@pytest.mark.parametrize(
    ("content", "machine", "expected"),
    [
        (header(0x3E), "x86_64", None),
        (header(0x3E), "aarch64", "x86-64"),
        (header(0xB7), "aarch64", None),
        (header(0xB7), "armv7l", "64-bit ARM"),
        (header(0x28), "aarch64", None),  # most run both
        (header(0x03), "x86_64", None),
        (header(0xB7), "x86_64", "64-bit ARM"),
        (header(0x08, "big"), "x86_64", "a processor of ELF number 8"),
        (header(0xB7), "sparc64", None),  # not known
        (header(0xB7), None, None),
        (b"#!/bin/sh\necho a script\n", "x86_64", None),
        (b"\x7fELF", "x86_64", None),
    ],
)
def test_other_machines(content: bytes, machine: str | None, expected: str | None) -> None:
    assert other_machine(content, machine) == expected
