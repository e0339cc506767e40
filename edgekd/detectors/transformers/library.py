"""The library itself: imported without any network, silent, and never asked to run code of a model's folder."""

from __future__ import annotations

import os
from importlib import metadata, util
from typing import Any

from edgekd.errors import InputError, unknown

OLDEST = 5  # major version; earlier ones name the layers otherwise
_REMEDY = "pip install 'edgekd[hf]'"


def missing() -> str | None:
    """Why the library cannot be used here, with the remedy; None if it can. It is not imported."""
    if util.find_spec("transformers") is None:
        return f"transformers is not installed; {_REMEDY} (with Python 3.11 or later)"
    version = metadata.version("transformers")
    if int(version.partition(".")[0]) < OLDEST:
        return f"transformers {version} is too old (at least {OLDEST}); {_REMEDY}"
    return None


def library() -> Any:
    """The module `transformers`, from now on offline whatever a configuration asks for."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ[name] = "1"
    import huggingface_hub.constants as hub
    import transformers

    hub.HF_HUB_OFFLINE = True  # had something else imported it before
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def config_of(model_type: str, content: dict[str, Any], where: str) -> Any:
    """A configuration object of the library, by what a `config.json` says.

    Raises:
        InputError: the installed release has no such type, or does not take these values.
    """
    transformers = library()
    mapping = transformers.CONFIG_MAPPING
    if model_type not in mapping:
        raise InputError(
            f"{where}: transformers {transformers.__version__} has no model type {model_type}; install a later one "
            f"({_REMEDY})"
        )
    try:
        return mapping[model_type].from_dict(content)
    except Exception as error:  # its own checks, and whatever a wrong value breaks
        reason = _first_line(error)
        raise InputError(f"{where}: transformers does not take it ({reason}); correct config.json") from error


def network_class(config: Any, where: str) -> Any:
    """The class of the library that detects by such a configuration.

    Raises:
        InputError: there is none.
    """
    transformers = library()
    mapping = transformers.MODEL_FOR_OBJECT_DETECTION_MAPPING
    if type(config) not in mapping:
        known = [one.model_type for one in mapping]
        raise InputError(f"{where}: {unknown('model type', config.model_type, known)}")
    return mapping[type(config)]


def built(config: Any, where: str) -> Any:
    """A network with random weights from torch's global generator, in eval mode, fp32.

    Raises:
        InputError: a part is not installed, would have to be downloaded, or does not fit the rest.
    """
    try:
        network = network_class(config, where)(config).float().eval()
    except InputError:
        raise
    except Exception as error:  # widths that do not fit one another break anywhere
        raise InputError(f"{where}: cannot be built ({_first_line(error)}); correct config.json") from error
    return _drawn_anew(network)


def _drawn_anew(network: Any) -> Any:
    """With convolutions and batch norms as ResNets begin: behind those of the library, near zero, signals die."""
    from torch import nn

    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(part, nn.BatchNorm2d):
            part.reset_parameters()
    return network


def _first_line(error: Exception) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:200]
    return text if len(text.split()) > 2 else f"{type(error).__name__}: {text}"
