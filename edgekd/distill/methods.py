"""Every method, imported so that it registers itself. A new method adds one line."""

from edgekd.distill.head import ld, logit
from edgekd.distill.neck import cwd, fitnet, pkd, score_l2

__all__ = ["cwd", "fitnet", "ld", "logit", "pkd", "score_l2"]
