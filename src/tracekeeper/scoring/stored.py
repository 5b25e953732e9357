"""Records and scores as the store has them, in the form that :class:`~tracekeeper.scoring.record.Record` reads."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from tracekeeper.types import Score, ScoreSource, ScoreStatus, StoreError

if TYPE_CHECKING:
    from tracekeeper.journal.frames import SpanEnd, SpanStart
    from tracekeeper.tracing.runtime import Keeper


class StoredRecord(NamedTuple):
    """A record's row and its payload. Texts are JSON, times nanoseconds."""

    id: int
    trace_id: str
    span_id: str
    name: str
    app: str | None
    version: str | None
    project: str
    status: str
    started_at: int
    duration: int | None
    session_id: str | None
    user_id: str | None
    environment: str | None
    release: str | None
    tags: tuple[str, ...]
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    input: str | None = None
    output: str | None = None
    input_size: int = 0
    output_size: int = 0
    context: str | None = None
    expected: str | None = None
    metadata: str | None = None
    error: str | None = None
    traceback: str | None = None


def from_rows(rows: Iterable[Any], payloads: Mapping[int, Any]) -> list[StoredRecord]:
    """Join record rows of the store with their payload rows."""
    joined = []
    for row in rows:
        payload = payloads.get(row.id)
        message = payload.error_message if payload is not None else None
        error = f"{row.error_type}: {message}" if row.error_type and message else row.error_type
        joined.append(
            StoredRecord(
                id=row.id,
                trace_id=row.trace_id,
                span_id=row.span_id,
                name=row.name,
                app=row.app,
                version=row.version,
                project=row.project,
                status=row.status,
                started_at=row.started_at,
                duration=row.duration,
                session_id=row.session_id,
                user_id=row.user_id,
                environment=row.environment,
                release=row.release,
                tags=tuple(orjson.loads(row.tags)) if isinstance(row.tags, str) and row.tags else tuple(row.tags or ()),
                input_tokens=row.input_tokens,
                output_tokens=row.output_tokens,
                cost=row.cost,
                error=error,
                **(
                    {}
                    if payload is None
                    else {
                        "input": payload.input,
                        "output": payload.output,
                        "input_size": payload.input_size,
                        "output_size": payload.output_size,
                        "context": payload.context,
                        "expected": payload.expected,
                        "metadata": payload.metadata,
                        "traceback": payload.error_traceback,
                    }
                ),
            )
        )
    return joined


def load(keeper: Keeper, trace_id: str, span_id: str) -> StoredRecord | None:
    """The record by its key; ``None`` when the store does not have it (yet)."""
    store = keeper.store()
    rows = store.records_by_key([(trace_id, span_id)])
    found = from_rows(rows, store.payloads([row.id for row in rows]))
    return found[0] if found else None


def load_scores(keeper: Keeper, trace_id: str, span_id: str) -> dict[str, Score]:
    """Every score of the record by name, the latest of each; nothing when the store cannot be read now."""
    try:
        rows = keeper.store().scores_by_key([(trace_id, span_id)])
    except StoreError:  # a wait looks again until its deadline, and then shows the states it knows
        return {}
    return latest(score_of(row) for row in rows)


def load_history(keeper: Keeper, trace_id: str, span_id: str) -> dict[str, list[Score]]:
    """By name every attempt of every version and author, the oldest first; the present one of each among them.

    Raises
    ------
    StoreError
        The store cannot be read now.
    """
    store = keeper.store()
    rows = store.scores_by_key([(trace_id, span_id)])
    of_score: dict[int, list[Score]] = {}
    by_id = {row.id: row for row in rows}
    for attempt in store.attempts_of(by_id):
        of_score.setdefault(attempt.score_id, []).append(earlier_of(by_id[attempt.score_id], attempt))
    dated: dict[str, list[tuple[float, Score]]] = {}
    for row in sorted(rows, key=lambda row: (row.created_at, row.id)):
        at = 0.0
        for score in [*of_score.get(row.id, ()), score_of(row)]:
            # A clock may have been set back between two attempts, whose order is known all the same.
            at = max(at, score.settled_at or score.started_at or (time.time() if not score.final else at))
            dated.setdefault(row.name, []).append((at, score))
    return {name: [score for _, score in sorted(found, key=lambda pair: pair[0])] for name, found in dated.items()}


def latest(scores: Iterable[Score]) -> dict[str, Score]:
    """By name; of several by one name (versions, authors) the one that settled last, an open one before any."""
    found: dict[str, Score] = {}
    for score in scores:
        known = found.get(score.name)
        if known is None or (score.settled_at or time.time()) >= (known.settled_at or time.time()):
            found[score.name] = score
    return found


def earlier_of(row: Any, attempt: Any) -> Score:
    """A row of the ``score_attempt`` table, an earlier attempt of the score ``row``."""
    kind = "label" if attempt.label is not None else "number" if row.value_type == "label" else row.value_type
    outcome = {name: getattr(attempt, name) for name in _OF_ATTEMPT}
    return score_of(row._replace(**outcome, value_type=kind, traceback=None, metadata=None))


_OF_ATTEMPT = (
    *("attempt", "status", "value", "label", "reason", "error", "started_at", "settled_at", "cost", "evaluation"),
)


def score_of(row: Any) -> Score:
    """A row of the ``score`` table as a :class:`~tracekeeper.types.Score`."""
    value: float | bool | str | None = row.value
    if row.value_type == "bool" and value is not None:
        value = bool(value)
    elif row.value_type == "label":
        value = row.label
    started, settled = row.started_at, row.settled_at
    return Score(
        value=value if row.status == ScoreStatus.SCORED else None,
        reason=row.reason,
        status=ScoreStatus(row.status),
        name=row.name,
        metric_version=row.metric_version,
        source=ScoreSource(row.source),
        author=row.author,
        error=row.error,
        traceback=row.traceback,
        attempt=row.attempt,
        started_at=None if started is None else started / 1e9,
        settled_at=None if settled is None else settled / 1e9,
        seconds=None if started is None or settled is None else (settled - started) / 1e9,
        cost=row.cost,
        metadata=orjson.loads(row.metadata) if row.metadata else None,
        evaluation=row.evaluation or None,
    )


def from_frames(start: SpanStart, end: SpanEnd | None, field: str) -> Any:
    """A field of a record of this process, from its captured frames."""
    match field:
        case "name":
            return (end.name if end is not None else None) or start.name
        case "app":
            return start.app
        case "version":
            return start.app_version
        case "started_at":
            return start.started
        case "input":
            return end.input if end is not None and end.input is not None else start.input
        case "session_id" | "user_id" | "tags":
            changed = getattr(end, field, None)
            return getattr(start, field) if changed is None else changed
    if end is None:
        return {"status": "running"}.get(field)
    match field:
        case "status" | "output" | "context" | "expected" | "metadata":
            return getattr(end, field)
        case "duration":
            return max(0, end.ended - start.started)
        case "error":
            return None if end.error is None else f"{end.error.type}: {end.error.message}"
        case "traceback":
            return None if end.error is None else end.error.traceback
    raise KeyError(field)
