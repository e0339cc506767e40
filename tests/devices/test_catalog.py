from pathlib import Path

import pytest

from edgekd.devices import catalog
from edgekd.devices.local import LocalDevice
from edgekd.errors import InputError


def test_every_built_in_device_loads():
    from edgekd.recipe.lookup import available

    names = sorted(available("devices"))
    assert "local" in names
    assert [catalog.load(name).name for name in names] == names


def test_local_opens():
    with catalog.open_device(catalog.load("local")) as device:
        assert isinstance(device, LocalDevice)
        assert device.spec.runtimes == ("onnxruntime", "openvino", "ncnn", "litert")


def test_an_unknown_device_is_named_with_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match=r"^unknown device 'locl' \(known: .*local.*; did you mean 'local'\?\); give one of"
    ):
        catalog.load("locl")


def test_a_device_is_called_as_its_file(tmp_path):
    """Recipes, budgets, EDGEKD_HOST_... and the files of a run name it: there is one name."""
    path = tmp_path / "kitchen.yaml"
    path.write_text("name: raspberry-pi-5\nruntimes: [onnxruntime]\n")
    with pytest.raises(InputError) as caught:
        catalog.load(str(path))
    assert caught.value.problems == (f"{path}: name: got 'raspberry-pi-5', allowed: that of the file; leave it out",)
    path.write_text("name: kitchen\nruntimes: [onnxruntime]\n")
    assert catalog.load(str(path)).name == "kitchen"


def test_every_problem_of_a_file_at_once(tmp_path):
    path = tmp_path / "pi.yaml"
    path.write_text("transport: local\nruntimes: []\nthreads: 0\nhost: pi\n")
    with pytest.raises(InputError) as caught:
        catalog.load(str(path))
    assert len(caught.value.problems) == 3
    assert all(problem.startswith(f"{path}: ") for problem in caught.value.problems)
    assert any("host" in problem for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("{onnxruntime: [CUDAExecutionProvider, CPUExecutionProvider], openvino: [GPU.1]}", []),
        ("{tensorrt: [GPU]}", [
            "providers.tensorrt: is none of the device's runtimes (onnxruntime, openvino, ncnn, litert)"]),
        ("{ncnn: [CPU]}", [
            "providers.ncnn: ncnn has none to choose from (those that have: onnxruntime, openvino, litert)"]),
        ("{litert: [GPU]}", ["providers.litert: GPU: give XNNPACK, or CPU for the library's own kernels"]),
        ("{onnxruntime: [CUDAExecutionProvidr]}", [
            "providers.onnxruntime: unknown provider 'CUDAExecutionProvidr' (known: CPUExecutionProvider, "
            "CUDAExecutionProvider, QNNExecutionProvider, TensorrtExecutionProvider, XnnpackExecutionProvider; did you "
            "mean 'CUDAExecutionProvider'?)"]),
        ("{onnxruntime: [CPUExecutionProvider, CUDAExecutionProvider]}", [
            "providers.onnxruntime: CPUExecutionProvider takes every node: nothing after it would run; list it last"]),
        ("{openvino: [AUTO], onnxruntime: []}", [
            "providers.openvino: AUTO: give one of CPU, GPU, NPU (or GPU.1, ...): what chooses by itself, as AUTO "
            "does, leaves open what was measured", "providers.onnxruntime: give at least one, or leave it out"]),
    ],
)  # fmt: skip
def test_providers_are_checked(tmp_path, text, problems):
    path = tmp_path / "board.yaml"
    path.write_text(f"runtimes: [onnxruntime, openvino, ncnn, litert]\nproviders: {text}\n")
    if not problems:
        assert catalog.load(str(path)).providers["openvino"] == ("GPU.1",)
        return
    with pytest.raises(InputError) as caught:
        catalog.load(str(path))
    (problem,) = caught.value.problems
    assert problem.startswith(str(path))
    assert all(expected in problem for expected in problems)


def test_options_are_for_providers_that_are_asked_for(tmp_path):
    path = tmp_path / "board.yaml"
    path.write_text(
        "runtimes: [onnxruntime]\nproviders: {onnxruntime: [QNNExecutionProvider]}\n"
        "provider_options: {CUDAExecutionProvider: {device_id: 1}}\n"
    )
    with pytest.raises(InputError, match=r"CUDAExecutionProvider: is none of the providers \(QNNExecutionProvider\)"):
        catalog.load(str(path))


def test_the_name_is_the_files_unless_given(tmp_path):
    path = tmp_path / "pi.yaml"
    path.write_text("runtimes: [onnxruntime]\n")
    assert catalog.load(str(path)).name == "pi"
    assert catalog.load("pi", [tmp_path]).name == "pi"


def test_the_current_folder_goes_before_what_is_built_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("devices").mkdir()
    Path("devices/local.yaml").write_text("runtimes: [openvino]\nthreads: 1\n")
    assert catalog.load("local").runtimes == ("openvino",)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[ncnn]", None),
        ("[openvino]", "optional: openvino: is none of the device's runtimes (onnxruntime, ncnn)"),
        ("[ncnn, onnxruntime]", "optional: names every runtime; a device needs one at least, leave it out here"),
    ],
)
def test_what_is_optional_is_checked(tmp_path, text, problem):
    path = tmp_path / "board.yaml"
    path.write_text(f"runtimes: [onnxruntime, ncnn]\noptional: {text}\n")
    if problem is None:
        assert catalog.load(str(path)).optional == ("ncnn",)
        return
    with pytest.raises(InputError) as caught:
        catalog.load(str(path))
    assert caught.value.problems == (f"{path}: {problem}",)
