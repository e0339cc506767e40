"""The transformers family: teachers from local folders, and small ones by name.

Nothing here imports transformers before a detector is opened: that takes seconds, and it may not be installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.detectors import described, families
from edgekd.detectors.contract import Asked, Detector
from edgekd.detectors.style import THE_ENGINES, TrainingStyle
from edgekd.detectors.transformers import folder, library
from edgekd.detectors.transformers.models import MODELS, kind_of, known, named
from edgekd.errors import InputError

_COCO = 80  # classes of a model that nobody names any for


class TransformersFamily:
    """See `Family`. Its detectors teach; none is trained here."""

    name = "transformers"
    student_files: tuple[str, ...] = ()
    train_defaults: Mapping[str, Any] = {}
    style: TrainingStyle = THE_ENGINES
    packages: tuple[str, ...] = ("transformers",)

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
        if weights_path is None or described.header_of(weights_path) is not None:
            return False
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
        model_type, asked = known(model, where)
        config: Any = detector.module.config
        if config.model_type != model_type:
            return [f"{config.model_type} and {model_type}"]
        return _differing(asked, config.to_dict())


def _of_folder(path: Path, model: str | None, where: str) -> Detector:
    from edgekd.detectors.transformers.detector import TransformersDetector
    from edgekd.detectors.transformers.network import first_convolution, prepare
    from edgekd.detectors.transformers.weights import load

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
    return _running(
        lambda: TransformersDetector(prepare(network, convention), model or path.resolve().name, kind, names), place
    )


def _fresh(model: str, asked: Asked) -> Detector:
    from edgekd.detectors.transformers.detector import TransformersDetector
    from edgekd.detectors.transformers.network import prepare

    where = f"{asked.where}.model"
    names = asked.class_names or tuple(f"class {index}" for index in range(_COCO))
    model_type, content = named(model, asked.channels, names, where)
    kind = kind_of(model_type, where)
    network = library.built(library.config_of(model_type, content, where), f"{where}: {model}")
    convention = folder.Convention.of_kind(kind, asked.channels)
    return _running(lambda: TransformersDetector(prepare(network, convention), model, kind, names), where)


def _running(make: Any, where: str) -> Detector:
    """A detector that was run once. What a configuration says may break anywhere.

    Raises:
        InputError: it does not run, or has no maps.
    """
    try:
        detector: Detector = make()
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{where}: no detector that runs ({type(error).__name__}: {error}); use another") from error
    return detector


def _differing(asked: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Keys whose values are not those that are asked for."""
    differing = []
    for key, value in asked.items():
        other = found.get(key)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            differing += [f"{key}.{inner}" for inner in _differing(value, other)]
        elif value is not None and (list(other) if isinstance(other, tuple) else other) != value:
            differing.append(key)
    return differing


families.register(TransformersFamily())
