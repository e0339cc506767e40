"""Results that notebooks show as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.api import html
from edgekd.gate.verdict import Check
from edgekd.gate.verdict import Verdict as Judged

_COLOURS = {"pass": "#0a7d3c", "fail": "#b3261e", "invalid": "#8a5a00", "inconclusive": "#8a5a00"}


class Verdict(Judged):
    """The outcome of all budgets: `status`, `reasons`, `checks`, `exit_code`."""

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Verdict:
        """From the content of a `verdict.json`."""
        checks = tuple(Check(**check) for check in content["checks"])
        return cls(content["status"], tuple(content["reasons"]), checks)

    @property
    def passed(self) -> bool:
        """Whether every budget was kept."""
        return self.status == "pass"

    def _repr_html_(self) -> str:
        rows = [
            {"status": one.status, "budget": one.metric, "of": one.subject, "measured": one.value, "": one.op,
             "limit": one.limit}
            for one in self.checks
        ]  # fmt: skip
        style = f"color:{_COLOURS[self.status]};font-weight:bold"
        reasons = "".join(f"<li>{html.text(reason)}</li>" for reason in self.reasons)
        return f'<div><p style="{style}">gate: {self.status}</p><ul>{reasons}</ul>{html.table(rows)}</div>'


class Checked(dict[str, Any]):
    """What `check` found: a mapping as `edgekd check --json` prints it."""

    def _repr_html_(self) -> str:
        from edgekd.stages.estimate.estimate import lines as estimate_lines

        sides = {"student": self["student"], "teacher": self["teacher"], **self["teachers"]}
        models = [
            {"model": side, "name": spec["name"], "family": spec["family"], "parameters": spec["parameters"],
             "head": spec["head_kind"], "classes": spec["classes"]}
            for side, spec in sides.items() if spec
        ]  # fmt: skip
        methods = [{"method": one["method"], "weight": one["weight"]} for one in self["distill"]]
        told = [*self["warnings"], *(estimate_lines(self["estimate"]) if "estimate" in self else ())]
        warnings = "".join(f"<li>{html.text(one)}</li>" for one in told)
        where = f"targets: {', '.join(self['targets']) or 'none'}; devices: {', '.join(self['devices']) or 'none'}"
        tables = html.table(models) + html.table(methods)
        return (
            f"<div><p>recipe {html.text(self['recipe'])}</p>{tables}<p>{html.text(where)}</p><ul>{warnings}</ul></div>"
        )


class Searched(dict[str, Any]):
    """What a search for a distiller found: a mapping as `edgekd search show --json` prints it."""

    def _repr_html_(self) -> str:
        from edgekd.search.distillers import show

        control = "" if self["control"] is None else f"; control: AP {html.text(self['control'])}"
        title = f"{html.text(self['recipe'])}: {len(self['trials'])} trials{control}"
        return f"<div><p>{title}</p>{html.table(show.rows(self))}</div>"


class Shortlisted(dict[str, Any]):
    """A shortlist: a mapping as `edgekd shortlist --json` prints it."""

    def _repr_html_(self) -> str:
        from edgekd.search import shown

        best = ", ".join(self["best"]) or "none"
        title = f"{html.text(self['recipe'])} on {html.text(self['device'])}: best: {html.text(best)}"
        return f"<div><p>{title}</p>{html.table(shown.rows(self))}</div>"
