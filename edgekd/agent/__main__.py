# SPDX-License-Identifier: Apache-2.0
"""Command line of the agent. Events go to standard output as JSON lines, everything else to standard error."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from typing import Dict, List, NoReturn, Optional, Tuple

from . import __version__

_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(argv: Optional[List[str]] = None) -> int:
    """Run one command; 0 if its output is whole, 1 after an `error` event, 130 if interrupted."""
    from .protocol import UsageError, Writer

    try:
        arguments = parser().parse_args(argv)
    except UsageError as error:  # for people on standard error, for a host on standard output
        print(f"{error.usage}{error.message}", file=sys.stderr)
        Writer(sys.stdout.buffer).emit("error", kind=error.kind, message=error.message)
        return 2
    if arguments.command == "supervise":
        from .supervise import supervise

        return supervise(arguments)
    return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    # Libraries read these when they are imported, so numpy and the runtime come after.
    os.environ.update({name: str(arguments.threads) for name in _POOLS})
    from .protocol import AgentError, Writer, claim_stdout

    with claim_stdout() as stream:
        writer = Writer(stream)
        try:
            command = importlib.import_module("." + arguments.command, __package__)
            getattr(command, arguments.command)(arguments, writer)
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


class _Parser(argparse.ArgumentParser):
    """Raises what it cannot read instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        from .protocol import UsageError

        raise UsageError(f"{self.prog}: error: {message}", self.format_usage())


def _silence(descriptor: int) -> None:
    """Nobody listens any more: let the last flush of the stream succeed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def parser() -> argparse.ArgumentParser:
    """The command line.

    Raises:
        UsageError: from `parse_args`.
    """
    whole = _Parser(
        prog="edgekd-agent", description="Run one exported detector on this device and report as JSON lines."
    )
    whole.add_argument("--version", action="version", version=__version__)
    commands = whole.add_subparsers(dest="command", required=True)
    predict = commands.add_parser("predict", help="raw detections of every image of a pack")
    profile = commands.add_parser("profile", help="latency samples from camera frame to detections")
    throughput = commands.add_parser("throughput", help="completions of several streams that work at once")
    compare = commands.add_parser("compare", help="latency of two artifacts, block by block in random order")
    for command, conf in ((predict, 0.001), (profile, 0.25), (throughput, 0.25), (compare, 0.25)):
        _common(command, conf)
    for command, warmup_s in ((profile, 2.0), (throughput, 2.0), (compare, 0.3)):
        _timed(command, warmup_s)
    compare.add_argument("--candidate", required=True, metavar="DIR", help="the other artifact")
    compare.add_argument("--candidate-pack", metavar="FILE.npy", help="its images, where its size is another")
    compare.add_argument("--rounds", type=_count, default=10, metavar="N", help="with a block of each, at least (10)")
    compare.add_argument("--min-seconds", type=_positive, default=4.0, metavar="S", help="go on for at least (4)")
    compare.add_argument("--block-seconds", type=_positive, default=0.02, metavar="S", help="length of a block (0.02)")
    compare.add_argument("--seed", type=int, default=0, metavar="N", help="of the order (0)")
    throughput.add_argument("--streams", type=_count, default=2, metavar="N", help="that work at once (2)")
    for command in (profile, throughput):
        command.add_argument(
            "--min-seconds", type=_positive, default=60.0, metavar="S", help="sample for at least (60)"
        )
        command.add_argument("--min-count", type=_count, default=1024, metavar="N", help="samples at least (1024)")
    commands.add_parser("state", help="state of the device now: clocks, temperatures, power").set_defaults(threads=1)
    doctor = commands.add_parser("doctor", help="what is installed for this Python")
    doctor.add_argument("--runtime", metavar="NAME", help="look at this runtime alone")
    doctor.set_defaults(threads=1)
    _supervised(commands.add_parser("supervise", help="run a command for a host that may vanish"))
    return whole


def _supervised(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--line", required=True, metavar="JSON", help="arguments of the command, as a list")
    parser.add_argument("--lock", required=True, metavar="FILE", help="held while it runs")
    parser.add_argument("--label", default="another run", metavar="TEXT", help="who holds it")
    parser.add_argument("--wait-seconds", type=_positive, default=3.0, metavar="S", help="for it to be free (3)")
    parser.add_argument("--silence-seconds", type=_positive, default=10.0, metavar="S", help="of the host (10)")
    parser.add_argument("--beat-seconds", type=_positive, default=2.0, metavar="S", help="between signs of life (2)")


def _timed(parser: argparse.ArgumentParser, warmup_s: float) -> None:
    parser.add_argument("--frame", type=_size, default=(480, 640), metavar="HxW", help="camera frame (480x640)")
    parser.add_argument(
        "--warmup-seconds", type=_positive, default=warmup_s, metavar="S", help=f"at least ({warmup_s})"
    )
    parser.add_argument("--warmup-cap-seconds", type=_positive, default=30.0, metavar="S", help="at most (30)")
    parser.add_argument("--telemetry-seconds", type=_seconds, default=0.5, metavar="S", help="interval (0.5); 0: off")
    parser.add_argument(
        "--quiet-seconds", type=_seconds, default=0.0, metavar="S", help="wait so long for others to end (0)"
    )


def _common(parser: argparse.ArgumentParser, conf: float) -> None:
    parser.add_argument("--artifact", required=True, metavar="DIR", help="folder with the model and edgekd.json")
    parser.add_argument("--pack", required=True, metavar="FILE.npy", help="uint8 (N, H, W, C) letterboxed images")
    parser.add_argument("--conf", type=float, default=conf, help=f"score threshold ({conf})")
    parser.add_argument("--iou", type=float, help="IoU threshold of the NMS (0.7, or the one inside the graph)")
    parser.add_argument("--max-det", type=_count, metavar="N", help="detections per image (300, or the graph's)")
    parser.add_argument("--threads", type=_count, default=1, metavar="N", help="inference threads (1)")
    parser.add_argument("--batch", type=_count, default=None, metavar="N", help="for artifacts with a dynamic batch")
    parser.add_argument("--provider", action="append", metavar="NAME", help="where the runtime must run it")
    parser.add_argument(
        "--provider-options", type=_options, default={}, metavar="JSON", help='e.g. {"QNNExecutionProvider": {...}}'
    )


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 up")
    return value


def _options(text: str) -> Dict[str, Dict[str, str]]:
    try:
        return {name: {key: str(value) for key, value in given.items()} for name, given in json.loads(text).items()}
    except (ValueError, AttributeError):
        raise argparse.ArgumentTypeError(f"{text} is not an object of objects in JSON") from None


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not 0 or above")
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
