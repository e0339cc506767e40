"""How the frozen teacher's network is run: by torch as it is, compiled by torch, or by OpenVINO.

All compute one function, `TeacherNetwork`, and are compared with it at every new size of image: a runtime that gives
something else is refused, not trained with.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

import edgekd.agent.runtimes  # noqa: F401  (before OpenVINO: switches off what it would report to its vendor)
from edgekd.detectors.capture import Capture
from edgekd.detectors.contract import Detector
from edgekd.detectors.spec import Needs
from edgekd.errors import EnvironmentFault, InputError
from edgekd.progress import say

RuntimeName = Literal["eager", "compile", "openvino"]
PrecisionName = Literal["fp32", "bf16", "fp16"]
Program = Callable[[Tensor], dict[str, Tensor]]

DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Largest relative difference, ||runtime - torch|| / ||torch|| per tensor, by what was computed in.
TOLERANCE: dict[torch.dtype, float] = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 0.1}

_IMAGES_PER_STREAM = 4  # at least; fewer are not worth a stream's memory


class TeacherNetwork(nn.Module):
    """The teacher as a plain function: images (B, C, H, W) to tensors by name, the batch first.

    Names are those of `Detector.compute` for head outputs and keys of taps. The hooks of the taps stay for as long as
    the detector does, so it must be a copy that nobody else uses.
    """

    def __init__(self, detector: Detector, needs: Needs) -> None:
        super().__init__()
        self.module = detector.module
        self._detector, self._parts = detector, needs.head
        self._capture = Capture(detector.module, needs.taps)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Heads, then taps."""
        heads = self._detector.compute(images, self._parts)
        return {**heads, **self._capture.take()}


class Eager:
    """The network as torch runs it. On a CPU channels last is about a fifth faster, and never slower."""

    name: ClassVar[str] = "eager"
    heads: ClassVar[frozenset[str]] = frozenset({"dense", "query"})  # whose outputs it can give; taps always

    def __init__(self, network: TeacherNetwork, precision: PrecisionName | None) -> None:
        self.network = network
        self.dtype = DTYPES[precision] if precision else None
        if self.dtype:
            network.to(self.dtype)

    @classmethod
    def check(cls, precision: PrecisionName | None, device: torch.device) -> None:
        """Whether this machine can run it.

        Raises:
            InputError: it cannot be on such a device.
            EnvironmentFault: something is missing here.
        """
        if precision == "fp16" and device.type == "cpu":
            raise InputError("teacher.precision: fp16 is for a GPU; on a CPU use bf16 or fp32, or leave it out")
        if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
            raise EnvironmentFault("teacher.precision: this GPU does not compute in bf16; use fp16, or leave it out")

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Images (B, C, H, W) in 0..1, float32, on the network's device."""
        with self.autocast(images):
            return self.run(self.prepare(images))

    def run(self, images: Tensor) -> dict[str, Tensor]:
        """Prepared images."""
        tensors: dict[str, Tensor] = self.network(images)
        return tensors

    def prepare(self, images: Tensor) -> Tensor:
        """In the network's number format and layout."""
        layout = torch.channels_last if images.device.type == "cpu" else torch.contiguous_format
        return images.to(self.dtype or images.dtype, memory_format=layout)

    def autocast(self, images: Tensor) -> AbstractContextManager[Any]:
        """A precision of the teacher's own switches the student's off."""
        return torch.autocast(images.device.type, enabled=False) if self.dtype else nullcontext()


class Compiled(Eager):
    """The network compiled by torch.

    A smaller batch, the last one of an epoch, is filled up: another batch size would be compiled anew. Another size of
    image makes torch compile once or twice more, for any size.
    """

    name: ClassVar[str] = "compile"

    def __init__(self, network: TeacherNetwork, precision: PrecisionName | None) -> None:
        super().__init__(network, precision)
        self._function: Callable[[Tensor], dict[str, Tensor]] = torch.compile(network)
        self._batch = 0
        self._verify = Comparison(self)

    @classmethod
    def check(cls, precision: PrecisionName | None, device: torch.device) -> None:
        """See `Eager.check`; on a CPU torch needs a C++ compiler."""
        super().check(precision, device)
        compilers = [os.environ.get("CXX", ""), "g++", "clang++", "c++"]
        if device.type == "cpu" and not any(shutil.which(name) for name in compilers if name):
            raise EnvironmentFault(
                "teacher.runtime: compile needs a C++ compiler and none is installed (g++, clang++ or $CXX); "
                "install one, or use openvino or eager"
            )

    def run(self, images: Tensor) -> dict[str, Tensor]:
        """See `Eager.run`."""
        if not self._batch:
            say("teacher: torch.compile begins, which may take minutes")
        self._batch = max(self._batch, len(images))
        blank = images.new_zeros(self._batch - len(images), *images.shape[1:])
        whole = self.prepare(torch.cat([images, blank])) if len(blank) else images
        try:
            tensors = {name: value[: len(images)] for name, value in self._function(whole).items()}
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # whatever stage of the compiler failed, for whatever reason
            raise _failed("torch.compile", error) from error
        self._verify(images, tensors)
        return tensors


