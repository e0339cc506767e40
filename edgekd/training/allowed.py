"""What a JSON Schema allows, in words, for messages: one line per value, however many forms it may have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_KINDS = {"integer": "a whole number", "number": "a number", "string": "a text", "null": "null"}


def in_words(schema: Mapping[str, Any]) -> str:
    """Such as `a number from 0 to 1`, or `true, false, ram or disk`."""
    return _listed(dict.fromkeys(word for form in schema.get("anyOf", (schema,)) for word in _forms(form)))


def _forms(schema: Mapping[str, Any]) -> Iterator[str]:
    if "anyOf" in schema:
        for form in schema["anyOf"]:
            yield from _forms(form)
    elif "enum" in schema:
        yield from map(str, schema["enum"])
    elif "const" in schema:
        yield str(schema["const"])
    elif schema["type"] == "boolean":
        yield from ("true", "false")
    elif schema["type"] == "array":
        count = f"{schema['minItems']} values" if "minItems" in schema else "values"
        yield f"a list of {count}, each {in_words(schema['items'])}"
    else:
        yield f"{_KINDS[schema['type']]}{_bounds(schema)}"


def _bounds(schema: Mapping[str, Any]) -> str:
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    parts = []
    if low is not None and high is not None:
        parts = [f"from {_number(low)} to {_number(high)}"]
    else:
        limits = {"from": low, "above": above, "up to": high, "below": below}
        parts = [f"{word} {_number(value)}" for word, value in limits.items() if value is not None]
        parts = [f"{part} up" for part in parts] if limits["from"] is not None and len(parts) == 1 else parts
    parts += [f"a multiple of {schema['multipleOf']}"] if "multipleOf" in schema else []
    return " " + ", ".join(parts) if parts else ""


def _number(value: float) -> str:
    return json.dumps(int(value) if value == int(value) else value)


def _listed(words: Sequence[str] | Mapping[str, None]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
