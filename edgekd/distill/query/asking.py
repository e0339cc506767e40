"""What a query detector says about queries of a method's own, in the form in which knowledge is kept."""

from __future__ import annotations

from torch import Tensor

from edgekd.detectors.queries import QueryPredictions


def asked(queries: QueryPredictions, boxes: Tensor, content: Tensor | None = None) -> dict[str, Tensor]:
    """Answers about boxes (B, P, 4): `boxes`, `content` (B, P, C), `logits` and `answers` per layer (B, D, P, ...).

    Args:
        content: (B, P, C); None: what the detector itself puts there.
    """
    content = queries.decoder.content_at(boxes) if content is None else content
    found = queries.decoder.ask(content, boxes)
    return {
        "boxes": boxes, "content": content, "logits": found.class_logits.transpose(0, 1),
        "answers": found.boxes_px.transpose(0, 1),
    }  # fmt: skip


def said(queries: QueryPredictions, best: Tensor) -> dict[str, Tensor]:
    """The same of its own queries at the places `best` (B, P): what it found anyway, without asking."""
    logits, answers = (
        value.gather(2, best[None, :, :, None].expand(len(value), -1, -1, value.shape[3])).transpose(0, 1)
        for value in (queries.class_logits, queries.boxes_px)
    )
    return {
        "boxes": rows_at(queries.references[0], best), "content": rows_at(queries.content, best), "logits": logits,
        "answers": answers,
    }  # fmt: skip


def rows_at(values: Tensor, place: Tensor) -> Tensor:
    """(B, P, C) of values (B, Q, C) at places (B, P)."""
    return values.gather(1, place.unsqueeze(-1).expand(-1, -1, values.shape[2]))
