"""The datasets that there are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from tracekeeper.reading.columns import Column
from tracekeeper.reading.tables import Table
from tracekeeper.tracing import runtime


class DatasetFacts(NamedTuple):
    """A dataset as it is now."""

    name: str
    items: int
    version: str
    """``""``: nothing was ever in it."""
    versions: int
    created: datetime
    changed: datetime


def datasets() -> Table[DatasetFacts]:
    """Every dataset, by name.

    Raises
    ------
    StoreError
        The database cannot be read.

    Example
    -------
    >>> import tracekeeper as tk
    >>> _ = tk.Dataset("capitals").insert([{"question": "capital of Peru?", "expected": "Lima"}])
    >>> [(facts.name, facts.items) for facts in datasets()]
    [('capitals', 1)]
    """
    store = runtime.keeper().store().datasets
    found = []
    for row in store.all():
        versions = store.versions(row.id)
        shown = sum(1 for each in versions if each.whole or each is versions[-1])
        at = (datetime.fromtimestamp(moment / 1e9, UTC) for moment in (row.created_at, row.changed_at))
        found.append(DatasetFacts(row.name, row.items, versions[-1].version if versions else "", shown, *at))
    return Table(found, COLUMNS, noun="dataset")


COLUMNS: tuple[Column[DatasetFacts], ...] = (
    Column("name", lambda facts: facts.name),
    Column("items", lambda facts: facts.items, "integer"),
    Column("version", lambda facts: facts.version),
    Column("versions", lambda facts: facts.versions, "integer", rank=2),
    Column("changed", lambda facts: facts.changed, "time", rank=1),
    Column("created", lambda facts: facts.created, "time", shown=False),
)
