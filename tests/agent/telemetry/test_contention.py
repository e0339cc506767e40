"""What a process waited for, from files of procfs and sysfs, and given clocks."""

from pathlib import Path

import pytest

from edgekd.agent.telemetry import Contention
from edgekd.agent.telemetry.contention import absent
from tests.agent.telemetry.boards import write

S = 10**9
IDLE = 0


class Machine:
    """Files of a machine with two cores, a clock and the processor time of this process, in seconds."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.wall_s = self.ran_s = 0.0
        self.tick_s = 0.01
        self.threads(a=(1.0, 0.5))
        self.cores(used_s=(10.0, 20.0), stolen_s=1.0)
        self.pressure(100)

    def threads(self, **counts: tuple[float, float]) -> None:
        folder = self.root / "proc/self/task"
        for old in folder.glob("*/schedstat"):
            old.unlink()
        for name, (ran_s, waited_s) in counts.items():
            write(folder / name / "schedstat", f"{ran_s * S:.0f} {waited_s * S:.0f} 7\n")

    def cores(self, used_s: tuple[float, float], stolen_s: float) -> None:
        """Of core 0 and 1; core 2 is not ours, and the fields are user nice system idle iowait irq softirq steal."""
        rows = [f"cpu{core} {100 * used:.0f} 0 0 999 5 0 0 {50 * stolen_s:.0f} 0 0" for core, used in enumerate(used_s)]
        write(self.root / "proc/stat", "\n".join(["cpu  1 1 1 1 1 1 1 1 0 0", *rows, "cpu2 9 9 9 9 9 9 9 9 0 0"]))

    def pressure(self, total_us: int) -> None:
        text = f"some avg10=1.00 avg60=0.00 avg300=0.00 total={total_us}\nfull avg10=0 avg60=0 avg300=0 total=0\n"
        write(self.root / "proc/pressure/cpu", text)

    def watch(self) -> Contention:
        return Contention(self.root, [0, 1], lambda: round(self.wall_s * S), lambda: round(self.ran_s * S))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr("edgekd.agent.telemetry.contention._ticks_per_second", lambda: 100)
    return Machine(tmp_path)


def test_sums_by_hand(machine: Machine) -> None:
    watch = machine.watch()
    machine.wall_s, machine.ran_s = 2.0, 1.5
    machine.threads(a=(2.0, 1.1), b=(0.4, 0.2))  # one more thread since
    machine.cores(used_s=(11.9, 21.0), stolen_s=1.4)
    machine.pressure(1_200_100)
    assert watch.take() == {
        "wall_ns": 2 * S, "ran_ns": 1.5 * S, "waited_ns": 0.8 * S, "others_ns": 1.4 * S, "stolen_ns": 0.4 * S,
        "pressure_ns": 1.2 * S, "throttled_ns": None, "cores": 2,
    }  # fmt: skip
    machine.wall_s = 3.0
    span = watch.take()  # since the last time
    assert (span["wall_ns"], span["waited_ns"], span["pressure_ns"]) == (S, 0, 0)
    assert absent(span) == {"throttled_ns": "no cpu.stat of a control group with a quota"}


def test_threads_that_end_and_numbers_that_are_given_anew(machine: Machine) -> None:
    machine.threads(a=(1.0, 0.5), b=(9.0, 3.0), c=(1.0, 1.0))
    watch = machine.watch()
    machine.threads(a=(1.5, 0.75), b=(0.25, 0.125))  # c has ended; b is another
    assert watch.take()["waited_ns"] == 0.375 * S


@pytest.mark.parametrize("content", ["0 0 0\n", "", "nothing\n"])
def test_a_kernel_that_does_not_count_waiting(machine: Machine, content: str) -> None:
    watch = machine.watch()
    write(machine.root / "proc/self/task/a/schedstat", content)
    assert watch.take()["waited_ns"] is None


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    span = Contention(tmp_path, [0, 1]).take()
    assert span["wall_ns"] > 0
    assert set(absent(span)) == {"waited_ns", "others_ns", "stolen_ns", "pressure_ns", "throttled_ns"}


def test_a_sandbox_that_shows_zeros_for_its_cores(machine: Machine) -> None:
    machine.cores(used_s=(0, 0), stolen_s=0)
    watch = machine.watch()
    machine.wall_s, machine.ran_s = 2.0, 1.0
    assert watch.take()["others_ns"] is None


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        (
            "sys/fs/cgroup/job/7/cpu.stat",
            "usage_usec 5\nthrottled_usec 1000\n",
            "usage_usec 5\nthrottled_usec 251000\n",
        ),
        ("sys/fs/cgroup/cpu/cpu.stat", "nr_periods 1\nthrottled_time 1000000\n", "throttled_time 251000000\n"),
    ],
)
def test_the_quota_of_a_container(machine: Machine, path: str, before: str, after: str) -> None:
    write(machine.root / "proc/self/cgroup", "9:name=systemd:/\n0::/job/7\n")
    write(machine.root / path, before)
    watch = machine.watch()
    write(machine.root / path, after)
    assert watch.take()["throttled_ns"] == 0.25 * S


def test_this_machine() -> None:
    """Whatever it tells, it is of this moment."""
    watch = Contention()
    span = watch.take()
    assert span["wall_ns"] > 0
    assert all(value is None or value >= 0 for value in span.values())
