"""Artifacts for machines that this one is not: the report says that nobody compared them."""

from __future__ import annotations

from typing import Any

from edgekd.report.warn import _artifacts


def warnings(**parity: Any) -> list[str]:
    artifact = {
        "target": "coreml", "device": None, "parity": parity, "sources": {"parity": "export/coreml/parity.json"},
        "changed_files": [], "valid": None, "invalid_reasons": [],
    }  # fmt: skip
    return list(_artifacts({"artifacts": [artifact]}))


def test_the_reason_is_given() -> None:
    assert warnings(passed=None, reason="the agent has no runtime for coreml") == [
        "coreml was not compared with the torch student: the agent has no runtime for coreml."
    ]


def test_nothing_is_said_of_what_was_compared() -> None:
    assert warnings(passed=True, reason=None) == []
    assert warnings(passed=True) == []
