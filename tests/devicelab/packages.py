"""Debian packages by apt's own client and sources, in a state of its own: the system's stays as it is."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from edgekd.errors import EnvironmentFault

DEVICE = "arm64"
# Its sshd, a shell and the programs of a small Linux, Python and the libraries of the wheels.
WANTED = (
    "openssh-server", "dash", "coreutils", "findutils", "grep", "sed", "tar", "gzip", "procps", "python3", "libstdc++6",
)  # fmt: skip
EMULATOR = "qemu-user-static"
# Pulled in for maintainer scripts, which are not run here.
_USELESS = re.compile(r"(perl|libperl|debconf|adduser|ucf|usrmerge|sensible-utils|dpkg|media-types|tzdata)[-.0-9a-z]*_")
# The system's settings count, but not its hooks, nor where it keeps its state.
_NOT_TAKEN = re.compile(r"(APT::Architectures?|Dir::State|Dir::Cache|Dir::Log|DPkg|APT::(Update|Sandbox))(::| )")
_UPDATE_SECONDS, _FETCH_SECONDS = 300, 900


class Apt:
    """The system's apt with a state below `folder`.

    Args:
        folder: to work in.

    Raises:
        EnvironmentFault: no apt.
    """

    def __init__(self, folder: Path) -> None:
        self.host = _said(["dpkg", "--print-architecture"]).strip()
        self._folder = folder
        for name in ("state/lists/partial", "cache/archives/partial", "log"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        kept = [line for line in _said(["apt-config", "dump"]).splitlines() if not _NOT_TAKEN.match(line)]
        own = {
            "Dir::Etc::parts": "/dev/null", "Dir::Etc::main": "/dev/null",  # they are among what is kept
            "Dir::State": f"{folder}/state", "Dir::State::status": f"{folder}/status",
            "Dir::Cache": f"{folder}/cache", "Dir::Log": f"{folder}/log",
            "APT::Architecture": DEVICE, "APT::Architectures::": DEVICE, "APT::Sandbox::User": "root",
        }  # fmt: skip
        lines = [*kept, *(f'{key} "{value}";' for key, value in own.items()), f'APT::Architectures:: "{self.host}";']
        (folder / "apt.conf").write_text("\n".join(lines) + "\n")

    def update(self) -> None:
        """Fetch the lists of packages of both architectures.

        Raises:
            EnvironmentFault: a source cannot be reached, or has no packages for ARM.
        """
        self._apt("update", _UPDATE_SECONDS, "see that 'apt-get update' works here, then try again")

    def fetch(self) -> list[Path]:
        """Download what the device needs, and the emulator; returns the files.

        Raises:
            EnvironmentFault: a package is not offered.
        """
        remedy = f"the sources of apt must offer {DEVICE} packages (Debian's do; on Ubuntu add those of its ports)"
        names = (*WANTED, f"{EMULATOR}:{self.host}")
        self._apt("install", _FETCH_SECONDS, remedy, "--download-only", "--no-install-recommends", "-y", *names)
        return sorted((self._folder / "cache/archives").glob("*.deb"))

    def _apt(self, command: str, seconds: float, remedy: str, *arguments: str) -> None:
        line = ["apt-get", "-q", "-o", "APT::Update::Error-Mode=any", command, *arguments]
        _said(line, seconds=seconds, remedy=remedy, config=self._folder / "apt.conf")


def is_needed(archive: Path) -> bool:
    """Whether the device uses a package, rather than its installation."""
    return not _USELESS.match(archive.name)


def unpack(archive: Path, root: Path) -> None:
    """Put a package's files below `root`; no script of it runs."""
    _said(["dpkg-deb", "-x", str(archive), str(root)])


def version_of(archive: Path) -> str:
    """Name and version of a downloaded package, as `dash 0.5.12-2`."""
    name, version, _ = archive.stem.split("_")
    return f"{name} {version.replace('%3a', ':')}"


def _said(command: list[str], *, seconds: float = 120, remedy: str = "", config: Path | None = None) -> str:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    environment |= {"APT_CONFIG": str(config)} if config else {}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds, env=environment,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError:
        raise EnvironmentFault(f"devicelab: {command[0]}: not here; the device is made of Debian packages") from None
    except subprocess.TimeoutExpired:
        raise EnvironmentFault(f"devicelab: {command[0]}: not done after {seconds:.0f} s; try again") from None
    if done.returncode != 0:
        wrong = [line for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg"))] or [done.stderr[-200:]]
        raise EnvironmentFault(f"devicelab: {command[0]}: {wrong[0]}; {remedy or 'try again'}")
    return done.stdout
