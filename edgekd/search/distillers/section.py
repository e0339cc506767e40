"""What `edgekd check` says of a recipe's `search`, before anybody searches."""

from __future__ import annotations

from edgekd.search.distillers.proxy import check_size, extent_of
from edgekd.search.distillers.side_by_side import is_asked_for, require_room
from edgekd.search.distillers.space import space_of
from edgekd.stages.context import Context
from edgekd.stages.models import RunDetectors


def check_section(context: Context, pair: RunDetectors, with_data: bool) -> None:
    """Refuse what a search would refuse; a recipe that says nothing of one has nothing to refuse.

    Args:
        with_data: whether data and weights may be opened.

    Raises:
        InputError: the space names what there is not or is empty, the proxy cannot be trained, or trials cannot run
            beside one another.
    """
    recipe = context.bound.recipe.search
    if recipe.model_fields_set <= {"students"} or not pair.teachers:
        return
    if is_asked_for(recipe):
        require_room(context.bound)
    space_of(recipe, pair, context.bound.where)
    if with_data:
        extent_of(context)
        check_size(context)
