"""What a busy machine does to a latency, and whether edgekd sees it: one artifact beside 0, 1, 2, 4 and 8 busy loops.

    python benchmarks/busy_machine.py runs/quickstart                     # needs a finished run; about 2 minutes
    python benchmarks/busy_machine.py runs/quickstart --target openvino-fp32 --threads 1

`waited` is what decides: the share of the time in which the process had no core, see docs/measuring.md. `others` of the
first row shows how quiet the machine was.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paired import environment, say

from edgekd.devices import catalog, run_agent
from edgekd.measure.latency import Protocol
from edgekd.measure.latency_events import summarise_events

LOOPS = (0, 1, 2, 4, 8)
SETTLE_SECONDS = 0.3
RULES = Protocol("busy", 3, warmup_seconds=1, min_count=64, min_seconds=1.3, needs_steady=False)


def main() -> None:
    """Print one JSON object."""
    options = _options()
    rows = []
    for count in options.loops:
        say(f"{count} loops")
        with busy_loops(count):
            rows.append({"loops": count, **measured(options)})
    print(json.dumps({
        "benchmark": "busy_machine", "target": options.target, "threads": options.threads, "limit": RULES.max_waited,
        "rows": rows, "environment": environment(),
    }, indent=2))  # fmt: skip


@contextlib.contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Processes that do nothing, as fast as they can."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(SETTLE_SECONDS)
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Figures of one profile, as they are, and what edgekd makes of them."""
    pack = next((options.run / "data" / "packs").glob("*.npy"))
    with catalog.open_device(catalog.load("local")) as device:
        events = run_agent.profile(
            device, options.run / "export" / options.target, pack, protocol=RULES, threads=options.threads
        )
    summary = summarise_events(events, protocol=RULES, target=options.target, device="local")
    whole, shares = summary["latency_ms"]["end_to_end"], summary["contention"]
    return {
        "p50_ms": whole["p50"], "p90_ms": whole["p90"], "spread": summary["spread"],
        **{key: [share[key] for share in shares] for key in ("waited", "others", "stolen", "pressure")},
        "valid": summary["valid"], "reasons": summary["invalid_reasons"],
    }  # fmt: skip


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run")
    parser.add_argument("--target", default="onnx-fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--loops", type=int, nargs="+", default=LOOPS, metavar="N")
    return parser.parse_args()


if __name__ == "__main__":
    main()
