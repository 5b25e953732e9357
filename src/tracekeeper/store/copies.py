"""Copies of what is stored, on their way to another system: how far each endpoint has got, and what comes next.

A copy has a cursor over the row ids of spans, which only grow. A span that has not ended when the cursor passes it is
put off (``copy_wait``) and comes when it has. One process at a time copies to an endpoint, under a lease; every step is
compared with the version that it was made from, so that one whose lease lapsed writes nothing over its successor's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from tracekeeper.store.tables import app, copy, copy_wait, payload, record, span
from tracekeeper.types import SpanStatus

if TYPE_CHECKING:
    from tracekeeper.store.store import Store

REASONS = 50
"""Reasons that are told apart; an endpoint that says something else each time must not fill the row."""
OTHER = "other reasons"


class CopyRow(NamedTuple):
    """How far an endpoint has got. Times are nanoseconds since the epoch."""

    id: int
    endpoint: str
    cursor: int
    version: int
    copied: int
    dropped: dict[str, int]
    """By reason."""
    error: str | None
    """Why it does not go on at present."""
    owner: str | None
    lease_until: int | None


class Account(NamedTuple):
    """What became of the spans that an endpoint was to have."""

    endpoint: str
    copied: int
    pending: int
    dropped: dict[str, int]
    error: str | None


class Passed(NamedTuple):
    """The next spans for an endpoint."""

    rows: list[dict[str, Any]]
    """Those that have ended, with their texts and what their record says of them."""
    cursor: int
    """Row id up to which the cursor goes when they are through."""
    put_off: list[int]
    """Row ids of those that have not ended."""
    awaited: list[int]
    """Of ``rows``, those that had been put off."""


class Copies:
    """The copies of one database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def register(self, endpoint: str) -> CopyRow:
        """The row of an endpoint. A new one begins with what is stored from now on, not with what is there."""
        with self._store.read() as connection:
            found = _find(connection, endpoint)
        if found is not None:
            return found
        with self._store.write() as connection:
            newest = connection.execute(select(func.coalesce(func.max(span.c.id), 0))).scalar_one()
            row = {"endpoint": endpoint, "cursor": newest, "created_at": time.time_ns()}
            connection.execute(upsert(copy).values(**row).on_conflict_do_nothing(index_elements=["endpoint"]))
            made = _find(connection, endpoint)
            assert made is not None
            return made

    def accounts(self, endpoint: str | None = None) -> list[Account]:
        """What became of everything, of one endpoint or of all."""
        with self._store.read() as connection:
            statement = select(copy).order_by(copy.c.id)
            if endpoint is not None:
                statement = statement.where(copy.c.endpoint == endpoint)
            rows = [_row(each) for each in connection.execute(statement).mappings()]
            return [
                Account(row.endpoint, row.copied, _pending(connection, row), row.dropped, row.error) for row in rows
            ]

    def claim(self, endpoint: str, owner: str, lease: int) -> CopyRow | None:
        """Take or renew the lease for so many nanoseconds; ``None`` while somebody else has it, or nothing is due."""
        now = time.time_ns()
        with self._store.read() as connection:
            found = _find(connection, endpoint)
            if found is None or (found.owner not in (None, owner) and (found.lease_until or 0) > now):
                return None
            if not _due(connection, found):
                return None
        with self._store.write() as connection:
            taken = connection.execute(
                update(copy)
                .where(copy.c.id == found.id, copy.c.version == found.version)
                .values(owner=owner, lease_until=now + lease, version=copy.c.version + 1)
            ).rowcount
            return _find(connection, endpoint) if taken else None

    def skip(self, row: CopyRow, *, keep: int, reason: str) -> CopyRow:
        """Leave out the oldest spans beyond the newest ``keep``, and count them."""
        with self._store.read() as connection:
            first = connection.execute(
                select(span.c.id).where(span.c.id > row.cursor).order_by(span.c.id.desc()).limit(1).offset(keep)
            ).scalar_one_or_none()
            if first is None:
                return row
            count = connection.execute(
                select(func.count()).select_from(span).where(span.c.id > row.cursor, span.c.id <= first)
            ).scalar_one()
        return self.settle(row, cursor=first, dropped={reason: count}, error=row.error) or row

    def next(self, row: CopyRow, *, limit: int) -> Passed:
        """What comes next, at most ``limit`` spans."""
        with self._store.read() as connection:
            awaited = _awaited(connection, row, limit)
            behind = connection.execute(
                select(span.c.id, span.c.status)
                .where(span.c.id > row.cursor)
                .order_by(span.c.id)
                .limit(limit - len(awaited))
            ).all()
            put_off = [each for each, status in behind if status == SpanStatus.RUNNING]
            ended = [each for each, status in behind if status != SpanStatus.RUNNING]
            cursor = behind[-1][0] if behind else row.cursor
            return Passed(_load(connection, [*awaited, *ended]), cursor, put_off, awaited)

    def settle(
        self,
        row: CopyRow,
        *,
        cursor: int | None = None,
        put_off: Sequence[int] = (),
        through: Sequence[int] = (),
        copied: int = 0,
        dropped: Mapping[str, int] | None = None,
        error: str | None = None,
        release: bool = False,
    ) -> CopyRow | None:
        """Write down what came of a batch; ``None`` when somebody else has gone on in the meantime.

        Parameters
        ----------
        put_off, through:
            Row ids of spans to come back to, and of such that are through.
        release:
            Give the lease back.
        """
        total = dict(row.dropped)
        for reason, count in (dropped or {}).items():
            key = reason if reason in total or len(total) < REASONS else OTHER
            total[key] = total.get(key, 0) + count
        values: dict[str, Any] = {
            "cursor": row.cursor if cursor is None else cursor,
            "version": row.version + 1,
            "copied": row.copied + copied,
            "dropped": msgspec.json.encode(total).decode(),
            "error": error,
        }
        if release:
            values |= {"owner": None, "lease_until": None}
        with self._store.write() as connection:
            statement = update(copy).where(copy.c.id == row.id, copy.c.version == row.version).values(**values)
            if not connection.execute(statement).rowcount:
                return None
            if through:
                gone = and_(copy_wait.c.copy_id == row.id, copy_wait.c.span_id.in_(through))
                connection.execute(delete(copy_wait).where(gone))
            if put_off:
                connection.execute(insert(copy_wait), [{"copy_id": row.id, "span_id": each} for each in put_off])
            return _find(connection, row.endpoint)

    def release(self, endpoint: str, owner: str) -> None:
        """Give the lease back, if it is ours."""
        with self._store.write() as connection:
            connection.execute(
                update(copy)
                .where(copy.c.endpoint == endpoint, copy.c.owner == owner)
                .values(owner=None, lease_until=None, version=copy.c.version + 1)
            )


