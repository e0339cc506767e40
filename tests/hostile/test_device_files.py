"""Device files of others, and what a device says of itself: options smuggled into programs, forged facts and files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekd.devices import catalog
from edgekd.devices.adb import AdbChannel
from edgekd.devices.channel import Shell, Timeouts
from edgekd.devices.contract import DeviceSpec, Reply
from edgekd.devices.faults import DeviceFault
from edgekd.devices.remote import RemoteDevice
from edgekd.devices.store import Store
from edgekd.devices.tools.affinity import fast_cores
from edgekd.devices.tools.state import understood
from edgekd.devices.tools.tegrastats_log import telemetry_of_log
from edgekd.errors import InputError
from tests.devices.phone import Phone
from tests.hostile.trial import limited, require_plain

OPTIONS = [
    "-oProxyCommand=touch pwned", "-o", "-F/dev/null", "-S", "-Lx", "--", "-H evil", "-e", "-c", "-a", "-I/x",
    "--init-file=x", "-m http.server", "-",
]  # fmt: skip
WORDS = [
    "$(touch pwned)",
    "`touch pwned`",
    "a;touch pwned",
    "a b",
    "a|b",
    "a&b",
    "a'b",
    'a"b',
    "a\\b",
    "a@b",
    "%h",
    "~x",
]


def read(tmp_path: Path, text: str, name: str = "d") -> DeviceSpec:
    path = tmp_path / f"{name}.yaml"
    path.write_text(f"runtimes: [onnxruntime]\n{text}\n", encoding="utf-8")
    return catalog.load(str(path))


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@pytest.mark.parametrize("word", OPTIONS)
@pytest.mark.parametrize(
    "text",
    [
        "python: {}", "transport: ssh\nssh: {{host: {}}}", "transport: ssh\nssh: {{host: a, user: {}}}",
        "transport: adb\nadb: {{serial: {}}}", "python: python3\ntools: {{onnxruntime: {{program: {}}}}}",
    ],
)  # fmt: skip
def test_no_value_becomes_an_option(text: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text.format(quoted(word)))
    assert all("should match pattern" in problem for problem in caught.value.problems)
    for problem in caught.value.problems:
        require_plain(problem)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize(
    "text",
    [
        "transport: ssh\nssh: {{host: {}}}", "transport: ssh\nssh: {{host: a, user: {}}}",
        "transport: adb\nadb: {{serial: {}}}",
    ],
)  # fmt: skip
def test_no_value_becomes_shell_text(text: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="should match pattern"):
        read(tmp_path, text.format(quoted(word)))


@pytest.mark.parametrize("name", [*(option for option in OPTIONS if "/" not in option), *WORDS[:-2], "größe"])
def test_a_files_name_is_no_host_if_no_host_has_it(name: str, tmp_path: Path) -> None:
    """ssh takes the device's name for the host, and hands it to the user's own `ProxyCommand ... %h`."""
    with pytest.raises(InputError, match=r"name: cannot be that of a host; set ssh\.host"):
        read(tmp_path, "transport: ssh", name)
    assert read(tmp_path, "transport: ssh\nssh: {host: board}", name).name == name


@pytest.mark.parametrize("value", ["-oProxyCommand=x@host", "-oProxyCommand=x", "a b", "host:-1", "host:99999999"])
def test_nor_where_the_environment_says_so(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKD_HOST_D", value)
    with pytest.raises(InputError):
        read(tmp_path, "transport: ssh")


@pytest.mark.parametrize("word", [*(option for option in OPTIONS[:6] if "/" not in option), *WORDS])
def test_a_folder_is_a_folder(word: str, tmp_path: Path) -> None:
    """And so is a program: what a device file names reaches the device's shell as one word."""
    phone = Phone(tmp_path / "phone")
    spec = DeviceSpec(
        name="phone", transport="adb", runtimes=("onnxruntime",), folder=f"{tmp_path}/x/{word}", python=f"/no/{word}"
    )
    with RemoteDevice(spec, AdbChannel(spec, Timeouts(), adb=str(phone.adb)), Timeouts()) as device:
        assert device.facts()["folder"] == f"{tmp_path}/x/{word}"
        assert device.facts()["python"] is None
    assert [path.name for path in (tmp_path / "x").iterdir()] == [word]
    assert not list(tmp_path.rglob("pwned"))
    assert not Path("pwned").exists()


def test_a_folder_below_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    phone = Phone(tmp_path / "phone")
    spec = DeviceSpec(name="phone", transport="adb", runtimes=("onnxruntime",), folder=OPTIONS[0])
    with RemoteDevice(spec, AdbChannel(spec, Timeouts(), adb=str(phone.adb)), Timeouts()) as device:
        assert device.facts()["folder"] == f"{tmp_path}/home/{OPTIONS[0]}"


