"""Text of others made neutral for what edgekd writes: terminals, CI logs, JSON, XML, Markdown, HTML, annotations.

Names of classes, files and devices, values of a recipe, words of an agent: any of them may hold escape sequences, line
ends, characters that turn the direction of reading, or commands of a CI system. Every writer passes them through here.
What cannot be printed becomes a visible escape (`\\x1b`, `\\n`, `\\u202e`); nothing is dropped in silence, and a text
that is plain already stays as it is.
"""

from __future__ import annotations

import html
import json
import re
import reprlib
import shlex
from collections.abc import Iterable
from typing import Any

LINE_LIMIT = 4000  # characters of one line of output
NAME_LIMIT = 80  # of one name or value inside a message
MOST_LISTED = 50

# What GitHub's and Azure's runners take for commands: `::x` where a line begins, `##[x]` and `##vso[x]` anywhere.
_COMMAND = re.compile(r"^(\s*):(?=:)|#(?=#\w*\[)")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$])")
# A reference or an address that Markdown readers turn into a link, or into a message to a person, by itself.
_REFERENCE = re.compile(r"((?<!\w)@|@(?=[\w-]+\.\w)|#(?=\d)|\bGH-|:(?=//)|\bwww(?=\.))", re.IGNORECASE)
_NO_BREAK = "&#8203;"  # a space of no width behind the first sign of a reference


def visible(text: object, keep: str = "") -> str:
    """The text with every character that cannot be printed as an escape, but for those in `keep`."""
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(sign if sign.isprintable() or sign in keep else _escape(sign) for sign in shown)


def line(text: object, limit: int = LINE_LIMIT) -> str:
    """One line for a terminal or a log: printable, at most `limit` characters, no command of a CI system."""
    return cut(without_command(visible(cut(str(text), limit))), limit)


def lines(texts: Iterable[object]) -> str:
    """Several lines as one text; what is inside one of them begins no other."""
    return "\n".join(line(text) for text in texts)


def without_command(text: str) -> str:
    """One line that a CI system takes for no command; its width may grow by three."""
    return _COMMAND.sub(lambda found: f"{found[1] or ''}{_escape(found[0][-1])}", text)


def cut(text: str, limit: int = NAME_LIMIT) -> str:
    """The text, or its beginning and its end where it is longer than `limit`; a message's remedy stands at its end."""
    if len(text) <= limit:
        return text
    gap = f" ... [{len(text):,} characters] ... "
    last = max((limit - len(gap)) // 4, 0)
    return f"{text[: max(limit - len(gap) - last, 0)]}{gap}{text[len(text) - last :]}"


def value(given: object) -> str:
    """A value of others as Python writes it, never longer than a line can bear, however large it is."""
    return line(_short.repr(given), 2 * NAME_LIMIT)


def listed(names: Iterable[str], most: int = MOST_LISTED) -> str:
    """`a, b, c`, or `none`; of very many the first ones and how many more."""
    every = list(names)
    shown = ", ".join(line(name, NAME_LIMIT) for name in every[:most]) or "none"
    return shown if len(every) <= most else f"{shown} and {len(every) - most:,} more"


def word(path: object) -> str:
    """A path as one word of a command that people copy; in double quotes, as commands stand in single ones."""
    text = str(path)
    quoted = shlex.quote(text)
    return f'"{text}"' if quoted != text and not set(text) & set('"$`\\!\n') else quoted


def json_text(content: Any) -> str:
    """Indented JSON that may be printed and encoded whatever it holds, and reads back as the same value.

    Raises:
        ValueError: a NaN or an infinity: no JSON reader has to guess.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    return "\n".join(_json_line(one) for one in text.split("\n"))


def markdown(text: object) -> str:
    """One line of Markdown that shows as it is: no markup, HTML, link, image, table cell, mention or reference."""
    shown = " ".join(html.escape(visible(text, keep="\n\t"), quote=False).split())
    return _REFERENCE.sub(rf"\1{_NO_BREAK}", _MARKDOWN.sub(r"\\\1", shown))


def markdown_code(text: object) -> str:
    """An indented block of code of one line, in which nothing is markup."""
    return f"    {line(text)}"


def annotation(text: object, is_property: bool = False) -> str:
    """A message of a workflow command, or one of its properties, by GitHub's escapes."""
    shown = line(text)
    for sign in "%:," if is_property else "%":
        shown = shown.replace(sign, f"%{ord(sign):02X}")
    return shown


def for_html(given: Any) -> Any:
    """What a template shows: text without invisible characters; markup of our own and all else as it is."""
    return visible(given, keep="\n\t") if type(given) is str else given  # Markup is a subclass


def _json_line(text: str) -> str:
    """A line of JSON: what cannot be printed stands in strings only, where JSON has escapes of its own."""
    if not text.isprintable():
        text = "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in text)
    return re.sub(r"#(?=#\w*\[)", r"\\u0023", text)


def _escape(sign: str) -> str:
    """`\\n`, `\\x1b`, `\\u202e`; of a printable character its code."""
    return f"\\x{ord(sign):02x}" if sign.isprintable() else sign.encode("unicode_escape").decode("ascii")


def _limits() -> reprlib.Repr:
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother, short.maxlong = 3, NAME_LIMIT, NAME_LIMIT, 40
    return short


_short = _limits()
