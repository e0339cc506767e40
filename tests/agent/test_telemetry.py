from edgekd.agent import telemetry


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_board_that_tells_everything(tmp_path):
    policy = tmp_path / "sys/devices/system/cpu/cpufreq/policy0"
    for name, text in {
        "scaling_governor": "schedutil\n",
        "scaling_cur_freq": "729600\n",
        "scaling_max_freq": "1510400",
    }.items():
        _write(policy / name, text)
    _write(tmp_path / "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
    _write(tmp_path / "sys/class/thermal/thermal_zone0/temp", "41500\n")
    _write(tmp_path / "proc/loadavg", "0.52 0.40 0.31 1/234 567\n")
    _write(tmp_path / "proc/meminfo", "MemTotal:        4000 kB\nMemFree: 1 kB\nMemAvailable:    3000 kB\n")
    assert telemetry.snapshot(tmp_path) == {
        "governors": {"policy0": "schedutil"},
        "frequencies_khz": {"policy0": 729600},
        "max_frequencies_khz": {"policy0": 1510400},
        "load_1min": 0.52,
        "memory_total_bytes": 4096000,
        "memory_available_bytes": 3072000,
        "temperatures_c": {"thermal_zone0 cpu-thermal": 41.5},
    }
    _write(tmp_path / "proc/cpuinfo", "processor\t: 0\nBogoMIPS\t: 108.00\nModel\t\t: Raspberry Pi 5 Model B\n")
    _write(tmp_path / "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\x00")
    facts = telemetry.facts(tmp_path)
    assert facts["cpu_model"] == "Raspberry Pi 5 Model B"
    assert facts["board"] == "Raspberry Pi 5 Model B Rev 1.0"


def test_what_is_absent_is_null(tmp_path):
    assert set(telemetry.snapshot(tmp_path).values()) == {None}
    assert telemetry.facts(tmp_path)["cpu_model"] is None


def test_peak_memory_is_that_of_this_program(tmp_path):
    _write(tmp_path / "proc/self/status", "Name:\tx\nVmPeak:\t  9000 kB\nVmHWM:\t    2048 kB\n")
    assert telemetry.peak_memory_bytes(tmp_path) == 2048 * 1024
    assert telemetry.peak_memory_bytes(tmp_path / "nothing") > 1 << 20
    before = telemetry.peak_memory_bytes()
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])
    assert telemetry.peak_memory_bytes() >= before
