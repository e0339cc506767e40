"""edgekd: distil a big detector into a small one, export it, and prove it on the device."""

__version__ = "0.1.0"
