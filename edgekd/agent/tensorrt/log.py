# SPDX-License-Identifier: Apache-2.0
"""What TensorRT says while it works: its errors, and which layers run where."""

from __future__ import annotations

import re
import sys
from typing import Any, Iterable, List

from ..protocol import AgentError

_LAYER = re.compile(r"\[(Dla|Gpu)Layer\]\s*(.+)")
_PREFIX = re.compile(r"^\[[^\]]*\]\s*\[[EWIVF]\]\s*(\[TRT\]\s*)?")
_MOST = 3


class Record:
    """Lines of a log that matter.

    Attributes:
        errors: messages of errors, in order.
        dla_layers, gpu_layers: what the builder put where.
    """

    def __init__(self) -> None:
        self.errors: List[str] = []
        self.dla_layers: List[str] = []
        self.gpu_layers: List[str] = []

    def add(self, message: str, error: bool) -> None:
        """Take in one message."""
        if error:
            self.errors.append(" ".join(message.split()))
        found = _LAYER.search(message)
        if found:
            layers = self.dla_layers if found.group(1) == "Dla" else self.gpu_layers
            layers.append(found.group(2).strip())

    def add_lines(self, lines: Iterable[str]) -> None:
        """Take in what trtexec printed."""
        for line in lines:
            self.add(_PREFIX.sub("", line), "[E]" in line)

    def shown(self) -> str:
        """The errors as one line: the first ones, since what follows is consequence."""
        more = f" (and {len(self.errors) - _MOST} more)" if len(self.errors) > _MOST else ""
        return "; ".join(self.errors[:_MOST]) + more if self.errors else "it gave no reason"


def start(trt: Any, kind: str, logger: Any, record: Record) -> Any:
    """A `Builder` or a `Runtime`.

    Raises:
        AgentError: TensorRT gives none, as with a driver that is too old for it.
    """
    try:
        return getattr(trt, kind)(logger)
    except TypeError as error:  # what the bindings make of "none"
        raise AgentError(
            "runtime",
            f"TensorRT {trt.__version__} does not start on this device: {record.shown()}; the driver has to be of its"
            " CUDA version or newer",
        ) from error


def make_logger(trt: Any, record: Record) -> Any:
    """A logger for TensorRT that fills a record and passes warnings and errors on to standard error.

    Args:
        trt: the module `tensorrt`.
        record: to fill; it and the logger must live as long as what TensorRT makes with it.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            kind = getattr(severity, "name", str(severity))
            error = kind in ("ERROR", "INTERNAL_ERROR")
            record.add(message, error)
            if error or kind == "WARNING":
                print(f"tensorrt: {kind.lower()}: {message}", file=sys.stderr)

    return Logger()
