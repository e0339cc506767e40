"""What is known of models before anything is measured: counted work is that of a real pass, and is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgekd.detectors import families
from edgekd.detectors.contract import Asked
from edgekd.errors import InputError
from edgekd.search import facts
from edgekd.search.facts import FactsStore
from edgekd.search.published import FILE, published, sources

NAMES = ("cat", "dog", "owl")


class Attending(torch.nn.Module):
    """64 queries of the points of one level, then attention of all points with all others."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 8, stride=8)

    def forward(self, images: Any) -> Any:
        points = self.stem(images).flatten(2)
        points.sum(1).topk(64)
        return points.transpose(1, 2) @ points


def counted(model: str, size_px: int) -> float:
    torch.manual_seed(0)
    module = families.open_detector(None, Asked(model, None, NAMES, 3, "test")).export_module(None).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, 3, size_px, size_px))
    return counter.get_total_flops() / 1e9


def test_work_at_a_large_size_is_what_a_pass_there_takes(tmp_path: Path) -> None:
    """Convolutions and attention: YOLO26 has both."""
    found = FactsStore(tmp_path / "f.json", NAMES, 3).of(["yolo26p"], [416, 96], "r.yaml: search.students")
    assert found["yolo26p", 416].gflops == pytest.approx(counted("yolo26p", 416), rel=1e-6)
    assert found["yolo26p", 96].gflops == pytest.approx(counted("yolo26p", 96), rel=1e-9)
    assert found["yolo26p", 416].branches == ("one2many", "one2one")


def test_a_network_that_needs_many_points_is_counted_where_it_runs() -> None:
    found = facts._counts(Attending().eval(), 3)
    assert list(found) == ["64", "96", "128", "160", "192", "224", "256"]  # at 32 px it has 16 points
    at = facts._at({"gflops": found, "parameters": 1, "branches": [], "size_multiple": 8}, 320)
    points = (320 // 8) ** 2
    assert at.gflops == pytest.approx((2 * points * 8 * 3 * 64 + 2 * points**2 * 8) / 1e9, rel=1e-9)


def test_what_is_known_is_not_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def look(_: FactsStore, model: str, where: str) -> dict[str, Any]:
        seen.append(model)
        return {"parameters": 7, "branches": [], "size_multiple": 32, "gflops": {"192": 1.0, "224": 2.0, "256": 3.0}}

    monkeypatch.setattr(FactsStore, "_look", look)
    for classes in (NAMES, ("a", "b", "c"), ("a",)):
        FactsStore(tmp_path / "f.json", classes, 3).of(["yolo11p", "yolo11n"], [192], "w")
    assert seen == ["yolo11p", "yolo11n"] * 2  # for three classes, whatever their names, and for one
    with pytest.raises(InputError, match="200 is no multiple of 32, the largest stride of yolo11p; use 192 or 224"):
        FactsStore(tmp_path / "f.json", NAMES, 3).of(["yolo11p"], [200], "w")


def test_published_ap_is_of_models_that_there_are_and_has_sources() -> None:
    known = [name for family in ("ultralytics", "rtmdet") for name in families.family(family).models()]
    assert set(published()) <= set(known)
    assert published()["yolo11n"] == 39.5
    assert all(30 < ap < 60 for ap in published().values())
    assert all(title and url.startswith("https://") for title, url in sources())
    assert "Not measured by edgekd" in FILE.read_text(encoding="utf-8")
