"""YAML as people mean it: the safe loader, without the readings of YAML 1.1 that change what was written.

Numbers such as `1e-3` are numbers, dates and `12:30` are text, and class names are what stands in the file: `no` is the
name "no", `010` the name "010". What has two readings is refused: a number with a leading zero, a key given twice.

Files come from others: only text, finite numbers, truth values, lists and mappings are made, of a bounded extent, and
where a value cannot be made, the error names its line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import yaml

from edgekd.errors import InputError
from edgekd.files import read_text
from edgekd.plain import cut
from edgekd.plain import value as shown

Which = Literal["all", "keys"]
Names = Mapping[str, Which]

MOST_BYTES = 1_000_000
MOST_VALUES = 100_000  # a data.yaml of 20,000 classes has 40,000
MOST_LEVELS = 30
LONGEST_VALUE = 10_000

_TOO_DEEP = f"lists and mappings inside each other more than {MOST_LEVELS} deep; write it flatter"
_NONE: Names = MappingProxyType({})
_TAG = "tag:yaml.org,2002:"
_EXPONENT = re.compile(r"^[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$")
_LEADING_ZERO = re.compile(r"^[-+]?0[0-9_]+$")
_DECIMAL_STARTS = list("-+.0123456789")


def read_mapping(path: Path, names: Names = _NONE, advice: str = "correct the path") -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Args:
        names: places (`gate.min_ap_per_class`) of class names, which stay text as written: all that stands there, or
            the keys alone.
        advice: what to do where the file cannot be read.

    Raises:
        InputError: missing, not YAML, not a mapping, a key twice, or a value with two readings.
    """
    try:
        content = parse(read_text(path, MOST_BYTES, "utf-8-sig"), names)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {advice}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text; give a YAML file") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML ({reason(error)})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: must be a mapping of keys, got {type(content).__name__}")
    return content


def parse(text: str, names: Names = _NONE, place: str = "") -> Any:
    """The content of a YAML text; `place` is where it stands in its file.

    Raises:
        yaml.YAMLError: not YAML, a value with two readings or beyond the bounds; `reason` says it in words.
    """
    loader = _Loader(text)
    try:
        node = _composed(loader)
        if node is None:
            return None
        _Extent().of(node)
        _keep_names(node, names, place)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def dump(content: Any) -> str:
    """YAML that this loader and one of YAML 1.1 read alike: text that either takes for a number is quoted."""
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def dump_in_a_line(content: Any) -> str:
    """The same on one line, however long."""
    text: str = yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=True, width=math.inf
    )
    return text.removesuffix("...\n").strip()


def reason(error: yaml.YAMLError) -> str:
    """What is wrong, with its line."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return f"line {mark.line + 1}: {problem}" if mark and problem else str(error)


def _composed(loader: _Loader) -> yaml.Node | None:
    try:
        node: yaml.Node | None = loader.get_single_node()
    except RecursionError:
        raise yaml.YAMLError(_TOO_DEEP) from None
    return node


class _Extent:
    """Counts what a document becomes once every alias is written out, without writing it out."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int]] = {}
        self._open: set[int] = set()

    def of(self, node: yaml.Node) -> tuple[int, int]:
        """(values, levels) of a node.

        Raises:
            yaml.YAMLError: too many of either, a text that is too long, or a part that holds itself.
        """
        if id(node) in self._open:
            raise _error("a list or mapping that holds itself; write out what it should hold", node)
        if id(node) not in self._known:
            self._open.add(id(node))
            self._known[id(node)] = self._counted(node)
            self._open.remove(id(node))
        return self._known[id(node)]

    def _counted(self, node: yaml.Node) -> tuple[int, int]:
        if isinstance(node, yaml.ScalarNode):
            if len(node.value) > LONGEST_VALUE:
                raise _error(f"a value of {len(node.value):,} characters; at most {LONGEST_VALUE:,} are read", node)
            return 1, 0
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        values, levels = 1, 0
        for part in parts:
            inside, below = self.of(part)
            values, levels = values + inside, max(levels, below)
            if values > MOST_VALUES:
                raise _error(f"more than {MOST_VALUES:,} values, aliases written out; leave most of them out", node)
        if levels >= MOST_LEVELS:
            raise yaml.YAMLError(_TOO_DEEP)
        return values, levels + 1


def _keep_names(node: yaml.Node, names: Names, place: str) -> None:
    """Turn plain scalars that YAML took for numbers or truth values back to text, at the places of `names`.

    Null stays: an empty place is no name.
    """
    if place in names:
        _as_written(node, names[place], set())
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                _keep_names(value, names, f"{place}.{key.value}" if place else key.value)


def _as_written(node: yaml.Node, which: Which, seen: set[int]) -> None:
    if id(node) in seen:  # an anchor may hold itself
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        kinds = ("bool", "int", "float") if which == "all" else ("bool",)  # a number beside a name is a number
        if node.tag in {_TAG + kind for kind in kinds}:
            node.tag = f"{_TAG}str"
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _as_written(item, which, seen)
    else:
        for key, value in node.value:
            _as_written(key, "all", seen)
            _as_written(value, which, seen)


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key given twice: the second would silently win."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise _error(f"key '{key.value}' is given twice", key)
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: Any) -> Any:
        """Refuse text that cannot be written anywhere, or ends where a NUL is for whoever reads it next."""
        value = super().construct_scalar(node)
        if "\0" in value:
            raise _error("text with a NUL (\\0); leave it out", node)
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _error(
                r"text with half of a surrogate pair (\ud800 to \udfff); write the character itself", node
            ) from None
        return value

    def construct_number(self, node: Any) -> Any:
        """Refuse `010`, which is 8 to YAML, and read `12:30` as the text that it is."""
        value = node.value
        if _LEADING_ZERO.match(value):
            meant = value.replace("_", "").lstrip("+-0") or "0"
            raise _error(
                f"{value} has a leading zero, which YAML reads as octal; write {meant}, or put it in quotes", node
            )
        if ":" in value:
            return self.construct_scalar(node)
        number = self.construct_yaml_float(node) if node.tag == f"{_TAG}float" else self.construct_yaml_int(node)
        if not (math.isfinite(number) if isinstance(number, float) else -(2**63) <= number < 2**63):
            raise _error(f"{cut(value)} cannot be worked with; write a finite number of at most 64 bits", node)
        return number

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Say where a value is that cannot be made; constructors raise what they like."""
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except Exception as error:
            kind = node.tag.removeprefix(_TAG)
            raise _error(f"{shown(node.value)} is no {kind}; write a value that is one", node) from error

    def construct_undefined(self, node: Any) -> Any:
        """Refuse tags: what they make is neither text, number, list nor mapping, or a call."""
        raise _error(f"the tag {cut(node.tag)} is not read; write text, numbers, lists and mappings", node)


class _Dumper(yaml.SafeDumper):
    pass


def _error(problem: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAG}timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.yaml_constructors = {
    tag: make
    for tag, make in yaml.SafeLoader.yaml_constructors.items()
    if tag in {_TAG + kind for kind in ("null", "bool", "str", "seq", "map")}
}
_Loader.add_constructor(None, _Loader.construct_undefined)
for _kind in ("int", "float"):
    _Loader.add_constructor(f"{_TAG}{_kind}", _Loader.construct_number)
for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(f"{_TAG}float", _EXPONENT, _DECIMAL_STARTS)
