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
        assert device.spec.runtimes == ("onnxruntime", "openvino")


def test_an_unknown_device_is_named_with_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match=r"^unknown device 'locl' \(known: .*local.*; did you mean 'local'\?\); give one of"
    ):
        catalog.load("locl")


def test_every_problem_of_a_file_at_once(tmp_path):
    path = tmp_path / "pi.yaml"
    path.write_text("transport: local\nruntimes: []\nthreads: 0\nhost: pi\n")
    with pytest.raises(InputError) as caught:
        catalog.load(str(path))
    assert len(caught.value.problems) == 3
    assert all(problem.startswith(f"{path}: ") for problem in caught.value.problems)
    assert any("host" in problem for problem in caught.value.problems)


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
