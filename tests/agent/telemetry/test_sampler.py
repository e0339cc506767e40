import itertools
import threading
import time

from edgekd.agent.telemetry import Sampler
from edgekd.agent.telemetry.tegrastats_stream import TegrastatsStream
from tests.agent.telemetry import boards
from tests.agent.telemetry.golden import FOLDER


def _wait_for(condition):
    """A guard against waiting for ever, however busy the machine is."""
    deadline = time.monotonic() + 100
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


def _sampled(root, every_s=0.02, until=lambda samples: len(samples) >= 3, **more):
    with Sampler(every_s, root, **more) as sampler:
        _wait_for(lambda: until(sampler._samples))
    return sampler.take()


def test_columns_of_a_jetson(tmp_path):
    columns = _sampled(boards.jetson(tmp_path))
    count = len(columns["time_ns"])
    assert count >= 3
    assert columns["time_ns"] == sorted(columns["time_ns"])
    assert {group: set(names) for group, names in columns.items() if group != "time_ns"} == {
        "frequencies_khz": {"policy0"},
        "max_frequencies_khz": {"policy0"},
        "device_frequencies_hz": {"17000000.gpu"},
        "temperatures_c": {"thermal_zone0 cpu-thermal", "thermal_zone1 gpu-thermal"},
        "cooling_states": {"cooling_device1 cpu-throttle-alert"},
        "power_mw": {"VDD_IN", "VDD_SOC"},
        "power_alarms": {"VDD_IN max", "VDD_IN crit"},
    }
    assert columns["power_mw"]["VDD_IN"] == [6000] * count
    assert columns["temperatures_c"]["thermal_zone1 gpu-thermal"] == [None] * count


def test_values_are_read_anew_each_time(tmp_path):
    current = boards.jetson(tmp_path) / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/curr1_input"
    with Sampler(0.01, tmp_path) as sampler:
        for value in ("1200\n", "400\n", "x\n"):  # in place, as a driver gives them
            current.write_text(value)
            wanted = len(sampler._samples) + 2  # the first of them may have been read before
            _wait_for(lambda wanted=wanted: len(sampler._samples) >= wanted)
    power = sampler.take()["power_mw"]["VDD_IN"]
    known = [value for value in power if value is not None]  # none while it is written
    assert [value for value, _ in itertools.groupby(known)] == [6000, 2000]
    assert power[-1] is None


def test_what_was_taken_is_not_given_twice(tmp_path):
    with Sampler(60, boards.raspberry_pi(tmp_path)) as sampler:
        pass
    assert sampler.take() is not None
    assert sampler.take() is None


def test_start_and_end_are_sampled_whatever_the_interval(tmp_path):
    columns = _sampled(boards.raspberry_pi(tmp_path), every_s=60, until=lambda samples: samples)
    assert columns["pi_throttled"] == {"bits": [0x50000, 0x50000]}
    assert columns["time_ns"][1] > columns["time_ns"][0]


def test_no_thread_where_there_is_nothing_to_read_or_it_is_off(tmp_path):
    before = threading.active_count()
    for every_s, root in ((0.01, tmp_path), (0.0, boards.jetson(tmp_path / "jetson"))):
        with Sampler(every_s, root) as sampler:
            assert threading.active_count() == before
        assert sampler.take() is None


def test_power_from_tegrastats_where_sysfs_has_none(tmp_path):
    line = FOLDER / "tegrastats-jetpack6-orin-nx.txt"
    script = f"while true; do cat {line}; sleep 0.01; done"

    def told(samples):
        return any(group == "power_mw" for _, readings in samples for group, _, _ in readings)

    columns = _sampled(tmp_path, until=told, tegrastats=["/bin/sh", "-c", script])
    assert set(columns["power_mw"]) == {"VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"}
    assert set(columns["power_mw"]["VDD_IN"]) - {None} == {14318}
    assert set(columns["gpu_clocks_mhz"]["cluster0"]) - {None} == {918}
    assert set(columns["temperatures_c"]["tegrastats tj"]) - {None} == {57.937}


def test_sysfs_comes_before_tegrastats(tmp_path):
    columns = _sampled(boards.jetson(tmp_path), tegrastats=["/bin/false"])
    assert set(columns["power_mw"]) == {"VDD_IN", "VDD_SOC"}


def test_a_tegrastats_that_died_says_nothing_more():
    stream = TegrastatsStream(["/bin/cat", str(FOLDER / "tegrastats-jetpack4-nano.txt")])
    stream._thread.join(100)
    assert ("power_mw", "POM_5V_IN", 4712) in list(stream.read())
    assert list(stream.read()) == []
    stream.close()
    missing = TegrastatsStream(["/no/such/tegrastats"])
    assert list(missing.read()) == []
    missing.close()
