"""Python environments for converters whose dependencies clash with edgekd's own: made once, kept in the cache.

A converter is a script in `converters/` that imports nothing of edgekd. It is given a job as JSON, runs in its
environment as a process of its own, and leaves its files and a result as JSON in a folder.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edgekd.atomic import read_json, sha256_json, write_json
from edgekd.errors import EnvironmentFault, InputError
from edgekd.progress import say

CACHE_VARIABLE, WHEELS_VARIABLE = "EDGEKD_CACHE", "EDGEKD_WHEELS"
SCRIPTS = Path(__file__).parent / "converters"
_COMPLETE = "edgekd-environment.json"  # written last: a folder without it is what a killed process left
_REPORT_INTERVAL_S = 30.0
_LONGEST_REASON = 300
_PIP = ("--no-input", "--disable-pip-version-check", "--progress-bar", "off")
_FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP")


@dataclass(frozen=True)
class Requirements:
    """What a converter's environment holds.

    Attributes:
        name: of the environment.
        packages: pinned, as pip takes them.
        dependencies: whether to install what they depend on.
        download: roughly how much comes over the network, for the message.
    """

    name: str
    packages: tuple[str, ...]
    dependencies: bool = True
    download: str = ""

    @property
    def folder(self) -> Path:
        """Where it is kept: another Python, machine or requirement is another folder."""
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        key = sha256_json([self.packages, self.dependencies, version, platform.machine(), sys.platform])
        return cache() / "environments" / f"{self.name}-py{version}-{key[:12]}"


def cache() -> Path:
    """`$EDGEKD_CACHE`, or `~/.cache/edgekd`."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given).expanduser().absolute() if given else Path.home() / ".cache" / "edgekd"


def python_of(needs: Requirements) -> Path:
    """The interpreter of an environment, which is created now if it is not there.

    A second process that needs it waits for the first.

    Raises:
        EnvironmentFault: a package cannot be had, no network, the disk is full, Python lacks `venv`.
    """
    folder = needs.folder
    python = folder / "bin" / "python"
    if (folder / _COMPLETE).is_file():
        return python
    try:
        with _locked(folder) as lock:
            if not (folder / _COMPLETE).is_file():
                _create(needs, folder, lock)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise EnvironmentFault(
            f"{folder.parent}: cannot write ({reason}); free space, or set {CACHE_VARIABLE} to another folder"
        ) from error
    return python


def convert(needs: Requirements, script: str, job: Mapping[str, Any], folder: Path, timeout_s: float) -> dict[str, Any]:
    """Run a converter of `converters/` in its environment.

    Args:
        script: name of the file.
        job: its input, without `folder`; `target` is the name for messages.
        folder: where it writes; its own files (`job.json`, `result.json`, `log.txt`) are removed at the end.
        timeout_s: after which it is stopped.

    Returns:
        what the script hands back.

    Raises:
        InputError: the converter does not support the model.
        EnvironmentFault: it failed or took too long, with the last line it wrote.
    """
    python, folder = python_of(needs), folder.absolute()  # the script runs in it
    request, result, log = (folder / name for name in ("job.json", "result.json", "log.txt"))
    write_json(request, {**job, "folder": str(folder)})
    command = [str(python), "-E", "-s", str(SCRIPTS / script), str(request)]
    with log.open("w", encoding="utf-8") as stream:
        code = _run(command, stream, folder, timeout_s)
    text = log.read_text(encoding="utf-8", errors="replace")
    where = f"{job['target']}: {script}"
    if code is None:
        raise EnvironmentFault(
            f"{where} took more than {timeout_s:g} s and was stopped; raise timeout_s in the target's options"
        )
    if code or not result.is_file():
        raise EnvironmentFault(
            f"{where} failed in {needs.folder} (exit code {code}): {last_line(text)}; if the environment is damaged, "
            "delete that folder, and it is made anew"
        )
    found: dict[str, Any] = read_json(result)
    for path in (request, result, log):
        path.unlink()
    if "unsupported" in found:
        raise InputError(
            f"{job['target']}: {found['unsupported'][:_LONGEST_REASON]}; choose another target, or a student without "
            "that operator (an end-to-end head ends in such: set student.head: one2many where there is that branch)"
        )
    return found


