"""A record, its scores and their earlier attempts as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from tracekeeper.render import format_duration, render_key_values, render_table

if TYPE_CHECKING:
    from tracekeeper.scoring.record import Record
    from tracekeeper.types import Score

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
    rows = [(name, *_outcome(score)) for name, score in scores.items()]
    text = f"{text}\n\n{render_table(('score', 'value', 'status', 'reason'), rows)}"
    traced = {f"evaluation of {name}": score.evaluation for name, score in scores.items() if score.evaluation}
    return f"{text}\n\n{render_key_values(traced)}" if traced else text


def describe_history(history: Mapping[str, Sequence[Score]]) -> str:
    """The attempts at those scores that were tried more than once, or judged by several versions; else nothing."""
    rows = [
        (name, score.metric_version or "none", score.attempt, *_outcome(score), score.evaluation or "none")
        for name, scores in history.items()
        if len(scores) > 1
        for score in scores
    ]
    columns = ("score", "version", "attempt", "value", "status", "reason", "evaluation")
    return f"attempts, oldest first\n{render_table(columns, rows)}" if rows else ""


def _outcome(score: Score) -> tuple[Any, str, str]:
    value = "no value" if score.value is None else score.value
    return value, str(score.status), score.reason or score.error or "none given"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text):,} characters)"
