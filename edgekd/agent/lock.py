# SPDX-License-Identifier: Apache-2.0
"""One run at a time measures on a device: a lock that goes with the process that holds it, however that ends."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import IO, Callable, Iterator, Optional

# Seldom after a while: who waits shares the device with a measurement.
_POLL_SECONDS, _LATER_SECONDS, _SOON_SECONDS = 0.1, 1.0, 5.0


@contextlib.contextmanager
def held(
    path: Path, label: str, wait_s: float, meanwhile: Callable[[], None] = lambda: None
) -> Iterator[Optional[str]]:
    """Hold the device; yields None, or who holds it.

    Args:
        path: of the lock file; its folder has to exist.
        label: who asks, for those who come later.
        wait_s: the run before this one may be about to end.
        meanwhile: is called now and then while waiting.

    Raises:
        OSError: the file cannot be written.
    """
    import fcntl

    with path.open("a+") as stream:
        asked = time.monotonic()
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waited_s = time.monotonic() - asked
                if waited_s > wait_s:
                    yield _holder(stream)
                    return
                meanwhile()
                time.sleep(_POLL_SECONDS if waited_s < _SOON_SECONDS else _LATER_SECONDS)
        stream.truncate(0)
        stream.write(f"{label}, since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        stream.flush()
        yield None


def _holder(stream: IO[str]) -> str:
    stream.seek(0)
    return " ".join(stream.read(500).split()) or "another run"
