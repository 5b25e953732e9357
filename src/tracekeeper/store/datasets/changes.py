"""What changes a dataset, each in the caller's write transaction: a batch of items, a removal.

A change makes a version; what changes nothing makes none. A version is named by its content: the sum of its items'
hashes does not depend on the order in which they came, and is brought forward by what changed alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, insert, select, update

from tracekeeper.store.datasets.rows import DatasetRow, Differing, NewItem, Put, UnknownItems
from tracekeeper.store.tables import dataset, dataset_item, dataset_version

T = TypeVar("T")

AT_ONCE = 500
"""Values of one ``IN``."""

_MODULUS = 1 << 256


def find(connection: Connection, name: str) -> DatasetRow | None:
    """The dataset of a name."""
    found = connection.execute(select(*_columns()).where(dataset.c.name == name)).first()
    return None if found is None else DatasetRow(*found)


def every(connection: Connection) -> list[DatasetRow]:
    """All datasets, by name."""
    return [DatasetRow(*row) for row in connection.execute(select(*_columns()).order_by(dataset.c.name))]


def put(connection: Connection, name: str, items: Sequence[NewItem], *, replace: bool, whole: bool, now: int) -> Put:
    """Insert items; make the dataset when there is none of that name.

    Parameters
    ----------
    replace:
        Let an item take the place of another one with its id.
    whole:
        No more batches of the same insert follow.

    Raises
    ------
    Differing
        An item's id is taken by another one.
    """
    row = find(connection, name) or _make(connection, name, now)
    there = _present(connection, row.id, {each.item for each in items})
    wanted: dict[str, tuple[int, NewItem]] = {}
    for index, each in enumerate(items):
        earlier = wanted.get(each.item)
        known = earlier[1] if earlier is not None else there[each.item][1] if each.item in there else None
        if known is not None and known.hash != each.hash and not replace:
            raise Differing(index, known, None if earlier is None else earlier[0])
        wanted[each.item] = (index, each)
    added = [each for _, each in wanted.values() if each.item not in there]
    changed = [each for _, each in wanted.values() if each.item in there and there[each.item][1].hash != each.hash]
    same = len(items) - len(added) - len(changed)
    if not added and not changed:
        return Put(row.number, same=same)
    number = row.number + 1
    _end(connection, row.id, [each.item for each in changed], number)
    places = {each.item: there[each.item][0] for each in changed}
    places |= {each.item: row.places + offset for offset, each in enumerate(added)}
    connection.execute(
        insert(dataset_item),
        [
            {"dataset_id": row.id, "since": number, "place": places[each.item], **each._asdict()}
            for each in (*changed, *added)
        ],
    )
    digest = _sum(
        row.digest, (each.hash for each in (*changed, *added)), (there[each.item][1].hash for each in changed)
    )
    grown = row._replace(places=row.places + len(added), items=row.items + len(added), digest=digest)
    _advance(connection, grown, now, added=len(added), changed=len(changed), whole=int(whole))
    return Put(number, len(added), len(changed), same)


def finish(connection: Connection, dataset_id: int, number: int) -> None:
    """Say of a version that nothing of the insert that made it was left out."""
    this = (dataset_version.c.dataset_id == dataset_id, dataset_version.c.number == number)
    connection.execute(update(dataset_version).where(*this).values(whole=1))


def remove(connection: Connection, row: DatasetRow, items: Sequence[str], now: int) -> int:
    """Take items out of the newest version; the number of the new one.

    Raises
    ------
    UnknownItems
        Some are not in it.
    """
    there = _present(connection, row.id, items)
    unknown = [each for each in items if each not in there]
    if unknown:
        raise UnknownItems(unknown)
    if not there:
        return row.number
    _end(connection, row.id, list(there), row.number + 1)
    digest = _sum(row.digest, (), (each.hash for _, each in there.values()))
    left = row._replace(items=row.items - len(there), digest=digest)
    _advance(connection, left, now, removed=len(there))
    return row.number + 1


def _make(connection: Connection, name: str, now: int) -> DatasetRow:
    connection.execute(insert(dataset).values(name=name, created_at=now, changed_at=now))
    made = find(connection, name)
    assert made is not None
    return made


def _present(connection: Connection, dataset_id: int, items: Iterable[str]) -> dict[str, tuple[int, NewItem]]:
    """Those of some items that are there now, with their places."""
    found: dict[str, tuple[int, NewItem]] = {}
    columns = [dataset_item.c[name] for name in NewItem._fields]
    for some in chunks(items):
        statement = select(dataset_item.c.place, *columns).where(
            dataset_item.c.dataset_id == dataset_id, dataset_item.c.until.is_(None), dataset_item.c.item.in_(some)
        )
        for place, *values in connection.execute(statement):
            each = NewItem(*values)
            found[each.item] = (place, each)
    return found


def _end(connection: Connection, dataset_id: int, items: Sequence[str], number: int) -> None:
    """Let the present state of items be no more from a version on."""
    for some in chunks(items):
        these = (
            *(dataset_item.c.dataset_id == dataset_id, dataset_item.c.until.is_(None)),
            dataset_item.c.item.in_(some),
        )
        connection.execute(update(dataset_item).where(*these).values(until=number))


def _sum(digest: str, added: Iterable[str], removed: Iterable[str]) -> str:
    total = int(digest, 16) + sum(int(each, 16) for each in added) - sum(int(each, 16) for each in removed)
    return f"{total % _MODULUS:x}"


def _advance(connection: Connection, row: DatasetRow, now: int, **counts: Any) -> None:
    """The next version: what it holds is in ``row``, which still has the number of the one before."""
    version = hashlib.sha256(f"{row.items}:{row.digest}".encode()).hexdigest()[:12]
    number = row.number + 1
    connection.execute(
        update(dataset)
        .where(dataset.c.id == row.id)
        .values(number=number, digest=row.digest, items=row.items, places=row.places, changed_at=now)
    )
    values = {"dataset_id": row.id, "number": number, "version": version, "items": row.items, "created_at": now}
    connection.execute(insert(dataset_version).values(**values, **counts))


def _columns() -> list[Any]:
    return [dataset.c[name] for name in DatasetRow._fields]


def chunks(values: Iterable[T], size: int = AT_ONCE) -> Iterator[list[T]]:
    """Values in lists of at most ``size``.

    >>> list(chunks([1, 2, 3], 2))
    [[1, 2], [3]]
    """
    some: list[T] = []
    for each in values:
        some.append(each)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some
