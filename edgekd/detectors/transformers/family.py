"""The transformers family: teachers from local folders, students of four model types, and small ones by name.

Nothing here imports transformers before a detector is opened: that takes seconds, and it may not be installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.detectors import described, families
from edgekd.detectors.contract import Asked, Detector
from edgekd.detectors.style import TrainingStyle, a_step_each_batch
from edgekd.detectors.transformers import folder, library, written
from edgekd.detectors.transformers.architecture import differing_keys
from edgekd.detectors.transformers.models import LEARN, MODELS, kind_of, known, named
from edgekd.errors import InputError

_COCO = 80  # classes of a model that nobody names any for


class TransformersFamily:
    """See `Family`. Training defaults are those of RT-DETRv2 as published; all but its type and D-FINE's only teach."""

    name = "transformers"
    student_files: tuple[str, ...] = written.FILES
    train_defaults: Mapping[str, Any] = {
        "optimizer": "AdamW", "lr0": 0.0001, "lrf": 1.0, "weight_decay": 0.0001, "momentum": 0.9,
        "warmup_bias_lr": 0.0, "mosaic": 0.0, "mixup": 0.0,
    }  # fmt: skip
    style: TrainingStyle = TrainingStyle(defaults=a_step_each_batch, version=2)
    packages: tuple[str, ...] = ("transformers",)
    teach_only: tuple[str, ...] = tuple(name for name, (model_type, _) in MODELS.items() if model_type not in LEARN)

    def missing(self) -> str | None:
        """See `Family.missing`."""
        return library.missing()

    def models(self) -> list[str]:
        """See `Family.models`."""
        return list(MODELS)

    def accepts(self, model: str | None, weights_path: Path | None) -> bool:
        """By the name of the model, else by the `config.json` of a folder."""
        if model is not None:
            return model in MODELS
        if weights_path is None:
            return False
        if described.header_of(weights_path) is not None:
            return written.is_ours(weights_path)
        return folder.is_folder_of_ours(weights_path)

    def open(self, asked: Asked) -> Detector:
        """See `Family.open`."""
        if asked.weights is not None:
            return _of_folder(asked.weights, asked.model, f"{asked.where}.weights")
        if asked.model is None:
            raise InputError(f"{asked.where}: give 'weights' (the folder of a model) or 'model' (a name)")
        return _fresh(asked.model, asked)

    def differing(self, model: str, detector: Detector, where: str) -> list[str]:
        """See `Family.differing`: the model type, else keys of the configuration."""
        model_type, asked = known(model, detector.spec.input_channels, where)
        config: Any = detector.module.config
        if config.model_type != model_type:
            return [f"{config.model_type} and {model_type}"]
        return differing_keys(model_type, asked, config, where)


def _of_folder(path: Path, model: str | None, where: str) -> Detector:
    from edgekd.detectors.transformers.network import first_convolution, prepare
    from edgekd.detectors.transformers.weights import load

    if written.is_ours(path):
        return _of_file(path, where)
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist (edgekd downloads none)"
        raise InputError(f"{where}: {path} {what}; give the folder that model.save_pretrained wrote")
    model_type, content = folder.read_config(path, where)
    place = f"{where}: {path / folder.CONFIG}"
    kind = kind_of(model_type, place)
    config = library.config_of(model_type, content, place)
    names = [str(config.id2label[column]) for column in range(config.num_labels)]
    network = load(config, path, where)
    convention = folder.read_convention(path, kind, first_convolution(network).in_channels, where)
    return _running(_type_for(network), place, prepare(network, convention), model or path.resolve().name, kind, names)


def _of_file(path: Path, where: str) -> Detector:
    """A student that was trained here."""
    network, said = written.read(path, where)
    names, kind = tuple(map(str, said["classes"])), kind_of(str(said["model_type"]), where)
    every = tuple(range(len(names)))
    return _running(_type_for(network), where, network, str(said["model"]), kind, names, None, every)


def _fresh(model: str, asked: Asked) -> Detector:
    from edgekd.detectors.transformers.network import prepare

    where = f"{asked.where}.model"
    names = asked.class_names or tuple(f"class {index}" for index in range(_COCO))
    model_type, content = named(model, asked.channels, names, where)
    kind = kind_of(model_type, where)
    network = library.built(library.config_of(model_type, content, where), f"{where}: {model}")
    convention = folder.Convention.of_kind(kind, asked.channels)
    every = tuple(range(len(names)))
    return _running(_type_for(network), where, prepare(network, convention), model, kind, names, None, every)


def _type_for(network: Any) -> Any:
    """Of a network that can be trained, or of one that only teaches."""
    from edgekd.detectors.transformers.detector import TransformersDetector
    from edgekd.detectors.transformers.inside import can_be_watched
    from edgekd.detectors.transformers.student import TransformersStudent

    return TransformersStudent if can_be_watched(network) else TransformersDetector


def _running(kind: Any, where: str, *arguments: Any) -> Detector:
    """A detector that was run once. What a configuration says may break anywhere.

    Raises:
        InputError: it does not run, or has no maps.
    """
    try:
        detector: Detector = kind(*arguments)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{where}: no detector that runs ({type(error).__name__}: {error}); use another") from error
    return detector


families.register(TransformersFamily())
