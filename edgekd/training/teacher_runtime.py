"""How the frozen teacher's network is run: by torch as it is, compiled by torch, or by OpenVINO."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor

from edgekd.errors import EnvironmentFault, InputError
from edgekd.progress import say
from edgekd.training.teacher_network import Comparison, PrecisionName, Runtime, TeacherNetwork, failed
from edgekd.training.teacher_openvino import OpenVino


class Eager(Runtime):
    """The network as torch runs it. On a CPU channels last is about a fifth faster, and never slower."""

    name: ClassVar[str] = "eager"

    def __init__(self, network: TeacherNetwork, precision: PrecisionName | None) -> None:
        super().__init__(network, precision)
        if self.dtype:
            network.to(self.dtype)

    @classmethod
    def check(cls, precision: PrecisionName | None, device: torch.device) -> None:
        """See `Runtime.check`."""
        _check_precision(precision, device)

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """See `Runtime.__call__`."""
        with _own_precision(images, self.dtype):
            tensors: dict[str, Tensor] = self.network(_laid_out(images, self.dtype))
        return tensors


class Compiled(Runtime):
    """The network compiled by torch.

    A smaller batch, the last one of an epoch, is filled up: another batch size would be compiled anew. Another size of
    image makes torch compile once or twice more, for any size.
    """

    name: ClassVar[str] = "compile"

    def __init__(self, network: TeacherNetwork, precision: PrecisionName | None) -> None:
        super().__init__(network, precision)
        if self.dtype:
            network.to(self.dtype)
        self._function: Callable[[Tensor], dict[str, Tensor]] = torch.compile(network)
        self._batch = 0
        self._verify = Comparison(self)

    @classmethod
    def check(cls, precision: PrecisionName | None, device: torch.device) -> None:
        """See `Runtime.check`; on a CPU torch needs a C++ compiler."""
        _check_precision(precision, device)
        compilers = [os.environ.get("CXX", ""), "g++", "clang++", "c++"]
        if device.type == "cpu" and not any(shutil.which(name) for name in compilers if name):
            raise EnvironmentFault(
                "teacher.runtime: compile needs a C++ compiler and none is installed (g++, clang++ or $CXX); "
                "install one, or use openvino or eager"
            )

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """See `Runtime.__call__`."""
        with _own_precision(images, self.dtype):
            return self._run(_laid_out(images, self.dtype))

    def _run(self, images: Tensor) -> dict[str, Tensor]:
        if not self._batch:
            say("teacher: torch.compile begins, which may take minutes")
        self._batch = max(self._batch, len(images))
        blank = images.new_zeros(self._batch - len(images), *images.shape[1:])
        whole = _laid_out(torch.cat([images, blank]), self.dtype) if len(blank) else images
        try:
            tensors = {name: value[: len(images)] for name, value in self._function(whole).items()}
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # whatever stage of the compiler failed, for whatever reason
            raise failed("torch.compile", error) from error
        self._verify(images, tensors)
        return tensors


RUNTIMES: dict[str, type[Runtime]] = {kind.name: kind for kind in (Eager, Compiled, OpenVino)}


def _check_precision(precision: PrecisionName | None, device: torch.device) -> None:
    if precision == "fp16" and device.type == "cpu":
        raise InputError("teacher.precision: fp16 is for a GPU; on a CPU use bf16 or fp32, or leave it out")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
        raise EnvironmentFault("teacher.precision: this GPU does not compute in bf16; use fp16, or leave it out")


def _laid_out(images: Tensor, dtype: torch.dtype | None) -> Tensor:
    """In the network's number format, and in the layout that is fastest."""
    layout = torch.channels_last if images.device.type == "cpu" else torch.contiguous_format
    return images.to(dtype or images.dtype, memory_format=layout)


def _own_precision(images: Tensor, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """A precision of the teacher's own switches the student's off."""
    return torch.autocast(images.device.type, enabled=False) if dtype else nullcontext()
