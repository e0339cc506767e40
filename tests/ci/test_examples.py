"""The CI examples are run, line by line, against recorded verdicts: what runs, what is published, how it ends."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from edgekd.cli import app
from edgekd.gate import ci_output
from edgekd.gate.policy import Against
from edgekd.gate.verdict import Check, Status, Verdict
from tests.ci import machine
from tests.ci.machine import Job, Runner

DOCS = Path(__file__).resolve().parents[2] / "docs/ci"
STATUSES: dict[int, Status] = {0: "pass", 1: "fail", 3: "inconclusive", 4: "invalid"}
BADNESS = ("0", "3", "4", "1")  # whatever is not here is worse
OWN = {"event_name": "pull_request", "event.pull_request.head.repo.full_name": "me/it", "repository": "me/it"}
FORK = {**OWN, "event.pull_request.head.repo.full_name": "stranger/it"}
TAG = {"event_name": "push", "repository": "me/it", "ref_name": "v1.3"}
MERGE_REQUEST = {
    "CI_PIPELINE_SOURCE": "merge_request_event", "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "me/it",
    "CI_PROJECT_PATH": "me/it", "CI_API_V4_URL": "https://gitlab.example.com/api/v4", "CI_PROJECT_ID": "7",
    "CI_JOB_TOKEN": "secret",
}  # fmt: skip


def content(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DOCS / name).read_text())
    return loaded


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `gate` and `compare` write, by exit code."""
    folder = tmp_path_factory.mktemp("recorded")
    for code, status in STATUSES.items():
        check = Check("max_p90_ms", "openvino-fp32@local", 9.0, 8.0, "<=", status, f"max_p90_ms: p90 9 ms, {status}")
        verdict = Verdict(status, () if code == 0 else (check.detail,), (check,))
        assert verdict.exit_code == code
        for form in ("junit", "markdown", "github"):
            (folder / f"{code}--{form}").write_text(getattr(ci_output, form)(verdict, "gate run"))
    return folder


@pytest.fixture
def runner(tmp_path: Path, recorded: Path) -> Runner:
    repository = tmp_path / "repository"
    (repository / "recipes").mkdir(parents=True)
    (repository / "recipes/release.yaml").write_text("name: release\n")
    return Runner(tmp_path / "machine", repository, recorded)


