"""`compare`: which blocks run, in which order, and what they hold."""

from __future__ import annotations

import io
import itertools
import json

import pytest

from edgekd.agent.__main__ import parser
from edgekd.agent.compare import VARIANTS, _Lane, compare
from edgekd.agent.protocol import AgentError, Writer
from edgekd.testing.artifacts import write_artifact, write_pack

ROUNDS = 5


@pytest.fixture
def given(tmp_path):
    reference = write_artifact(tmp_path / "first")
    candidate = write_artifact(tmp_path / "second", runtime="openvino")
    pack = write_pack(tmp_path, 3)
    return {"--artifact": reference, "--candidate": candidate, "--pack": pack}


def run(given, **changes):
    settings = {
        "--rounds": ROUNDS,
        "--min-seconds": 0.01,
        "--block-seconds": 0.002,
        "--warmup-seconds": 0.01,
        "--warmup-cap-seconds": 0.02,
    }
    words = [str(word) for pair in {**given, **settings, **changes}.items() for word in pair]
    stream = io.BytesIO()
    compare(parser().parse_args(["compare", *words]), Writer(stream))
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_round_has_a_block_of_each(given):
    events = run(given)
    blocks = [event for event in events if event["event"] == "block"]
    assert [block["round"] for block in blocks] == [number for number in range(ROUNDS) for _ in VARIANTS]
    for number in range(ROUNDS):
        assert {block["variant"] for block in blocks if block["round"] == number} == set(VARIANTS)
    assert all(len(block["end_to_end_ns"]) >= 5 and min(block["end_to_end_ns"]) > 0 for block in blocks)


def test_it_goes_on_for_as_long_as_is_asked(given, monkeypatch):
    monkeypatch.setattr(
        "edgekd.agent.compare.now_ns", itertools.count(0, 10_000_000).__next__
    )  # 10 ms from look to look
    events = run(given, **{"--rounds": 1, "--min-seconds": 5})
    rounds = [event["round"] for event in events if event["event"] == "block"]
    assert rounds == [number for number in range(rounds[-1] + 1) for _ in VARIANTS]
    assert rounds[-1] > 1


class Passes:
    """A loop whose passes take what is written down."""

    def __init__(self, *times_ms):
        self.left = list(times_ms)

    def step(self):
        return {"end_to_end_ns": int(1e6 * self.left.pop(0))}


def test_a_block_begins_when_three_passes_take_what_is_usual():
    lane = _Lane(Passes(9, 9, 9, 2, 9, 2, 2.1, 2.5, *[2.0] * 3, 2.4, 2.4, "the next"))
    lane.usual_ns = 2e6
    assert lane.block(0) == [2_000_000] * 3 + [2_400_000] * 2
    assert (lane.usual_ns, lane._loop.left) == (2e6, ["the next"])


def test_a_machine_that_has_become_slower_is_not_waited_for_forever(monkeypatch):
    monkeypatch.setattr("edgekd.agent.compare.now_ns", iter(range(0, 10**9, 30_000_000)).__next__)
    lane = _Lane(Passes(*[4] * 20))
    lane.usual_ns = 2e6
    assert lane.block(0) == [4_000_000] * 5
    assert lane.usual_ns == 4e6


def test_the_order_is_drawn_from_the_seed(given):
    orders = [
        [event["variant"] for event in run(given, **{"--seed": seed}) if event["event"] == "block"]
        for seed in (1, 1, 2)
    ]  # fmt: skip
    assert orders[0] == orders[1] != orders[2]
    assert len({tuple(orders[0][start : start + 3]) for start in range(0, 3 * ROUNDS, 3)}) > 1


def test_they_are_opened_in_an_order_that_is_drawn_too(given):
    orders = {
        tuple(event["variant"] for event in run(given, **{"--seed": seed}) if event["event"] == "environment")
        for seed in range(6)
    }  # fmt: skip
    assert len(orders) > 2
    assert all(sorted(order) == sorted(VARIANTS) for order in orders)


def test_each_says_what_it_is(given):
    environments = {event["variant"]: event for event in run(given) if event["event"] == "environment"}
    names = {variant: event["runtime"]["name"] for variant, event in environments.items()}
    assert names == {"reference": "onnxruntime", "copy": "onnxruntime", "candidate": "openvino"}


def test_a_candidate_that_is_none(given, tmp_path):
    with pytest.raises(AgentError, match="cannot read the sidecar"):
        run({**given, "--candidate": tmp_path / "nothing"})
