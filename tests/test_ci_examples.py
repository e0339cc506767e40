"""The CI examples: valid YAML of the right form, and every edgekd command in them parses."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from edgekd.cli import app
from edgekd.gate.policy import Against

ROOT = Path(__file__).resolve().parents[1] / "docs" / "ci"


def scripts(content: Any) -> Iterator[str]:
    """Every shell text of a workflow or job."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key in ("run", "script", "before_script"):
                yield from [value] if isinstance(value, str) else value
            else:
                yield from scripts(value)
    elif isinstance(content, list):
        for value in content:
            yield from scripts(value)


def commands(path: Path) -> list[list[str]]:
    """The words of every edgekd command."""
    found = []
    for script in scripts(yaml.safe_load(path.read_text())):
        for line in script.replace("\\\n", " ").splitlines():
            words = shlex.split(line.split("||")[0])
            if words and words[0] == "edgekd":
                found.append(words[1:])
    return found


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_every_command_parses(name: str) -> None:
    found = commands(ROOT / name)
    assert [words[0] for words in found] == ["run", "gate", "compare"]
    program = typer.main.get_command(app)
    for words in found:
        command = program.commands[words[0]]  # type: ignore[attr-defined]
        context = command.make_context(words[0], words[1:], resilient_parsing=False)
        for override in context.params.get("set_") or ():
            key, _, value = override.partition("=")
            assert (key, Against(**yaml.safe_load(value)).baseline) == ("gate.against", "v1.2")


def test_github_shape() -> None:
    workflow = yaml.safe_load((ROOT / "github-actions.yml").read_text())
    assert set(workflow) == {"name", True, "jobs"}, "YAML reads the key 'on' as true, and GitHub knows it"
    for job in workflow["jobs"].values():
        assert {"runs-on", "steps"} <= set(job)
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])


def test_gitlab_shape() -> None:
    (job,) = yaml.safe_load((ROOT / "gitlab-ci.yml").read_text()).values()
    assert job["allow_failure"] == {"exit_codes": [3]}
    assert job["artifacts"]["reports"]["junit"] == ["gate.xml", "comparison.xml"]
    assert all(isinstance(line, str) for line in job["script"])
