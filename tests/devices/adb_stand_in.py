"""A stand-in for `adb`, written after what adb 29.0.6 was seen to do; no phone is behind it, but this machine's shell.

What it repeats: `devices` ends with 0 even if it lists nothing; `connect` ends with 0 even if it fails, and says so in
words alone; an unknown serial and no phone at all end with 1; a phone that is unplugged in the middle of a command ends
it with 0, its output cut; one that freezes makes every command wait for ever, while `devices` and `get-state` still
call it a device; `shell` passes on bytes, standard error and exit codes.

The file `state` beside it says how the phone is: `device`, `offline`, `unauthorized`, `absent`, `frozen`, or
`dies N`: unplugged after N bytes have gone either way.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

FOLDER = Path(sys.argv[0]).parent
SERIALS = ("R58M123ABC", "127.0.0.1:5555")
REFUSALS = {
    "unauthorized": "error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set\n"
    "Try 'adb kill-server' if that seems wrong.\n"
    "Otherwise check for a confirmation dialog on your device.",
    "offline": "error: device offline",
}


def state() -> str:
    return (FOLDER / "state").read_text().strip()


def become(text: str) -> None:
    """At once: another thread may read it, or end this process."""
    new = FOLDER / f"state-{os.getpid()}-{threading.get_ident()}"
    new.write_text(text)
    new.replace(FOLDER / "state")


def main(arguments: list[str]) -> int:  # noqa: PLR0911
    with (FOLDER / "calls").open("a") as calls:
        calls.write(" ".join(arguments)[:60].replace("\n", " ") + "\n")
    serial = None
    if arguments[0] == "-s":
        serial, arguments = arguments[1], arguments[2:]
    command, rest = arguments[0], arguments[1:]
    if command == "start-server":
        return 0
    if command == "devices":
        shown = "device" if state() == "frozen" or state().startswith("dies") else state()
        print("List of devices attached", *([] if shown == "absent" else [f"{SERIALS[0]}\t{shown}"]), "", sep="\n")
        return 0
    if command == "connect":
        if rest[0] in SERIALS and state() != "absent":
            print(f"already connected to {rest[0]}")
        else:
            print(f"failed to connect to '{rest[0]}': Connection refused")
        return 0
    if state() == "absent" or serial not in SERIALS:
        print(f"error: device '{serial}' not found", file=sys.stderr)
        return 1
    if state() in REFUSALS:
        print(REFUSALS[state()], file=sys.stderr)
        return 1
    if command == "get-state":
        print("device")
        return 0
    return shell(rest[1:] if rest[0] == "-T" else rest)


def shell(words: list[str]) -> int:
    wait_if_frozen()
    phone = subprocess.Popen(
        ["sh", "-c", " ".join(words)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip

    def carry(source: int, sink: int) -> None:
        while chunk := os.read(source, 1 << 14):
            wait_if_frozen()
            now = state().split()
            if now[:1] == ["dies"]:
                bytes_left = int(now[1]) - len(chunk)
                become(f"dies {bytes_left}" if bytes_left > 0 else "offline")
                if bytes_left <= 0:
                    os.write(sink, chunk[: int(now[1])])
                    os._exit(0)
            while chunk:
                chunk = chunk[os.write(sink, chunk) :]

    def to_the_phone() -> None:
        with contextlib.suppress(BrokenPipeError):
            carry(0, phone.stdin.fileno())
        phone.stdin.close()

    threading.Thread(target=to_the_phone, daemon=True).start()
    errors = threading.Thread(target=carry, args=(phone.stderr.fileno(), 2), daemon=True)
    errors.start()
    carry(phone.stdout.fileno(), 1)
    errors.join()
    os._exit(phone.wait())


def wait_if_frozen() -> None:
    while state() == "frozen":
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
