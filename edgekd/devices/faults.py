"""What goes wrong with devices, by kind. A program can tell an unplugged cable from a full disk; so can a test."""

from __future__ import annotations

from typing import Literal

from edgekd.errors import EnvironmentFault

Kind = Literal[
    "unreachable",  # no connection came about
    "host_key",  # the device's key is unknown, or not the one it had
    "auth",  # the device refuses this user
    "lost",  # there was a connection, and it broke
    "tool_missing",  # a program is missing, here or there
    "python",  # none, or too old for the agent
    "busy",  # somebody else measures there
    "disk_full",  # the device's disk
    "denied",  # a folder of the device may not be written
    "crashed",  # a program ended before its output was whole
    "incomplete",  # what came is damaged
    "silent",  # nothing came for too long
    "agent",  # the agent names the fault itself
]


class DeviceFault(EnvironmentFault):
    """A device failed (exit code 4).

    Args:
        kind: what programs go by.
        problem: one line for people: which device, what happened, what to do.
    """

    def __init__(self, kind: Kind, problem: str) -> None:
        super().__init__(problem)
        self.kind = kind
