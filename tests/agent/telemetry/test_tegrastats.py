import pytest

from edgekd.agent.telemetry.tegrastats import Core, parse
from tests.agent.telemetry.golden import FOLDER, golden

POWER_MW = {
    "jetpack4-nano": {"POM_5V_IN": 4712, "POM_5V_GPU": 1603, "POM_5V_CPU": 917},
    "jetpack4-xavier-nx": {"VDD_IN": 3304, "VDD_CPU_GPU_CV": 569, "VDD_SOC": 897},
    "jetpack4-agx-xavier": {"GPU": 1541, "CPU": 616, "SOC": 1387, "CV": 0, "VDDRQ": 308, "SYS5V": 1928},
    "jetpack5-agx-orin": {"VDD_GPU_SOC": 9171, "VDD_CPU_CV": 1994, "VIN_SYS_5V0": 5136, "VDDQ_VDD2_1V8AO": 1205},
    "jetpack5-no-root": {"VDD_IN": 5412, "VDD_CPU_GPU_CV": 1643, "VDD_SOC": 1460},
    "jetpack6-orin-nx": {"VDD_IN": 14318, "VDD_CPU_GPU_CV": 6931, "VDD_SOC": 2689},
    "jetpack6-agx-orin": {"VDD_GPU_SOC": 5580, "VDD_CPU_CV": 1594, "VIN_SYS_5V0": 4636},
    "jetpack7-orin": {"VDD_GPU_SOC": 5139, "VDD_CPU_CV": 1186, "VIN_SYS_5V0": 4427},
    "jetpack7-thor": {"VDD_GPU": 11208, "VDD_CPU_SOC_MSS": 9137, "VIN_SYS_5V0": 7713, "VIN": 35102},
}
# load of the GPU, its clocks, clock of the memory, memory used, memory there
REST = {
    "jetpack4-nano": (87, [921], 1600, 1712, 3956),
    "jetpack4-xavier-nx": (0, [114], 1600, 2544, 7771),
    "jetpack4-agx-xavier": (41, [675], 1331, 6113, 31919),
    "jetpack5-agx-orin": (63, [1300], 3199, 5206, 30592),
    "jetpack5-no-root": (34, [], None, 2107, 6480),
    "jetpack6-orin-nx": (97, [918], 3199, 3381, 15655),
    "jetpack6-agx-orin": (44, [816, 816], 2133, 7702, 62841),
    "jetpack7-orin": (12, [1300, 1300], 2133, 4110, 62810),
    "jetpack7-thor": (None, [1000, 1000, 1000], None, 21877, 125772),
}
TEMPERATURES_C = {
    "jetpack4-nano": {"PLL": 31.5, "CPU": 34.5, "PMIC": 100, "GPU": 33, "AO": 39.5, "thermal": 33.75},
    "jetpack5-agx-orin": {
        "CPU": 48.562, "Tboard": 37, "SOC2": 45.125, "Tdiode": 38.25, "SOC0": 45.906, "GPU": 44.031, "tj": 48.562,
        "SOC1": 44.937,
    },
    "jetpack7-thor": {"cpu": 43.031, "tj": 44.25, "soc012": 42.187, "gpu": 44.25, "soc345": 42.687},
}  # fmt: skip


def _moment(name):
    moment = parse(golden(f"tegrastats-{name}.txt"))
    assert moment is not None
    return moment


@pytest.mark.parametrize("name", POWER_MW)
def test_rails_have_the_power_of_the_moment(name):
    assert _moment(name).power_mw == POWER_MW[name]


@pytest.mark.parametrize("name", REST)
def test_gpu_and_memory(name):
    moment = _moment(name)
    assert REST[name] == (
        moment.gpu_load_percent, moment.gpu_clocks_mhz, moment.memory_clock_mhz, moment.memory_used_mb,
        moment.memory_total_mb,
    )  # fmt: skip


@pytest.mark.parametrize("name", TEMPERATURES_C)
def test_sensors_that_are_off_are_left_out(name):
    assert _moment(name).temperatures_c == TEMPERATURES_C[name]


def test_cores():
    assert _moment("jetpack4-nano").cores == [Core(52, 1428), Core(11, 1428), Core(None, None), Core(None, None)]
    old = parse("RAM 1/2MB (lfb 1x4MB) CPU [17%,off]@408 GR3D 3%@76")
    assert old is not None
    assert old.cores == [Core(17, None), Core(None, None)]
    assert (old.gpu_load_percent, old.gpu_clocks_mhz) == (3, [76])


@pytest.mark.parametrize(
    "line", ["", "Cannot open /sys/kernel/debug: Permission denied", "CPU [3%@729] VDD_IN 1mW/1mW"]
)
def test_what_is_no_line_of_it_is_none(line):
    assert parse(line) is None


def test_every_golden_file_has_a_provenance_and_every_format_a_test():
    described = golden("README.md")
    names = {path.name for path in FOLDER.glob("*.txt")}
    assert [name for name in names if f"`{name}`" not in described] == []
    assert {name for name in names if name.startswith("tegrastats")} == {f"tegrastats-{name}.txt" for name in POWER_MW}
