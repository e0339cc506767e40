"""Plays the machines of GitHub and GitLab: runs the script lines of a workflow by bash, jobs and steps in their order.

Each job begins in a fresh checkout, and gets from others what the workflow hands on, nothing else. Programs that a
runner has (`edgekd`, `pip`, `gh`, `curl`) are stand-ins that write down how they were called.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_NEWEST_VERDICT = """
want() { local previous=""; for word in "$@"; do [ "$previous" = "$name" ] && echo "$word"; previous=$word; done; }
recorded() {
  for name in --junit --markdown; do
    file=$(want "$@"); [ -z "$file" ] || [ ! -f "$RECORDED/$code$name" ] || cp "$RECORDED/$code$name" "$file"
  done
  case " $* " in *" --github "*) [ ! -f "$RECORDED/$code--github" ] || cat "$RECORDED/$code--github" >&2 ;; esac
}
"""
STAND_INS = {
    "edgekd": _NEWEST_VERDICT + """
printf '%q ' edgekd "$@" >> "$LOG"; echo >> "$LOG"
name=--out; out=$(want "$@")
case "$1" in
  distill) exit "$CODE_DISTILL" ;;
  run) mkdir -p "$out/export/$TARGET"; echo model > "$out/export/$TARGET/model.xml"; exit "$CODE_RUN" ;;
  gate) code=$CODE_GATE; recorded "$@"; exit "$code" ;;
  report) echo html > "$2/report.html"; echo json > "$2/report.json" ;;
  compare) code=$CODE_COMPARE; [ -f "$2/model.xml" ] && [ -f "$3/model.xml" ] || exit 70
    mkdir -p "$out"; echo raw > "$out/comparison.json"; recorded "$@"; exit "$code" ;;
  baseline) name=--store; mkdir -p "$(want "$@")"; echo kept > "$(want "$@")/$4.json" ;;
esac
""",
    "python3": """
[ "$1 $2 $3" = "-m venv --clear" ] || exit 70
mkdir -p "$4/bin"
echo '#!/bin/bash' > "$4/bin/pip"
echo 'printf "%q " pip "$@" >> "$LOG"; echo >> "$LOG"; cp "$STUBS/edgekd" "$(dirname "$0")/"' >> "$4/bin/pip"
chmod +x "$4/bin/pip"
""",
    "gh": _NEWEST_VERDICT + """
printf '%q ' gh "$@" >> "$LOG"; echo >> "$LOG"
case "$2" in
  view) exit 1 ;;
  download) name=--dir; mkdir -p "$(want "$@")"; cp "$RELEASED" "$(want "$@")/$TARGET.tar.gz" ;;
esac
""",
    "curl": _NEWEST_VERDICT + """
