"""Trials that last moments: what a worker runs in the place of a training."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from edgekd.errors import InputError
from edgekd.search.pools.contract import Job, Lags, Work


def work(folder: Path, **given: Any) -> Work:
    return Work(__name__, "run", {"folder": str(folder), **given})


def run(given: Job, job: Job, lags: Lags) -> dict[str, Any]:
    """Each pass waits `seconds`; trials in `die` kill their process in the first try, in `fault` they raise.

    Of `falling` ones each is worse than those of lower numbers, else the candidate decides.
    """
    folder, number = Path(given["folder"]), int(job["number"])
    with (folder / f"started-{number}").open("a") as stream:
        stream.write(f"{os.getpid()}\n")
    with (folder / f"gpu-{number}").open("a") as stream:
        stream.write(os.environ.get("CUDA_VISIBLE_DEVICES", "all") + "\n")
    tries = len((folder / f"started-{number}").read_text().splitlines())
    if number in given.get("fault", ()):
        raise InputError(f"trial {number}: no")
    values: list[float] = []
    full = 1 / (1 + number) if given.get("falling") else score(job["candidate"])
    for done in (1, 2, 3):
        deadline = time.monotonic() + float(given.get("seconds", 0))
        while time.monotonic() < deadline:
            time.sleep(min(0.05, max(0.0, deadline - time.monotonic())))
        values.append(full * done / 3)
        if lags(done, values[-1]):
            return {"status": "pruned", "values": values, "why": "lags", "steps": 2 * done}
        if done == 1 and number in given.get("die", ()) and tries <= int(given.get("deaths", 1)):
            os.kill(os.getpid(), signal.SIGKILL)
    return {"status": "complete", "values": values, "why": "", "steps": 6}


def score(candidate: Any) -> float:
    own = candidate.get("global", {})
    return 0.1 + 0.1 * (own.get("attention") == "channel") + 0.05 * (own.get("weight") == 5.0)
