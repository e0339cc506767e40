"""Golden texts of programs of boards; a missing one fails, and each says in README.md where its format comes from."""

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "golden"


def golden(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
