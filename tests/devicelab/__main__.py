"""`python -m tests.devicelab build|serve [--cache DIR]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from edgekd.errors import EdgekdError
from tests.devicelab.build import build, built, cache_folder
from tests.devicelab.server import Lab


def main() -> int:
    """Exit code: 0, 4 where the device cannot be made here, 130 if interrupted."""
    parser = argparse.ArgumentParser(prog="devicelab", description=__doc__)
    parser.add_argument("command", choices=("build", "serve"), help="make the device; run it until interrupted")
    parser.add_argument("--cache", type=Path, default=cache_folder(), metavar="DIR", help="where it is kept")
    given = parser.parse_args()
    try:
        started, kept = time.monotonic(), built(given.cache) is not None
        device = build(given.cache.resolve())
        how = "kept" if kept else f"built in {time.monotonic() - started:.0f} s"
        wheels = ", ".join(device.about["wheels"])
        print(f"devicelab: {how}: {len(device.about['packages'])} packages, {wheels}, in {device.root.parent}")
        if given.command == "serve":
            _serve(given.cache.resolve())
    except EdgekdError as error:
        print(f"devicelab: error: {error}".replace("error: devicelab: ", "error: "), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _serve(cache: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="devicelab-") as folder, Lab(Path(folder) / "keys", cache) as lab:
        path = lab.write_yaml(Path(folder))
        print(f"devicelab: running; edgekd doctor --device {path}   (Ctrl-C ends it)", flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    sys.exit(main())
