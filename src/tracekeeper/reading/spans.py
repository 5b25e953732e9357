"""The spans of a record, or of an evaluation, as a tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from tracekeeper.reading.fresh import Fresh
from tracekeeper.scoring.record import Record
from tracekeeper.tracing import capture


class SpanLine(NamedTuple):
    """One span and how deep it lies below its record."""

    depth: int
    span: Any


def spans_of(now: Fresh, record: Record) -> list[SpanLine]:
    """The record's spans, each below its parent, siblings in the order in which they began."""
    return tree(list(now.store.spans_of(record.trace_id, record.span_id)))


class SpanSeen(NamedTuple):
    """A span of a trace without records, with its texts."""

    depth: int
    span: Any
    payload: Any

    def said(self) -> dict[str, Any]:
        """What went in and came out, its attributes and links, as far as there are any."""
        payload = self.payload
        if payload is None:
            return {}
        texts = {name: getattr(payload, name) for name in ("input", "output")}
        found = {name: capture.decode(text) for name, text in texts.items() if text is not None}
        if payload.error_message or self.span.error_type:
            found["error"] = ": ".join(part for part in (self.span.error_type, payload.error_message) if part)
        if payload.attributes is not None:
            found["attributes"] = orjson.loads(payload.attributes)
        if payload.links is not None:
            found["judged"] = [f"{link['trace_id']}:{link['span_id']}" for link in orjson.loads(payload.links)]
        return found

    def data(self) -> dict[str, Any]:
        """The span as plain data."""
        span = self.span
        return {
            "trace_id": span.trace_id,
            "span_id": span.span_id,
            "parent_id": span.parent_id,
            "name": span.name,
            "kind": span.kind,
            "status": span.status,
            "latency": None if span.duration is None else span.duration / 1e9,
            "model": span.model,
            "input_tokens": span.input_tokens,
            "output_tokens": span.output_tokens,
            "cost": span.cost,
            **self.said(),
        }


def spans_outside(now: Fresh, trace_id: str) -> list[SpanSeen]:
    """The spans of a trace that belong to no record: of an evaluation, the evaluator's and what it traced."""
    rows = [row for row in now.store.spans_of(trace_id) if not row.record_span_id]
    payloads = now.store.payloads([row.id for row in rows])
    return [SpanSeen(line.depth, line.span, payloads.get(line.span.id)) for line in tree(rows)]


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
