# SPDX-License-Identifier: Apache-2.0
"""Command line of the agent. Events go to standard output as JSON lines, everything else to standard error."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Callable, Dict, List, Optional, Tuple

from . import __version__

_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(argv: Optional[List[str]] = None) -> int:
    """Run one command; 0 if its output is whole, 1 after an `error` event, 130 if interrupted."""
    arguments = _parser().parse_args(argv)
    # Libraries read these when they are imported, so numpy and the runtime come after.
    os.environ.update({name: str(arguments.threads) for name in _POOLS})
    from .predict import predict
    from .profile import profile
    from .protocol import AgentError, Writer, claim_stdout

    commands: Dict[str, Callable[[argparse.Namespace, Writer], None]] = {"predict": predict, "profile": profile}
    with claim_stdout() as stream:
        writer = Writer(stream)
        try:
            commands[arguments.command](arguments, writer)
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:
            _silence(stream.fileno())
            return 1
        except AgentError as error:
            writer.emit("error", kind=error.kind, message=" ".join(error.message.split()))
            return 1
        except Exception as error:
            import traceback

            traceback.print_exc()
            writer.emit("error", kind=type(error).__name__, message=" ".join(str(error).split()))
            return 1
        writer.end()
    return 0


def _silence(descriptor: int) -> None:
    """Nobody listens any more: let the last flush of the stream succeed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgekd-agent", description="Run one exported detector on this device and report as JSON lines."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    predict = commands.add_parser("predict", help="raw detections of every image of a pack")
    profile = commands.add_parser("profile", help="latency samples from camera frame to detections")
    for command, conf in ((predict, 0.001), (profile, 0.25)):
        _common(command, conf)
    profile.add_argument("--frame", type=_size, default=(480, 640), metavar="HxW", help="camera frame (480x640)")
    profile.add_argument("--warmup-seconds", type=_positive, default=2.0, metavar="S", help="at least (2)")
    profile.add_argument("--warmup-cap-seconds", type=_positive, default=30.0, metavar="S", help="at most (30)")
    profile.add_argument("--min-seconds", type=_positive, default=60.0, metavar="S", help="sample for at least (60)")
    profile.add_argument("--min-count", type=_count, default=1024, metavar="N", help="samples at least (1024)")
    return parser


def _common(parser: argparse.ArgumentParser, conf: float) -> None:
    parser.add_argument("--artifact", required=True, metavar="DIR", help="folder with the model and edgekd.json")
    parser.add_argument("--pack", required=True, metavar="FILE.npy", help="uint8 (N, H, W, C) letterboxed images")
    parser.add_argument("--conf", type=float, default=conf, help=f"score threshold ({conf})")
    parser.add_argument("--iou", type=float, default=0.7, help="IoU threshold of the NMS (0.7)")
    parser.add_argument("--max-det", type=_count, default=300, metavar="N", help="detections per image (300)")
    parser.add_argument("--threads", type=_count, default=1, metavar="N", help="inference threads (1)")
    parser.add_argument("--batch", type=_count, default=None, metavar="N", help="for artifacts with a dynamic batch")
    parser.add_argument("--provider", action="append", metavar="NAME", help="where the runtime must run it")


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 up")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _size(text: str) -> Tuple[int, int]:
    height, _, width = text.partition("x")
    return _count(height), _count(width)


if __name__ == "__main__":
    sys.exit(main())
