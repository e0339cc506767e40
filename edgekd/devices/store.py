"""Files on a device by their content: `<folder>/store/<sha256>/<name>`. What is there once is not sent again.

A file comes under a name of its own, is hashed there, and only then takes its place; whatever happens in between, the
device itself clears away what came.
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from edgekd.atomic import sha256_file, sync_folder
from edgekd.devices import hashing
from edgekd.devices.channel import Shell, Timeouts
from edgekd.devices.faults import DeviceFault
from edgekd.devices.numbers import whole
from edgekd.progress import progress

_MB = 1 << 20
_CHUNK_BYTES = 16 * _MB
_LEAST_FREE_BYTES = 4 * _MB
_MOST_PULLED_BYTES = 1024 * _MB  # logs and samples of timing programs have some hundred MB at the very most
_CUT, _DAMAGED, _MISSING = 4, 5, 6

# $1 file or folder, $2 its size in bytes (of a file). Says `here`, or the KB that are free.
_LOOK = """
if [ -d "$1" ] || { [ -f "$1" ] && [ "$(wc -c <"$1")" -eq "$2" ]; }; then echo here; else df -Pk "$3" | tail -n 1; fi
"""

# $1 store $2 digest $3 name $4 size $5 sha256 $6 file|folder $7 mode $8 random $9 seconds.
# `cat` ends with the link. Should the link neither end nor bring anything, the guard ends `cat`. A signal that comes
# while a shell forks can be lost, so the guard is told to go, but nobody waits for it: it goes by itself once the part
# has another name, and never ends another process that has got the number of `cat`.
_RECEIVE = f"""
new=$1/.new-$8 target=$1/$2/$3
mkdir -p "$new/whole" || exit 3
trap 'rm -rf "$new"' EXIT
trap 'exit 9' HUP INT TERM PIPE
exec 3<&0
cat <&3 >"$new/part" & worker=$!
(
  exec 3<&-
  trap 'kill $nap; exit' TERM
  last=-1 same=0
  while [ $same -lt 3 ]; do
    sleep "$9" & nap=$!
    wait $nap
    now=$(wc -c <"$new/part") || exit
    if [ "$now" = "$last" ]; then same=$((same + 1)); else same=0; fi
    last=$now
  done
  kill $worker
) >/dev/null 2>&1 & guard=$!
wait $worker; code=$?
kill $guard 2>/dev/null
[ $code -le 128 ] || exit {_CUT}
[ $code -eq 0 ] || exit 3
mv "$new/part" "$new/came" || exit 3
[ "$(wc -c <"$new/came")" -eq "$4" ] || exit {_CUT}
if command -v sha256sum >/dev/null; then sum=$(sha256sum <"$new/came"); else sum=$(shasum -a 256 <"$new/came"); fi
[ "${{sum%% *}}" = "$5" ] || exit {_DAMAGED}
if [ "$6" = folder ]; then
  mkdir "$new/whole/$3" && tar -xf - -C "$new/whole/$3" <"$new/came" || exit 3
else
  mv "$new/came" "$new/whole/$3" && chmod "$7" "$new/whole/$3" || exit 3
