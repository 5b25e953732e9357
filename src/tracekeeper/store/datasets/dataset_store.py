"""``store.datasets``: everything that a store does about datasets, each method one transaction."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import Connection

from tracekeeper.store.datasets import changes, reading
from tracekeeper.store.datasets.rows import DatasetRow, ItemRow, KeyRow, NewItem, Put, VersionRow
from tracekeeper.types import faults


class Database(Protocol):
    """What gives transactions."""

    def read(self) -> AbstractContextManager[Connection]:
        """A read transaction."""

    def write(self) -> AbstractContextManager[Connection]:
        """A write transaction."""


class DatasetStore:
    """The datasets of a store. Every method raises ``StoreError`` when the database cannot be used."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[DatasetRow]:
        """Every dataset, by name."""
        with self._database.read() as connection:
            return changes.every(connection)

    def get(self, name: str) -> DatasetRow | None:
        """The dataset of that name."""
        with self._database.read() as connection:
            return changes.find(connection, name)

    def put(self, name: str, items: Sequence[NewItem], *, replace: bool, whole: bool) -> Put:
        """Insert a batch, all of it or nothing; see ``changes.put``."""
        with self._database.write() as connection:
            done = changes.put(connection, name, items, replace=replace, whole=whole, now=time.time_ns())
            faults.point("store.dataset.commit")
        faults.point("store.dataset.committed")
        return done

    def finish(self, name: str, number: int) -> None:
        """Say of a version that nothing of the insert that made it was left out."""
        with self._database.write() as connection:
            row = changes.find(connection, name)
            if row is not None:
                changes.finish(connection, row.id, number)

    def remove(self, name: str, items: Sequence[str]) -> int | None:
        """Take items out, all or none; see ``changes.remove``. ``None``: there is no such dataset."""
        with self._database.write() as connection:
            row = changes.find(connection, name)
            return None if row is None else changes.remove(connection, row, items, time.time_ns())

    def versions(self, dataset_id: int) -> list[VersionRow]:
        """All versions, oldest first, also those that single batches made."""
        with self._database.read() as connection:
            return reading.versions(connection, dataset_id)

    def version_numbered(self, dataset_id: int, number: int) -> VersionRow | None:
        """The version of a number."""
        with self._database.read() as connection:
            return reading.numbered(connection, dataset_id, number)

    def versions_named(self, dataset_id: int, beginning: str) -> list[VersionRow]:
        """The newest version of each content whose name begins so."""
        with self._database.read() as connection:
            return reading.named(connection, dataset_id, beginning)

    def items(self, dataset_id: int, number: int, after: int, ids: Sequence[str] | None = None) -> list[ItemRow]:
        """A page of a version; see ``reading.items``. Empty: there are no more."""
        with self._database.read() as connection:
            return reading.items(connection, dataset_id, number, after, ids)

    def keys(self, dataset_id: int, number: int, after: int, ids: Sequence[str] | None = None) -> list[KeyRow]:
        """The same without the fields."""
        with self._database.read() as connection:
            return reading.keys(connection, dataset_id, number, after, ids)

    def differing(self, dataset_id: int, old: int, new: int) -> list[tuple[bool, ItemRow]]:
        """The states that one of two versions has and the other has not; see ``reading.differing``."""
        with self._database.read() as connection:
            return list(reading.differing(connection, dataset_id, old, new))
