from edgekd.agent.clock import sample, warm_up


class FakeTime:
    """A clock that only a step moves on."""

    def __init__(self, durations_ms):
        self.now_ns = 0
        self.durations_ms = durations_ms
        self.steps = 0

    def __call__(self):
        return self.now_ns

    def step(self):
        duration_ns = int(self.durations_ms(self.steps, self.now_ns / 1e9) * 1e6)
        self.now_ns += duration_ns
        self.steps += 1
        return duration_ns


def _warm_up(time, min_seconds, cap_seconds):
    beats = []
    return warm_up(time.step, min_seconds, cap_seconds, lambda: beats.append(time.now_ns), time), beats


def test_a_steady_loop_ends_with_the_minimum():
    time = FakeTime(lambda step, second: 10)
    result, beats = _warm_up(time, 2.0, 30.0)
    assert result["steady"]
    assert result["seconds"] == 2.0
    assert result["count"] == time.steps == 200
    assert result["window_medians_ns"] == [10_000_000] * 4
    assert len(beats) == 2


def test_warm_up_goes_on_until_two_windows_agree():
    # Ten percent faster every half second until second 4, then steady.
    time = FakeTime(lambda step, second: 10 * 0.9 ** min(int(second / 0.5), 8))
    result, _ = _warm_up(time, 2.0, 30.0)
    assert result["steady"]
    assert 4.5 <= result["seconds"] < 6
    last, second_last = result["window_medians_ns"][-2:]
    assert abs(last - second_last) <= 0.02 * min(last, second_last)


def test_a_loop_that_never_settles_ends_at_the_cap_and_says_so():
    time = FakeTime(lambda step, second: 10 if int(second / 0.5) % 2 else 20)
    result, _ = _warm_up(time, 2.0, 5.0)
    assert not result["steady"]
    assert 5.0 <= result["seconds"] < 6.0


def test_a_slow_model_still_gets_two_windows_of_five():
    time = FakeTime(lambda step, second: 3000)
    result, _ = _warm_up(time, 0.5, 2.0)
    assert (result["count"], result["steady"]) == (10, True)


def test_sampling_reaches_the_count_and_the_duration_and_drops_nothing():
    for duration_ms, min_seconds, min_count, expected in ((10, 2.5, 128, 250), (100, 2.5, 128, 128)):
        time = FakeTime(lambda step, second, duration_ms=duration_ms: duration_ms + step % 2)
        chunks = []

        def step(time=time):
            return {"a_ns": time.step(), "b_ns": time.steps}

        count = sample(step, min_seconds, min_count, chunks.append, time)
        order = [value for chunk in chunks for value in chunk["b_ns"]]
        assert order == list(range(1, count + 1))
        assert min_count <= count <= expected
        assert time.now_ns >= min_seconds * 1e9
        assert len(chunks) >= time.now_ns // 1_100_000_000
