"""Whether a network is of a model that has a name: what shapes it is compared, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from edgekd.detectors.transformers import library

# Of how a network is trained, or where the library looks for a backbone.
_NOT_OF_THE_SHAPE = ("num_denoising", "freeze_backbone_batch_norms", "use_timm_backbone", "backbone")
# By the backbone's type, what says again what other keys say: HGNet's channels are those of its stages, and published
# folders hold other numbers here for stages that nothing reads.
_SAID_AGAIN = {"hgnet_v2": ("hidden_sizes", "embedding_size", "depths")}


def differing_keys(model_type: str, asked: Mapping[str, Any], config: Any, where: str) -> list[str]:
    """Keys whose values in the configuration of a network are not those that are asked for.

    Args:
        asked: what differs from the default; as the library's own class writes it, so that spellings are no difference.
        config: of the network.

    Raises:
        InputError: the library does not take what is asked.
    """
    wanted = library.config_of(model_type, deepcopy(dict(asked)), where).to_dict()
    return list(_differing(asked, wanted, config.to_dict()))


def _differing(asked: Mapping[str, Any], wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    left_out = (*_NOT_OF_THE_SHAPE, *_SAID_AGAIN.get(str(wanted.get("model_type")), ()))
    for key, given in asked.items():
        if key in left_out:
            continue
        value, other = wanted.get(key), found.get(key)
        if isinstance(given, Mapping) and isinstance(value, Mapping) and isinstance(other, Mapping):
            yield from (f"{key}.{inner}" for inner in _differing(given, value, other))
        elif _plain(value) != _plain(other):
            yield key


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
