"""Making the emulated device, without a network: what is kept, what a failure leaves, and what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekd.errors import EnvironmentFault
from tests.devicelab import __main__ as command
from tests.devicelab import build, packages, server, wheels

ARCHIVES = (
    "dash_0.5_arm64.deb", "perl-base_5.36_arm64.deb", "python3-minimal_3.11_arm64.deb", "qemu-user-static_7_amd64.deb",
)  # fmt: skip
REAL_APT, REAL_INSTALL = packages.Apt, wheels.install


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Stand-ins for apt and pip; counts their uses."""
    uses = {"apt": 0, "pip": 0}

    class Apt:
        def __init__(self, folder: Path) -> None:
            folder.mkdir(parents=True)

        def update(self) -> None:
            uses["apt"] += 1

        def fetch(self) -> list[Path]:
            return [Path(name) for name in ARCHIVES]

    def unpack(archive: Path, root: Path) -> None:
        (root / "usr/bin").mkdir(parents=True, exist_ok=True)
        (root / "unpacked").open("a").write(archive.name + "\n")
        if archive.name.startswith("python3"):
            (root / "bin").mkdir()
            (root / "usr/bin/python3").symlink_to("python3.11")
        (root / "usr/bin" / build.EMULATOR).touch()

    def install(target: Path, python: str) -> list[str]:
        uses["pip"] += 1
        target.mkdir(parents=True)
        (target / "numpy").write_text(python)
        return ["numpy 2.0"]

    monkeypatch.setattr(packages, "Apt", Apt)
    monkeypatch.setattr(packages, "unpack", unpack)
    monkeypatch.setattr(wheels, "install", install)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(build.platform, "machine", lambda: "x86_64")
    return uses


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_built_is_whole_and_kept(tmp_path: Path, registries: dict[str, int]) -> None:
    made = build.build(tmp_path)
    assert made.about["packages"] == ["dash 0.5", "python3-minimal 3.11", "qemu-user-static 7"]
    assert made.about["wheels"] == ["numpy 2.0"]
    assert made.emulator.is_file()
    assert (made.root / "unpacked").read_text().split() == [ARCHIVES[0], ARCHIVES[2]]
    assert (made.root / "usr/lib/python3/dist-packages/numpy").read_text() == "3.11"
    assert (made.root / "bin/sh").readlink() == Path("dash")
    assert (made.root / "etc/passwd").read_text().startswith("root:x:0:0:")
    assert names(made.root.parent) == ["built.json", build.EMULATOR, "root"], "what was fetched is gone"
    assert build.build(tmp_path) == made
    assert registries == {"apt": 1, "pip": 1}


