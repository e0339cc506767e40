"""Devices on which timing programs are driven."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.devices import loopback
from tests.devices.loopback import Sshd
from tests.devices.phone import Phone


@pytest.fixture
def phone(tmp_path: Path) -> Phone:
    return Phone(tmp_path / "phone")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with loopback.running(tmp_path / "sshd") as server:
        yield server
