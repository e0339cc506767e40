from edgekd.agent import telemetry
from tests.agent.telemetry import boards


def test_a_jetson_tells_everything(tmp_path):
    boards.jetson(tmp_path)
    boards.write(tmp_path / "proc/loadavg", "0.52 0.40 0.31 1/234 567\n")
    boards.write(tmp_path / "proc/meminfo", "MemTotal:        4000 kB\nMemFree: 1 kB\nMemAvailable:    3000 kB\n")
    state = telemetry.snapshot(tmp_path, ask=None)
    assert state == {
        "governors": {"policy0": "schedutil"},
        "frequencies_khz": {"policy0": 729600},
        "min_frequencies_khz": {"policy0": 729600},
        "max_frequencies_khz": {"policy0": 1510400},
        "device_frequencies_hz": {"17000000.gpu": 306000000},
        "device_limits_hz": {"17000000.gpu": {"min": 306000000, "max": 624750000}},
        "temperatures_c": {"thermal_zone0 cpu-thermal": 41.5, "thermal_zone1 gpu-thermal": None},
        "cooling_states": {"cooling_device1 cpu-throttle-alert": 0},
        "power_mw": {"VDD_IN": 6000, "VDD_SOC": 1240},
        "power_alarms": {"VDD_IN max": 0, "VDD_IN crit": 1},
        "pi_throttled": None,
        "throttle_counts": None,
        "load_1min": 0.52,
        "memory_total_bytes": 4096000,
        "memory_available_bytes": 3072000,
        "absent": {
            "pi_throttled": "no Raspberry Pi firmware in sysfs",
            "throttle_counts": "no thermal_throttle in sysfs (it is of x86)",
        },
    }


def test_power_on_jetpack_4(tmp_path):
    state = telemetry.snapshot(boards.jetpack4(tmp_path), ask=None)
    assert state["power_mw"] == {"POM_5V_IN": 4712, "POM_5V_GPU": 1603}
    assert state["power_alarms"] is None


def test_throttling_of_a_raspberry_pi(tmp_path):
    assert telemetry.snapshot(boards.raspberry_pi(tmp_path), ask=None)["pi_throttled"] == {"bits": 0x50000}


def test_throttle_counts_of_x86_are_summed_over_the_cores(tmp_path):
    for core, (of_core, of_package) in enumerate([(3, 10), (4, 20)]):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{core}/thermal_throttle"
        boards.write(folder / "core_throttle_count", f"{of_core}\n")
        boards.write(folder / "package_throttle_count", f"{of_package}\n")
    assert telemetry.snapshot(tmp_path, ask=None)["throttle_counts"] == {"core": 7, "package": 30}


def test_what_is_absent_is_null_with_a_reason(tmp_path):
    state = telemetry.snapshot(tmp_path, ask=None)
    absent = state.pop("absent")
    assert set(state.values()) == {None}
    assert set(absent) == set(state)
    assert all(absent.values())


def test_a_sensor_that_gives_no_number_is_null(tmp_path):
    boards.write(tmp_path / "sys/class/thermal/thermal_zone0/temp", "\n")
    state = telemetry.snapshot(tmp_path, ask=None)
    assert state["temperatures_c"] is None
    assert state["absent"]["temperatures_c"] == "no thermal zone in sysfs"


def test_facts(tmp_path):
    boards.write(tmp_path / "proc/cpuinfo", "processor\t: 0\nBogoMIPS\t: 108.00\nModel\t\t: Raspberry Pi 5 Model B\n")
    boards.write(tmp_path / "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\x00")
    facts = telemetry.facts(tmp_path)
    assert facts["cpu_model"] == "Raspberry Pi 5 Model B"
    assert facts["board"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert telemetry.facts(tmp_path / "nothing")["cpu_model"] is None


def test_peak_memory_is_that_of_this_program(tmp_path):
    boards.write(tmp_path / "proc/self/status", "Name:\tx\nVmPeak:\t  9000 kB\nVmHWM:\t    2048 kB\n")
    assert telemetry.peak_memory_bytes(tmp_path) == 2048 * 1024
    assert telemetry.peak_memory_bytes(tmp_path / "nothing") > 1 << 20
    before = telemetry.peak_memory_bytes()
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])
    assert telemetry.peak_memory_bytes() >= before
