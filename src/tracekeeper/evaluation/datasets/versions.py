"""Versions of a dataset as people see them, and how one is told from what they write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from tracekeeper.types import DatasetError

if TYPE_CHECKING:
    from tracekeeper.store.datasets.dataset_store import DatasetStore
    from tracekeeper.store.datasets.rows import DatasetRow, VersionRow


class Version(NamedTuple):
    """A version of a dataset, and how it differs from the one before."""

    version: str
    """12 hex digits; the same content has the same."""
    number: int
    """In the order in which they were made; there may be gaps."""
    items: int
    added: int
    changed: int
    removed: int
    complete: bool
    """``False``: the insert that made it did not come to its end, and nothing was changed since."""
    created: datetime


def shown(rows: Iterable[VersionRow]) -> Iterator[Version]:
    """Versions, those that single batches of an insert made put together to one."""
    added = changed = removed = 0
    rows = list(rows)
    for row in rows:
        added, changed, removed = added + row.added, changed + row.changed, removed + row.removed
        if row.whole or row is rows[-1]:
            at = datetime.fromtimestamp(row.created_at / 1e9, UTC)
            yield Version(row.version, row.number, row.items, added, changed, removed, bool(row.whole), at)
            added = changed = removed = 0


def find(store: DatasetStore, row: DatasetRow, wanted: str | int) -> VersionRow:
    """The version that somebody means: by its hex digits (the first of them are enough), or by its number.

    Raises
    ------
    DatasetError
        There is none, or several begin so.
    """
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        found = store.version_numbered(row.id, wanted)
        if found is None:
            raise DatasetError(f"dataset {row.name!r} has no version number {wanted}; the newest is {row.number}")
        return found
    if not isinstance(wanted, str) or not wanted:
        raise DatasetError(f"version={wanted!r}: expected the digits of a version, or its number")
    matching = store.versions_named(row.id, wanted)
    if not matching:
        raise DatasetError(f"dataset {row.name!r} has no version {wanted!r}; see them by .versions()")
    if len(matching) > 1:
        names = ", ".join(each.version for each in matching)
        raise DatasetError(f"version {wanted!r} of dataset {row.name!r} may be any of {names}; give more digits")
    return matching[0]
