"""What a class may be called."""

from __future__ import annotations


def name_fault(name: object) -> str:
    """What is wrong with a class name as it was read, or ""."""
    if name is None:
        return "is empty; give the class a name (in quotes if it is called ~ or null)"
    if not isinstance(name, str):
        return f"is no text but a {type(name).__name__}; give the class a name"
    if not name.strip():
        return "is blank; give the class a name"
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        return "holds half of a surrogate pair (\\ud800 to \\udfff); write the character itself"
    return ""
