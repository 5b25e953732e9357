"""What is read of a dataset: its versions, and the items of one in pages, so that no more than a page is in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from tracekeeper.store.datasets.changes import chunks
from tracekeeper.store.datasets.rows import ItemRow, KeyRow, VersionRow
from tracekeeper.store.tables import dataset_item, dataset_version

R = TypeVar("R", ItemRow, KeyRow)

PAGE = 1_000
"""Items of a page."""

PAGE_BYTES = 4 << 20
"""Characters of a page's fields, more or less: items may be whole documents."""


def versions(connection: Connection, dataset_id: int) -> list[VersionRow]:
    """All versions, oldest first, also those that single batches made."""
    statement = select(*_versions()).where(dataset_version.c.dataset_id == dataset_id)
    return [VersionRow(*row) for row in connection.execute(statement.order_by(dataset_version.c.number))]


def numbered(connection: Connection, dataset_id: int, number: int) -> VersionRow | None:
    """The version of a number."""
    this = (dataset_version.c.dataset_id == dataset_id, dataset_version.c.number == number)
    found = connection.execute(select(*_versions()).where(*this)).first()
    return None if found is None else VersionRow(*found)


def named(connection: Connection, dataset_id: int, beginning: str) -> list[VersionRow]:
    """The newest version of each content whose name begins so."""
    statement = select(*_versions()).where(
        dataset_version.c.dataset_id == dataset_id,
        dataset_version.c.version.startswith(beginning, autoescape=True),
    )
    rows = connection.execute(statement.order_by(dataset_version.c.number))
    return list({row.version: row for row in (VersionRow(*each) for each in rows)}.values())


def items(
    connection: Connection, dataset_id: int, number: int, after: int, ids: Sequence[str] | None = None
) -> list[ItemRow]:
    """The next page of a version: items behind a place, in the order of insertion; only some, if ``ids`` is given."""
    found: list[ItemRow] = []
    size = 0
    for row in _rows(connection, ItemRow, dataset_id, number, after, ids):
        found.append(row)
        size += len(row.fields)
        if size > PAGE_BYTES:
            break
    return found


def keys(
    connection: Connection, dataset_id: int, number: int, after: int, ids: Sequence[str] | None = None
) -> list[KeyRow]:
    """The same without the fields."""
    return list(_rows(connection, KeyRow, dataset_id, number, after, ids))


def differing(connection: Connection, dataset_id: int, old: int, new: int) -> Iterator[tuple[bool, ItemRow]]:
    """The states that one of two versions has and the other has not, in order; and whether it is the newer one."""
    in_old, in_new = _holds(old), _holds(new)
    statement = (
        select(in_new, *(dataset_item.c[name] for name in ItemRow._fields))
        .where(dataset_item.c.dataset_id == dataset_id, or_(and_(in_old, ~in_new), and_(in_new, ~in_old)))
        .order_by(dataset_item.c.place, dataset_item.c.since)
    )
    for of_new, *values in connection.execute(statement):
        yield bool(of_new), ItemRow(*values)


def _rows(
    connection: Connection, kind: type[R], dataset_id: int, number: int, after: int, ids: Sequence[str] | None
) -> Iterator[R]:
    statement = (
        select(*(dataset_item.c[name] for name in kind._fields))
        .where(dataset_item.c.dataset_id == dataset_id, dataset_item.c.place > after, _holds(number))
        .order_by(dataset_item.c.place)
    )
    if ids is None:
        for row in connection.execute(statement.limit(PAGE)):
            yield kind(*row)
        return
    found = [
        kind(*row) for some in chunks(ids) for row in connection.execute(statement.where(dataset_item.c.item.in_(some)))
    ]
    yield from sorted(found, key=lambda row: row.place)


def _holds(number: int) -> ColumnElement[bool]:
    """Whether a version has a state of an item."""
    gone = dataset_item.c.until
    return and_(dataset_item.c.since <= number, or_(gone.is_(None), gone > number))


def _versions() -> list[Any]:
    return [dataset_version.c[name] for name in VersionRow._fields]
