"""Golden output of timing programs; README.md says where each format comes from."""

from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


def golden(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
