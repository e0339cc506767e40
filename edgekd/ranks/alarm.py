"""Ends the processes of a world together: when one fails, the others must neither wait for it nor speak."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from typing import Any

_PERIOD_S = 0.3
_PATIENCE_S = 5.0  # until every process that lives has heard the alarm
_GRACE_S = 0.5  # until they have also seen that all others have
_LOST = 4  # exit code of a process whose launcher or store went away


class Alarm(threading.Thread):
    """Listens for the failure of another process, in a thread, since the main one may sit in an exchange of gradients.

    Args:
        store: shared by all processes.
        rank, size: who this process is.
        keeps_store: whether the store ends with this process, which is then the last to go.
        speaks: whether it tells the user when the store is gone; one per machine does.
    """

    def __init__(self, store: Any, rank: int, size: int, *, keeps_store: bool, speaks: bool) -> None:
        super().__init__(daemon=True, name="edgekd-alarm")
        self._store, self._rank, self._size = store, rank, size
        self._keeps_store, self._speaks = keeps_store, speaks
        self._stopped = threading.Event()
        self._parent = os.getppid()
        atexit.register(self.stop)  # a thread inside the store while Python ends would abort the process

    def stop(self) -> None:
        """Listen no more: this process has come to its end."""
        self._stopped.set()
        if self.is_alive() and threading.current_thread() is not self:
            self.join(_PATIENCE_S)

    def is_first(self) -> bool:
        """Whether this process is the first one to fail. The others' errors are consequences, or the same over again.

        Where it is not, the first one's alarm ends it here.
        """
        try:
            if self._store.add("failures", 1) == 1:
                return True
            self.join(2 * _PATIENCE_S)
            return False
        except RuntimeError:  # the store is gone with the process that kept it
            return self._is_to_tell()

    def sound(self, exit_code: int) -> None:
        """End the others, and wait until they have heard it."""
        self.stop()
        try:
            self._store.set("exit_code", str(exit_code))
        except RuntimeError:
            return
        self._until_all_heard()

    def run(self) -> None:
        """Until stopped: listen, and end the process when the alarm sounds."""
        while not self._stopped.wait(_PERIOD_S):
            if os.getppid() != self._parent:  # the launcher was killed: nobody would end this process
                os._exit(_LOST)
            try:
                if not self._store.check(["exit_code"]):
                    continue
                exit_code = int(self._store.get("exit_code"))
                self._store.add("heard", 1)
            except RuntimeError:
                self._lost()
                return
            self._until_all_heard()  # before: a launcher whose processes end takes the store away
            if not self._stopped.is_set():
                os._exit(exit_code)

    def _until_all_heard(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        try:
            while self._store.add("heard", 0) < self._size - 1 and time.monotonic() < deadline:
                time.sleep(0.02)
        except RuntimeError:  # the store is gone, so the one who kept it has seen that all heard
            return
        if self._keeps_store:
            time.sleep(_GRACE_S)

    def _is_to_tell(self) -> bool:
        """Whether this process tells of the store's end: one on each machine, unless its launcher was killed."""
        time.sleep(_PERIOD_S)  # a process that dies closes its connections before it is gone
        return self._speaks and os.getppid() == self._parent

    def _lost(self) -> None:
        if self._stopped.is_set():
            return
        if self._is_to_tell() and not self._stopped.is_set():
            reason = "it was killed, or its machine failed"
            print(f"edgekd: error: process {self._rank} of {self._size}: the process that keeps the rendezvous ended "
                  f"without a word ({reason}); the same command goes on", file=sys.stderr, flush=True)  # fmt: skip
        os._exit(_LOST)
