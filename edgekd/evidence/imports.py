"""What makes and runs artifacts, read off the imports: the files of `export/` and `agent/` that a module leads to."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import edgekd

_PACKAGE = "edgekd"
_ROOT = Path(edgekd.__file__).parent
_ROOMS = ("export/", "agent/")
# The list of all exporters, which leads everywhere; sensors, which no result depends on; the agent's version.
_OUTSIDE = ("export/exporters.py", "agent/telemetry/", "agent/__init__.py")
_CONVERTERS = _ROOT / "export" / "converters"  # programs in a Python of their own, named by their file


def reached(modules: Iterable[str]) -> list[str]:
    """Files below the package, those of the modules themselves among them; another package's lead nowhere."""
    found: set[str] = set()
    open_ones = [path for module in modules if (path := _file(module))]
    while open_ones:
        path = open_ones.pop()
        name = path.relative_to(_ROOT).as_posix()
        if name not in found and name.startswith(_ROOMS) and not name.startswith(_OUTSIDE):
            found.add(name)
            open_ones += _named(path)
    return sorted(found)


@cache
def _named(path: Path) -> tuple[Path, ...]:
    """Files of the package that one imports, anywhere in it but for types, and converters whose file it names."""
    found: list[Path | None] = []
    for node in _code(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [_file(alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, path)
            found += [_file(module), *(_file(f"{module}.{alias.name}") for alias in node.names)]
            if path.parent == _CONVERTERS:
                found.append(_existing(_CONVERTERS / f"{node.module}.py"))  # each other, by bare names
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(".py"):
            found.append(_existing(_CONVERTERS / node.value))
    return tuple(dict.fromkeys(one for one in found if one))


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below, except what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _code(child)


def _absolute(node: ast.ImportFrom, path: Path) -> str:
    """The module that is meant, dots resolved."""
    if not node.level:
        return node.module or ""
    parts = path.relative_to(_ROOT.parent).parts[: -node.level]
    return ".".join((*parts, *([node.module] if node.module else [])))


def _file(module: str) -> Path | None:
    first, *rest = module.split(".")
    if first != _PACKAGE:
        return None
    path = _ROOT.joinpath(*rest)
    return _existing(path / "__init__.py") or _existing(path.with_name(f"{path.name}.py"))


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None
