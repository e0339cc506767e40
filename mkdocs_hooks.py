"""Writes the reference of the Python interface while the site is built, from signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

MARK = "<!-- reference -->"
MADE_BY_USERS = ("Recipe", "Run")  # other classes come out of functions
_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):$")
_ENTRY = re.compile(r"^ {4}(\S[^:]*): (.*)$")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What mkdocs shows of a page: the mark becomes the reference."""
    return markdown.replace(MARK, reference()) if MARK in markdown else markdown


def reference() -> str:
    """Functions, classes and exceptions of `import edgekd`, as Markdown."""
    import edgekd

    found = {name: getattr(edgekd, name) for name in sorted(edgekd.__all__) if name != "__version__"}
    found = {name: getattr(edgekd.api, name, value) for name, value in found.items()}
    kinds: dict[str, Callable[[Any], bool]] = {
        "Functions": lambda one: not inspect.isclass(one),
        "Classes": lambda one: inspect.isclass(one) and not issubclass(one, Exception),
        "Exceptions": lambda one: inspect.isclass(one) and issubclass(one, Exception),
    }
    lines: list[str] = []
    for title, belongs in kinds.items():
        lines += [f"## {title}", ""]
        for name, one in found.items():
            if belongs(one):
                lines += _entry("###", f"edgekd.{name}", one)
                lines += _members(name, one) if title == "Classes" else []
    return "\n".join(lines)


def _members(owner: str, kind: type) -> Iterator[str]:
    """Public methods and properties that a class of edgekd's has, those of its parents in edgekd included."""
    bases = [base for base in kind.__mro__ if base.__module__.startswith("edgekd")]
    names = dict.fromkeys(name for base in bases for name in vars(base) if not name.startswith("_"))
    for name in names:
        member = inspect.getattr_static(kind, name)
        plain = getattr(member, "fget", None) or getattr(member, "func", None) or getattr(member, "__func__", member)
        if inspect.isfunction(plain) and plain.__doc__:
            whole = f"{owner}.{name}"
            is_value = isinstance(member, property) or hasattr(member, "func")
            yield from _entry("####", whole, plain, signature=not is_value)


def _entry(level: str, name: str, one: Any, *, signature: bool = True) -> list[str]:
    lines = [f"{level} `{name}`", ""]
    if signature and (not inspect.isclass(one) or one.__name__ in MADE_BY_USERS):
        lines += ["```python", _signature(name, one), "```", ""]
    return [*lines, *_text(inspect.getdoc(one) or ""), ""]


def _signature(name: str, one: Any) -> str:
    """One parameter a line where the whole is long, with the types as the source writes them."""
    found = inspect.signature(one)
    parts, behind_star = [], False
    for parameter in found.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not behind_star:
            parts.append("*")
            behind_star = True
        parts.append(_parameter(parameter))
    returns = "" if found.return_annotation is found.empty else f" -> {str(found.return_annotation).strip(chr(39))}"
    if inspect.isclass(one):
        returns = ""
    whole = f"{name}({', '.join(parts)}){returns}"
    if len(whole) <= 100:
        return whole
    return "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){returns}"])


def _parameter(one: inspect.Parameter) -> str:
    stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
    default = "" if one.default is one.empty else f" = {one.default!r}"
    return f"{stars}{one.name}: {one.annotation}{default}"


def _text(docstring: str) -> Iterator[str]:
    """Paragraphs as they are; sections as lists."""
    section, pending = "", ""
    for line in [*docstring.splitlines(), ""]:
        entry = _ENTRY.match(line) if section else None
        if pending and (entry or not line.strip()):
            yield pending
            pending = ""
        if found := _SECTION.match(line):
            section = found[1]
            yield from (f"**{section}**", "")
        elif entry:
            pending = f"- `{entry[1]}`: {entry[2]}"
        elif section and line.startswith("    "):
            pending = f"{pending} {line.strip()}" if pending else line.strip()
        else:
            section = section if not line.strip() else ""
            yield line
