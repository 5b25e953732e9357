"""What differs between two versions of a dataset."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from tracekeeper.evaluation.datasets.forms import differing_parts, item_of_row
from tracekeeper.evaluation.item import Item
from tracekeeper.render import plural, truncate
from tracekeeper.store.datasets.rows import ItemRow

WIDE = 100
"""Cells of an item in what is printed."""


class Change(NamedTuple):
    """An item that both versions have, not the same."""

    old: Item
    new: Item

    @property
    def parts(self) -> list[str]:
        """What differs: names of fields, ``tags``, ``split``."""
        return differing_parts(self.old, self.new)


class Difference(NamedTuple):
    """What differs between an older and a newer version, in the order of the items.

    Example
    -------
    >>> import tracekeeper as tk
    >>> dataset = tk.Dataset("doc-difference").insert([{"id": "a", "q": 1}, {"id": "b", "q": 2}])
    >>> before = dataset.version
    >>> _ = dataset.insert([{"id": "b", "q": 3}, {"id": "c", "q": 4}], update=True)
    >>> dataset.diff(before, dataset.version).print()
    1 added, 1 changed, 0 removed
    ~ b  q: 2 → 3
    + c  {"q":4}
    """

    added: list[Item]
    changed: list[Change]
    removed: list[Item]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    def describe(self) -> str:
        """It as text, a line an item."""
        counts = f"{len(self.added):,} added, {len(self.changed):,} changed, {len(self.removed):,} removed"
        lines = [counts, *(f"~ {change.new.id}  {_change(change)}" for change in self.changed)]
        lines += [f"+ {item.id}  {_text(item.fields)}" for item in self.added]
        lines += [f"- {item.id}  {_text(item.fields)}" for item in self.removed]
        return "\n".join(lines)

    def print(self) -> None:
        """Print it."""
        print(self.describe())

    def to_dict(self) -> dict[str, Any]:
        """It as plain data."""
        changed = [
            {"id": each.new.id, "parts": each.parts, "old": _plain(each.old), "new": _plain(each.new)}
            for each in self.changed
        ]
        return {"added": list(map(_plain, self.added)), "changed": changed, "removed": list(map(_plain, self.removed))}


def difference(rows: Iterable[tuple[bool, ItemRow]]) -> Difference:
    """Put together the states that only one of two versions has."""
    old: dict[str, ItemRow] = {}
    new: dict[str, ItemRow] = {}
    for of_new, row in rows:
        (new if of_new else old)[row.item] = row
    # An item that was removed and came again has another state with the same content.
    both = [id for id, row in new.items() if id in old and old[id].hash != row.hash]
    return Difference(
        added=[item_of_row(row) for id, row in new.items() if id not in old],
        changed=[Change(item_of_row(old[id]), item_of_row(new[id])) for id in both],
        removed=[item_of_row(row) for id, row in old.items() if id not in new],
    )


def _change(change: Change) -> str:
    parts = change.parts
    if len(parts) > 3:
        return f"{plural(len(parts), 'part')}: {', '.join(parts)}"
    old, new = _plain(change.old), _plain(change.new)
    return "; ".join(f"{part}: {_part(old, part)} → {_part(new, part)}" for part in parts)


def _part(plain: dict[str, Any], name: str) -> str:
    value = plain["fields"].get(name, msgspec.UNSET) if name in plain["fields"] else plain.get(name, msgspec.UNSET)
    return "(none)" if value is msgspec.UNSET else _text(value)


def _plain(item: Item) -> dict[str, Any]:
    return {"id": item.id, "fields": dict(item.fields), "tags": list(item.tags), "split": item.split}


def _text(value: Any) -> str:
    return truncate(msgspec.json.encode(value).decode(), WIDE)
