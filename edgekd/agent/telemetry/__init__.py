# SPDX-License-Identifier: Apache-2.0
"""What the device says about itself: once, as a state, and while a model is timed."""

from .contention import Contention
from .facts import facts, peak_memory_bytes
from .sampler import EVERY_S, Sampler
from .snapshot import snapshot

__all__ = ["EVERY_S", "Contention", "Sampler", "facts", "peak_memory_bytes", "snapshot"]