class Example:
    """One of the two, on its machine."""

    def __init__(self, name: str, runner: Runner) -> None:
        self.name, self.runner = name, runner

    def run(self, codes: dict[str, Any] | None = None, **given: str) -> dict[str, Job]:
        """A pull or merge request from the project itself; `codes` are those of edgekd's commands."""
        return self._run(codes, OWN, MERGE_REQUEST, **given)

    def run_fork(self) -> dict[str, Job]:
        return self._run(None, FORK, {**MERGE_REQUEST, "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "stranger/it"})

    def run_tag(self, codes: dict[str, Any] | None = None) -> dict[str, Job]:
        return self._run(codes, TAG, {**MERGE_REQUEST, "CI_PIPELINE_SOURCE": "push", "CI_COMMIT_TAG": "v1.3"})

    def _run(self, codes: Any, event: dict[str, str], theirs: dict[str, str], **given: str) -> dict[str, Job]:
        of = {"distill": 0, "run": 0, "gate": 0, "compare": 0, **(codes or {})}
        given = {
            "KEPT": str(self.runner.folder / "kept"),
            **given,
            **{f"CODE_{k.upper()}": str(v) for k, v in of.items()},
        }
        if self.name == "github":
            return machine.github(content("github-actions.yml"), self.runner, given, event)
        return machine.gitlab(content("gitlab-ci.yml"), self.runner, {**theirs, **given})

    def ended(self, worst: str) -> int:
        """The code with which the last job ends; GitLab lets 3 pass by itself."""
        return 0 if worst == "0" or (worst == "3" and self.name == "github") else 4 if worst == "none" else int(worst)

    def commands(self) -> list[str]:
        """edgekd's, in order."""
        return [words[1] for words in self.runner.commands if words[0] == "edgekd"]


@pytest.fixture(params=["github", "gitlab"])
def example(request: pytest.FixtureRequest, runner: Runner) -> Example:
    return Example(request.param, runner)


def worst_of(*codes: object) -> str:
    return max(map(str, codes), key=lambda code: BADNESS.index(code) if code in BADNESS else len(BADNESS))


@pytest.mark.parametrize(("judged", "compared"), list(product(STATUSES, STATUSES)))
def test_every_pair_of_verdicts(judged: int, compared: int, example: Example) -> None:
    """No verdict keeps another from being found, and the worst one ends the last job."""
    jobs = example.run({"run": judged, "gate": judged, "compare": compared})
    assert example.commands() == ["distill", "run", "gate", "report", "compare"]
    assert [jobs[name].code for name in ("train", "gate", "compare")] == [0, 0, 0]
    assert jobs["verdict"].code == example.ended(worst_of(judged, compared)), jobs["verdict"].log
    assert f"0 {judged} {judged} {compared}; the worst is" in jobs["verdict"].log
    assert jobs["release"].code is None
    for job, file, code in (("gate", "gate", judged), ("compare", "comparison", compared)):
        published = jobs[job].published
        assert published[f"{file}.xml"].startswith('<?xml version="1.0"')
        assert f"gate run: {STATUSES[code]}" in published[f"{file}.md"]
        if example.name == "github":
            assert jobs[job].summary == published[f"{file}.md"]
            assert ("::" in jobs[job].log) == (code != 0), "annotations"
    assert {"report.html", "report.json"} <= set(jobs["gate"].published)
    assert jobs["compare"].published["comparison/comparison.json"] == "raw\n"


@pytest.mark.parametrize(
    ("codes", "commands", "states"),
    [
        ({"distill": 2}, ["distill"], "2 none none"),
        ({"distill": 5}, ["distill"], "5 none none"),
        ({"run": 2, "gate": 2}, ["distill", "run", "gate", "report"], "0 2 2 none"),
        ({"run": 4, "gate": 3}, ["distill", "run", "gate", "report", "compare"], "0 4 3 0"),
        ({"run": 70, "gate": 0}, ["distill", "run", "gate", "report"], "0 70 0 none"),
        ({"gate": 3, "compare": 2}, ["distill", "run", "gate", "report", "compare"], "0 0 3 2"),
        ({"gate": 1, "compare": 70}, ["distill", "run", "gate", "report", "compare"], "0 0 1 70"),
    ],
)
def test_what_is_no_verdict_is_never_merged(
    codes: dict[str, int], commands: list[str], states: str, example: Example
) -> None:
    """A device that cannot be reached ends `run` with 4, and older files may still be judged: 4 remains."""
    jobs = example.run(codes)
    assert example.commands() == commands
    assert f"{states}; the worst is " in jobs["verdict"].log
    assert jobs["verdict"].code == example.ended(worst_of(*states.split()))
    assert jobs["verdict"].code not in (0, 3)


def test_what_runs_is_a_command_of_edgekd(example: Example) -> None:
    example.run()
    example.run_tag()
    program = typer.main.get_command(app)
    seen = set()
    for _, name, *words in (words for words in example.runner.commands if words[0] == "edgekd"):
        command = program.commands[name]  # type: ignore[attr-defined]
        command = command.commands[words.pop(0)] if hasattr(command, "commands") else command
        context = command.make_context("x", words, resilient_parsing=False)
        for override in context.params.get("set_") or ():
            key, _, value = override.partition("=")
            assert (key, Against(**yaml.safe_load(value))) == (
                "gate.against", Against(baseline="v1.2", max_ap_loss=0.005, max_slowdown=0.05),
            )  # fmt: skip
            seen.add(key)
    assert seen == {"gate.against"}


def test_installed_once_and_trained_where_the_run_lies(example: Example) -> None:
    """The run's folder is the recipe's: edgekd keeps there what has not changed, whichever branch asks."""
    example.run()
    example.run()
    (example.runner.repository / "recipes/release.yaml").write_text("name: release\nseed: 1\n")
    example.run()
    commands = example.runner.commands
    assert [words for words in commands if words[0] == "pip"] == [
        ["pip", "install", "--quiet", "edgekd @ git+https://git.example.com/tools/edgekd@v0.1.0"]
    ]
    first, second, third = (words[words.index("--out") + 1] for words in commands if words[1:2] == ["distill"])
    assert first == second != third
    assert Path(first).parent == Path(third).parent == example.runner.folder / "kept/runs"
    example.run(EDGEKD="wheels/edgekd-0.2.0-py3-none-any.whl")
    assert [words[-1] for words in example.runner.commands if words[0] == "pip"][1:] == [
        "wheels/edgekd-0.2.0-py3-none-any.whl"
    ]


def test_the_releases_own_file_is_compared(example: Example) -> None:
    jobs = example.run()
    (compare,) = (words for words in example.runner.commands if words[1:2] == ["compare"])
    assert compare[2] == "released/openvino-fp32"
    assert compare[3].endswith("/export/openvino-fp32")
    (fetch,) = (words for words in example.runner.commands if words[0] in ("gh", "curl"))
    if example.name == "github":
        assert fetch[:4] == ["gh", "release", "download", "v1.2"]
    else:
        assert fetch[-1] == (
            "https://gitlab.example.com/api/v4/projects/7/packages/generic/edgekd/v1.2/openvino-fp32.tar.gz"
        )
    assert jobs["compare"].code == 0


def test_a_release_that_cannot_be_fetched_is_not_a_pass(example: Example) -> None:
    example.runner.archive.unlink()
    jobs = example.run()
    assert "compare" not in example.commands()
    assert jobs["compare"].code != 0
    assert jobs["verdict"].code == 4


def test_before_the_first_release(example: Example) -> None:
    jobs = example.run({"gate": 1}, RELEASE="")
    assert example.commands() == ["distill", "run", "gate", "report"]
    (gate,) = (words for words in example.runner.commands if words[1:2] == ["gate"])
    assert "--set" not in gate
    assert (jobs["compare"].code, jobs["verdict"].code) == (0, 1)


def test_a_fork_runs_nothing(example: Example) -> None:
    jobs = example.run_fork()
    assert example.runner.commands == []
    assert all(jobs[name].code is None for name in ("train", "gate", "compare", "release"))
    assert jobs["verdict"].code == (4 if example.name == "github" else None), "not judged is not passed"


@pytest.mark.parametrize(("code", "kept"), [(0, True), (3, True), (1, False), (4, False)])
def test_a_tag_that_passes_is_kept(code: int, kept: bool, example: Example) -> None:
    jobs = example.run_tag({"compare": code})
    assert (jobs["release"].code == 0) is kept
    stored = [words for words in example.runner.commands if words[1:3] == ["baseline", "save"]]
    assert len(stored) == kept
    if kept:
        assert stored[0][4] == "v1.3"
        uploads = [words for words in example.runner.commands if words[0] in ("gh", "curl")][1:]
        text = " ".join(word for words in uploads for word in words)
        assert "kept/openvino-fp32.tar.gz" in text
        assert "v1.3" in text


def test_whether_inconclusive_may_be_merged_is_the_users_choice(runner: Runner) -> None:
    example = Example("github", runner)
    assert example.run({"compare": 3})["verdict"].code == 0
    assert example.run({"compare": 3}, ALLOWED="0")["verdict"].code == 3


def test_github_shape() -> None:
    workflow = content("github-actions.yml")
    assert set(workflow) == {"name", True, "permissions", "concurrency", "env", "jobs"}, (
        "YAML reads the key 'on' as true"
    )
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert {"runs-on", "steps", "timeout-minutes"} <= set(job)
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])
        assert "${{" not in "".join(step.get("run", "") for step in job["steps"]), "no text of others becomes script"
        if job["runs-on"] != "ubuntu-latest":
            assert name == "train" or "train" in job["needs"], "the condition of `train` keeps forks out of all"


def test_gitlab_shape() -> None:
    pipeline = content("gitlab-ci.yml")
    jobs = {name: job for name, job in pipeline.items() if isinstance(job, dict) and "stage" in job}
    assert [job["stage"] for job in jobs.values()] == pipeline["stages"]
    for job in jobs.values():
        assert "timeout" in job
        assert all(isinstance(line, str) for line in job["script"])
    assert jobs["verdict"]["allow_failure"] == {"exit_codes": [3]}
    assert jobs["gate"]["artifacts"]["reports"]["junit"] == "gate.xml"
