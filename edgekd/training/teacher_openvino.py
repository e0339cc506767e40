"""The teacher's network run by OpenVINO, on CPUs."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import edgekd.agent.runtimes  # noqa: F401  (before OpenVINO: switches off what it would report to its vendor)
from edgekd.errors import EnvironmentFault, InputError
from edgekd.progress import say
from edgekd.training.teacher_network import Comparison, PrecisionName, Runtime, TeacherNetwork, failed

_IMAGES_PER_STREAM = 4  # at least; fewer are not worth a stream's memory


class OpenVino(Runtime):
    """The network converted to OpenVINO, at the first batch, for any batch and size of image. For CPUs.

    The batch is shared out among streams, in all as many threads as torch has: threads that have images of their own
    need not wait for one another at every layer. They are not pinned to cores, since torch's threads want the same
    cores in between. Results are copied once, out of the runtime's memory, where the next batch will stand.
    """

    name: ClassVar[str] = "openvino"
    ranks_alike: ClassVar[bool] = False
    hints: ClassVar[dict[str, str]] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}

    def __init__(self, network: TeacherNetwork, precision: PrecisionName | None) -> None:
        super().__init__(network, precision or "fp32")  # the network itself stays float32, to compare with
        self._hint = self.hints[precision or "fp32"]
        self._requests: list[Any] = []
        self._names: list[str] = []
        self._verify = Comparison(self)

    @classmethod
    def check(cls, precision: PrecisionName | None, device: torch.device) -> None:
        """See `Runtime.check`; a format that the processor lacks would be replaced without a word."""
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

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """See `Runtime.__call__`."""
        with torch.autocast(images.device.type, enabled=False):
            return self._run(images.float().contiguous())  # what the requests share their input with

    def _run(self, images: Tensor) -> dict[str, Tensor]:
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
            raise failed("OpenVINO", error) from error


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


def _openvino() -> Any:
    import openvino

    return openvino


def _shared_core() -> Any:
    from edgekd.agent.runtimes.openvino_runtime import shared_core

    return shared_core()
