"""An emulated ARM device: an aarch64 Debian root, unpacked and not installed, and its sshd under qemu's user mode.

`python -m tests.devicelab build` makes it, `serve` runs it. It proves what runs there and what it answers, on real
aarch64 code; how long anything takes there means nothing.
"""
