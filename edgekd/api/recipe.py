"""A recipe in Python: the content of the YAML file, checked as that is."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.api import html
from edgekd.api.typed import typed_errors
from edgekd.atomic import write_text
from edgekd.errors import InputError
from edgekd.recipe.asked import in_a_line
from edgekd.recipe.load import apply_override, bind, completed, content_of
from edgekd.recipe.lookup import find
from edgekd.recipe.schema import Recipe as Schema
from edgekd.recipe.yaml_text import dump

if TYPE_CHECKING:
    from edgekd.stages.binding import Bound


class Recipe:
    """One run: what to distil, on what data, into what, measured where, judged how. Keys are those of the YAML file.

    `Recipe(name="street", data={"format": "yolo", "path": "street/data.yaml"}, student={"model": "yolo11n"})`. It is
    not changed once it is made: `changed` gives another.

    Args:
        base: folder that relative paths are looked up in first; default: the current one.
        sections: sections and keys of a recipe.

    Raises:
        InputError: one line per problem. What needs other files (weights, data, targets) is checked by `check`, or
            once it runs.
    """

    @typed_errors
    def __init__(self, base: str | Path | None = None, **sections: Any) -> None:
        self._take({key: value for key, value in sections.items() if value is not None}, None, base)

    def _take(
        self, content: Mapping[str, Any], path: Path | None, base: str | Path | None, *, checked: bool = True
    ) -> None:
        self._content: dict[str, Any] = json.loads(in_a_line(dict(content), "recipe"))
        self.path = path
        self.base = Path(base) if base is not None else (path.parent if path else Path())
        if checked:
            bind(Schema, completed(self.content, self.place, tell=False), str(self.place))

    @classmethod
    @typed_errors
    def load(cls, recipe: str | Path) -> Recipe:
        """A recipe's file, or a built-in one by its name.

        Raises:
            InputError: there is none, or one line per problem.
        """
        path = find("recipes", str(recipe))
        return cls._made(content_of(path), path)

    @classmethod
    def _made(
        cls, content: Mapping[str, Any], path: Path | None, base: Path | None = None, *, checked: bool = True
    ) -> Recipe:
        made = cls.__new__(cls)
        made._take(content, path, base, checked=checked)
        return made

    @classmethod
    def asked(cls, recipe: str | Path | Recipe) -> Recipe:
        """The recipe that a command is given; a file is not checked yet: `bound` tells all its problems at once."""
        if isinstance(recipe, Recipe):
            return recipe
        path = find("recipes", str(recipe))
        return cls._made(content_of(path), path, checked=False)

    @property
    def name(self) -> str:
        """Its key `name`."""
        return str(self._content["name"])

    @property
    def place(self) -> Path:
        """What stands for it in messages: its file, else its name."""
        return self.path or Path(f"recipe '{self._content.get('name', '?')}'")

    @property
    def content(self) -> dict[str, Any]:
        """A copy of what it holds."""
        return copy.deepcopy(self._content)

    @typed_errors
    def changed(self, overrides: Mapping[str, Any]) -> Recipe:
        """Another recipe: `recipe.changed({"train.epochs": 3, "distill.0.weight": 2})`. Names as after `--set`.

        Raises:
            InputError: one line per problem.
        """
        content = completed(self.content, self.place, tell=False) if overrides else self.content
        for key, value in overrides.items():
            apply_override(content, f"{key}={in_a_line(value, f'overrides: {key}')}")
        return self._made(content, None, self.base)

    def yaml(self) -> str:
        """As YAML, which the command line reads."""
        return dump(self._content)

    @typed_errors
    def write(self, path: str | Path, *, replace: bool = False) -> Path:
        """Write it as a file. Relative paths in it are then looked up from the file's folder first.

        Raises:
            InputError: there is a file already, and `replace` is False.
        """
        target = Path(path)
        if target.exists() and not replace:
            raise InputError(f"{target}: is there already; choose another name, or say replace=True")
        write_text(target, self.yaml())
        return target

    def bound(self, overrides: tuple[str, ...] = ()) -> Bound:
        """Resolved and typed, for the stages.

        Raises:
            InputError: one line per problem.
        """
        from edgekd.stages.binding import bind_recipe

        return bind_recipe(self.path or self.place, overrides, self.base, None if self.path else self.content)

    def __getitem__(self, section: str) -> Any:
        return copy.deepcopy(self._content[section])

    def __contains__(self, section: object) -> bool:
        return section in self._content

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and (self._content, self.base) == (other._content, other.base)

    __hash__ = None  # type: ignore[assignment]  # as of a dict

    def __repr__(self) -> str:
        return f"Recipe({self.name!r}: {', '.join(key for key in self._content if key != 'name')})"

    def __str__(self) -> str:
        return self.yaml()

    def _repr_html_(self) -> str:
        return f"<pre>{html.text_lines(self.yaml())}</pre>"
