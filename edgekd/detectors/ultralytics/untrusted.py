"""What a weights file or a model YAML from elsewhere may contain, found out before the engine sees it.

The engine reads checkpoints by allow-list, and yet three things remain: an archive that unpacks into far more than it
is, classes of the allow-list that are called with arguments of the file's choice (some then download weights or take
all memory), and a model YAML inside, which is text that builds whatever it says. Nothing here imports or calls what a
file names.
"""

from __future__ import annotations

import ast
import functools
import io
import json
import pickle
import struct
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from edgekd.detectors.inert import Foreign

_KNOWN = frozenset({"torch", "torchvision", "ultralytics", "numpy", "collections", "pathlib", "builtins", "_codecs"})
# What a checkpoint of the engine calls with arguments when it is read; objects of other classes only get a state.
_CALLED = frozenset({
    "_codecs.encode", "builtins.getattr", "builtins.set", "collections.OrderedDict", "numpy.dtype",
    "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "pathlib.PosixPath", "pathlib.WindowsPath",
    "pathlib._local.PosixPath", "pathlib._local.WindowsPath", "torch.Size", "torch.device",
    "torch._utils._rebuild_parameter", "torch._utils._rebuild_tensor_v2",
})  # fmt: skip
_MOST_LAYERS = 10_000
_MOST_NUMBERS = 1_000_000_000  # 4 GB; the largest detectors of the engine have 100 million
# The end of a ZIP archive: 64-bit record and its locator, which older writers leave out, and the classic record.
_ENDING = struct.Struct("<4s44xQ4s4xQ4x4s12xIH")


class Refused(ValueError):
    """Why a file or a model YAML is not opened: the end of a sentence that begins with its name."""


