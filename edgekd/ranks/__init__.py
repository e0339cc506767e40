"""The processes that train together (ranks): who this one is, what they tell each other, and how they end together.

A process is alone until it joins a world. Alone, every function here does the obvious and imports nothing.

All collective functions (`broadcast`, `on_main`, `gather`, `agree`, `wait`) must be called by every rank, in the same
order. They wait as long as it takes, and let Python's signal handlers run meanwhile.
"""

from edgekd.ranks.group import (
    World,
    agree,
    broadcast,
    end_others,
    gather,
    is_first_to_fail,
    is_loss,
    is_main,
    join,
    leave,
    on_main,
    rank,
    size,
    wait,
    world,
)

__all__ = [
    "World", "agree", "broadcast", "end_others", "gather", "is_first_to_fail", "is_loss", "is_main", "join", "leave",
    "on_main", "rank", "size", "wait", "world",
]  # fmt: skip
