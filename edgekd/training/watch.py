"""Watches a training: a progress bar over all batches, one row per epoch, and what the loss terms are like."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from edgekd import ranks
from edgekd.progress import Event, progress, say, tell
from edgekd.training.distillation import DistillationModule, unwrapped
from edgekd.training.plan import Watcher
from edgekd.training.resume import Resume

if TYPE_CHECKING:
    from edgekd.training.engines.trainer import StudentTrainer

SCORES = {
    "ap": "metrics/mAP50-95(B)", "ap50": "metrics/mAP50(B)", "precision": "metrics/precision(B)",
    "recall": "metrics/recall(B)",
}  # fmt: skip


def watch(
    trainer: StudentTrainer, resume: Resume, stack: ExitStack, title: str, watcher: Watcher | None = None
) -> None:
    """From now on; what is noted goes to `resume.log`: `epochs`, and when distilling `terms` and `first_steps`.

    Args:
        stack: closes the progress bar.
        watcher: is told everything instead of people.
    """
    rows: list[dict[str, Any]] = resume.log.setdefault("epochs", [])
    bar: list[Any] = []

    def start(_: Any) -> None:
        if watcher is not None:
            return
        loader = trainer.train_loader
        size, done = len(loader), len(loader) * trainer.start_epoch + loader.first_batch
        bar.append(stack.enter_context(progress(title, size * trainer.epochs, done=done, round_steps=size)))

    def batch_end(_: Any) -> None:
        trainer.require_finite()
        assert trainer.loss is not None
        if watcher is not None:
            watcher.batch({key: float(value) for key, value in (trainer.tloss or {}).items()})
            return
        seen = f"  AP {rows[-1]['ap']:.3f}" if rows and trainer.validated else ""
        bar[0](1, note=f"loss {float(trainer.loss.detach()):.2f}{seen}")

    def epoch_end(_: Any) -> None:
        if resume.done or not ranks.is_main():  # the engine also reports a final evaluation
            return
        rows.append(_row(trainer))
        tell(Event("epoch", title, done=trainer.epoch + 1, total=trainer.epochs, values=dict(rows[-1])))
        model = unwrapped(trainer.model)
        if isinstance(model, DistillationModule):
            model.balance.flush()
            first = {**model.balance.report(), "knowledge": model.source.told}
            resume.log |= {"terms": model.balance.rows, "first_steps": first}
            if len(rows) == 1 and watcher is None:
                _say_first_steps(first)
        if watcher is not None:
            watcher.epoch(rows[-1])

    trainer.add_callback("on_train_start", start)
    trainer.add_callback("on_train_batch_end", batch_end)
    trainer.add_callback("on_fit_epoch_end", epoch_end)


def _row(trainer: StudentTrainer) -> dict[str, Any]:
    losses = {key: float(value) for key, value in (trainer.tloss or {}).items()}
    scores = {name: float(trainer.metrics.get(key, 0.0)) for name, key in SCORES.items() if trainer.validated}
    validated = {key.replace("/", "_"): float(value) for key, value in trainer.metrics.items() if key[:4] == "val/"}
    return {"epoch": trainer.epoch + 1, **scores, **losses, **validated, "lr": _learning_rate(trainer)}


def _learning_rate(trainer: StudentTrainer) -> float:
    """At the end of the epoch, of the weights; in the warm-up, that of the biases is another."""
    groups = trainer.optimizer.param_groups
    return float(next((group for group in groups if group.get("param_group") != "bias"), groups[0])["lr"])


def _say_first_steps(report: dict[str, Any]) -> None:
    say(f"knowledge of the teacher: {report['knowledge']}")
    say(f"first {report['steps']} steps  {'term':<20} {'value':>10} {'weight':>8} {'grad norm':>10} {'share':>7}")
    for term in report["terms"]:
        say(
            f"{'':<14} {term['term']:<20} {term['value']:>10.4g} {term['weight']:>8.3g} "
            f"{term['gradient_norm']:>10.3g} {term['share']:>7.1%}"
        )
        if term["warning"]:
            say(f"warning: distill: {term['term']}: {term['warning']}")
    if matching := report.get("matching"):
        say(f"matching of queries: {matching['ms']:.0f} ms a step, {matching['share_of_step']:.1%} of it")
