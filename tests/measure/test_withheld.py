"""No figure of a measurement that must not be used is left anywhere."""

from __future__ import annotations

import pytest

from edgekd.measure.latency import PROTOCOLS
from edgekd.measure.latency_events import summarise_events
from edgekd.measure.throttling import Conditions
from edgekd.measure.withheld import unless_emulated, without_figures
from tests.measure.test_latency_events import ANY, chunk, events

FOUND = "aarch64 programs run by a program of x86"


def summary(stated: str | None = None, told: str | None = None) -> dict:
    process = events(chunk(41.25, 43.5), load_ms=77.5, first_ms=66.5, peak=12_345_678)
    process[0]["platform"] = {"machine": "aarch64", "emulated": told}
    conditions = Conditions(emulated=stated)
    return summarise_events([process], protocol=ANY, target="t", device="d", conditions=conditions)


def numbers(value: object) -> list[float]:
    if isinstance(value, dict):
        return [number for inner in value.values() for number in numbers(inner)]
    if isinstance(value, list):
        return [number for inner in value for number in numbers(inner)]
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


@pytest.mark.parametrize(
    ("stated", "told", "reason"),
    [
        ("its device file says so", None, "emulated: its device file says so"),
        (None, FOUND, f"emulated: {FOUND}"),
        ("its device file says so", FOUND, "emulated: its device file says so"),
    ],
)
def test_an_emulated_device_gives_no_figure(stated: str | None, told: str | None, reason: str) -> None:
    content = summary(stated, told)
    assert (content["valid"], content["invalid_reasons"]) == (False, [reason])
    assert content["environment"]["platform"] == {"machine": "aarch64", "emulated": told}
    assert (content["target"], content["device"], content["protocol"]) == ("t", "d", "quick")
    assert content["latency_ms"]["end_to_end"] == dict.fromkeys(summary()["latency_ms"]["end_to_end"])
    assert numbers({key: value for key, value in content.items() if key not in ("environment", "processes")}) == []


def test_hardware_keeps_its_figures() -> None:
    content = summary()
    assert content["valid"] is True
    assert content["latency_ms"]["end_to_end"]["max"] == 43.5
    assert unless_emulated(content, None) is content


def test_whatever_is_added_is_withheld() -> None:
    given = {
        "target": "t", "valid": False, "invalid_reasons": ["hot"], "new_ms": 3.0, "notes": ["median 3 ms"],
        "rate": {"images_per_s": 7, "of": [1, 2]},
    }  # fmt: skip
    assert without_figures(given) == {
        "target": "t", "valid": False, "invalid_reasons": ["hot"], "new_ms": None, "notes": [],
        "rate": {"images_per_s": None, "of": []},
    }  # fmt: skip


def test_once_through_is_the_shortest() -> None:
    short = PROTOCOLS["full"].at_its_shortest()
    assert (short.name, short.min_processes, short.min_count) == ("full", 1, 1)