fi
mkdir -p "$1/$2" || exit 3
[ -d "$target" ] || mv "$new/whole/$3" "$target" || exit 3
"""

# $1 file. Says its size and its sha256.
_DESCRIBE = f"""
[ -f "$1" ] || exit {_MISSING}
wc -c <"$1"
if command -v sha256sum >/dev/null; then sha256sum <"$1"; else shasum -a 256 <"$1"; fi
"""

_DESCRIBED = re.compile(r"\s*(?P<size>[0-9]{1,15})\s+\\?(?P<sha256>[0-9a-f]{64})\b")

# $1 file $2 first byte, from 1 $3 bytes.
_PIECE = 'tail -c "+$2" "$1" | head -c "$3"'


class Store:
    """The files of one device.

    Args:
        shell: of the device.
        folder: absolute, on the device.
        where: start of every message.
        timeouts: how long to wait.
    """

    def __init__(self, shell: Shell, folder: str, where: str, timeouts: Timeouts) -> None:
        self._shell = shell
        self._root = f"{folder}/store"
        self._where = where
        self._timeouts = timeouts
        self._here: set[str] = set()

    def push(self, source: Path) -> str:
        """Bring a file or folder there unless it is there; returns its path.

        Raises:
            DeviceFault: no room, no link, or what arrived is not what was sent.
        """
        source = hashing.present(source)
        digest = hashing.digest(source)
        target = f"{self._root}/{digest}/{source.name}"
        if target not in self._here and not self._is_here(source, target):
            self._send(source, digest)
        self._here.add(target)
        return target

    def pull(self, remote: str, target: Path) -> None:
        """Fetch a file in pieces, each of which is kept; hashed at the end.

        Raises:
            DeviceFault: no such file, no link (the same call goes on), or it changed meanwhile.
        """
        reply = self._shell(_DESCRIBE, remote, patience_s=self._timeouts.transfer)
        if reply.code == _MISSING:
            raise DeviceFault("incomplete", f"{self._where}: {remote}: no such file; nothing to fetch")
        if reply.code != 0:
            raise refused(self._where, f"{remote}: cannot be read", reply.err)
        described = _DESCRIBED.match(reply.text)
        if described is None or int(described["size"]) > _MOST_PULLED_BYTES:
            raise DeviceFault(
                "incomplete",
                f"{self._where}: {remote}: is not told as a file of at most 1 GiB with its hash; see there",
            )
        size, sha256 = described.groups()
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{sha256[:12]}.part")
        with part.open("ab") as stream:
            self._fetch(remote, stream, int(size))
            os.fsync(stream.fileno())
        if sha256_file(part) != sha256:
            part.unlink()
            raise DeviceFault("incomplete", f"{self._where}: {remote}: changed while it was fetched; fetch it again")
        part.replace(target)
        sync_folder(target.parent)

    def _is_here(self, source: Path, target: str) -> bool:
        sizes = [path.stat().st_size for path in ([source] if source.is_file() else hashing.files_below(source))]
        needed = sum(sizes) * (2 if source.is_dir() else 1) + _LEAST_FREE_BYTES  # a folder comes packed
        said = self._shell(_LOOK, target, str(sizes[0] if source.is_file() else 0), self._root).text
        if said.strip() == "here":
            return True
        free = free_bytes(said)
        if free is not None and free < needed:
            raise full(self._where, f"{source.name} needs {needed / _MB:.0f} MB, {free / _MB:.0f} MB are free")
        return False

    def _send(self, source: Path, digest: str) -> None:
        if source.is_file():
            mode = "755" if source.stat().st_mode & 0o100 else "644"
            with source.open("rb") as stream:
                self._stream(stream, source.name, digest, "file", mode)
            return
        with tempfile.NamedTemporaryFile(prefix="edgekd-") as stream:
            hashing.pack_folder(source, stream)
            stream.flush()
            self._stream(stream, source.name, digest, "folder", "755")

    def _stream(self, stream: IO[bytes], name: str, digest: str, kind: str, mode: str) -> None:
        size = stream.seek(0, 2)
        sha256 = digest if kind == "file" else sha256_file(Path(stream.name))
        stream.seek(0)
        quiet, chance = str(self._timeouts.quiet), secrets.token_hex(8)
        about = (self._root, digest, name, str(size), sha256, kind, mode, chance, quiet)
        with _megabytes(f"push {name}", size) as taken:
            reply = self._shell(_RECEIVE, *about, source=stream, taken=taken, patience_s=self._timeouts.transfer)
        if reply.code in (_CUT, _DAMAGED):
            raise DeviceFault("incomplete", f"{self._where}: {name} did not arrive as it was sent; run it again")
        if reply.code != 0:
            raise refused(self._where, f"{name}: cannot be kept", reply.err)

    def _fetch(self, remote: str, stream: IO[bytes], size: int) -> None:
        have = stream.tell()
        with _megabytes(f"pull {PurePosixPath(remote).name}", size) as arrived:
            while have < size:
                wanted = min(_CHUNK_BYTES, size - have)
                reply = self._shell(_PIECE, remote, str(have + 1), str(wanted), patience_s=self._timeouts.transfer)
                if len(reply.out) != wanted:
                    raise DeviceFault("incomplete", f"{self._where}: {remote}: a piece is missing; fetch it again")
                stream.write(reply.out)
                stream.flush()
                have += wanted
                arrived(have)


@contextmanager
def _megabytes(title: str, size: int) -> Iterator[Callable[[int], None]]:
    """Progress of a transfer of `size` bytes; yields what takes the bytes so far."""
    shown = 0
    with progress(title, max(1, size // _MB)) as advance:

        def so_far(count: int) -> None:
            nonlocal shown
            advance(count // _MB - shown, "MB")
            shown = count // _MB

        yield so_far


def refused(where: str, what: str, errors: bytes) -> DeviceFault:
    """Why the device does not take or give a file, from what its programs said."""
    said = " ".join(errors.decode("utf-8", errors="replace").split())[-200:] or "no reason given"
    if "No space left" in said or "quota exceeded" in said:
        return full(where, said)
    if "not found" in said:
        return DeviceFault("tool_missing", f"{where}: {what} ({said}); install it there")
    return DeviceFault("denied", f"{where}: {what} ({said}); set `folder` to one that this user can write")


def full(where: str, why: str) -> DeviceFault:
    """The disk is full."""
    return DeviceFault("disk_full", f"{where}: its disk is full ({why}); free space there, or set `folder` to another")


def free_bytes(said: str) -> int | None:
    """Free space from the last line of `df -Pk`; file systems and folders may have spaces in their names."""
    words = said.split()
    for place, word in enumerate(words):
        if word.endswith("%") and place and (free := whole(words[place - 1])) is not None:
            return free * 1024
    return None