def last_line(text: str) -> str:
    """The line of a log that tells most: pip's or Python's error if there is one, else the last; shortened."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors[-1:] or lines[-1:] or ["it wrote nothing"])[0][:_LONGEST_REASON]


def _create(needs: Requirements, folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    size = f", {needs.download}" if needs.download else ""
    say(f"environment {needs.name}: installing {', '.join(needs.packages)} into {folder} (once{size})")
    started = time.monotonic()
    log = folder.with_name(f"{folder.name}.log")
    try:
        _step([sys.executable, "-m", "venv", str(folder)], log, needs, _venv_remedy(), lock)
        pip = [
            str(folder / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--no-input",
            "--disable-pip-version-check",
            "--progress-bar",
            "off",
        ]
        options = [] if needs.dependencies else ["--no-deps"]
        _step([*pip, *_wheels(), *options, *needs.packages], log, needs, _pip_remedy(needs), lock)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    write_json(folder / _COMPLETE, {"packages": needs.packages, "python": platform.python_version()})
    log.unlink(missing_ok=True)
    say(f"environment {needs.name}: ready after {time.monotonic() - started:.0f} s")


def _step(command: list[str], log: Path, needs: Requirements, remedy: str, lock: int) -> None:
    with log.open("w", encoding="utf-8") as stream:
        code = _run(command, stream, log.parent, None, title=f"environment {needs.name}", held=(lock,))
    if code:
        reason = last_line(log.read_text(encoding="utf-8", errors="replace"))
        raise EnvironmentFault(f"environment {needs.name}: cannot be made in {needs.folder} ({reason}); {remedy}")


def _wheels() -> list[str]:
    given = os.environ.get(WHEELS_VARIABLE)
    if not given:
        return []
    folder = Path(given).expanduser().absolute()
    if not folder.is_dir():
        raise EnvironmentFault(f"{WHEELS_VARIABLE}: {given} is no folder; name one with the wheels, or unset it")
    return ["--no-index", "--find-links", str(folder)]


def _pip_remedy(needs: Requirements) -> str:
    given = os.environ.get(WHEELS_VARIABLE)
    packages = " ".join(f"'{package}'" for package in needs.packages)
    options = "" if needs.dependencies else "--no-deps "
    if given:
        return f"put the wheels into {given} where there is a network: pip download {options}-d {given} {packages}"
    return (
        f"check network, disk and pip's configuration, or set {WHEELS_VARIABLE} to a folder filled by: "
        f"pip download {options}-d FOLDER {packages}"
    )


def _venv_remedy() -> str:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return f"install the venv module of this Python (Debian: apt install {version}-venv)"


def _run(
    command: list[str], log: IO[str], folder: Path, timeout_s: float | None, title: str = "", held: tuple[int, ...] = ()
) -> int | None:
    """Exit code of a command, its output in `log`; None if it was stopped, with all that it started, after `timeout_s`.

    Args:
        title: with one, what it wrote last is shown now and then.
        held: open files that it keeps open, and so keeps locked, should it outlive this process.
    """
    clean = {key: value for key, value in os.environ.items() if key not in _FOREIGN}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=folder,
        env=clean,
        start_new_session=True,
        pass_fds=held,
    )
    started = time.monotonic()
    try:
        while True:
            passed = time.monotonic() - started
            if timeout_s is not None and passed >= timeout_s:
                return None
            left = _REPORT_INTERVAL_S if timeout_s is None else min(_REPORT_INTERVAL_S, timeout_s - passed)
            try:
                return process.wait(left)
            except subprocess.TimeoutExpired:
                if title:
                    latest = last_line(Path(log.name).read_text(encoding="utf-8", errors="replace"))
                    say(f"{title}: {time.monotonic() - started:.0f} s, {latest[:100]}")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Alone with `folder`. The lock goes with the process that holds it, however that ends. Gives its file."""
    import fcntl

    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"environment: another process is making {folder}; waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream.fileno()
