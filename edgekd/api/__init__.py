"""The Python interface: what `import edgekd` offers. The command line goes the same ways."""

from edgekd.api.around import check, compare, init, search, shortlist
from edgekd.api.calls import distill, export, gate, prepare, profile, report, run, validate
from edgekd.api.detections import Detections
from edgekd.api.predictor import Predictor, load
from edgekd.api.recipe import Recipe
from edgekd.api.results import Artifact, Run
from edgekd.api.shown import Checked, Searched, Shortlisted, Verdict
from edgekd.progress import Event

__all__ = [
    "Artifact", "Checked", "Detections", "Event", "Predictor", "Recipe", "Run", "Searched", "Shortlisted", "Verdict",
    "check", "compare", "distill", "export", "gate", "init", "load", "prepare", "profile", "report", "run", "search",
    "shortlist", "validate",
]  # fmt: skip
