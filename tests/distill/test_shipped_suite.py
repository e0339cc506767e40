"""The suite that methods of other packages inherit: on adapters, draws, buffers and regions, heads, and queries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from edgekd.testing.distillers import DistillerContract


class TestOnMaps(DistillerContract):
    method = "fitnet"


class TestThatDraws(DistillerContract):
    method = "mgd"


class TestWithStateAndRegions(DistillerContract):
    method = "gdetkd"
    keys: ClassVar[Mapping[str, Any]] = {"canonical_px": 24, "memory": 16}


class TestOnHeads(DistillerContract):
    method = "logit"


class TestOnQueries(DistillerContract):
    method = "dlim"
    student: ClassVar[tuple[str, str]] = ("ultralytics", "rtdetr-p")
    teacher: ClassVar[tuple[str, str]] = ("ultralytics", "rtdetr-n")


class TestOnDistributions(DistillerContract):
    method = "query_ld"
    student: ClassVar[tuple[str, str]] = ("transformers", "dfine-p")
    teacher: ClassVar[tuple[str, str]] = ("transformers", "deimv2-p")
