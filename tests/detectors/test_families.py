"""The registry of families: which one a recipe means, and what it is told where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from edgekd.detectors import described, families
from edgekd.detectors.contract import Asked, Trainable
from edgekd.errors import EnvironmentFault, InputError
from tests.detectors.toy import ToyDetector, ToyFamily


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ToyFamily]:
    families.family_names()  # the built-in ones first
    family = ToyFamily()
    monkeypatch.setitem(families._REGISTRY, "toy", family)
    yield family


def asked(model: str | None = None, weights: Path | None = None) -> Asked:
    return Asked(model, weights, ("a", "b"), 3, "r.yaml: student")


def test_a_second_one_of_the_same_name_is_refused() -> None:
    with pytest.raises(ValueError, match="family 'toy' is registered twice"):
        families.register(ToyFamily())


def test_one_that_lacks_a_member_is_refused() -> None:
    class Old:
        name, student_files, train_defaults, style = "old", (), {}, None

        def models(self) -> list[str]:
            return []

    with pytest.raises(TypeError, match="family 'old' lacks packages, missing, accepts, open, differing, see Family"):
        families.register(Old())  # type: ignore[arg-type]


def test_one_of_another_package_that_fails_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing(ToyFamily):
        name = "failing"

        def accepts(self, model: str | None, weights_path: Path | None) -> bool:
            raise AttributeError("no suffix")

    families.family_names()
    monkeypatch.setattr(families, "_REGISTRY", {"failing": Failing(), **families._REGISTRY})
    assert [families.meant("no-such-model", None) for _ in range(2)] == [None, None]
    assert capsys.readouterr().err.splitlines() == [
        "warning: family 'failing' of package tests is left out: AttributeError: no suffix"
    ]


def test_one_that_there_is_not() -> None:
    with pytest.raises(KeyError) as caught:
        families.family("ultralitics")
    told = caught.value.args[0]
    assert told.startswith("unknown family 'ultralitics' (known: ")
    assert told.endswith("did you mean 'ultralytics'?)")
    assert "toy" in told


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("yolo11p", "ultralytics"), ("yolo26", "ultralytics"), ("yolov8-p2", "ultralytics"),
        ("rtdetr-l", "ultralytics"), ("some/model.yaml", "ultralytics"), ("best.pt", "ultralytics"),
        ("toy-s", "toy"), ("no-such-model", None),
    ],
)  # fmt: skip
def test_meant_by_the_name_of_a_model(model: str, family: str | None) -> None:
    assert families.meant(model, None) == family


def test_meant_by_weights(tmp_path: Path) -> None:
    """The header of safetensors says whose they are; without one it is the suffix."""
    ToyDetector.made(("a", "b"), 3).save(tmp_path, {}, 64)
    assert families.meant(None, tmp_path / "student.safetensors") == "toy"
    assert families.meant(None, tmp_path / "missing.safetensors") == "ultralytics"
    (tmp_path / "damaged.safetensors").write_bytes(b"\xff" * 100)
    assert families.meant(None, tmp_path / "damaged.safetensors") == "ultralytics"
    assert families.meant(None, tmp_path / "best.pt") == "ultralytics"
    assert families.meant(None, tmp_path / "best.bin") is None
    assert families.meant(None, tmp_path) is None, "a folder without a configuration"


def test_opened() -> None:
    opened = families.open_detector(None, asked("toy-s"))
    assert isinstance(opened, ToyDetector)
    assert opened.spec.class_names == ("a", "b")
    assert families.open_detector("ultralytics", asked("yolo11p")).spec.family == "ultralytics"


def test_a_model_of_no_family_is_told_with_the_models_of_all() -> None:
    with pytest.raises(InputError) as caught:
        families.open_detector(None, asked("toy-t"))
    (told,) = caught.value.problems
    assert told.startswith("r.yaml: student.model: unknown model 'toy-t' (known: ")
    assert told.endswith("did you mean 'toy-s'?)")


def test_weights_of_no_family_are_told_with_all_that_were_asked(tmp_path: Path) -> None:
    path = tmp_path / "FastestDet.pth"
    torch.save({"backbone.first_conv.0.weight": torch.zeros(24, 3, 3, 3)}, path)
    with pytest.raises(InputError) as caught:
        families.open_detector(None, asked(weights=path))
    (told,) = caught.value.problems
    assert told.startswith(f"r.yaml: student.weights: {path}: no family recognises it (asked: ultralytics, rtmdet, ")
    assert told.endswith(
        "toy); give its 'model' beside it, without which files of torchvision are not known, or weights of one of these"
    )


def test_nothing_given() -> None:
    with pytest.raises(InputError, match=r"r.yaml: student: give 'model' .* or 'weights'"):
        families.open_detector(None, asked())


def test_one_that_is_not_installed(toy: ToyFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy, "missing", lambda: "is not installed; pip install toys")
    with pytest.raises(EnvironmentFault, match=r"r.yaml: student: family toy: is not installed; pip install toys"):
        families.open_detector("toy", asked("toy-s"))


def test_one_that_can_only_teach() -> None:
    class Tutor:
        spec = ToyDetector.made(("a",), 3).spec
        module = torch.nn.Identity()

    with pytest.raises(InputError, match=r"r.yaml: student: toy-s of family toy can teach, but not be trained"):
        families.trainable(Tutor(), "r.yaml: student")  # type: ignore[arg-type]

    class Old(Tutor):
        def training_pass(self) -> None:
            """Of a former contract."""

    with pytest.raises(InputError, match=r"r.yaml: student: family toy lacks .*\bquantisable\b.*; update the package"):
        families.trainable(Old(), "r.yaml: student")  # type: ignore[arg-type]
    whole = ToyDetector.made(("a",), 3)
    assert isinstance(whole, Trainable)
    assert families.trainable(whole, "") is whole


class TestDescribed:
    def test_there_and_back(self, tmp_path: Path) -> None:
        network = torch.nn.BatchNorm2d(3)
        described.write(network, tmp_path / "x.safetensors", {"names": ["a"]})
        header, tensors = described.read(tmp_path / "x.safetensors")
        assert header == {"names": ["a"]}
        assert described.header_of(tmp_path / "x.safetensors") == header
        assert {key: value.dtype for key, value in tensors.items()} == {
            "weight": torch.float32, "bias": torch.float32, "running_mean": torch.float32,
            "running_var": torch.float32, "num_batches_tracked": torch.int64,
        }  # fmt: skip

    def test_half_precision_is_the_default(self, tmp_path: Path) -> None:
        network = torch.nn.Linear(1, 1)
        network.weight.data.fill_(1 + 2**-12)  # more digits than float16 has
        described.write(network, tmp_path / "half.safetensors", {})
        described.write(network, tmp_path / "whole.safetensors", {}, half=False)
        assert float(described.read(tmp_path / "half.safetensors")[1]["weight"]) == 1
        assert float(described.read(tmp_path / "whole.safetensors")[1]["weight"]) == 1 + 2**-12

    def test_no_header(self, tmp_path: Path) -> None:
        from safetensors.torch import save_file

        save_file({"x": torch.zeros(1)}, tmp_path / "plain.safetensors")
        save_file({"x": torch.zeros(1)}, tmp_path / "list.safetensors", {"edgekd": "[]"})
        for name in ("plain", "list", "missing"):
            assert described.header_of(tmp_path / f"{name}.safetensors") is None
        assert described.header_of(tmp_path) is None
