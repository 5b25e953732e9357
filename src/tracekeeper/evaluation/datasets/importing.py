"""From rows to items: which field is the id, what fields are called, what is left out and why."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tracekeeper.evaluation.datasets.items import item_of
from tracekeeper.evaluation.item import Item
from tracekeeper.reading.rows import Broken, Row
from tracekeeper.render import plural
from tracekeeper.types import DatasetError, TracekeeperWarning

SHOWN = 5
"""Broken lines that the warning names."""

KEPT = 1_000
"""Broken lines that are kept; the others are counted."""


class Shape(NamedTuple):
    """How rows become items.

    Attributes
    ----------
    id:
        The field that is the id.
    rename:
        Present name -> name in the item, e.g. ``{"answer": "expected"}``.
    tags, split:
        Of every item: tags are added to its own, the split is for those that have none.
    """

    id: str | None = None
    rename: Mapping[str, str] = {}
    tags: tuple[str, ...] = ()
    split: str | None = None
    check: Callable[[Item], Item] | None = None
    """Makes it what the dataset's types have, or refuses it."""

    def item(self, fields: Mapping[str, Any]) -> Item:
        """The item of a row.

        Raises
        ------
        DatasetError
            The row has no id where one was asked for, or cannot be kept.
        """
        shaped = {self.rename.get(name, name): value for name, value in fields.items()}
        if len(shaped) < len(fields):
            raise DatasetError(f"two fields are called the same after rename={dict(self.rename)!r}")
        if self.id is not None:
            if shaped.get(self.id) in (None, ""):
                raise DatasetError(f"no field {self.id!r}, which is to be its id")
            shaped["id"] = shaped.pop(self.id)
        item, _ = item_of(shaped)
        if self.check is not None:
            item = self.check(item)
        if not self.tags and self.split is None:
            return item
        tags = tuple(dict.fromkeys((*item.tags, *self.tags)))
        return Item(id=item.id, fields=item.fields, tags=tags, split=item.split or self.split or "")


class LeftOut:
    """The rows that could not become items: ``len`` says how many, iterating gives the first (``line``, ``why``)."""

    def __init__(self) -> None:
        self.count = 0
        self.rows: list[Broken] = []

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Broken]:
        return iter(self.rows)

    def add(self, row: Broken) -> None:
        """One more."""
        self.count += 1
        if len(self.rows) < KEPT:
            self.rows.append(row)

    def describe(self, noun: str) -> str:
        """It in a sentence.

        >>> left_out = LeftOut()
        >>> left_out.add(Broken(3, "not JSON"))
        >>> left_out.describe("line")
        '1 line left out: line 3: not JSON'
        """
        shown = "; ".join(f"{noun} {row.line:,}: {row.why}" for row in self.rows[:SHOWN])
        more = f"; and {self.count - SHOWN:,} more" if self.count > SHOWN else ""
        return f"{plural(self.count, noun)} left out: {shown}{more}"


def items_of_rows(rows: Iterable[Row | Broken], shape: Shape, left_out: LeftOut) -> Iterator[tuple[int, Item]]:
    """The items of the rows that are good, with their lines; the others are written down."""
    for row in rows:
        if isinstance(row, Broken):
            left_out.add(row)
            continue
        try:
            item = shape.item(row.fields)
        except DatasetError as error:
            left_out.add(Broken(row.line, str(error)))
        else:
            yield row.line, item


def tell(left_out: LeftOut, source: str, noun: str) -> None:
    """Warn of what was left out, if anything was."""
    if left_out:
        warnings.warn(f"{source}: {left_out.describe(noun)}", TracekeeperWarning, stacklevel=4)


def shape_of(
    id: str | None = None,
    rename: Mapping[str, str] | None = None,
    tags: str | Iterable[str] | None = None,
    split: str | None = None,
) -> Shape:
    """What was asked for, checked before anything is read.

    Raises
    ------
    DatasetError
        It cannot work.
    """
    if rename and len(set(rename.values())) < len(rename):
        raise DatasetError(f"rename={dict(rename)!r}: two fields would be called the same")
    given = (tags,) if isinstance(tags, str) else tuple(tags or ())
    if not all(isinstance(tag, str) and tag for tag in given):
        raise DatasetError(f"tags={given!r}: expected texts")
    return Shape(id, dict(rename or {}), given, split)
