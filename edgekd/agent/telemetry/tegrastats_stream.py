# SPDX-License-Identifier: Apache-2.0
"""`tegrastats` as a running program, for Jetsons whose power monitors cannot be read in sysfs (in a container, say)."""

from __future__ import annotations

import shutil
import subprocess
import threading
from typing import IO, Iterator, List, Optional

from .sources import Reading
from .tegrastats import Tegrastats, parse

_END_TIMEOUT_S = 2


def find() -> Optional[str]:
    """Path of the program, or None."""
    return shutil.which("tegrastats") or shutil.which("tegrastats", path="/usr/bin:/home/nvidia")


class TegrastatsStream:
    """Keeps the newest line; each is handed out once, so that a program that died is not taken for a steady board.

    Args:
        command: program and arguments.
    """

    def __init__(self, command: List[str]) -> None:
        self._newest: Optional[Tegrastats] = None
        self._process: Optional[subprocess.Popen[bytes]] = None
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError:
            return
        assert self._process.stdout is not None
        self._thread = threading.Thread(target=self._follow, args=(self._process.stdout,), daemon=True)
        self._thread.start()

    def read(self) -> Iterator[Reading]:
        """The newest moment: rails, temperatures, clocks of the GPU; nothing if there is none since the last call."""
        moment, self._newest = self._newest, None
        if moment is None:
            return
        for rail, power in moment.power_mw.items():
            yield "power_mw", rail, power
        for sensor, degrees in moment.temperatures_c.items():
            yield "temperatures_c", f"tegrastats {sensor}", degrees
        for number, clock in enumerate(moment.gpu_clocks_mhz):
            yield "gpu_clocks_mhz", f"cluster{number}", clock

    def close(self) -> None:
        """End the program."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _follow(self, stream: IO[bytes]) -> None:
        for line in stream:
            moment = parse(line.decode("utf-8", errors="replace"))
            if moment is not None:
                self._newest = moment
