"""What ranks must have in common before they work together: a run directory, a recipe, and the files it names."""

from __future__ import annotations

import hashlib
import secrets
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from edgekd import ranks
from edgekd.atomic import sha256_file, write_text
from edgekd.errors import EnvironmentFault, InputError

_SEEN_WITHIN_S = 30.0  # a network file system may show a new file late


def require_shared(path: Path, locked_recipe: str) -> None:
    """Refuse ranks that do not see rank 0's run directory, or that read another recipe.

    Raises:
        EnvironmentFault: a machine does not see what rank 0 writes.
        InputError: a machine has another recipe.
    """
    if ranks.size() == 1:
        return
    token = path / ranks.on_main(lambda: _write_token(path))
    recipe_hash = hashlib.sha256(locked_recipe.encode()).hexdigest()
    found = ranks.gather((socket.gethostname(), _is_seen(token), recipe_hash))
    if not ranks.is_main():
        return
    token.unlink(missing_ok=True)
    own = found[0][0]
    blind = _named((host, seen) for host, seen, _ in found)
    if blind:
        raise EnvironmentFault(
            f"--out {path}: {blind} cannot see what process 0 on {own} writes there; "
            f"the run directory must lie on a file system that all nodes share, under the same path"
        )
    other = _named((host, hash_ == recipe_hash) for host, _, hash_ in found)
    if other:
        raise InputError(
            f"{other} has another recipe, or another --set, than process 0 on {own}; "
            f"give the same command with the same recipe on every node"
        )


def require_same(stage: str, inputs_hash: str) -> None:
    """Refuse ranks that would work on other files than rank 0.

    Raises:
        InputError: weights, models or data differ under one name.
    """
    found = ranks.gather((socket.gethostname(), inputs_hash))
    other = _named((host, hash_ == found[0][1]) for host, hash_ in found)
    if other:
        raise InputError(
            f"stage '{stage}': {other} has other weights, models or data under the same names than "
            f"process 0 on {found[0][0]}; put the same files on every node"
        )


def await_file(path: Path, sha256: str) -> None:
    """Wait until a rank other than 0 sees what rank 0 has written.

    Raises:
        EnvironmentFault: it still sees nothing, or something else.
    """
    if ranks.is_main():
        return
    deadline = time.monotonic() + _SEEN_WITHIN_S
    while not path.is_file() or sha256_file(path) != sha256:
        if time.monotonic() > deadline:
            raise EnvironmentFault(
                f"{path}: process {ranks.rank()} on {socket.gethostname()} does not see it as process 0 wrote it, "
                f"after {_SEEN_WITHIN_S:.0f} s; the run directory must lie on a file system that all nodes share"
            )
        time.sleep(0.2)


def _named(found: Iterable[tuple[str, bool]]) -> str:
    """The processes that are not in order, given (host, in order) of each by rank."""
    return ", ".join(sorted(f"process {rank} on {host}" for rank, (host, sound) in enumerate(found) if not sound))


def _write_token(path: Path) -> str:
    name = f".token-{secrets.token_hex(8)}"
    write_text(path / name, "every process of this run must see this file\n")
    return name


def _is_seen(token: Path) -> bool:
    deadline = time.monotonic() + _SEEN_WITHIN_S
    while not (seen := token.is_file()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return seen
