"""What the store takes and gives of datasets: plain data, in the database's own form."""

from __future__ import annotations

from typing import NamedTuple


class DatasetRow(NamedTuple):
    """A dataset as it is now. Times are nanoseconds since the epoch."""

    id: int
    name: str
    number: int
    """Of its newest version, from 1; 0: it never held an item."""
    digest: str
    items: int
    places: int
    created_at: int
    changed_at: int


class VersionRow(NamedTuple):
    """A version, and what it added to the one before, replaced of it and took from it."""

    number: int
    version: str
    items: int
    added: int
    changed: int
    removed: int
    whole: int
    """0: made by a batch of an insert of which more were to follow."""
    created_at: int


class NewItem(NamedTuple):
    """An item to insert."""

    item: str
    hash: str
    fields: str
    tags: str | None
    split: str


class ItemRow(NamedTuple):
    """An item as some version has it."""

    place: int
    item: str
    hash: str
    fields: str
    tags: str | None
    split: str


class KeyRow(NamedTuple):
    """What an item is selected by."""

    place: int
    item: str
    tags: str | None
    split: str


class Put(NamedTuple):
    """What became of a batch."""

    number: int
    """Of the version that it made; of the present one when it changed nothing."""
    added: int = 0
    changed: int = 0
    same: int = 0


class Differing(Exception):
    """A batch was refused, whole: an item has the id of one that is there, or of an earlier one, and differs."""

    def __init__(self, index: int, there: NewItem, earlier: int | None) -> None:
        self.index = index
        self.there = there
        self.earlier = earlier
        """Index within the batch; ``None``: it was stored before."""
        super().__init__(f"item {index} of the batch differs from {there.item!r}, which is there")


class UnknownItems(Exception):
    """Items to remove that are not there; nothing was removed."""

    def __init__(self, items: list[str]) -> None:
        self.items = items
        super().__init__(f"{len(items)} unknown items")
