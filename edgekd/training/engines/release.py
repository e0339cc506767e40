"""Which release of the engine there is, and what to say of one that edgekd does not know."""

from __future__ import annotations

from edgekd.errors import EnvironmentFault

TESTED = "8.4.190"


def changed(what: str) -> EnvironmentFault:
    """A fault that names the release.

    Args:
        what: is not as edgekd relies on.
    """
    from ultralytics import __version__

    return EnvironmentFault(
        f"train: ultralytics {__version__}: {what}; pip install ultralytics=={TESTED}, which edgekd is tested with"
    )