def test_another_list_or_version_is_built_anew(
    tmp_path: Path, registries: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    first = build.build(tmp_path)
    monkeypatch.setattr(wheels, "wanted", lambda: ("numpy", "onnxruntime==99"))
    assert build.built(tmp_path) is None
    second = build.build(tmp_path)
    assert registries["apt"] == 2
    assert names(tmp_path) == sorted([".lock", "mine", second.root.parent.name]), "the old one is gone, others stay"
    assert first.root != second.root


def _no_wheel(_target: Path, _python: str) -> list[str]:
    raise EnvironmentFault("devicelab: pip: no such wheel")


def _no_space(_target: Path, _python: str) -> list[str]:
    raise OSError(28, "No space left on device", "/x")


def _killed(_target: Path, _python: str) -> list[str]:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("failure", "error", "text"),
    [
        (_no_wheel, EnvironmentFault, "no such wheel"),
        (_no_space, EnvironmentFault, "devicelab: /x: No space left on device; it takes 1 GB below "),
        (_killed, KeyboardInterrupt, None),
    ],
)
def test_nothing_half_built_is_left(
    failure: Callable[[Path, str], list[str]],
    error: type,
    text: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(wheels, "install", failure)
        with pytest.raises(error, match=text):
            build.build(tmp_path)
    assert names(tmp_path) == [".lock"]
    (tmp_path / f"{build._NEW}killed").mkdir()
    build.build(tmp_path)
    assert not (tmp_path / f"{build._NEW}killed").exists(), "nor what a kill has left"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"system": "Darwin"}, "devicelab: Darwin is not Linux; run it in a Linux machine"),
        ({"machine": "aarch64"}, "devicelab: this machine is ARM itself, and emulates none; use it as a device"),
        ({"user": 1000}, "devicelab: needs root, for packages' owners and a chroot; run it with sudo"),
    ],
)
def test_where_it_cannot_be(
    given: dict[str, object], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands = {"system": "Linux", "machine": "x86_64", "user": 0, **given}
    monkeypatch.setattr(build.platform, "system", lambda: stands["system"])
    monkeypatch.setattr(build.platform, "machine", lambda: stands["machine"])
    monkeypatch.setattr(os, "geteuid", lambda: stands["user"])
    with pytest.raises(EnvironmentFault) as caught:
        build.build(tmp_path / "cache")
    assert str(caught.value) == text
    assert server.why_not(tmp_path / "cache") == text
    assert not (tmp_path / "cache").exists()


def test_why_the_tests_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_own_formats", lambda: True)
    monkeypatch.setattr(server.shutil, "which", lambda tool: None if tool == "unshare" else tool)
    assert server.why_not(tmp_path) == "devicelab: unshare: not here; apt install util-linux openssh-client"
    monkeypatch.setattr(server.shutil, "which", lambda tool: tool)
    if "binfmt_misc" in Path("/proc/filesystems").read_text():
        assert server.why_not(tmp_path) == f"devicelab: not built in {tmp_path}; run 'make devicelab'"
        build.build(tmp_path)
        assert server.why_not(tmp_path) is None


@pytest.mark.parametrize(
    ("release", "own"), [("6.7.0-1-amd64", True), ("6.18.44", True), ("7.0", True), ("6.6.87+", False), ("5.15", False)]
)
def test_kernels_with_formats_per_namespace(release: str, own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.platform, "release", lambda: release)
    assert server._own_formats() is own


def test_the_command_says_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["devicelab", "build", "--cache", str(tmp_path)])
    assert command.main() == 0
    assert command.main() == 0
    said = capsys.readouterr().out.splitlines()
    assert re.match(r"devicelab: built in \d+ s: 3 packages, numpy 2.0, in ", said[0])
    assert said[1].startswith("devicelab: kept: 3 packages, numpy 2.0, in ")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("sys.argv", ["devicelab", "build", "--cache", str(tmp_path / "other")])
    assert command.main() == 4
    assert capsys.readouterr().err == (
        "devicelab: error: needs root, for packages' owners and a chroot; run it with sudo\n"
    )


class TestPrograms:
    """What apt and pip say, in one line with the remedy."""

    @pytest.fixture
    def said(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        def answer(error: str) -> None:
            failed = subprocess.CompletedProcess([], 100, "", error)
            monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)

        return answer

    def test_of_apt(self, said: Callable[[str], None]) -> None:
        said("W: a warning\nE: Unable to locate package openssh-server:arm64\nE: more\n")
        with pytest.raises(EnvironmentFault) as caught:
            packages._said(["apt-get", "install"], remedy="add a source")
        assert str(caught.value) == (
            "devicelab: apt-get: E: Unable to locate package openssh-server:arm64; add a source"
        )

    def test_of_pip(self, said: Callable[[str], None], tmp_path: Path) -> None:
        said("WARNING: x\nERROR: a\nERROR: No matching distribution\n")
        with pytest.raises(EnvironmentFault, match=r"wheels for manylinux_2_28_aarch64, Python 3\.12: ERROR: No match"):
            REAL_INSTALL(tmp_path, "3.12")

    @pytest.mark.skipif(shutil.which("apt-config") is None, reason="needs apt")
    def test_apt_keeps_its_state_apart_and_runs_no_hooks(self, tmp_path: Path) -> None:
        REAL_APT(tmp_path / "apt")
        told = packages._said(["apt-config", "dump"], config=tmp_path / "apt/apt.conf")
        settings = dict(line.rstrip(";").split(" ", 1) for line in told.splitlines())
        for key in ("Dir::State", "Dir::State::status", "Dir::Cache", "Dir::Log"):
            assert settings[key].startswith(f'"{tmp_path}/apt'), key
        assert settings["Dir::Etc::sourceparts"] == '"sources.list.d"', "its sources count"
        assert settings["APT::Architecture"] == '"arm64"'
        assert [line for line in told.splitlines() if "Invoke" in line and "Invoke::" in line] == []

    def test_that_are_missing(self) -> None:
        with pytest.raises(EnvironmentFault, match="devicelab: no-such-tool: not here; the device is made of Debian"):
            packages._said(["no-such-tool"])


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("perl-base_5_arm64.deb", False), ("perl-modules-5.36_5_all.deb", False), ("libperl5.36_1_arm64.deb", False),
        ("dpkg_1_arm64.deb", False), ("procps_1_arm64.deb", True), ("python3.11-minimal_1_arm64.deb", True),
        ("passwd_1_arm64.deb", True),
    ],
)  # fmt: skip
def test_what_only_an_installation_needs_is_left_out(name: str, needed: bool) -> None:
    assert packages.is_needed(Path(name)) is needed
