"""Changes of a recipe's text that leave everything else of it as people wrote it: comments, order, style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from edgekd.recipe.yaml_text import dump

Path = Sequence[str]


def set_value(text: str, path: Path, value: Any) -> str:
    """The text with a value at a place, which is made where it is not there yet."""
    node = _at(text, path)
    if node is not None:
        return _replaced(text, node.start_mark.index, _end(node), flow(value))
    if len(path) > 1 and not isinstance(_at(text, path[:-1]), yaml.MappingNode):
        return set_value(text, path[:-1], {path[-1]: value})
    parent = _at(text, path[:-1])
    entry = f"{flow(path[-1])}: {flow(value)}"
    if parent is None or not isinstance(parent, yaml.MappingNode):
        return f"{text.rstrip()}\n{entry}\n".lstrip("\n")
    if parent.flow_style:
        return _into_brackets(text, parent, entry)
    return _new_line(text, _end(parent), f"{' ' * parent.start_mark.column}{entry}")


def append_item(text: str, path: Path, value: Any) -> str:
    """The text with one more item at the end of a list, which is made where there is none."""
    node = _at(text, path)
    if not isinstance(node, yaml.SequenceNode):
        return set_value(text, path, [value])
    if node.flow_style:
        return _into_brackets(text, node, flow(value))
    return _new_line(text, _end(node), f"{' ' * node.start_mark.column}- {flow(value)}")


def remove_key(text: str, path: Path) -> str:
    """The text without a key of a mapping and its value; as it is where there is none."""
    parent = _at(text, path[:-1])
    entries = parent.value if isinstance(parent, yaml.MappingNode) else []
    index = next((number for number, (key, _) in enumerate(entries) if key.value == path[-1]), None)
    if index is None or parent is None:
        return text
    key, value = entries[index]
    if parent.flow_style:
        if index + 1 < len(entries):
            return _replaced(text, key.start_mark.index, entries[index + 1][0].start_mark.index, "")
        start = _end(entries[index - 1][1]) if index else key.start_mark.index
        return _replaced(text, start, _end(value), "")
    start, end = text.rfind("\n", 0, key.start_mark.index) + 1, text.find("\n", _end(value))
    return text[:start] + ("" if end < 0 else text[end + 1 :])


def flow(value: Any) -> str:
    """A value on one line, in a way that any loader of YAML reads back."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(key)}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(flow(inner) for inner in value) + "]"
    shown = dump([value]).removeprefix("- ").removesuffix("\n")
    risky = isinstance(value, str) and (any(sign in value for sign in "{}[],\n") and shown[0] not in "'\"")
    return "'" + shown.replace("'", "''") + "'" if risky else shown


def _at(text: str, path: Path) -> Any:
    """The node of a value; None where there is none."""
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    for part in path:
        entries = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for key, value in entries if key.value == part), None)
    return node


def _end(node: Any) -> int:
    """Behind the last sign of a node; a block ends, for its parser, only where the next thing begins."""
    if isinstance(node, yaml.ScalarNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _replaced(text: str, start: int, end: int, new: str) -> str:
    return text[:start] + new + text[end:]


def _into_brackets(text: str, node: Any, entry: str) -> str:
    """Behind the last entry of a list or mapping in brackets."""
    if not node.value:
        return _replaced(text, node.start_mark.index + 1, node.end_mark.index - 1, entry)
    last = node.value[-1]
    end = _end(last[1] if isinstance(last, tuple) else last)
    return _replaced(text, end, end, f", {entry}")


def _new_line(text: str, behind: int, line: str) -> str:
    """Below the line in which something ends, and its comment."""
    end = text.find("\n", behind)
    return f"{text.rstrip()}\n{line}\n" if end < 0 else _replaced(text, end, end, f"\n{line}")