class OpenVino(Eager):
    """The network converted to OpenVINO, at the first batch, for any batch and size of image. For CPUs.

    The batch is shared out among streams, in all as many threads as torch has: threads that have images of their own
    need not wait for one another at every layer. They are not pinned to cores, since torch's threads want the same
    cores in between. Results are copied once, out of the runtime's memory, where the next batch will stand.
    """

    name: ClassVar[str] = "openvino"
    heads: ClassVar[frozenset[str]] = frozenset({"dense"})  # it breaks ties among queries in another order
    hints: ClassVar[dict[str, str]] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}

    def __init__(self, network: TeacherNetwork, precision: PrecisionName | None) -> None:
        super().__init__(network, None)
        self.dtype = DTYPES[precision or "fp32"]  # computed in; the network itself stays float32, to compare with
        self._hint = self.hints[precision or "fp32"]
        self._requests: list[Any] = []
        self._names: list[str] = []
        self._verify = Comparison(self)

    @classmethod
    def check(cls, precision: PrecisionName | None, device: torch.device) -> None:
        """See `Eager.check`; a format that the processor lacks would be replaced without a word."""
        if device.type != "cpu":
            raise InputError(
                f"teacher.runtime: openvino is for a CPU, the student is trained on {device}; use compile or eager"
            )
        able = _shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision in ("bf16", "fp16") and precision.upper() not in able:
            formats = ", ".join(sorted(able))
            raise EnvironmentFault(
                f"teacher.precision: this processor does not compute in {precision} (it has {formats}); use fp32"
            )

    def prepare(self, images: Tensor) -> Tensor:
        """Float32, contiguous: what the request shares its input with."""
        return images.float().contiguous()

    def run(self, images: Tensor) -> dict[str, Tensor]:
        """See `Eager.run`."""
        if not self._requests:
            self._convert(images)
        shares = [share for share in images.tensor_split(len(self._requests)) if len(share)]
        busy = list(zip(self._requests, shares, strict=False))
        for request, share in busy:
            request.set_input_tensor(_openvino().Tensor(share.numpy(), shared_memory=True))
            request.start_async()
        for request, _ in busy:
            request.wait()
        tensors = {
            name: torch.cat([torch.from_numpy(request.get_output_tensor(index).data) for request, _ in busy])
            for index, name in enumerate(self._names)
        }
        self._verify(images, tensors)
        return tensors

    def _convert(self, images: Tensor) -> None:
        openvino = _openvino()
        say(f"teacher: converted to OpenVINO {openvino.__version__.partition('-')[0]}, computes in {self._hint}")
        threads = torch.get_num_threads()
        streams = max(1, min(threads, len(images) // _IMAGES_PER_STREAM))
        example = images[:1].repeat(2, 1, 1, 1)  # a batch of one would be taken for a constant here and there
        config = {
            "INFERENCE_PRECISION_HINT": self._hint,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_HYPER_THREADING": True,  # as many threads as torch, whatever cores they are
            "ENABLE_CPU_PINNING": False,
            "NUM_STREAMS": streams,
        }
        network = _AsTuple(self.network, self._names).eval()
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")  # the tracer warns of every size that it takes for a constant
                traced = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
                model = openvino.convert_model(traced, example_input=example)
                model.reshape({0: [-1, images.shape[1], -1, -1]})
                compiled = _shared_core().compile_model(model, "CPU", config)
                self._requests = [compiled.create_infer_request() for _ in range(streams)]
        except RuntimeError as error:  # an operation that it does not have, say
            raise _failed("OpenVINO", error) from error


class _AsTuple(nn.Module):
    """A network whose tensors come in order; `names` is filled as it runs."""

    def __init__(self, network: TeacherNetwork, names: list[str]) -> None:
        super().__init__()
        self.network, self._names = network, names

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The values of the network's dict."""
        tensors = self.network(images)
        self._names[:] = tensors
        return tuple(tensors.values())


class Comparison:
    """Compares a runtime with torch on the first image of each new size; costs one image."""

    def __init__(self, runtime: Eager) -> None:
        self.runtime = runtime
        self._seen: set[tuple[int, ...]] = set()

    def __call__(self, images: Tensor, found: dict[str, Tensor]) -> None:
        """Compare.

        Raises:
            EnvironmentFault: the runtime gives something else.
        """
        size = tuple(images.shape[-2:])
        if size in self._seen:
            return
        self._seen.add(size)
        for name, expected in self.runtime.network(images[:1]).items():
            allowed = TOLERANCE[self.runtime.dtype or expected.dtype]
            difference = _difference(found[name][:1].float(), expected.float())
            if not difference <= allowed:  # not a number is no match either
                raise EnvironmentFault(
                    f"teacher.runtime: {self.runtime.name} gives something else than torch at {size[1]}x{size[0]} px: "
                    f"'{name}' differs by {difference:.2%} (allowed: {allowed:.1%}); use eager"
                )


def _difference(found: Tensor, expected: Tensor) -> float:
    """||found - expected|| / ||expected||; infinite where the shapes differ."""
    if found.shape != expected.shape:
        return float("inf")
    return float((found - expected).norm() / expected.norm().clamp_min(1e-6))


RUNTIMES: dict[str, type[Eager]] = {kind.name: kind for kind in (Eager, Compiled, OpenVino)}


def _failed(what: str, error: Exception) -> EnvironmentFault:
    reason = (str(error).strip().splitlines() or ["no reason given"])[0][:200]
    return EnvironmentFault(f"teacher.runtime: {what} failed ({type(error).__name__}: {reason}); use eager")


def _openvino() -> Any:
    import openvino

    return openvino


def _shared_core() -> Any:
    from edgekd.agent.runtimes.openvino_runtime import shared_core

    return shared_core()
