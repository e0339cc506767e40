"""Boards as files: procfs and sysfs in a folder."""

from pathlib import Path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def jetson(root: Path) -> Path:
    """An Orin with one monitor of two rails (one channel not connected, one without a current)."""
    policy = root / "sys/devices/system/cpu/cpufreq/policy0"
    for name, text in {
        "scaling_governor": "schedutil\n",
        "scaling_cur_freq": "729600\n",
        "scaling_min_freq": "729600\n",
        "scaling_max_freq": "1510400",
    }.items():
        write(policy / name, text)
    gpu = root / "sys/class/devfreq/17000000.gpu"
    for name, text in {"cur_freq": "306000000\n", "min_freq": "306000000\n", "max_freq": "624750000\n"}.items():
        write(gpu / name, text)
    for number, (kind, millidegrees) in enumerate([("cpu-thermal", 41500), ("gpu-thermal", -256000)]):
        write(root / f"sys/class/thermal/thermal_zone{number}/type", f"{kind}\n")
        write(root / f"sys/class/thermal/thermal_zone{number}/temp", f"{millidegrees}\n")
    for number, (kind, state) in enumerate([("pwm-fan", 3), ("cpu-throttle-alert", 0)]):
        write(root / f"sys/class/thermal/cooling_device{number}/type", f"{kind}\n")
        write(root / f"sys/class/thermal/cooling_device{number}/cur_state", f"{state}\n")
    monitor = root / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    for number, (label, millivolts, milliamperes) in enumerate(
        [("VDD_IN", 5000, 1200), ("NC", 0, 0), ("VDD_SOC", 4960, 250)], start=1
    ):
        write(monitor / f"in{number}_label", f"{label}\n")
        write(monitor / f"in{number}_input", f"{millivolts}\n")
        write(monitor / f"curr{number}_input", f"{milliamperes}\n")
    write(monitor / "in7_label", "sum of shunt voltages\n")
    write(monitor / "in7_input", "9\n")
    write(monitor / "curr1_max_alarm", "0\n")
    write(monitor / "curr1_crit_alarm", "1\n")
    return root


def quiet(root: Path) -> Path:
    """A process with one thread that never waits for a core."""
    write(root / "proc/self/task/1/schedstat", "1000 0 5\n")
    return root


def jetpack4(root: Path) -> Path:
    monitor = root / "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    for number, (label, milliwatts) in enumerate([("POM_5V_IN", 4712), ("POM_5V_GPU", 1603)]):
        write(monitor / f"rail_name_{number}", f"{label}\n")
        write(monitor / f"in_power{number}_input", f"{milliwatts}\n")
    return root


def raspberry_pi(root: Path) -> Path:
    write(root / "sys/devices/platform/soc/soc:firmware/get_throttled", "50000\n")
    return root
