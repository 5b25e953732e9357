"""Items into a dataset, in batches, each stored whole or not at all; what is there already is not stored again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from tracekeeper.evaluation.datasets.forms import differing_parts, item_of_row, new_item
from tracekeeper.evaluation.item import Item
from tracekeeper.store.datasets.rows import Differing, NewItem
from tracekeeper.types import DatasetError

if TYPE_CHECKING:
    from tracekeeper.store.datasets.dataset_store import DatasetStore

BATCH = 1_000
"""Items of a batch."""

BATCH_BYTES = 8 << 20
"""Characters of a batch's fields, more or less."""


class Inserted(NamedTuple):
    """What became of items."""

    added: int = 0
    changed: int = 0
    same: int = 0
    """Those that were there already."""


def insert(
    store: DatasetStore, name: str, items: Iterable[tuple[int, Item]], *, update: bool, noun: str = "item"
) -> Inserted:
    """Insert items; the last batch says that the version is whole.

    Parameters
    ----------
    items:
        With the number by which a message names each: its position, its line.
    noun:
        What has that number.

    Raises
    ------
    DatasetError
        An id is taken by another item, and ``update`` is false. What earlier batches stored stays, and is counted.
    """
    total = Inserted()
    made: int | None = None
    try:
        for batch, numbers, last in _batches(items):
            try:
                done = store.put(name, batch, replace=update, whole=last)
            except Differing as error:
                _refuse(name, batch, error, numbers, noun)
            total = Inserted(total.added + done.added, total.changed + done.changed, total.same + done.same)
            if done.added or done.changed:
                made = None if last else done.number
    except DatasetError as error:
        stored = sum(total)
        if stored:
            again = "inserting again stores no copies of them"
            raise DatasetError(f"{error}; the first {stored:,} are stored, and {again}") from error
        raise
    if made is not None:
        store.finish(name, made)
    return total


def _batches(items: Iterable[tuple[int, Item]]) -> Iterator[tuple[list[NewItem], list[int], bool]]:
    """Batches, and whether each is the last one: which is only known when there is no other item."""
    batch: list[NewItem] = []
    numbers: list[int] = []
    size = 0
    for number, item in items:
        if len(batch) == BATCH or size > BATCH_BYTES:
            yield batch, numbers, False
            batch, numbers, size = [], [], 0
        new = new_item(item)
        batch.append(new)
        numbers.append(number)
        size += len(new.fields)
    if batch:
        yield batch, numbers, True


def _refuse(name: str, batch: list[NewItem], error: Differing, numbers: list[int], noun: str) -> NoReturn:
    new = batch[error.index]
    parts = ", ".join(differing_parts(item_of_row(error.there), item_of_row(new)))
    number = numbers[error.index]
    if error.earlier is not None:
        both = f"{noun}s {numbers[error.earlier]:,} and {number:,} have the same id, {new.item!r}"
        raise DatasetError(f"{both}, and differ in: {parts}") from error
    raise DatasetError(
        f"{noun} {number:,}: dataset {name!r} has an item {new.item!r} that differs in: {parts}; "
        "to replace it, insert with update=True"
    ) from error
