# SPDX-License-Identifier: Apache-2.0
"""One run at a time measures on a device: a lock that goes with the process that holds it, however that ends."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import IO, Iterator, Optional

_POLL_SECONDS = 0.1


@contextlib.contextmanager
def held(path: Path, label: str, wait_s: float) -> Iterator[Optional[str]]:
    """Hold the device; yields None, or who holds it.

    Args:
        path: of the lock file; its folder has to exist.
        label: who asks, for those who come later.
        wait_s: the run before this one may be about to end.

    Raises:
        OSError: the file cannot be written.
    """
    import fcntl

    with path.open("a+") as stream:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    yield _holder(stream)
                    return
                time.sleep(_POLL_SECONDS)
        stream.truncate(0)
        stream.write(f"{label}, since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        stream.flush()
        yield None


def _holder(stream: IO[str]) -> str:
    stream.seek(0)
    return " ".join(stream.read(500).split()) or "another run"
