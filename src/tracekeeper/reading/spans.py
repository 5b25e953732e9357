"""The spans of a record as a tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tracekeeper.reading.fresh import Fresh
from tracekeeper.scoring import Record


class SpanLine(NamedTuple):
    """One span and how deep it lies below its record."""

    depth: int
    span: Any


def spans_of(now: Fresh, record: Record) -> list[SpanLine]:
    """The record's spans, each below its parent, siblings in the order in which they began."""
    return tree(list(now.store.spans_of(record.trace_id, record.span_id)))


def tree(spans: Sequence[Any]) -> list[SpanLine]:
    """Rows with ``span_id``, ``parent_id`` and ``started_at`` as a tree; whose parent is not among them is a root."""
    known = {span.span_id for span in spans}
    below: dict[str | None, list[Any]] = {}
    for span in sorted(spans, key=lambda span: (span.started_at, span.span_id)):
        parent = span.parent_id if span.parent_id in known and span.parent_id != span.span_id else None
        below.setdefault(parent, []).append(span)
    lines: list[SpanLine] = []
    waiting = [SpanLine(0, span) for span in reversed(below.get(None, []))]
    while waiting:  # a stack instead of recursion: an agent's trace may be thousands deep
        line = waiting.pop()
        lines.append(line)
        waiting += [SpanLine(line.depth + 1, span) for span in reversed(below.pop(line.span.span_id, []))]
    shown = {id(line.span) for line in lines}
    return [*lines, *(SpanLine(0, span) for span in spans if id(span) not in shown)]  # parents that form a ring
