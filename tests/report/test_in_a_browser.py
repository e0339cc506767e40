"""The report in a real browser: nothing is cut at the width of a phone or of a laptop, and no figure is empty."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgekd.report.render import render
from tests.report.make_run import make_run

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_SEE = """
<script>addEventListener("load", () => {
  const cut = [...document.querySelectorAll(".scroll, pre, figcaption, h1, h2, h3, td, th")]
    .filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth)
    .map(e => e.getAttribute("aria-label") || e.textContent);
  const empty = [...document.querySelectorAll("svg.chart")]
    .filter(e => !e.querySelector("polyline, circle, polygon, rect") || !e.getBoundingClientRect().height)
    .map(e => e.getAttribute("aria-label"));
  parent.postMessage(JSON.stringify({wide: document.documentElement.scrollWidth, cut, empty}), "*");
});</script></body>"""
_FRAME = """<body style="margin:0"><script>addEventListener("message", e => {
const p = document.createElement("xmp"); p.textContent = e.data; document.body.appendChild(p)});</script>
<iframe src="page.html" style="border:0;width:%dpx;height:900px"></iframe>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize("width_px", [390, 1280])
def test_nothing_is_cut(tmp_path: Path, width_px: int) -> None:
    run = make_run(tmp_path / "run")
    render(run)
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", (run / "report.html").read_text())
    (tmp_path / "page.html").write_text(page.replace("</body>", _SEE))
    (tmp_path / "frame.html").write_text(_FRAME % width_px)
    shown = subprocess.run(
        [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         f"--user-data-dir={tmp_path}/profile",
         "--virtual-time-budget=5000", "--window-size=1400,1000", "--dump-dom", f"file://{tmp_path}/frame.html"],
        capture_output=True, text=True, check=True, timeout=120,
    ).stdout  # fmt: skip
    seen = json.loads(html.unescape(re.findall(r"<xmp>(.*?)</xmp>", shown, re.DOTALL)[0]))
    assert seen == {"wide": width_px, "cut": [], "empty": []}
