"""What is judged besides records, as the store has it: single spans, and the turns of a session."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, func, select

from tracekeeper.store import results
from tracekeeper.store.tables import payload, record, span


class Turn(NamedTuple):
    """One record of a session. Texts are JSON, times nanoseconds; a ``…_size`` is not 0 when the text was cut."""

    id: int
    status: str
    started_at: int
    duration: int | None
    user_id: str | None
    input: str | None
    input_size: int | None
    output: str | None
    output_size: int | None
    error_type: str | None
    error_message: str | None


class Turns(NamedTuple):
    """The newest turns of a session, oldest first, the very first one, and how many there are."""

    newest: list[Turn]
    first: Turn | None
    total: int


def span_by_key(connection: Connection, trace_id: str, span_id: str) -> results.SpanRow | None:
    """The span, or ``None``."""
    statement = select(span).where(span.c.trace_id == trace_id, span.c.span_id == span_id).limit(1)
    found = connection.execute(statement).first()
    return None if found is None else results.SpanRow._make(found)


def turns_of(connection: Connection, session_id: str, *, limit: int, max_bytes: int) -> Turns:
    """The turns of a session, in the order in which they began; at most the newest ``limit``, of ``max_bytes`` of text.

    The newest turn is always among them, however long it is.
    """
    total = connection.scalar(select(func.count()).select_from(record).where(record.c.session_id == session_id)) or 0
    if not total:
        return Turns([], None, 0)
    newest_first = (record.c.started_at.desc(), record.c.id.desc())
    size = func.coalesce(func.length(payload.c.input), 0) + func.coalesce(func.length(payload.c.output), 0)
    joined = record.outerjoin(payload, payload.c.id == record.c.id)
    of_session = record.c.session_id == session_id
    sizes = connection.execute(
        select(record.c.id, size).select_from(joined).where(of_session).order_by(*newest_first).limit(limit)
    ).all()
    kept: list[int] = []
    room = max_bytes
    for own, length in sizes:
        if kept and length > room:
            break
        kept.append(own)
        room -= length
    columns = [record.c[name] if name in record.c else payload.c[name] for name in Turn._fields]
    rows = select(*columns).select_from(joined)
    newest = [Turn._make(row) for row in connection.execute(rows.where(record.c.id.in_(kept)).order_by(*newest_first))]
    oldest_first = (record.c.started_at, record.c.id)
    first = connection.execute(rows.where(of_session).order_by(*oldest_first).limit(1)).one()
    return Turns(newest[::-1], Turn._make(first), total)
