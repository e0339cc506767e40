"""Several streams at once: what they find, how fast they are, and what each runtime shares among them."""

from __future__ import annotations

import io
import threading
import time

import numpy as np
import pytest

from edgekd.agent import runtimes
from edgekd.agent.__main__ import parser
from edgekd.agent.pipeline import Pipeline
from edgekd.agent.predict import detect_batch
from edgekd.agent.protocol import AgentError, Reader, Writer
from edgekd.agent.runtimes import Model, Runtime
from edgekd.agent.throughput import Completion, Streams, throughput
from edgekd.measure.latency import Protocol
from edgekd.measure.throughput import summarise_throughput, window_of
from edgekd.testing.artifacts import expected_scores, make_images, write_artifact, write_pack
from tests.agent.tiny_mobile import write_litert, write_ncnn

SLEEP_S = 0.02
ANY = Protocol("any", 1, warmup_seconds=0, min_count=1, min_seconds=0, needs_steady=False)
WRITERS = {"onnxruntime": write_artifact, "openvino": write_artifact, "ncnn": write_ncnn, "litert": write_litert}
NEEDS = {"ncnn": "ncnn", "litert": "ai_edge_litert"}


class Sleeping(Runtime):
    """Sleeps for a while, wherever it is asked from, and finds nothing."""

    name, version, providers, options = "sleeping", "1", ["CPU"], {}
    default_providers, output_names, input_dtype = ("CPU",), ["boxes", "scores"], "float32"

    most_at_once = 0

    def __init__(self, model):
        self.streams = model.streams
        self._at_work, self._lock = 0, threading.Lock()

    def _count(self, change):
        with self._lock:
            self._at_work += change
            Sleeping.most_at_once = max(Sleeping.most_at_once, self._at_work)

    def run(self, batch):
        self._count(1)
        time.sleep(SLEEP_S)
        self._count(-1)
        return [np.zeros((len(batch), 4, 4), np.float32), np.zeros((len(batch), 4, 2), np.float32)]


class Forking(Sleeping):
    def fork(self):
        return self


def arguments(artifact, pack, *more):
    return parser().parse_args([
        "throughput", "--artifact", str(artifact), "--pack", str(pack), "--frame", "24x32", "--telemetry-seconds", "0",
        "--warmup-seconds", "0.1", "--warmup-cap-seconds", "0.2", *map(str, more),
    ])  # fmt: skip


def measured(artifact, pack, *more):
    """Events of the command, which are whole."""
    stream = io.BytesIO()
    writer = Writer(stream)
    throughput(arguments(artifact, pack, *more), writer)
    writer.end()
    reader = Reader()
    events = [reader.feed(line) for line in stream.getvalue().splitlines(keepends=True)]
    assert reader.complete
    return events


def of_kind(events, kind):
    return [event for event in events if event["event"] == kind]


@pytest.fixture
def sleeping(monkeypatch):
    def use(kind):
        monkeypatch.setattr(runtimes, "runtime_class", lambda _: kind)

    return use


def images_per_second(events):
    window = window_of(events, "here")
    return events[0]["input"]["shape"][0] * len(window.ended_ns) / window.seconds


def test_four_sleepers_sleep_at_once(tmp_path, sleeping, monkeypatch):
    sleeping(Forking)
    artifact, pack = write_artifact(tmp_path / "tiny"), write_pack(tmp_path)
    limits = ("--min-seconds", 0.6, "--min-count", 8)
    found = {}
    for streams in (1, 4):
        monkeypatch.setattr(Sleeping, "most_at_once", 0)
        found[streams] = measured(artifact, pack, "--streams", streams, *limits)
        assert Sleeping.most_at_once == streams  # however slow the machine is
    one, four = found[1], found[4]
    assert images_per_second(one) <= 1 / SLEEP_S * 1.06
    assert images_per_second(four) <= 4 / SLEEP_S * 1.06
    assert np.median(window_of(four, "here").duration_ms) >= 1e3 * SLEEP_S
    assert sorted(set(window_of(four, "here").stream)) == [0, 1, 2, 3]
    assert four[0]["streams"] == 4