def check_checkpoint(path: Path) -> None:
    """Look into a `.pt` file without unpickling it.

    Archives are refused whose members together are larger than the file: PyTorch stores them uncompressed, so that
    reading an accepted file takes no more memory than its size on the disk.

    Raises:
        Refused: no archive of PyTorch, one that unpacks into more than it is, or one that names what no Ultralytics
            checkpoint has or calls what none calls.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(path, archive)
            pickles = [one for one in archive.infolist() if one.orig_filename.lower().split("/")[-1] == "data.pkl"]
            if len(pickles) != 1:
                raise Refused("is no checkpoint of PyTorch (no data.pkl)")
            content = archive.read(pickles[0])
    except Refused:
        raise
    except Exception as error:  # a broken archive breaks its reader in any way it likes, and so does a pickle
        raise Refused(f"is empty, damaged or no checkpoint of PyTorch ({error})") from error
    try:
        _Inspector(io.BytesIO(content)).load()
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"holds a damaged pickle ({type(error).__name__})") from error


def check_config(config: Any) -> None:
    """Check a model YAML.

    Raises:
        Refused: it would run an expression, download weights, or repeat layers without end.
    """
    if not isinstance(config, Mapping) or not all(isinstance(config.get(key), list) for key in ("backbone", "head")):
        raise Refused("is no model YAML (needs the lists backbone and head)")
    layers = [*config["backbone"], *config["head"]]
    if not all(isinstance(layer, (list, tuple)) and len(layer) == 4 and _is_layer(*layer) for layer in layers):
        raise Refused("has a layer that is not [from, repeats, module, arguments]")
    if sum(layer[1] for layer in layers) * _deepest(config) > _MOST_LAYERS:
        raise Refused(f"repeats its layers more than {_MOST_LAYERS} times")
    activation = config.get("activation")
    if activation and not _is_activation(activation):
        shown = f"{str(activation)[:60]!r}{'' if len(str(activation)) <= 60 else ' ...'}"
        raise Refused(f"has the activation {shown}; allowed is one of torch.nn, such as nn.ReLU() or nn.LeakyReLU(0.1)")
    for _, _, module, arguments in layers:
        if module == "TorchVision" and (len(arguments) < 3 or arguments[2] not in (None, "None")):
            raise Refused("has a TorchVision layer that downloads weights; give None as its third argument")


def check_described(config: Mapping[str, Any], channels: int, held: Iterable[Any]) -> None:
    """Check that a model YAML that came with weights describes a network of about their size, building none.

    Args:
        held: the tensors that came with it.

    Raises:
        Refused: it describes one of more than twice the size, which a small file must not make us build.
    """
    described = _described(config, channels)
    count = sum(value.numel() for value in held)
    if described > 2 * count:
        raise Refused(f"describes a network of {described} numbers, but holds {count}")


def check_extent(config: Mapping[str, Any], channels: int) -> None:
    """Check that a model YAML that came without weights describes a network that can be built, building none.

    Raises:
        Refused: it describes one that no machine trains, or none.
    """
    try:
        described = _described(config, channels)
    except Exception as error:  # a layer that there is not, a width of nothing: it breaks anywhere
        raise Refused(f"cannot be built ({type(error).__name__}: {error}); correct it") from error
    if described > _MOST_NUMBERS:
        raise Refused(f"describes a network of {described:,} numbers; at most {_MOST_NUMBERS:,} are built")


def require_finite(tensors: Mapping[str, Any]) -> None:
    """Check that weights are numbers.

    Raises:
        Refused: one is a NaN or an infinity.
    """
    import torch

    for name, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise Refused(f"holds a NaN or an infinity in {name}; use weights of a training that did not diverge")


def _described(config: Mapping[str, Any], channels: int) -> int:
    """How many numbers the network of a model YAML holds."""
    return _counted(json.dumps(dict(config), default=str), channels)


@functools.lru_cache(maxsize=64)  # a run opens the same few models again and again
def _counted(config: str, channels: int) -> int:
    import torch
    from ultralytics.nn.tasks import parse_model

    with torch.device("meta"):
        network, _ = parse_model(json.loads(config), channels, verbose=False)
    return sum(value.numel() for value in network.state_dict().values())


def _check_sizes(path: Path, archive: zipfile.ZipFile) -> None:
    size = path.stat().st_size
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > size:
        raise Refused(f"unpacks into {unpacked} bytes from a file of {size}, which no checkpoint of PyTorch does")
    with path.open("rb") as stream:
        stream.seek(max(0, size - _ENDING.size))
        ending = stream.read()
    if len(ending) < _ENDING.size or not _has_one_directory(ending, archive.start_dir, size - _ENDING.size):
        raise Refused("lists its members in more than one place, which no checkpoint of PyTorch does")


def _has_one_directory(ending: bytes, start: int, offset: int) -> bool:
    """Whether PyTorch finds the directory where Python found it: from the file's end, or at the offset noted there.

    Args:
        ending: the last bytes of the file, which begin at `offset`.
        start: where Python found the directory.
    """
    record, long_start, locator, record_offset, end, short_start, comment = _ENDING.unpack(ending)
    if end != b"PK\5\6" or comment or short_start not in (start, 0xFFFFFFFF):
        return False
    return locator != b"PK\6\7" or (record, record_offset, long_start) == (b"PK\6\6", offset, start)


class _Inspector(pickle._Unpickler):
    """Goes through a pickle and notes what it names and calls; every object in it is inert."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    append: Callable[[Any], None]

    def find_class(self, module: str, name: str) -> Any:
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))  # of protocol 2
        if module.partition(".")[0] not in _KNOWN:
            raise Refused(f"names {module}.{name}, so it is of another library, or hostile")
        return Foreign(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        return Foreign()

    def _call(self) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, Foreign) or not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("calls what is no class")
        if arguments and called.name not in _CALLED:
            raise Refused(f"calls {called.name} with arguments, which no Ultralytics checkpoint does")
        self.append(Foreign(f"what {called.name} returned"))

    def _set_state(self) -> None:
        self.stack.pop()

    dispatch[pickle.REDUCE[0]] = dispatch[pickle.NEWOBJ[0]] = _call
    dispatch[pickle.BUILD[0]] = _set_state


def _is_layer(source: Any, repeats: Any, module: Any, arguments: Any) -> bool:
    sources = source if isinstance(source, list) else [source]
    whole = all(isinstance(number, int) for number in (*sources, repeats))
    return whole and isinstance(module, str) and isinstance(arguments, list)


def _deepest(config: Mapping[str, Any]) -> float:
    """The largest factor that the YAML has on its repeats; 1 where none is a number, which is said elsewhere."""
    scales = config.get("scales")
    scales = scales.values() if isinstance(scales, Mapping) else []
    given = [scale[0] for scale in scales if isinstance(scale, (list, tuple)) and scale]
    factors = [factor for factor in (*given, config.get("depth_multiple")) if isinstance(factor, (int, float))]
    return max((1.0, *factors))


def _is_activation(text: Any) -> bool:
    """Whether it is `[torch.]nn.Name(literals)`."""
    try:
        call = ast.parse(str(text).strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            return False
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        return ast.unparse(call.func.value) in ("nn", "torch.nn") and all(_is_literal(value) for value in values)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False


def _is_literal(node: ast.AST) -> bool:
    try:
        ast.literal_eval(node)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return False
    return True
