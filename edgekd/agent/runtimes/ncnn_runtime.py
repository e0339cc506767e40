# SPDX-License-Identifier: Apache-2.0
"""ncnn, on the CPU."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, List

import ncnn
import numpy as np

from ..protocol import AgentError
from . import Model, Runtime

if TYPE_CHECKING:
    import numpy.typing as npt


class Ncnn(Runtime):
    """One network, one image at a time.

    An artifact of precision fp16 is computed in float16 where the processor does that (ARM from v8.2 on), else in
    float32; any other is computed in float32. Never in bfloat16.
    """

    name = "ncnn"
    default_providers = ("CPU",)
    version = ncnn.__version__
    input_dtype = "float32"

    def __init__(self, model: Model) -> None:
        half = model.precision == "fp16"
        self._net: Any = ncnn.Net()
        settings = {
            "num_threads": model.threads_per_stream,
            "use_vulkan_compute": False,
            "use_bf16_storage": False,
            "use_fp16_packed": half,
            "use_fp16_storage": half,
            "use_fp16_arithmetic": half,
        }
        for name, value in settings.items():
            setattr(self._net.opt, name, value)
        weights = model.path.with_suffix(".bin")
        if self._net.load_param(str(model.path)) or self._net.load_model(str(weights)):
            raise AgentError(
                "runtime",
                f"ncnn cannot load {model.path.name} and {weights.name} (see standard error); it may lack a layer"
                " that a newer ncnn has: update it, or export again",
            )
        self.providers = ["CPU"]
        self.options = settings
        self.output_names = list(self._net.output_names())
        (self._input_name,) = self._net.input_names()

    def run(self, batch: npt.NDArray[Any]) -> List[npt.NDArray[np.float32]]:
        """Outputs for (1, C, H, W)."""
        extractor = self._net.create_extractor()
        extractor.input(self._input_name, ncnn.Mat(batch[0]))
        return [self._extract(extractor, name) for name in self.output_names]

    def fork(self) -> Ncnn:
        """The same network: each inference has an extractor, and the thread that calls its own team of threads."""
        return copy.copy(self)

    def _extract(self, extractor: Any, name: str) -> npt.NDArray[np.float32]:
        code, result = extractor.extract(name)
        if code:
            raise AgentError("runtime", f"ncnn cannot compute output '{name}' (code {code}); export the artifact again")
        values: npt.NDArray[np.float32] = np.array(result, dtype=np.float32)[None]
        return values
