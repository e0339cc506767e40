"""Students of transformers: the loss is the library's own, weights go with names, files hold what was trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgekd.detectors import families
from edgekd.detectors.contract import Asked
from edgekd.detectors.outputs import Guidance, View
from edgekd.detectors.spec import NOTHING
from edgekd.errors import InputError
from edgekd.testing.training import batch

pytest.importorskip("transformers", reason="the extra hf is not installed")

NAMES = ("cat", "dog", "traffic light", "bird")
MODELS = ("rt-detr-p", "rt-detr-v2-p", "dfine-p", "deimv2-p")


def student_of(model: str, names: tuple[str, ...] = NAMES) -> Any:
    torch.manual_seed(0)
    return families.open_detector(None, Asked(model, None, names, 3, "test"))


@pytest.mark.parametrize("model", MODELS)
def test_the_loss_is_the_librarys(model: str) -> None:
    """With the same random numbers for denoising."""
    student, given = student_of(model), batch()
    student.module.train()
    for part in student.module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.eval()  # two passes must see the same
    torch.manual_seed(3)
    found = student.training_pass(given, NOTHING, Guidance())
    labels = [
        {"class_labels": torch.tensor([0, 2, 1]), "boxes": torch.tensor([
            [0.3, 0.3, 0.3, 0.4], [0.7, 0.6, 0.5, 0.5], [0.5, 0.5, 0.2, 0.2],
        ])},
        {"class_labels": torch.zeros(0, dtype=torch.int64), "boxes": torch.zeros(0, 4)},
        {"class_labels": torch.tensor([3]), "boxes": torch.tensor([[0.4, 0.6, 0.6, 0.3]])},
    ]  # fmt: skip
    pixels = (given.images - student.module.pixel_mean) / student.module.pixel_std
    torch.manual_seed(3)
    theirs = student.module(pixels, labels=labels)
    torch.testing.assert_close(found.loss.sum(), theirs.loss, rtol=1e-4, atol=1e-4)
    kinds = {"loss_bbox", "loss_giou"}
    assert kinds < set(found.items)
    for kind in kinds:
        expected = torch.stack([value for name, value in theirs.loss_dict.items() if name.startswith(kind)]).sum()
        torch.testing.assert_close(found.items[kind], expected.detach(), rtol=1e-4, atol=1e-4)


def test_a_batch_without_labels_costs_nothing() -> None:
    student, given = student_of("dfine-p"), batch()
    student.module.train()
    view = replace(View.whole(given.images), labelled=torch.zeros(3, dtype=torch.bool), all_labelled=False)
    found = student.training_pass(replace(given, shown=view), NOTHING, Guidance())
    assert float(found.loss.detach().sum()) == 0
    torch.autograd.backward(found.loss.sum())


def test_rows_of_classes_go_with_their_names() -> None:
    source = student_of("rt-detr-p")
    torch.manual_seed(9)
    made = source.rebuilt(("bird", "background", "cat"), True)
    assert made.spec.class_names == ("bird", "background", "cat"), "of data each name is a class"
    old, new = source.module.state_dict(), made.module.state_dict()
    for key in (
        "model.enc_score_head.weight",
        "model.decoder.class_embed.1.bias",
        "model.denoising_class_embed.weight",
    ):
        assert torch.equal(new[key][[0, 2]], old[key][[3, 0]])
        assert not torch.equal(new[key][1], old[key][1])
    same = "model.encoder.fpn_blocks.0.conv1.conv.weight"
    assert torch.equal(new[same], old[same])


def test_files_that_are_damaged_or_of_others(tmp_path: Path) -> None:
    student = student_of("dfine-p")
    student.publish(tmp_path, {"ap": 0.5})
    path = tmp_path / "student.safetensors"
    opened = families.open_detector(None, Asked(None, path, (), 3, "teacher"))
    assert (opened.spec.name, opened.spec.family) == ("dfine-p", "transformers")
    from safetensors import safe_open

    with safe_open(path, framework="pt") as reader:
        header = reader.metadata()
    tensors = load_file(path)
    key = "model.enc_score_head.weight"
    for changed, pattern in (
        ({name: value for name, value in tensors.items() if name != key}, "is no student of transformers, or is dam"),
        ({**tensors, key: tensors[key] * float("nan")}, f"holds a NaN or an infinity in {key}"),
    ):
        save_file(changed, path, metadata=header)
        with pytest.raises(InputError, match=pattern) as caught:
            families.open_detector(None, Asked(None, path, (), 3, "teacher"))
        assert len(caught.value.problems) == 1
        assert "\n" not in str(caught.value)


def test_the_nano_member_is_the_official_one() -> None:
    """What the official code of D-FINE, with its configuration of the size n, counts for 80 classes."""
    network = student_of("dfine-n", tuple(map(str, range(80)))).module
    assert sum(one.numel() for one in network.parameters()) == 3_782_693
    assert sum(one.numel() for one in network.get_submodule("model.backbone").parameters()) == 1_850_396


def test_those_that_only_teach_are_refused() -> None:
    with pytest.raises(InputError, match="detr-p of family transformers can teach, but not be trained"):
        families.trainable(student_of("detr-p"), "here")
    learn = ["dfine-x", "dfine-n", "rt-detr-p", "rt-detr-v2-p", "dfine-p", "deimv2-p"]
    assert families.student_models("transformers") == learn
    assert families.only_teaches("transformers", "rf-detr-p")
    assert families.only_teaches("torchvision", "fcos-p")