def test_a_batch_counts_for_all_of_its_images(tmp_path, sleeping):
    sleeping(Forking)
    artifact, pack = write_artifact(tmp_path / "tiny"), write_pack(tmp_path)
    events = measured(artifact, pack, "--streams", 2, "--batch", 8, "--min-seconds", 0.4, "--min-count", 8)
    assert events[0]["input"]["shape"] == [8, 3, 8, 8]
    window = window_of(events, "here")
    summary = summarise_throughput([events], protocol=ANY, target="tiny", device="here")
    assert summary["images_per_second"] == 8 * len(window.ended_ns) / window.seconds <= 16 / SLEEP_S * 1.1


def test_what_is_written_and_in_which_order(tmp_path, sleeping):
    sleeping(Forking)
    artifact, pack = write_artifact(tmp_path / "tiny"), write_pack(tmp_path)
    events = measured(artifact, pack, "--streams", 2, "--min-seconds", 1.2, "--min-count", 110)
    kinds = [event["event"] for event in events if event["event"] != "heartbeat"]
    assert kinds[:3] == ["environment", "load", "warmup"]
    assert kinds[-5:] == ["completions", "window", "memory", "telemetry", "end"]
    chunks_of_the_window = (len(kinds) - 8) // 2  # about one a second
    assert chunks_of_the_window >= 2
    assert kinds[3:-5] == ["completions", "contention"] * chunks_of_the_window
    assert events[0]["preprocess"]["frame_px"] == [24, 32]
    chunks, (window,) = of_kind(events, "completions"), of_kind(events, "window")
    started, ended = ([time for chunk in chunks for time in chunk[f"{name}_ns"]] for name in ("started", "ended"))
    assert min(ended) > 0  # of the window on; what began before may have ended in it
    assert min(started) < min(ended)
    assert window["window_ns"] >= 1.2e9
    assert max(chunks[-1]["ended_ns"], default=window["window_ns"] + 1) > window["window_ns"]
    assert all(end - start >= SLEEP_S * 1e9 for start, end in zip(started, ended, strict=True))


def test_a_runtime_that_cannot_says_so_in_one_line(tmp_path, sleeping):
    sleeping(Sleeping)
    artifact, pack = write_artifact(tmp_path / "tiny"), write_pack(tmp_path)
    with pytest.raises(AgentError) as caught:
        measured(artifact, pack, "--streams", 2, "--min-seconds", 0.1)
    assert caught.value.message == "sleeping: runs one stream at a time; measure it with --streams 1"
    assert images_per_second(measured(artifact, pack, "--streams", 1, "--min-seconds", 0.1, "--min-count", 2)) > 0


def test_a_fixed_batch_names_what_to_export(tmp_path):
    artifact, pack = write_artifact(tmp_path / "tiny", batch=2), write_pack(tmp_path)
    with pytest.raises(AgentError) as caught:
        measured(artifact, pack, "--batch", 4)
    assert caught.value.message == (
        "--batch 4: tiny has a fixed batch of 2; export it with 'batch: 4' or 'batch: dynamic', where its runtime takes"
        " that"
    )
    events = measured(artifact, pack, "--batch", 2, "--min-seconds", 0.05, "--min-count", 4)
    assert events[0]["input"]["shape"][0] == 2


class TestStreams:
    def test_the_failure_of_one_ends_them_all(self):
        def fails():
            raise ValueError("broken")

        with Streams([lambda: time.sleep(0.001), fails]) as streams, pytest.raises(ValueError, match="broken"):
            for _ in range(1000):
                streams.next()
        assert not any(thread.is_alive() for thread in streams._threads)

    def test_what_ended_before_a_moment_is_dropped(self):
        streams = Streams([])
        streams._completed.extend([Completion(0, 0, 5), Completion(1, 3, 10), Completion(0, 5, 11)])
        assert streams.next(after_ns=10) == Completion(0, 5, 11)
        assert Completion(0, 5, 11).since(10) == {"stream": 0, "started_ns": -5, "ended_ns": 1}
        assert streams.rest() == []

    def test_every_stream_ends_what_it_has_begun(self):
        begun, ended = [], []

        def step():
            begun.append(1)
            time.sleep(0.005)
            ended.append(1)

        with Streams([step, step]) as streams:
            streams.next()
        assert len(begun) == len(ended) >= 2


