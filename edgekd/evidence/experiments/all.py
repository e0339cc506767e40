"""Imports every experiment, so that it is registered."""

from __future__ import annotations

import edgekd.evidence.experiments.exact
import edgekd.evidence.experiments.gain
import edgekd.evidence.experiments.marked_tests
import edgekd.evidence.experiments.pairs
import edgekd.evidence.experiments.power
import edgekd.evidence.experiments.ranks
import edgekd.evidence.experiments.resume
import edgekd.evidence.experiments.sustained
import edgekd.evidence.experiments.targets
import edgekd.evidence.experiments.teacher_runtimes
import edgekd.evidence.experiments.train_step
import edgekd.evidence.machine  # noqa: F401
