"""A record and its scores as text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from tracekeeper.render import format_duration, render_key_values, render_table

if TYPE_CHECKING:
    from tracekeeper.scoring.record import Record

SHOWN = 400
"""Characters of an input or output that are shown."""


def describe(record: Record) -> str:
    """What the call was, and a row for each score with its value, status and reason."""
    latency = record.latency
    pairs = {
        "record": f"{record.trace_id}:{record.span_id}",
        "app": f"{record.app} {record.version}" if record.app else f"{record.name} (no app)",
        "status": record.status,
        "latency": "still running" if latency is None else format_duration(latency),
        "input": _short(record.input),
        "output": _short(record.output),
    }
    if record.error:
        pairs["error"] = record.error
    scores = record.scores
    text = render_key_values(pairs)
    if not scores:
        return f"{text}\nno scores"
    rows = [
        (
            name,
            "no value" if score.value is None else score.value,
            str(score.status),
            score.reason or score.error or "none given",
        )
        for name, score in scores.items()
    ]
    return f"{text}\n\n{render_table(('score', 'value', 'status', 'reason'), rows)}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text):,} characters)"
