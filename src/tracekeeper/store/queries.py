"""Reading: each function takes a connection and gives plain rows. One statement each, or one per few hundred keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, Table, and_, func, or_, select, text

from tracekeeper.store import results
from tracekeeper.store.tables import app, journal, payload, record, score, score_attempt, span
from tracekeeper.types import ScoreStatus

T = TypeVar("T")

AT_ONCE = 400
"""Row ids in one statement."""

KEYS_AT_ONCE = 50
"""Pairs of ids in one statement."""

_OPEN = text("score.status IN ('pending', 'running')")
_RUNNING = text("span.status = 'running'")


def records(
    connection: Connection,
    where: ColumnElement[bool] | None,
    *,
    limit: int | None,
    before: int | None = None,
    after: int | None = None,
    oldest_first: bool = False,
) -> list[results.RecordRow]:
    """See ``Store.records``."""
    statement = _records()
    if where is not None:
        statement = statement.where(where)
    if before is not None:
        statement = statement.where(record.c.id < before)
    if after is not None:
        statement = statement.where(record.c.id > after)
    statement = statement.order_by(record.c.id if oldest_first else record.c.id.desc())
    if limit is not None:
        statement = statement.limit(limit)
    return [results.RecordRow._make(row) for row in connection.execute(statement)]


def records_by_key(connection: Connection, keys: Iterable[tuple[str, str]]) -> list[results.RecordRow]:
    """See ``Store.records_by_key``."""
    return [
        results.RecordRow._make(row)
        for some in _chunks(keys, KEYS_AT_ONCE)
        for row in connection.execute(_records().where(_any_of(record, some)).order_by(record.c.id))
    ]


def apps_of(connection: Connection, ids: Iterable[int]) -> dict[int, int | None]:
    """See ``Store.apps_of``."""
    return {
        row: of_app
        for some in _chunks(ids)
        for row, of_app in connection.execute(select(record.c.id, record.c.app_id).where(record.c.id.in_(some)))
    }


def payloads(connection: Connection, ids: Iterable[int]) -> dict[int, results.PayloadRow]:
    """See ``Store.payloads``."""
    return {
        row.id: results.PayloadRow._make(row)
        for some in _chunks(ids)
        for row in connection.execute(select(payload).where(payload.c.id.in_(some)))
    }


def spans_of(connection: Connection, trace_id: str, record_span_id: str | None) -> list[results.SpanRow]:
    """See ``Store.spans_of``."""
    statement = select(span).where(span.c.trace_id == trace_id).order_by(span.c.started_at, span.c.id)
    if record_span_id is not None:
        statement = statement.where(span.c.record_span_id == record_span_id)
    return [results.SpanRow._make(row) for row in connection.execute(statement)]


def running_spans(connection: Connection, journal_id: int) -> list[tuple[bytes, bytes]]:
    """See ``Store.running_spans``."""
    statement = select(span.c.trace_id, span.c.span_id).where(span.c.journal_id == journal_id, _RUNNING)
    return [(bytes.fromhex(trace), bytes.fromhex(own)) for trace, own in connection.execute(statement)]


def scores_of(connection: Connection, record_ids: Iterable[int]) -> list[results.ScoreRow]:
    """See ``Store.scores_of``."""
    return _scores(connection, (score.c.record_id.in_(some) for some in _chunks(record_ids)))


def scores_by_key(connection: Connection, keys: Iterable[tuple[str, str]]) -> list[results.ScoreRow]:
    """See ``Store.scores_by_key``."""
    return _scores(connection, (_any_of(score, some) for some in _chunks(keys, KEYS_AT_ONCE)))


def attempts_of(connection: Connection, score_ids: Iterable[int]) -> list[results.AttemptRow]:
    """See ``Store.attempts_of``."""
    order = (score_attempt.c.score_id, score_attempt.c.attempt)
    return [
        results.AttemptRow._make(row)
        for some in _chunks(score_ids)
        for row in connection.execute(select(score_attempt).where(score_attempt.c.score_id.in_(some)).order_by(*order))
    ]


def open_scores(
    connection: Connection, *, limit: int | None, journal_id: int | None, born_before: int | None
) -> list[results.ScoreRow]:
    """See ``Store.open_scores``."""
    statement = select(*_score_columns).where(_OPEN).order_by(score.c.created_at, score.c.id)
    if journal_id is not None:
        statement = statement.where(score.c.journal_id == journal_id)
    if born_before is not None:
        statement = statement.where(score.c.created_at < born_before)
    if limit is not None:
        statement = statement.limit(limit)
    return [results.ScoreRow._make(row) for row in connection.execute(statement)]


def score_counts(connection: Connection, journal_id: int | None) -> dict[str, int]:
    """See ``Store.score_counts``."""
    statement = select(score.c.status, func.count()).group_by(score.c.status)
    if journal_id is not None:
        statement = statement.where(score.c.journal_id == journal_id)
    found: dict[str, int] = {row[0]: row[1] for row in connection.execute(statement)}
    return {str(status): found[status] for status in ScoreStatus if status in found}


def journals(connection: Connection, name: str | None = None) -> list[results.JournalRow]:
    """Every journal, or the one of that name."""
    statement = select(journal).order_by(journal.c.id)
    if name is not None:
        statement = statement.where(journal.c.name == name)
    return [
        results.JournalRow._make(row)._replace(dropped=msgspec.json.decode(row.dropped, type=dict[str, int]))
        for row in connection.execute(statement)
    ]


def ledger(connection: Connection, name: str) -> results.Ledger | None:
    """See ``Store.ledger``."""
    found = journals(connection, name)
    if not found:
        return None
    own = found[0]
    running = select(func.count()).select_from(span).where(span.c.journal_id == own.id, _RUNNING)
    return results.Ledger(own, connection.scalar(running) or 0, score_counts(connection, own.id))


def counts(connection: Connection) -> results.Counts:
    """See ``Store.counts``."""

    def number(statement: Select[Any]) -> int:
        return connection.scalar(statement) or 0

    dropped: dict[str, int] = {}
    rows = journals(connection)
    for row in rows:
        for reason, n in row.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + n
    return results.Counts(
        records=number(select(func.count()).select_from(record)),
        spans=number(select(func.count()).select_from(span)),
        running=number(select(func.count()).select_from(span).where(_RUNNING)),
        scores=score_counts(connection, None),
        oldest_open=connection.scalar(select(func.min(score.c.created_at)).where(_OPEN)),
        journals=len(rows),
        damaged=sum(row.damaged for row in rows),
        refused=sum(row.refused for row in rows),
        dropped=dropped,
    )


_of_app = {"app": app.c.name.label("app"), "version": app.c.version}
_record_columns: list[Any] = [
    _of_app[name] if name in _of_app else record.c[name] for name in results.RecordRow._fields
]
_score_columns = [score.c[name] for name in results.ScoreRow._fields]


def _records() -> Select[Any]:
    return select(*_record_columns).select_from(record.outerjoin(app, app.c.id == record.c.app_id))


def _scores(connection: Connection, conditions: Iterable[ColumnElement[bool]]) -> list[results.ScoreRow]:
    # A record's scores by name, and of one name the versions as they came.
    order = (score.c.record_id, score.c.name, score.c.id)
    return [
        results.ScoreRow._make(row)
        for condition in conditions
        for row in connection.execute(select(*_score_columns).where(condition).order_by(*order))
    ]


def _any_of(table: Table, keys: Sequence[tuple[str, str]]) -> ColumnElement[bool]:
    """One of these (trace id, span id). SQLite finds no index for ``(a, b) IN (VALUES …)``, but for each of these."""
    return or_(*(and_(table.c.trace_id == trace_id, table.c.span_id == own) for trace_id, own in keys))


def _chunks(keys: Iterable[T], size: int = AT_ONCE) -> Iterator[Sequence[T]]:
    every = list(dict.fromkeys(keys))
    for start in range(0, len(every), size):
        yield every[start : start + size]
