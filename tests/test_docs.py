"""The documentation: it builds as a site without a broken link, and every command in it is one that there is."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from edgekd.cli import app
from edgekd.distill.contract import distiller_names

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[str]:
    """The `edgekd` commands of its shell blocks, one line each, without what a shell does around them."""
    found = []
    for block in _FENCE.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.split(" #")[0].strip()
            if words.startswith("edgekd ") and "..." not in words:
                found.append(re.split(r"\s(?:\|\||\||&&|>|>>|2>|;)\s?", words)[0])
    return found


CASES = [pytest.param(line, id=f"{page.stem}: {line}"[:80]) for page in PAGES for line in dict.fromkeys(commands(page))]


@pytest.mark.parametrize("line", CASES)
def test_a_command_of_the_docs_is_one_that_there_is(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # options that name a file to write look whether it can be one
    command: Any = get_command(app)
    words = shlex.split(line)[1:]
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    if not hasattr(command, "commands"):
        command.make_context("edgekd", words)  # raises a usage error for what it does not know


def test_there_are_commands_to_look_at() -> None:
    assert len(CASES) > 20


def test_every_page_is_in_the_contents() -> None:
    import yaml

    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"[\w-]+\.md", str(yaml.safe_load(text)["nav"])))
    assert listed == {page.name for page in PAGES if page.parent.name == "docs"}


def test_the_reference_is_of_everything_that_there_is() -> None:
    import edgekd
    from mkdocs_hooks import MARK, on_page_markdown

    page = on_page_markdown((ROOT / "docs" / "api.md").read_text(encoding="utf-8"))
    assert MARK not in page
    for name in edgekd.__all__:
        assert f"### `edgekd.{name}`" in page or name == "__version__"
    assert "    device: str = 'local'," in page
    assert "- `architecture_only`: build models by name; open no weights and no data." in page
    assert "Run.latency(name: str) -> dict[str, npt.NDArray[np.float64]]" in page
    assert "#### `Run.gain`" in page and "Run.gain(" not in page, "a value is no function"


def test_the_site_builds_without_a_broken_link(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    index = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "fonts.googleapis.com" not in index


def test_the_readme_has_every_stage_in_order() -> None:
    from edgekd.pipeline import STAGES

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    told = re.search(r"^pipeline +the stages in order: ([a-z_,\s]+?)\n\w", text, re.MULTILINE)
    assert told is not None
    assert re.findall(r"[a-z_]+", told[1]) == list(STAGES)


def test_every_method_has_a_line_in_the_table_of_methods() -> None:
    table = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| \[`(\w+)`\]\(", table, re.MULTILINE)) == distiller_names()