def _row(found: Any) -> CopyRow:
    fields = {name: found[name] for name in CopyRow._fields}
    return CopyRow(**{**fields, "dropped": msgspec.json.decode(found["dropped"])})


def _find(connection: Connection, endpoint: str) -> CopyRow | None:
    found = connection.execute(select(copy).where(copy.c.endpoint == endpoint)).mappings().first()
    return None if found is None else _row(found)


def _pending(connection: Connection, row: CopyRow) -> int:
    behind = select(func.count()).select_from(span).where(span.c.id > row.cursor)
    waiting = select(func.count()).select_from(copy_wait).where(copy_wait.c.copy_id == row.id)
    return connection.execute(behind).scalar_one() + connection.execute(waiting).scalar_one()


def _due(connection: Connection, row: CopyRow) -> bool:
    behind = select(span.c.id).where(span.c.id > row.cursor).limit(1)
    return connection.execute(behind).first() is not None or bool(_awaited(connection, row, 1))


def _awaited(connection: Connection, row: CopyRow, limit: int) -> list[int]:
    """Those that were put off and have ended."""
    statement = (
        select(copy_wait.c.span_id)
        .join(span, span.c.id == copy_wait.c.span_id)
        .where(copy_wait.c.copy_id == row.id, span.c.status != str(SpanStatus.RUNNING))
        .order_by(copy_wait.c.span_id)
        .limit(limit)
    )
    return list(connection.execute(statement).scalars())


def _load(connection: Connection, ids: Sequence[int]) -> list[dict[str, Any]]:
    if not ids:
        return []
    of_record = and_(
        record.c.span_id == span.c.record_span_id, record.c.trace_id == span.c.trace_id, span.c.record_span_id != ""
    )
    says = [record.c[name] for name in ("project", "environment", "release", "session_id", "user_id", "tags")]
    texts = [payload.c[name] for name in payload.c.keys() if name != "id"]  # noqa: SIM118
    statement = (
        select(span, *texts, *says, app.c.name.label("app"), app.c.version.label("app_version"))
        .outerjoin(payload, payload.c.id == span.c.id)
        .outerjoin(record, of_record)
        .outerjoin(app, or_(and_(app.c.id == record.c.app_id, record.c.id == span.c.id)))
        .where(span.c.id.in_(ids))
        .order_by(span.c.id)
    )
    found: dict[int, dict[str, Any]] = {}
    for each in connection.execute(statement).mappings():
        found.setdefault(each["id"], dict(each))  # two records with the same ids would give two rows
    return [found[each] for each in ids if each in found]