@pytest.mark.parametrize("runtime", WRITERS)
def test_streams_find_what_one_alone_finds(tmp_path, runtime):
    pytest.importorskip(NEEDS.get(runtime, "numpy"))
    more = {"runtime": runtime} if runtime in ("onnxruntime", "openvino") else {}
    artifact, pack = WRITERS[runtime](tmp_path / "tiny", **more), write_pack(tmp_path, 6)
    given = arguments(artifact, pack, "--streams", 3, "--threads", 2, "--conf", 0.4, "--iou", 0.9)
    first = Pipeline(given)
    lanes = [first, first.fork(), first.fork()]
    found = [[] for _ in lanes]
    together = threading.Barrier(len(lanes))

    def work(number):
        together.wait()
        for turn in range(60):
            image = (turn + number) % 6
            (decoded,) = detect_batch(lanes[number], image)
            found[number].append((image, decoded))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(lanes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = Pipeline(arguments(artifact, pack, "--streams", 1, "--threads", 1, "--conf", 0.4, "--iou", 0.9))
    reference = [detect_batch(alone, image)[0] for image in range(6)]
    for image, decoded in [one for stream in found for one in stream]:
        for ours, theirs in zip(decoded, reference[image], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    scores = expected_scores(make_images(6))
    for image, decoded in enumerate(reference):
        above = np.sort(scores[image][scores[image] > 0.4])[::-1]
        np.testing.assert_allclose(decoded.scores, above, atol=1e-5)
    assert [len(stream) for stream in found] == [60, 60, 60]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_real_runtimes_are_measured(tmp_path, runtime):
    artifact, pack = write_artifact(tmp_path / "tiny", runtime=runtime), write_pack(tmp_path)
    events = measured(artifact, pack, "--streams", 2, "--batch", 2, "--min-seconds", 0.2, "--min-count", 200)
    window = window_of(events, "here")
    assert len(window.ended_ns) >= 200
    assert set(window.stream) <= {0, 1}, "on a busy machine one of them may have done it all"
    # Two streams are never busy for more than two windows, but for what was under way when it opened.
    assert window.duration_ms.sum() <= 2 * 1e3 * window.seconds + 2 * window.duration_ms.max()


class TestThreads:
    """They are shared among the streams, never multiplied by them."""

    def options(self, tmp_path, runtime, threads, streams):
        more = {"runtime": runtime} if runtime in ("onnxruntime", "openvino") else {}
        folder = tmp_path / f"{threads}-{streams}"
        given = arguments(WRITERS[runtime](folder, **more), write_pack(tmp_path), "--streams", streams)
        given.threads = threads
        return Pipeline(given).runtime.options

    @pytest.mark.parametrize(("threads", "streams", "pool"), [(4, 1, 4), (4, 2, 3), (4, 4, 1), (2, 4, 1)])
    def test_onnxruntime_counts_the_threads_that_call(self, tmp_path, threads, streams, pool):
        assert self.options(tmp_path, "onnxruntime", threads, streams)["intra_op_num_threads"] == pool

    @pytest.mark.parametrize(("threads", "streams", "taken"), [(2, 1, 2), (2, 2, 2), (1, 2, 2)])
    def test_openvino_divides_them_by_itself(self, tmp_path, threads, streams, taken):
        options = self.options(tmp_path, "openvino", threads, streams)
        assert options["NUM_STREAMS"] == str(streams)
        assert options["INFERENCE_NUM_THREADS"] == str(taken)

    @pytest.mark.parametrize("runtime", ["ncnn", "litert"])
    @pytest.mark.parametrize(("threads", "streams", "each"), [(4, 1, 4), (4, 2, 2), (2, 3, 1)])
    def test_others_get_equal_shares(self, tmp_path, runtime, threads, streams, each):
        pytest.importorskip(NEEDS[runtime])
        assert self.options(tmp_path, runtime, threads, streams)["num_threads"] == each

    def test_a_share_is_at_least_one(self, tmp_path):
        assert [Model(tmp_path, 4, "fp32", (), streams=streams).threads_per_stream for streams in (1, 3, 8)] == [
            4,
            1,
            1,
        ]


def test_a_session_is_shared_where_its_providers_allow_it(tmp_path):
    runtime = Pipeline(arguments(write_artifact(tmp_path / "tiny"), write_pack(tmp_path), "--streams", 2)).runtime
    assert runtime.fork()._session is runtime._session
    runtime._shared = False  # as with XNNPACK
    other = runtime.fork()
    assert other._session is not runtime._session
    image = np.zeros((1, 3, 8, 8), np.float32)
    for ours, theirs in zip(runtime.run(image), other.run(image), strict=True):
        np.testing.assert_array_equal(ours, theirs)
