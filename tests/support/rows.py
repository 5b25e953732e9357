"""Frames and batches for tests of the store, with defaults for everything a test does not care about."""

from __future__ import annotations

import os
from typing import Any

from tracekeeper.journal.frames import ScoreBirth, ScoreFrame, SpanEnd, SpanStart
from tracekeeper.store.results import ScoreRow
from tracekeeper.store.rows import Batch, SpanWrite
from tracekeeper.store.store import JournalRow, Store

SECOND = 10**9
START = 1_700_000_000 * SECOND


def trace_id() -> bytes:
    return os.urandom(16)


def span_id() -> bytes:
    return os.urandom(8)


def start(trace: bytes | None = None, own: bytes | None = None, **fields: Any) -> SpanStart:
    """A record's start, unless ``record_id`` says otherwise."""
    own = own or span_id()
    values: dict[str, Any] = {
        "trace_id": trace or trace_id(),
        "span_id": own,
        "parent_id": None,
        "record_id": own,
        "name": "ask",
        "kind": "task",
        "started": START,
        **fields,
    }
    return SpanStart(**values)


def end(of: SpanStart, seconds: float = 1.0, **fields: Any) -> SpanEnd:
    values: dict[str, Any] = {
        "trace_id": of.trace_id,
        "span_id": of.span_id,
        "record_id": of.record_id,
        "ended": of.started + int(seconds * SECOND),
        "status": "ok",
        **fields,
    }
    return SpanEnd(**values)


def record(*births: ScoreBirth, seconds: float = 1.0, app: str | None = "rag", **fields: Any) -> SpanWrite:
    """A whole record with what its metrics decided."""
    of_end = {
        name: fields.pop(name)
        for name in ("status", "output", "usage", "error", "expected", "context", "attributes")
        if name in fields
    }
    begun = start(app=app, **{"app_version": "1", **fields})
    return SpanWrite(begun, end(begun, seconds, scores=births, **of_end))


def score(of: SpanWrite, name: str = "m", status: str = "scored", **fields: Any) -> ScoreFrame:
    values: dict[str, Any] = {"value": 0.5 if status == "scored" else None, "attempt": 1, **fields}
    return ScoreFrame(
        "record", name, status, trace_id=of.start.trace_id, span_id=of.start.span_id, metric_version="v", **values
    )


def birth(name: str = "m", **fields: Any) -> ScoreBirth:
    return ScoreBirth(**{"name": name, "metric_version": "v", "mode": "background", **fields})


class Writer:
    """A journal of the test's own and its cursor."""

    def __init__(self, store: Store, name: str = "j") -> None:
        self.store = store
        self.row: JournalRow = store.register_journal(name=name, host="here", pid=1, started=START)
        self.id = self.row.id
        self.version = self.row.cursor_version

    def batch(self, *inserts: SpanWrite, **fields: Any) -> Batch:
        return Batch(inserts=list(inserts), cursor=b"c", cursor_version=self.version, **fields)

    def apply(self, *inserts: SpanWrite, **fields: Any) -> Any:
        applied = self.store.apply(self.id, self.batch(*inserts, **fields))
        self.version = applied.cursor_version
        return applied


def key_of(write: SpanWrite) -> tuple[str, str]:
    return write.start.trace_id.hex(), write.start.span_id.hex()


def scores_on(store: Store, write: SpanWrite) -> dict[str, ScoreRow]:
    return {row.name: row for row in store.scores_by_key([key_of(write)])}
