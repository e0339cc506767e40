"""What opens of a folder, and what is wrong with others: one line each."""

from __future__ import annotations

import json
import shutil
import socket
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from edgekd.detectors import families
from edgekd.detectors.contract import Asked, Detector
from edgekd.errors import InputError
from tests.detectors.transformers.folders import NAMES, SMALL, change, network, of_config, opened, write

pytest.importorskip("transformers", reason="the extra hf is not installed")

COCO_GAPS = {"1": "person", "2": "bicycle", "4": "dog"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(network("dfine-p"), tmp_path_factory.mktemp("saved") / "mine")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "mine"))


def scores(detector: Detector) -> Tensor:
    with torch.no_grad():
        return detector.export_module()(torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(2)))


def refused(folder: Path, pattern: str) -> None:
    with pytest.raises(InputError, match=pattern) as caught:
        opened(folder)
    assert len(caught.value.problems) == 1
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("teacher.weights: ")


def no_network(*_: Any, **__: Any) -> None:
    raise AssertionError("asked for the network")


@pytest.mark.parametrize("model", SMALL)
def test_every_kind_opens_without_any_network(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = network(model)
    write(made, tmp_path / "kind")
    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    found: Any = opened(tmp_path / "kind")
    assert found.spec.class_names == NAMES
    expected = made.state_dict()
    assert found.module.state_dict().keys() == expected.keys()
    for key, value in found.module.state_dict().items():
        torch.testing.assert_close(value, expected[key], msg=key)
    assert families.family("transformers").differing(model, found, "here") == []


def test_forms_of_weights_are_one(folder: Path, tmp_path: Path) -> None:
    expected = scores(opened(folder))
    made = network("dfine-p")
    parts = write(made, tmp_path / "parts", max_shard_size="200KB")
    assert len(list(parts.glob("*.safetensors"))) > 2
    torch.testing.assert_close(scores(opened(parts)), expected)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    torch.testing.assert_close(scores(opened(folder)), expected)
    torch.save({key: value.half() for key, value in made.state_dict().items()}, folder / "pytorch_model.bin")
    halved = opened(folder).module.state_dict()
    for key, value in made.state_dict().items():
        torch.testing.assert_close(halved[key], value, atol=1e-3, rtol=1e-3, msg=key)


def test_nothing_in_the_folder_runs(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (folder / "modeling_mine.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Mine: pass\n")
    change(folder / "config.json", auto_map={"AutoModelForObjectDetection": "modeling_mine.Mine"})

    class Hostile:
        def __reduce__(self) -> Any:
            return (open, (str(marker), "w"))

    tensors = {**load_file(folder / "model.safetensors"), "hook": Hostile()}
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    assert opened(folder).spec.class_names == NAMES
    assert not marker.exists()


def test_numbers_without_a_class_are_no_classes(tmp_path: Path) -> None:
    """As COCO's: 91 numbers, ten of which no object has; a list with gaps is the same."""
    made = network("rt-detr-p", ("N/A", "person", "bicycle", "N/A", "dog"))
    folder = write(made, tmp_path / "coco")
    expected = opened(folder)
    assert expected.spec.class_names == ("person", "bicycle", "dog")
    change(folder / "config.json", id2label=COCO_GAPS, label2id=None)
    found: Any = opened(folder)
    assert (found.spec.class_names, found.columns) == (("person", "bicycle", "dog"), (1, 2, 4))
    torch.testing.assert_close(scores(found), scores(expected))
    assert set(scores(found)[..., 5].flatten().tolist()) <= {0.0, 1.0, 2.0}


def test_a_softmax_keeps_all_columns_below_it(tmp_path: Path) -> None:
    """Leaving out columns changes no score."""
    made = network("detr-p", ("N/A", "person", "dog"))
    found: Any = opened(write(made, tmp_path / "detr"))
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        logits = made((images - found.module.pixel_mean) / found.module.pixel_std).logits
        output = found.assemble(found.compute(images, frozenset({"class_logits"})), {}, images)
    torch.testing.assert_close(output.queries.class_logits[-1].sigmoid(), logits.softmax(-1)[..., 1:3])


def test_names_that_are_none_stay_as_they_are(folder: Path) -> None:
    change(folder / "config.json", id2label={str(index): f"LABEL_{index}" for index in range(4)})
    assert opened(folder).spec.class_names == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")


def test_the_processor_says_how_pixels_are_normalised(folder: Path) -> None:
    path = folder / "preprocessor_config.json"
    change(path, do_normalize=True, image_mean=[0.5, 0.25, 0.0], image_std=[0.5, 0.25, 1.0])
    module: Any = opened(folder).module
    assert module.pixel_mean.flatten().tolist() == pytest.approx([0.5, 0.25, 0.0])
    assert module.pixel_std.flatten().tolist() == pytest.approx([0.5, 0.25, 1.0])
    change(path, do_rescale=False)  # values of 0 to 255 are normalised
    module = opened(folder).module
    assert (255 * module.pixel_mean).flatten().tolist() == pytest.approx([0.5, 0.25, 0.0])
    change(path, image_mean=[0.5])
    refused(folder, r"image_mean is \[0.5\], and the model takes 3 channels: a processor of another model")
    change(path, image_mean=[0.5] * 3, image_std=[0.0] * 3)
    refused(folder, "every value must be above 0")
    change(path, image_std=["a", 1, 1])
    refused(folder, "image_std is 'a', no number")
    path.unlink()
    refused(folder, r"has no preprocessor_config.json, which says how pixels are normalised")


def test_weights_that_do_not_fit(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    key = next(key for key in tensors if key.endswith("enc_score_head.weight"))
    save_file({name: value for name, value in tensors.items() if name != key}, path)
    refused(folder, f"is no d_fine: it lacks {key}")
    save_file({**tensors, "more": torch.ones(1)}, path)
    refused(folder, "is no d_fine: it has no place for more")
    save_file({**tensors, key: tensors[key] * float("nan")}, path)
    refused(folder, f"holds a NaN or an infinity in {key}")
    save_file(tensors, path)
    change(folder / "config.json", id2label={"0": "cat", "1": "dog"}, label2id=None)
    refused(folder, "is not as its config.json says: .* expected ")
    path.write_bytes(path.read_bytes()[:1000])
    refused(folder, "has a model.safetensors that is no safetensors file, or is damaged")
    path.unlink()
    refused(folder, "has no model.safetensors and no pytorch_model.bin")
    (folder / "pytorch_model.bin").write_bytes(b"PK nothing")
    refused(folder, "has a pytorch_model.bin that is truncated, damaged or no file of torch.save")
    torch.save([1, 2], folder / "pytorch_model.bin")
    refused(folder, "has a pytorch_model.bin that holds no state_dict")
    (folder / "pytorch_model.bin").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    refused(folder, "names files elsewhere")
    index.write_text(json.dumps({"weight_map": {"a": "part.safetensors"}}))
    refused(folder, "part.safetensors cannot be read")
    index.write_text("{}")
    refused(folder, "lists no files")


def test_configurations_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    path = folder / "config.json"
    whole = path.read_text()
    change(path, model_type="rt_detr")
    refused(folder, "is not as its config.json says: model.decoder.bbox_embed.0.layers.2.bias is 68, expected 4")
    change(path, model_type="vit")
    refused(folder, "unknown model type 'vit'.*deimv2")
    change(path, model_type=None)
    refused(folder, "has no model_type")
    path.write_text(whole)
    change(path, decoder_layers="six")
    refused(folder, "transformers does not take it")
    path.write_text(whole)
    change(path, id2label=["cat"])
    refused(folder, "id2label is no mapping of numbers to names")
    path.write_text(whole[:50])
    refused(folder, "is no JSON")
    path.write_text("[]")
    refused(folder, "is no JSON object")
    path.unlink()
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        families.open_detector("transformers", Asked(None, folder, (), 3, "teacher"))
    with pytest.raises(InputError, match=r"does not exist \(edgekd downloads none\); give the folder"):
        families.open_detector("transformers", Asked(None, tmp_path / "nowhere", (), 3, "teacher"))
    with pytest.raises(InputError, match="give 'weights'"):
        families.open_detector("transformers", Asked(None, None, (), 3, "teacher"))


def test_a_backbone_that_lies_elsewhere_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(network("detr-p"), tmp_path / "detr")
    change(folder / "config.json", backbone_config=None, backbone="microsoft/resnet-50", use_timm_backbone=False)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    refused(folder, "transformers does not take it")


def test_a_file_of_the_folder_is_not_the_folder(folder: Path) -> None:
    asked = Asked(None, folder / "model.safetensors", (), 3, "teacher")
    with pytest.raises(InputError, match=r"is a file; give the folder that model.save_pretrained wrote"):
        families.open_detector("transformers", asked)


def test_a_folder_beside_a_name_must_be_of_that_model(folder: Path) -> None:
    family = families.family("transformers")
    detector = opened(folder, "dfine-p")
    assert detector.spec.name == "dfine-p"
    assert family.differing("dfine-p", detector, "here") == []
    assert family.differing("rt-detr-p", detector, "here") == ["d_fine and rt_detr"]
    found = family.differing("dfine-x", detector, "here")
    assert "encoder_hidden_dim" in found
    assert "backbone_config.stage_out_channels" in found
    with pytest.raises(InputError, match="unknown model 'dfine-z'"):
        family.differing("dfine-z", detector, "here")


def test_what_shapes_nothing_makes_no_other_model() -> None:
    """The published nano's configuration has other numbers in three keys, and the same network."""
    family = families.family("transformers")
    detector: Any = families.open_detector("transformers", Asked("dfine-n", None, NAMES, 3, "here"))
    published = deepcopy(detector.module.config)
    published.freeze_backbone_batch_norms = True
    published.backbone_config.hidden_sizes = [128, 256, 512, 1024]
    published.backbone_config.embedding_size = 32
    made = of_config("d_fine", published.to_dict())
    ours, theirs = ({key: one.shape for key, one in each.state_dict().items()} for each in (detector.module, made))
    assert theirs == {key: shape for key, shape in ours.items() if key in theirs}
    assert all(key.endswith("num_batches_tracked") for key in set(ours) - set(theirs)), "frozen norms count nothing"
    assert family.differing("dfine-n", detector.with_module(made), "here") == []
    published.backbone_config.stage_mid_channels = [16, 32, 64, 64]
    narrow = detector.with_module(of_config("d_fine", published.to_dict()))
    assert family.differing("dfine-n", narrow, "here") == ["backbone_config.stage_mid_channels"]


def test_a_release_that_lacks_a_type_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import CONFIG_MAPPING

    monkeypatch.delitem(CONFIG_MAPPING._mapping, "d_fine")
    refused(folder, "has no model type d_fine; install a later one")


def test_images_with_too_few_places(folder: Path) -> None:
    detector = opened(folder)
    with pytest.raises(InputError, match="chooses 50 queries among the places of its maps, and 32x64 px have 42"):
        detector.compute(torch.zeros(1, 3, 64, 32), frozenset({"class_logits"}))
