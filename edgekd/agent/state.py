# SPDX-License-Identifier: Apache-2.0
"""`state`: what the device says about itself now; no model, no runtime."""

from __future__ import annotations

from argparse import Namespace

from . import telemetry
from .protocol import Writer


def state(arguments: Namespace, writer: Writer) -> None:
    """Write one `telemetry` event, with what does not change beside it."""
    writer.emit("telemetry", telemetry=telemetry.snapshot(), platform=telemetry.facts())
