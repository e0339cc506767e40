"""How long the measurements on one device may wait for it to be quiet, all of them together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgekd.progress import say

_A_LOOK_S = 1.0  # so little is no waiting


class Patience:
    """Is used up by the agent's waiting; a device that is never quiet is measured then as it is.

    Args:
        where: whose, for the message at the end.
        seconds: altogether; 0: do not wait.
    """

    def __init__(self, where: str, seconds: float) -> None:
        self._where = where
        self._whole_s = self.left_s = seconds

    def arguments(self) -> list[str]:
        """Of the agent, for the next process."""
        return ["--quiet-seconds", f"{self.left_s:g}"] if self.left_s > 0 else []

    def use(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Count what a process has waited; says so once all is used up."""
        for event in events:
            if event.get("event") != "quiet" or (event["quiet"] and event["waited_s"] < _A_LOOK_S):
                continue
            self.left_s = 0.0 if event["quiet"] is None else max(self.left_s - event["waited_s"], 0.0)
            if event["quiet"] is False:
                share = f"{event['others_share']:.0%}"
                say(f"{self._where}: not quiet after {self._whole_s:g} s ({share} of its cores are in use): measuring")
