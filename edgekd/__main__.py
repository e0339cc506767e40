"""`edgekd`, and `python -m edgekd`: heeds signals before anything is imported that takes time."""

from __future__ import annotations

from typing import NoReturn

from edgekd.interrupts import Interrupts, leave


def main() -> NoReturn:
    """The program."""
    interrupts = Interrupts().__enter__()  # to the end of the process
    try:
        from edgekd.cli.entry import main as command_line
    except BaseException:
        leave(interrupts)
        raise
    try:
        command_line(interrupts=interrupts)
    finally:
        interrupts.ignore()


if __name__ == "__main__":
    main()
