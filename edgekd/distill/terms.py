"""Loss terms as those name and judge them who train and who report."""

from __future__ import annotations

DETECTION = "detection"  # the student's own loss, beside `<method>.<term>`
SHARE_LIMITS = (0.01, 0.50)  # of a term in the loss: below, it hardly acts; above, it drowns the detection loss
