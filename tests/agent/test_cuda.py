"""The CUDA runtime library through ctypes, and what a Jetson says about itself."""

import ctypes

import numpy as np
import pytest

from edgekd.agent import cuda, tegra
from edgekd.agent.cuda import Cuda, Gpu
from edgekd.agent.protocol import AgentError
from tests.agent.fake_cudart import FakeCudart


def test_a_round_trip_through_device_memory():
    library = FakeCudart()
    gpu = Cuda(library)
    stream = gpu.stream()
    there, back = gpu.pinned((2, 3), "float32"), gpu.pinned((2, 3), "float32")
    np.testing.assert_array_equal(there, np.zeros((2, 3), np.float32))
    there[...] = np.arange(6).reshape(2, 3)
    address = gpu.malloc(there.nbytes)
    gpu.to_device(address, there, stream)
    gpu.to_host(back, address, stream)
    gpu.synchronize(stream)
    np.testing.assert_array_equal(back, there)
    gpu.free(address)
    gpu.destroy(stream)
    assert (library.device, library.streams) == ({}, set())


def test_what_the_device_is():
    gpu = Cuda(FakeCudart(memory_bytes=1 << 33, name=b"NVIDIA Orin", sm_count=8)).gpu()
    assert gpu == Gpu("NVIDIA Orin", "8.7", 8, 1 << 33, driver="12.6", runtime="12.4")


def test_failures_are_named():
    gpu = Cuda(FakeCudart(memory_bytes=100))
    with pytest.raises(AgentError, match=r"^CUDA: cudaMalloc: out of memory \(error 2\)$"):
        gpu.malloc(101)
    with pytest.raises(AgentError, match=r"^CUDA: cudaFree: invalid argument \(error 1\)$"):
        gpu.free(1)


def test_no_library(monkeypatch):
    def absent(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", absent)
    cuda.load_library.cache_clear()
    with pytest.raises(AgentError, match=r"^no CUDA runtime library \(libcudart.so\) on this device; install CUDA or"):
        cuda.load_library()


def test_the_first_library_that_the_driver_serves_is_taken(monkeypatch):
    libraries = {"libcudart.so.13": FakeCudart(gpus=0), "libcudart.so.12": FakeCudart()}

    def load(name):
        if name not in libraries:
            raise OSError(name)
        return libraries[name]

    monkeypatch.setattr(ctypes, "CDLL", load)
    cuda.load_library.cache_clear()
    assert cuda.load_library() is libraries["libcudart.so.12"]
    del libraries["libcudart.so.12"]
    cuda.load_library.cache_clear()
    assert cuda.load_library() is libraries["libcudart.so.13"]
    cuda.load_library.cache_clear()


def test_the_real_library_answers():
    cuda.load_library.cache_clear()
    try:
        library = cuda.load_library()
    except AgentError as error:
        pytest.skip(error.message)
    try:
        gpu = Cuda(library).gpu()
    except AgentError as error:  # the text is the library's own
        assert error.message.startswith("CUDA: cudaGetDeviceCount: ")
        assert "unknown error" not in error.message
    else:
        assert gpu.name.isprintable()
        assert gpu.sm_count >= 1
        assert gpu.memory_bytes > 1 << 28


def test_a_library_in_a_package_of_this_python_is_found(monkeypatch, tmp_path):
    folder = tmp_path / "nvidia" / "cu13" / "lib"
    folder.mkdir(parents=True)
    (folder / "libcudart.so.13").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert str(folder / "libcudart.so.13") in list(cuda._candidates())


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n", "36.4.3"),
        ("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64\n", "35.4.1"),
        ("Ubuntu\n", None),
    ],
)
def test_the_release_of_a_jetson(tmp_path, line, version):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text(line)
    assert tegra.l4t_release(tmp_path) == version


def test_another_machine_has_no_release_and_no_power_mode(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tegra.l4t_release(tmp_path) is None
    assert tegra.power_mode() is None


def test_the_power_mode(tmp_path, monkeypatch):
    program = tmp_path / "nvpmodel"
    program.write_text("#!/bin/sh\necho 'NV Fan Mode:quiet'\necho 'NV Power Mode: MAXN_SUPER'\necho 2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tegra.power_mode() == "MAXN_SUPER"