printf '%q ' curl "$@" >> "$LOG"; echo >> "$LOG"
name=--output; file=$(want "$@"); [ -z "$file" ] || cp "$RELEASED" "$file"
""",
}  # fmt: skip


@dataclass
class Job:
    """How a job ended.

    Attributes:
        code: its exit code; None where it was left out.
        published: what it uploaded, name -> content.
        summary: what it wrote for people to see at the run.
    """

    code: int | None
    published: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    log: str = ""


class Runner:
    """A machine with stand-ins.

    Args:
        folder: of everything.
        repository: what a checkout gives.
        recorded: `<code>--junit`, `<code>--markdown`, `<code>--github`: what edgekd writes with a verdict.
    """

    def __init__(self, folder: Path, repository: Path, recorded: Path) -> None:
        self.folder, self.repository = folder, repository
        stubs = folder / "stubs"
        stubs.mkdir(parents=True)
        for name, text in STAND_INS.items():
            (stubs / name).write_text(f"#!/bin/bash\n{text}")
            (stubs / name).chmod(0o755)
        released = folder / "released/openvino-fp32"
        released.mkdir(parents=True)
        (released / "model.xml").write_text("released")
        self.archive = folder / "released.tar.gz"
        subprocess.run(["tar", "-C", str(released.parent), "-czf", str(self.archive), released.name], check=True)
        self.log = folder / "log"
        self.environment = {
            "PATH": f"{stubs}:{os.environ['PATH']}", "HOME": str(folder), "STUBS": str(stubs), "LOG": str(self.log),
            "RECORDED": str(recorded), "RELEASED": str(self.archive),
        }  # fmt: skip
        self._count = 0

    @property
    def commands(self) -> list[list[str]]:
        """Every call of a stand-in so far."""
        return [shlex.split(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def checkout(self) -> Path:
        """A fresh one."""
        self._count += 1
        return Path(shutil.copytree(self.repository, self.folder / f"checkout-{self._count}"))

    def bash(self, script: str, options: list[str], workspace: Path, environment: Mapping[str, str]) -> tuple[int, str]:
        """Exit code and output of a script."""
        file = self.folder / "script.sh"
        file.write_text(script)
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", *options, str(file)], cwd=workspace, check=False, text=True, timeout=600,
            env={**self.environment, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.returncode, done.stdout


def github(
    workflow: Mapping[str, Any], runner: Runner, given: Mapping[str, str], event: Mapping[str, str]
) -> dict[str, Job]:
    """Every job of a workflow; `event` holds `github.*`."""
    jobs: dict[str, Job] = {}
    for name, job in workflow["jobs"].items():
        needs = [job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", [])
        facts = {f"github.{key}": value for key, value in event.items()}
        facts |= {f"needs.{one}.outputs.{key}": value for one in needs for key, value in jobs[one].outputs.items()}
        condition, sound = job.get("if"), all(jobs[one].code == 0 for one in needs)
        if condition == "always()" or (sound and (condition is None or _holds(condition, facts))):
            jobs[name] = _github_job(job, runner, {**workflow["env"], **given}, facts)
        else:
            jobs[name] = Job(None)
    return jobs


def _github_job(job: Mapping[str, Any], runner: Runner, env: Mapping[str, str], facts: dict[str, str]) -> Job:
    ended, workspace, paths = Job(0), runner.folder / "empty", ""
    files = {name: runner.folder / f"github-{name}" for name in ("OUTPUT", "PATH", "STEP_SUMMARY")}
    for file in files.values():
        file.write_text("")
    for step in job["steps"]:
        if ended.code != 0 and step.get("if") != "always()":
            continue
        if step.get("uses", "").startswith("actions/checkout@"):
            workspace = runner.checkout()
        elif step.get("uses", "").startswith("actions/upload-artifact@"):
            ended.published |= dict(_found(workspace, step["with"]["path"].split()))
        else:
            files["OUTPUT"].write_text("")
            own = {
                key: _filled(str(text), facts) for key, text in {**job.get("env", {}), **step.get("env", {})}.items()
            }
            own |= {f"GITHUB_{name}": str(file) for name, file in files.items()}
            own["PATH"] = paths + runner.environment["PATH"]
            workspace.mkdir(exist_ok=True)
            code, said = runner.bash(step["run"], ["-e"], workspace, {**env, **own})
            ended.code, ended.log = ended.code or code, ended.log + said
            paths = "".join(f"{line}:" for line in reversed(files["PATH"].read_text().splitlines()))
            for line in files["OUTPUT"].read_text().splitlines():
                key, _, value = line.partition("=")
                facts[f"steps.{step.get('id')}.outputs.{key}"] = value
    ended.summary = files["STEP_SUMMARY"].read_text()
    ended.outputs = {key: _filled(text, facts) for key, text in job.get("outputs", {}).items()}
    return ended


def gitlab(pipeline: Mapping[str, Any], runner: Runner, given: Mapping[str, str]) -> dict[str, Job]:
    """Every job of a pipeline; `given` holds what GitLab and the user set."""
    variables = {**pipeline["variables"], **given}
    variables = {
        key: re.sub(r"\$(\w+)", lambda found: variables.get(found[1], ""), text) for key, text in variables.items()
    }
    named = {name: job for name, job in pipeline.items() if isinstance(job, dict) and "stage" in job}
    jobs: dict[str, Job] = {}
    handed_on: dict[str, str] = {}
    failed = False
    for name, job in sorted(named.items(), key=lambda item: pipeline["stages"].index(item[1]["stage"])):
        whole = {**pipeline[job["extends"]], **job}
        rule = next((rule for rule in whole["rules"] if _holds_in_gitlab(rule["if"], variables)), None)
        if rule is None or (failed and rule.get("when") != "always"):
            jobs[name] = Job(None)
            continue
        workspace = runner.checkout()
        for path, content in handed_on.items():
            (workspace / path).parent.mkdir(parents=True, exist_ok=True)
            (workspace / path).write_text(content)
        script = "\n".join([*whole["before_script"], *whole["script"]])
        code, said = runner.bash(script, ["-e", "-o", "pipefail"], workspace, variables)
        kept = whole.get("artifacts", {})
        reports = [kept["reports"]["junit"]] if "reports" in kept else []
        published = dict(_found(workspace, [*kept.get("paths", []), *reports]))
        if code == 0 or kept.get("when") == "always":
            handed_on |= {path: text for path, text in published.items() if path not in reports}
        jobs[name] = Job(code, published, log=said)
        failed = failed or (code != 0 and code not in whole.get("allow_failure", {}).get("exit_codes", []))
    return jobs


def _found(workspace: Path, names: list[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        path = workspace / name
        files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
        yield from ((str(file.relative_to(workspace)), file.read_text(errors="replace")) for file in files)


def _filled(text: str, facts: Mapping[str, str]) -> str:
    return re.sub(r"\$\{\{(.+?)\}\}", lambda found: _value(found[1], facts), text)


def _value(expression: str, facts: Mapping[str, str]) -> str:
    """Of `a.b || 'text'`: the first that is not empty."""
    for part in (one.strip() for one in expression.split("||")):
        value = part[1:-1] if part.startswith("'") else facts.get(part, "")
        if value:
            return value
    return ""


def _holds(condition: str, facts: Mapping[str, str]) -> bool:
    pairs = [one.split("==") for one in condition.split("||")]
    return any(_value(left, facts) == _value(right, facts) for left, right in pairs)


def _holds_in_gitlab(condition: str, variables: Mapping[str, str]) -> bool:
    def value(text: str) -> str:
        return text.strip('"') if text.startswith('"') else variables.get(text.lstrip("$"), "")

    for part in condition.split(" && "):
        left, operator, right = part.split(" ")
        same = value(left) == value(right) if operator == "==" else bool(re.search(right.strip("/"), value(left)))
        if not same:
            return False
    return True
