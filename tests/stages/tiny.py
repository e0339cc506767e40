"""A run that takes seconds: 24 images of 64 px, an untrained teacher that is sure of itself, one epoch, two targets."""

from __future__ import annotations

import contextlib
import io
import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from edgekd.atomic import sha256_file
from edgekd.cli import main
from edgekd.data.digits import CLASS_NAMES
from edgekd.detectors.contract import Asked
from edgekd.detectors.ultralytics.detector import UltralyticsDetector
from edgekd.detectors.ultralytics.weights import save_safetensors
from edgekd.measure.latency import PROTOCOLS, Protocol

# However busy the machine is.
PROTOCOL = Protocol("quick", 1, warmup_seconds=0.02, min_count=64, min_seconds=0.02, needs_steady=False, max_waited=1)
CAP_SECONDS = 0.05
TARGETS = ("onnx-fp32", "openvino-fp32")
STAGES = [
    "data", "teacher", "control", "accuracy/control", "student", "accuracy/student",
    *(f"test/{model}" for model in ("teacher", "control", "student")), "test",
    *(f"export/{target}" for target in TARGETS),
    *(f"{stage}/{target}@local" for stage in ("validate", "profile") for target in TARGETS), "gate", "report",
]  # fmt: skip
_PROGRESS = re.compile(r"[^:]+: \d+/\d+(, .*| in \d+ s)?$")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def problems(self) -> list[str]:
        """Error lines, without the prefix; anything else on standard error but the progress of a busy machine fails."""
        lines = [line for line in self.err.splitlines() if not _PROGRESS.match(line)]
        assert all(line.startswith("edgekd: error: ") for line in lines), self.err
        return [line.removeprefix("edgekd: error: ") for line in lines]

    @property
    def kept(self) -> list[str]:
        """Stages that were not done again, as they say themselves."""
        return [line.removesuffix(": unchanged, kept") for line in self.err.splitlines() if line.endswith(", kept")]


def edgekd(*arguments: object) -> Ended:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return Ended(int(stop.value.code or 0), out.getvalue(), err.getvalue())


@contextlib.contextmanager
def short_protocol() -> Iterator[None]:
    """Profile for a fraction of a second."""
    from edgekd.devices import run_agent

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROTOCOLS, "quick", PROTOCOL)
        patch.setitem(run_agent._WARMUP_CAP_SECONDS, "quick", CAP_SECONDS)
        yield


def detector(
    model: str, names: tuple[str, ...] = CLASS_NAMES, channels: int = 3, spread: float = 4.0
) -> UltralyticsDetector:
    """Untrained, yet it finds different things in different images, of which it is more or less sure.

    Args:
        spread: of the class logits; a large one gives scores up to 1.
    """
    torch.manual_seed(1)
    built = UltralyticsDetector.opened(Asked(model, None, names, channels, model))
    _wake(built.module, channels)
    for key, value in built.module.named_parameters():
        if ".cv2." in key and key.endswith(".2.weight"):
            value.data *= 4  # boxes of many sizes ...
        if ".cv2." in key and key.endswith(".2.bias") and built.spec.head.bins > 1:
            value.data = -0.6 * torch.arange(built.spec.head.bins).repeat(4).float()  # ... about twice the stride
        if ".cv3." in key and key.endswith(".2.weight"):
            value.data *= spread
        if ".cv3." in key and key.endswith(".2.bias"):
            value.data = -4 + torch.rand_like(value)
    return built


def _wake(module: Any, channels: int) -> None:
    """Fit the batch norms to blurred noise: with those of a fresh network, signals die out on their way."""
    norms = [part for part in module.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        noise = torch.rand(16, channels, 6, 6)
        module.train()(torch.nn.functional.interpolate(noise, size=(96, 96), mode="bicubic").clamp(0, 1))
    module.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def weights(path: Path, model: str, **keys: Any) -> Path:
    """Those of `detector`, which many tests begin with: made once a process."""
    path.write_bytes(_saved(model, **keys))
    return path


@cache
def _saved(model: str, **keys: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_safetensors(detector(model, **keys).module, path, {}, half=False)
        return path.read_bytes()


def export(target: str) -> dict[str, Any]:
    """With room for rounding: an untrained network magnifies it."""
    return {"target": target, "tolerance": {"max_abs_score": 0.01, "max_abs_box_px": 1.0}}


def write_recipe(path: Path, **changes: Any) -> Path:
    """The tiny recipe, `changes` laid over it by section; None removes a section."""
    content: dict[str, Any] = {
        "name": "tiny",
        "threads": 1,
        "data": {"format": "digits", "imgsz": 64, "train": 24, "val": 16, "test": 8},
        "teacher": {"model": "yolo11n", "weights": "teacher.safetensors"},
        "student": {"model": "yolo11p", "weights": "student.safetensors"},
        "distill": ["logit", {"method": "cwd", "weight": 1.0}],
        "control": True,
        "train": {
            "imgsz": 64, "epochs": 1, "batch": 8, "optimizer": "AdamW", "lr0": 0.0001, "mosaic": 0.0, "amp": False,
            "warmup_epochs": 0.0, "patience": 0,
        },
        "export": [export(target) for target in TARGETS],
        "devices": ["local"],
        "profile": {"protocol": "quick", "wait": 0},
        "gate": {"min_ap": 0.0, "max_ap_drop": 0.001, "max_p90_ms": {"onnx-fp32@local": 60000.0}},
    }  # fmt: skip
    merged = {key: value for key, value in {**content, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump(merged, sort_keys=False), encoding="utf-8")
    return path


def snapshot(root: Path) -> dict[str, bytes]:
    """Every file below `root`, with its content; none that another process renames meanwhile."""
    found = {}
    for path in sorted(root.rglob("*")):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            found[str(path.relative_to(root))] = path.read_bytes()
    return found


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def measured_as(run: Path, name: str, **changes: Any) -> None:
    """Change a file as if its stage had measured that: the manifest holds the hash of what it is now."""
    manifest = read(run / "manifest.json")
    (run / name).write_text(json.dumps({**read(run / name), **changes}))
    for entry in manifest["stages"].values():
        if name in entry["outputs"]:
            entry["outputs"][name] = sha256_file(run / name)
    (run / "manifest.json").write_text(json.dumps(manifest))


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
