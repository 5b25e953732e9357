"""Filling the full-text index behind ingestion.

Storing a batch never touches the index (it would cost most of the ingest rate). Instead whoever is about to search, or
has nothing better to do, calls ``index_pending`` in a write transaction of its own. The cursor moves in that same
transaction, so a crash between two calls neither loses nor repeats a record.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, text, update

from tracekeeper.store.search.schema import reset_search, search_cursor, search_deferred
from tracekeeper.store.tables import payload, record
from tracekeeper.types import SpanStatus
from tracekeeper.types.text import TERMS_VERSION, terms, texts_within

INDEXED_CHARACTERS = 200_000
"""Of a longer text only the beginning is indexed."""

CHUNK = 200
"""Records that are read and indexed between two looks at the clock."""

_insert = text("INSERT INTO search(rowid, input, output) VALUES (:id, :input, :output)")
_remove = text("INSERT INTO search(search, rowid, input, output) VALUES ('delete', :id, :input, :output)")


class Waiting(NamedTuple):
    """What the index does not hold."""

    ready: int
    """Records that have ended: ``index_pending`` would index them."""
    running: int
    """Records that are still running: they are indexed when they have ended."""


def waiting(connection: Connection) -> Waiting:
    """How many records the index does not hold yet, to be said next to the results of a search. Reads only."""
    position, _ = _cursor(connection)
    is_running = record.c.status == SpanStatus.RUNNING.value
    ahead = select(func.count(), func.count().filter(is_running)).where(record.c.id > position)
    behind = select(func.count(), func.count().filter(is_running)).join_from(
        search_deferred, record, search_deferred.c.record_id == record.c.id
    )
    (n, n_running), (m, m_running) = connection.execute(ahead).one(), connection.execute(behind).one()
    return Waiting(ready=n + m - n_running - m_running, running=n_running + m_running)


def index_pending(connection: Connection, *, limit: int = 10_000, seconds: float | None = None) -> int:
    """Index records that have ended and are not in the index yet, oldest first.

    Parameters
    ----------
    connection:
        In a write transaction, which the caller commits.
    limit:
        Records to index at most.
    seconds:
        Time after which no further chunk of records is begun; ``None``: no such limit. At least one chunk is indexed.

    Returns
    -------
    int
        Number of records indexed. Less than ``limit`` means that none is left, or that the time was up (``waiting``
        tells).
    """
    if limit <= 0:
        return 0
    deadline = None if seconds is None else time.monotonic() + seconds
    # Written before it is read: a transaction that began as a reader becomes a writer before it has seen anything.
    connection.execute(update(search_cursor).values(position=search_cursor.c.position))
    position, version = _cursor(connection)
    if version != TERMS_VERSION:
        reset_search(connection)
        position = 0
    done = 0
    # First those that were running when the cursor passed them, then what came after the cursor.
    while rows := _ended_since(connection, min(CHUNK, limit - done)):
        _forget_deferred(connection, [row.id for row in rows])
        done += _index(connection, rows)
        if done >= limit or _is_over(deadline):
            return done
    while passed := _after(connection, position, min(CHUNK, limit - done)):
        position = passed[-1].id
        _defer(connection, [row.id for row in passed if row.status == SpanStatus.RUNNING.value])
        done += _index(connection, [row for row in passed if row.status != SpanStatus.RUNNING.value])
        connection.execute(update(search_cursor).values(position=position))
        if done >= limit or _is_over(deadline):
            break
    return done


def remove_records(connection: Connection, ids: Iterable[int]) -> None:
    """Take records out of the index.

    Call it *before* their payloads are deleted: FTS5 needs the texts to find their terms.
    """
    position, _ = _cursor(connection)
    wanted = [i for i in ids if i <= position]
    for start in range(0, len(wanted), CHUNK):
        some = wanted[start : start + CHUNK]
        deferred = set(connection.scalars(select(search_deferred).where(search_deferred.c.record_id.in_(some))))
        rows = connection.execute(_texts().where(record.c.id.in_([i for i in some if i not in deferred]))).all()
        if rows:
            connection.execute(_remove, [_entry(row) for row in rows])
        _forget_deferred(connection, sorted(deferred))


def indexed_text(data: str | None) -> str:
    """What is searched of a captured value: the texts and numbers in its JSON, in order, without keys; cut when long.

    Example
    -------
    >>> indexed_text('{"question": "Where?", "options": [{"top_k": 3}]}')
    'Where?\\n3'
    """
    if not data:
        return ""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):  # cut or damaged, or nested beyond reason: as it stands
        return data[:INDEXED_CHARACTERS]
    return texts_within(value, INDEXED_CHARACTERS)


def _is_over(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


def _index(connection: Connection, rows: Sequence[Row[Any]]) -> int:
    if rows:
        connection.execute(_insert, [_entry(row) for row in rows])
    return len(rows)


def _entry(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "input": " ".join(terms(indexed_text(row.input))),
        "output": " ".join(terms(indexed_text(row.output))),
    }


def _cursor(connection: Connection) -> tuple[int, int]:
    position, version = connection.execute(select(search_cursor.c.position, search_cursor.c.version)).one()
    return position, version


def _texts() -> Any:
    joined = record.outerjoin(payload, payload.c.id == record.c.id)
    return select(record.c.id, record.c.status, payload.c.input, payload.c.output).select_from(joined)


def _after(connection: Connection, position: int, limit: int) -> Sequence[Row[Any]]:
    """The records after the cursor, whatever their status."""
    return connection.execute(_texts().where(record.c.id > position).order_by(record.c.id).limit(limit)).all()


def _ended_since(connection: Connection, limit: int) -> Sequence[Row[Any]]:
    """Records that were running when the cursor passed them, and are not any more."""
    statement = (
        _texts()
        .join(search_deferred, search_deferred.c.record_id == record.c.id)
        .where(record.c.status != SpanStatus.RUNNING.value)
        .order_by(record.c.id)
        .limit(limit)
    )
    return connection.execute(statement).all()


def _defer(connection: Connection, ids: Sequence[int]) -> None:
    if ids:
        connection.execute(insert(search_deferred), [{"record_id": i} for i in ids])


def _forget_deferred(connection: Connection, ids: Sequence[int]) -> None:
    if ids:
        one = delete(search_deferred).where(search_deferred.c.record_id == bindparam("one"))
        connection.execute(one, [{"one": i} for i in ids])
