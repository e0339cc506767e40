"""What stands in for the objects of a pickle that must not become what they name."""

from __future__ import annotations

from typing import Any


class Foreign:
    """Stands for whatever a pickle names or makes; it takes items and attributes, and forgets them."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Forget it."""

    extend = add = append
