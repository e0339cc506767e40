"""The templates' environment: everything that is no markup of our own is escaped, and shows nothing that hides."""

from __future__ import annotations

from functools import cache
from typing import Any

from edgekd.plain import for_html
from edgekd.report import numbers
from edgekd.report.narrow import with_labels


def filled(template: Any, **values: Any) -> str:
    """The page that a template becomes.

    Raises:
        LookupError: a value that it shows is not there.
    """
    import jinja2

    try:
        return with_labels(str(template.render(**values)))
    except jinja2.UndefinedError as error:
        raise LookupError(str(error)) from error


@cache
def environment(*filters: str) -> Any:
    """Of jinja2, with those functions of `numbers` as filters. It keeps templates that it compiled."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("edgekd.report"),
        autoescape=True,
        finalize=for_html,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {name: getattr(numbers, name) for name in filters}
    return made
