"""Verdicts: budgets of a run, one artifact against another, and what releases measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgekd.cli import completion
from edgekd.cli.app import (
    Github,
    Json,
    Junit,
    Markdown,
    RunPath,
    Set,
    Store,
    Wait,
    app,
    baselines,
    file_to_write,
    finish,
    print_json,
    print_rows,
    turn_seconds,
)  # fmt: skip
from edgekd.terminal import print_lines


@app.command()
def gate(
    run_dir: RunPath,
    set_: Set = None,
    save: Annotated[bool, typer.Option("--save", help="keep what --set says, and the verdict")] = False,
    junit: Junit = None,
    markdown: Markdown = None,
    github: Github = False,
    as_json: Json = False,
) -> None:
    """Judge the budgets of the recipe; exit 0 pass, 1 fail, 3 inconclusive, 4 invalid. With --set: what if."""
    from edgekd import pipeline
    from edgekd.stages.ci import hand_out, verdict_of

    outcome = pipeline.judge(run_dir, tuple(set_ or ()), save=save)
    hand_out(verdict_of(outcome.result), f"gate {run_dir.name}", junit=junit, markdown=markdown, github=github)
    finish(outcome, as_json)


@app.command()
def compare(
    reference: Annotated[Path, typer.Argument(help="artifact folder, e.g. RUN/export/TARGET", show_default=False)],
    candidate: Annotated[Path, typer.Argument(help="artifact folder to judge", show_default=False)],
    *,
    out: Annotated[Path, typer.Option("--out", help="folder for the verdict and the raw measurements")],
    device: Annotated[
        str, typer.Option("--device", help="where to measure: a name or a YAML file", autocompletion=completion.devices)
    ] = "local",
    images: Annotated[Path | None, typer.Option("--images", help="run whose validation images serve both")] = None,
    max_slowdown: Annotated[float, typer.Option(help="latency budget, as a fraction", min=0)] = 0.01,
    max_ap_loss: Annotated[float, typer.Option(help="AP that may be lost", min=0)] = 0.005,
    no_accuracy: Annotated[bool, typer.Option("--no-accuracy", help="measure the latency alone")] = False,
    max_processes: Annotated[int, typer.Option(help="cap, after which it is inconclusive", min=3)] = 36,
    wait: Wait = None,
    junit: Junit = None,
    markdown: Markdown = None,
    github: Github = False,
    as_json: Json = False,
) -> None:
    """Judge an artifact against another, interleaved on one device; exit 0 pass, 1 fail, 3 inconclusive, 4 invalid."""
    from edgekd import api
    from edgekd.stages.ci import hand_out

    verdict = api.compare(
        reference, candidate, out=out, device=device, images=images, max_slowdown=max_slowdown,
        max_ap_loss=max_ap_loss, accuracy=not no_accuracy, max_processes=max_processes, wait_s=turn_seconds(wait),
    )  # fmt: skip
    hand_out(verdict, f"compare {candidate}", junit=junit, markdown=markdown, github=github)
    if as_json:
        print_json(verdict.as_json())
    else:
        print_lines(f"{check.status}: {check.detail}" for check in verdict.checks)
    raise typer.Exit(verdict.exit_code)


def _print_kept(rows: list[dict[str, Any]], store: Path, as_json: bool) -> None:
    """Baselines as a table, or that there are none."""
    if rows or as_json:
        print_rows(rows, as_json)
    else:
        print_lines([f"{store}: no baselines; keep one with 'edgekd baseline save RUN NAME'"])


@baselines.command("save")
def baseline_save(
    run_dir: RunPath,
    name: Annotated[str, typer.Argument(help="of the baseline, e.g. v1.2", show_default=False)],
    store: Store = Path("baselines"),
    replace: Annotated[bool, typer.Option("--replace", help="write over one of that name")] = False,
    no_latency: Annotated[bool, typer.Option("--no-latency", help="keep no latency and no throughput")] = False,
    as_json: Json = False,
) -> None:
    """Keep what a run measured."""
    from edgekd.stages.baseline import save

    kept = save(run_dir, name, store, replace=replace, timed=not no_latency)
    print_json(kept) if as_json else print_lines([kept["file"]])


@baselines.command("list")
def baseline_list(store: Store = Path("baselines"), as_json: Json = False) -> None:
    """List the baselines of a folder, oldest first."""
    from edgekd.gate.baseline import load_all

    rows = [
        {"baseline": one.name, "saved": one.saved, "recipe": one.recipe, "student AP": one.student_ap}
        for one in load_all(store)
    ]
    _print_kept(rows, store, as_json)


@baselines.command("show")
def baseline_show(
    name: Annotated[str, typer.Argument(help="of the baseline", show_default=False)],
    store: Store = Path("baselines"),
    as_json: Json = False,
) -> None:
    """Show one baseline."""
    from edgekd.gate.baseline import load
    from edgekd.report.history import rows, shown

    kept = load(store, name)
    print_json(kept.model_dump(mode="json")) if as_json else print_rows(shown(rows([kept])), as_json=False)


@app.command()
def history(
    store: Store = Path("baselines"),
    out: Annotated[
        Path | None, typer.Option("--out", callback=file_to_write, help="also write it as an HTML page to this file")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show accuracy, latency and throughput over the saved baselines."""
    from edgekd.gate.baseline import load_all
    from edgekd.report.history import rows, shown
    from edgekd.stages.baseline import write_history

    kept = load_all(store)
    if out:
        write_history(kept, store, out)
    _print_kept(rows(kept) if as_json else shown(rows(kept)), store, as_json)
