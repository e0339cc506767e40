"""An ONNX file as a module: images in 0..1 to boxes and scores, or to detections, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.detectors.onnx.facts import Facts
from edgekd.detectors.onnx.outputs import Arrays, Meaning, meaning
from edgekd.errors import InputError

_PADDING = 114 / 255
_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
_PROBE_PX = 64  # of a model that takes any size


class OnnxNetwork(nn.Module):
    """Runs a file. It has no weights that torch knows of, and no state: copies of it are itself.

    Attributes:
        decode: `dense` or `end2end`, as `Detector.export_module` says.
        size_px: (height, width) that the model takes; None: any.
        channels: C of its images.
    """

    def __init__(self, path: Path, facts: Facts, where: str) -> None:
        """Open a file and look at what it gives for a grey image.

        Raises:
            InputError: it is no ONNX that runs, has another input than one batch of images, or outputs that are
                nothing known.
        """
        super().__init__()
        self.path, self.facts, self.where = path, facts, where
        self._sessions: dict[str, Any] = {}
        self._read_input()
        self.meaning = self._looked_at()
        self.decode = "dense" if self.meaning.is_dense else "end2end"

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        """(B, C, H, W) to boxes (B, N, 4) xyxy px and scores (B, N, K), or to rows (B, k, 6), by `decode`.

        Raises:
            InputError: scores are none.
        """
        found = self._tensors(images)
        if len(found) == 1:
            return found[0]
        boxes, scores = found
        return boxes, scores

    def takes(self, images: Tensor) -> bool:
        """Whether images are of the very size that the model sees."""
        return self.size_px in (None, tuple(images.shape[-2:]))

    def grids(self, strides: tuple[int, ...]) -> bool:
        """Whether dense outputs are as many as points of these strides."""
        height, width = self.size_px or (_PROBE_PX, _PROBE_PX)
        cells = sum(-(-height // stride) * -(-width // stride) for stride in strides)
        return self.meaning.is_dense and self._count == cells

    @property
    def classes(self) -> int | None:
        """K, where outputs or facts tell it."""
        return self.meaning.classes

    def _read_input(self) -> None:
        inputs = self._session("cpu").get_inputs()
        shape = list(inputs[0].shape) if len(inputs) == 1 else []
        self._dtype = _DTYPES.get(inputs[0].type) if len(inputs) == 1 else None
        if self._dtype is None or len(shape) != 4:
            given = ", ".join(f"{one.name} {one.type} {list(one.shape)}" for one in inputs)
            raise InputError(
                f"{self.where}: {self.path} takes {given}; one batch of images is wanted, float or uint8, of 4 "
                "dimensions: export the detector so"
            )
        sizes = [size if isinstance(size, int) else None for size in shape]
        self._last = self._dtype is np.uint8 and sizes[3] in (1, 3)  # channels last, as cameras have them
        batch, channels, height, width = (sizes[place] for place in ((0, 3, 1, 2) if self._last else (0, 1, 2, 3)))
        self._name, self._batch, self.channels = inputs[0].name, batch, channels or 3
        self.size_px = (height, width) if height and width else None

    def _looked_at(self) -> Meaning:
        grey = torch.full((1, self.channels, *(self.size_px or (_PROBE_PX, _PROBE_PX))), 0.5)
        outputs = self._run(grey)
        found = meaning(outputs, self.facts)
        if found is None:
            shapes = ", ".join(f"{one.dtype} {list(one.shape)}" for one in outputs)
            raise InputError(
                f"{self.where}: {self.path} gives {shapes}, which are no boxes and scores that edgekd knows"
                f"{'' if self.facts.classes is None else f' of {len(self.facts.classes)} classes'}; say what they are "
                f"in {self.path.with_suffix('.json').name} beside it, or export it as docs/predictions.md lists"
            )
        self._count = outputs[found.places[0]].shape[2 if found.kind == "columns" and not found.last else 1]
        return found

    def _tensors(self, images: Tensor) -> tuple[Tensor, ...]:
        fitted, scale = self._fitted(images)
        size_px = (int(fitted.shape[2]), int(fitted.shape[3]))
        step = self._batch or (1 if self.meaning.single else len(fitted))
        parts = []
        for start in range(0, len(fitted), step):
            block = fitted[start : start + step]
            filling = step - len(block)  # of a model with a fixed batch
            full = torch.cat([block, block[-1:].expand(filling, -1, -1, -1)]) if filling else block
            read = self.meaning.read(self._run(full), self.facts, size_px)
            parts.append([torch.from_numpy(one[: len(block)]) for one in read])
        found = tuple(_joined([part[place] for part in parts]) for place in range(len(parts[0])))
        found[0][..., :4] /= scale
        scores = found[1] if len(found) == 2 else found[0][..., 4]
        if not bool(((scores >= 0) & (scores <= 1)).all()):
            raise InputError(
                f"{self.where}: {self.path} gives scores outside of 0..1 ({float(scores.min()):.3g} to "
                f"{float(scores.max()):.3g}); export it with its sigmoid or softmax"
            )
        return tuple(one.to(images.device) for one in found)

    def _fitted(self, images: Tensor) -> tuple[Tensor, float]:
        """Images of the size that the model takes, letterboxed from the upper left corner, and how much larger."""
        if self.takes(images):
            return images, 1.0
        assert self.size_px is not None
        height, width = self.size_px
        scale = min(height / images.shape[2], width / images.shape[3])
        inner = (round(images.shape[2] * scale), round(images.shape[3] * scale))
        resized = F.interpolate(images, inner, mode="bilinear", align_corners=False, antialias=scale < 1)
        return F.pad(resized, (0, width - inner[1], 0, height - inner[0]), value=_PADDING), scale

    @torch.no_grad()
    def _run(self, images: Tensor) -> Arrays:
        """Outputs for images of the size that the model takes."""
        facts = self.facts
        values = images.float().flip(1) if facts.colours == "bgr" else images.float()
        if self._dtype is np.uint8:
            array = (values * 255).round().clamp(0, 255).cpu().numpy()
        else:
            mean, std = (
                torch.tensor(one, device=values.device).reshape(1, -1, 1, 1) for one in (facts.mean, facts.std)
            )
            array = ((values * facts.highest - mean) / std).cpu().numpy()
        array = np.ascontiguousarray(array.transpose(0, 2, 3, 1) if self._last else array, self._dtype)
        session = self._session(images.device.type)
        try:
            found: Arrays = session.run(None, {self._name: array})
        except Exception as error:  # the runtime has kinds of its own
            raise InputError(
                f"{self.where}: {self.path} cannot be run ({_first_line(error)}); export it anew"
            ) from error
        return found

    def _session(self, device: str) -> Any:
        if device not in self._sessions:
            self._sessions[device] = _opened(self.path, device, self.where)
        return self._sessions[device]

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxNetwork:
        return self


def metadata(path: Path, where: str) -> dict[str, str]:
    """What the file says of itself.

    Raises:
        InputError: it is no ONNX that runs.
    """
    return dict(_opened(path, "cpu", where).get_modelmeta().custom_metadata_map)


def _opened(path: Path, device: str, where: str) -> Any:
    import onnxruntime

    if not path.is_file():
        raise InputError(f"{where}: no file {path}; correct the path")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # torch's threads want the cores
    on_gpu = device == "cuda" and _CUDA in onnxruntime.get_available_providers()
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[*([_CUDA] if on_gpu else []), _CPU])
    except Exception as error:  # the runtime has kinds of its own
        raise InputError(f"{where}: {path} is no ONNX that runs here ({_first_line(error)}); export it anew") from error


def _joined(parts: list[Tensor]) -> Tensor:
    """(B, N, X) of parts, filled up with zeros where one has fewer."""
    most = max(part.shape[1] for part in parts)
    return torch.cat([F.pad(part, (0, 0, 0, most - part.shape[1])) for part in parts])


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