class Liar:
    """A shell of a device that answers as it likes."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)

    def __call__(self, *_: Any, **__: Any) -> Reply:
        return Reply(0, self._answers.pop(0) if len(self._answers) > 1 else self._answers[0], b"")


def fault(action: Callable[[], object]) -> str:
    with limited(), pytest.raises(DeviceFault) as caught:
        action()
    (line,) = caught.value.problems
    require_plain(line)
    return line


HASH = hashlib.sha256(b"four").hexdigest()
LISTINGS = [
    b"", b"\n", b"4\n", b"4\n../../../../etc/x  -\n", b"4\n" + b"/" * 64 + b"  -\n", b"4\n..  -\n",
    b"x\n" + HASH.encode(), b"4\n" + HASH.upper().encode(),
    b"-4\n" + HASH.encode(), b"\xb2\n" + HASH.encode(), b"9" * 5000 + b"\n" + HASH.encode(),
    b"99999999999\n" + HASH.encode(), b"4\n" + HASH[:63].encode(), b"\x1b[2J\n::error::x\n", bytes(80),
]  # fmt: skip


@pytest.mark.parametrize("said", LISTINGS, ids=range(len(LISTINGS)))
def test_a_file_that_is_told_wrongly(said: bytes, tmp_path: Path) -> None:
    """The hash that a device tells becomes a part of a file's name here."""
    store = Store(Liar(said), "/x", "device pi", Timeouts())  # type: ignore[arg-type]
    fault(lambda: store.pull("/x/power.log", tmp_path / "in" / "power.log"))
    assert not list(tmp_path.rglob("*.log*"))


@pytest.mark.parametrize("piece", [b"", b"fou", b"fourfour", b"evil"])
def test_pieces_that_are_not_the_file(piece: bytes, tmp_path: Path) -> None:
    store = Store(Liar(f"4\n{HASH}  -\n".encode(), piece), "/x", "device pi", Timeouts())  # type: ignore[arg-type]
    fault(lambda: store.pull("/x/power.log", tmp_path / "power.log"))
    assert not (tmp_path / "power.log").exists()


def test_only_the_asked_name_is_written(tmp_path: Path) -> None:
    """Whatever path the device has: the name here is the caller's."""
    store = Store(Liar(f"4\n{HASH}  -\n".encode(), b"four"), "/x", "device pi", Timeouts())  # type: ignore[arg-type]
    store.pull("../../../etc/passwd", tmp_path / "here")
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


FACTS = b"Linux\n6.1\naarch64\n4\n/dev/root 9 9 8 5% /\n3.11.2\npython3\n/home/pi"
HELLOS = [
    b"", b"\n" * 3, b"Linux", b"\x1b[2J::error::x", FACTS.replace(b"\n", b" "), b"\xff" * 9,
]  # fmt: skip


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], RemoteDevice]:
    class Silent:
        default_folder, default_python = "x", "python3"

        def open(self) -> None: ...
        def close(self) -> None: ...

    def connect(said: bytes) -> RemoteDevice:
        monkeypatch.setattr("edgekd.devices.remote.Shell", lambda *_: Liar(said))
        return RemoteDevice(DeviceSpec(name="pi", runtimes=("onnxruntime",)), Silent())  # type: ignore[arg-type]

    return connect


@pytest.mark.parametrize("said", HELLOS, ids=range(len(HELLOS)))
def test_a_device_that_does_not_say_what_it_is(said: bytes, liar: Callable[[bytes], RemoteDevice]) -> None:
    assert "does not say what it is" in fault(lambda: liar(said))


@pytest.mark.parametrize("number", ["²", "-", "--4", "9" * 5000, "4.5", "+4", "٤", "0x4", "inf"])
def test_facts_that_are_no_numbers(number: str, liar: Callable[[bytes], RemoteDevice]) -> None:
    said = number.encode()
    facts = FACTS.replace(b"\n4\n", b"\n" + said + b"\n").replace(b" 8 ", b" " + said + b" ")
    device = liar(facts.replace(b"3.11.2", b"3." + said + b".2"))
    assert [device.facts()[key] for key in ("cores", "free_bytes", "python")] == [None, None, None]
    assert "does not run there" in fault(lambda: device.run(["probe"], lambda _: None))


def test_the_facts_of_an_honest_one(liar: Callable[[bytes], RemoteDevice]) -> None:
    facts = liar(FACTS).facts()
    assert (facts["cores"], facts["free_bytes"], facts["python"]) == (4, 8 * 1024, "3.11.2")


@pytest.mark.parametrize("cores", ["0-999999999999", "9" * 5000, "a-b", "-", "3-1", "²", "0-4096", "1-2-3"])
def test_cores_that_no_device_has(cores: str) -> None:
    with limited():
        assert fast_cores({"policy0": (cores, 2_000_000), "policy4": ("4-5", 1_000_000)}, 2) == [4, 5]


@pytest.mark.parametrize("value", ["²", "9" * 5000, "--5", "inf", "٤"])
def test_a_state_that_is_none(value: str) -> None:
    lines = ["zone z_cpu", "cpuinfo_max_freq policy0", "scaling_cur_freq policy0"]
    found = understood("related_cpus policy0 0-3\n" + "\n".join(f"{line} {value}" for line in lines))
    assert found["temperatures_c"] is found["policies"] is found["frequencies_khz"] is None


def test_a_power_log_that_is_none() -> None:
    real = "RAM 1/2MB (lfb 1x4MB) CPU [1%@1] GR3D_FREQ 0%@[114] cpu@40.5C VDD_IN 5000mW/5000mW"
    forged = [real.replace("5000", "9" * 5000), real.replace("114", "9" * 400)]
    with limited():
        assert len(telemetry_of_log("\n".join([real, *forged, "x" * 10**6])).time_ns) == 1


def test_a_command_that_never_stops_saying(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless:
        def command(self, _: str) -> list[str]:
            return ["sh", "-c", "yes"]

    monkeypatch.setattr("edgekd.devices.channel._MOST_BYTES", 1_000_000)
    shell = Shell(Endless(), "device pi", Timeouts())  # type: ignore[arg-type]
    assert "says more than any command does" in fault(lambda: shell("true"))
