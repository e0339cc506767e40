"""What an Ultralytics network is, found out by running it once: its spec and its taps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from edgekd.detectors.spec import Branch, DenseHead, Head, Part, Role, Spec, Tap, Tower
from edgekd.detectors.ultralytics.queries import describe_head

_PROBE_SIZE_PX = 64
_MOST_STRIDE = 256


def describe(module: Any, name: str, is_query: bool) -> Spec:
    """The spec of a network.

    Raises:
        ValueError: its strides cannot be, or it gives what is not finite.
    """
    if not all(1 <= stride <= _MOST_STRIDE for stride in module.stride.tolist()):
        raise ValueError(f"strides {module.stride.tolist()} are not in 1..{_MOST_STRIDE}")
    channels = int(module.yaml.get("channels", 3))
    taps, towers = _discover(module, channels)
    strides = tuple(sorted(tap.stride for tap in taps if tap.role == "neck"))
    return Spec(
        family="ultralytics",
        name=name,
        class_names=tuple(str(module.names[index]) for index in sorted(module.names)),
        input_channels=channels,
        size_multiple=int(module.stride.max()),
        taps=taps,
        head=describe_head(module.model[-1], strides) if is_query else _dense_head(module.model[-1]),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        towers=towers,
    )


def _dense_head(head: Any) -> Head:
    branches: tuple[Branch, ...] = ("one2many",)
    if getattr(head, "one2one_cv2", None) is not None:
        branches = ("one2many", "one2one")
    strides = tuple(int(stride) for stride in head.stride)
    return DenseHead(strides, point_offset=0.5, bins=int(head.reg_max), branches=branches)


def head_part(module: Any, path: str) -> Part | None:
    """What of the head must be asked for so that a module runs; None for everything before the head."""
    head = module.model[-1]
    if not path.startswith(f"model.{head.i}."):
        return None
    return "boxes" if "cv2" in path.split(".")[2] else "class_logits"


def _discover(module: Any, channels: int) -> tuple[tuple[Tap, ...], tuple[Tower, ...]]:
    """Run once on a ramp of grey and read (stride, channels) of every layer that a role names, and of the towers."""
    head = module.model[-1]
    roles: dict[str, Role] = {f"model.{index}": "neck" for index in head.f}
    backbone = [f"model.{index}" for index in range(len(module.yaml["backbone"]))]
    for level in range(len(getattr(head, "cv2", None) or ())):
        roles[f"model.{head.i}.cv3.{level}.1"] = "head_cls"
        roles[f"model.{head.i}.cv2.{level}.1"] = "head_box"
    towers = _tower_paths(head)
    inside = {path: _TOWERS[part][1] for (part, _, _), paths in towers.items() for path in paths}
    size, shapes = probe(module, channels, [*roles, *backbone, *inside])

    def tap(path: str, role: Role) -> Tap:
        return Tap(role, path, size // shapes[path][2], shapes[path][1], part=head_part(module, path))

    taps = [tap(path, role) for path, role in roles.items()]
    deepest = {size // shapes[path][2]: path for path in backbone}  # the last layer of each stride wins
    taps += [
        Tap("backbone", path, stride, shapes[path][1])
        for stride, path in deepest.items()
        if stride in {tap.stride for tap in taps}
    ]
    found = tuple(
        Tower(part, level, branch, tuple(tap(path, inside[path]) for path in paths))
        for (part, level, branch), paths in towers.items()
    )
    return tuple(sorted(taps, key=lambda tap: (tap.role, tap.stride))), found


_TOWERS: dict[Part, tuple[str, Role]] = {"class_logits": ("cv3", "head_cls"), "boxes": ("cv2", "head_box")}


def _tower_paths(head: Any) -> dict[tuple[Part, int, Branch], list[str]]:
    """Paths of the layers before the last one, by what a tower predicts, its level and its branch."""
    branches: dict[str, Branch] = {"": "one2many", "one2one_": "one2one"}
    return {
        (part, level, branch): [f"model.{head.i}.{prefix}{name}.{level}.{layer}" for layer in range(len(tower) - 1)]
        for part, (name, _) in _TOWERS.items()
        for prefix, branch in branches.items()
        for level, tower in enumerate(getattr(head, f"{prefix}{name}", None) or ())
    }


def probe(module: Any, channels: int, paths: Sequence[str]) -> tuple[int, dict[str, tuple[int, ...]]]:
    """Side of a square input in px, and the output shape of each module for it.

    Raises:
        ValueError: an output is not finite.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def note(path: str) -> Any:
        return lambda _module, _inputs, output: shapes.__setitem__(path, tuple(getattr(output, "shape", ())))

    handles = [module.get_submodule(path).register_forward_hook(note(path)) for path in dict.fromkeys(paths)]
    was_training = module.training
    size = max(_PROBE_SIZE_PX, 2 * int(module.stride.max()))
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            device = next(module.parameters()).device
            ramp = torch.linspace(0, 1, channels * size * size, device=device)
            require_finite(module.eval()(ramp.reshape(1, channels, size, size)))
    finally:
        module.train(was_training)
        for handle in handles:
            handle.remove()
    return size, shapes


def require_finite(outputs: Any) -> None:
    """Refuse tensors, in lists and mappings of any depth, that hold a NaN or an infinity.

    Raises:
        ValueError: one does.
    """
    if isinstance(outputs, torch.Tensor):
        if outputs.is_floating_point() and not torch.isfinite(outputs).all():
            raise ValueError("its outputs are not finite")
    elif isinstance(outputs, dict):
        require_finite(list(outputs.values()))
    elif isinstance(outputs, (list, tuple)):
        for output in outputs:
            require_finite(output)
