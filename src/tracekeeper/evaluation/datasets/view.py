"""What can be read of items in the store: a dataset, a version of it, a selection of that.

Nothing is kept in memory: each iteration reads pages of one version, so what is inserted meanwhile does not appear in
its middle.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from tracekeeper.evaluation.datasets.exports import Exports
from tracekeeper.evaluation.datasets.filtering import ItemFilter, Takes, item_filter
from tracekeeper.evaluation.datasets.forms import item_of_row, tags_of
from tracekeeper.evaluation.datasets.items import Distinct
from tracekeeper.evaluation.datasets.sampling import checked_sample, drawn
from tracekeeper.evaluation.item import Item
from tracekeeper.types import DatasetError

if TYPE_CHECKING:  # the database layer is loaded when something is read
    from tracekeeper.store.datasets.dataset_store import DatasetStore
    from tracekeeper.store.datasets.rows import DatasetRow, ItemRow, KeyRow, VersionRow

SHOWN = 5
"""Ids that a message names."""


class At(NamedTuple):
    """One version of a stored dataset."""

    store: DatasetStore
    row: DatasetRow
    version: VersionRow

    def items(self, ids: Collection[str] | None = None) -> Iterator[ItemRow]:
        """Its items, in the order of insertion, a page at a time."""
        wanted = None if ids is None else list(ids)
        after = -1
        while page := self.store.items(self.row.id, self.version.number, after, wanted):
            yield from page
            after = page[-1].place

    def keys(self, ids: Collection[str] | None = None) -> Iterator[KeyRow]:
        """The same without the fields."""
        wanted = None if ids is None else list(ids)
        after = -1
        while page := self.store.keys(self.row.id, self.version.number, after, wanted):
            yield from page
            after = page[-1].place


class View(Distinct, Exports):
    """Items that are read from the store each time they are iterated, in the order of insertion."""

    name: str
    """Of the dataset."""

    def __iter__(self) -> Iterator[Item]:
        at = self._at()
        return iter(()) if at is None else (item_of_row(row) for row in self._rows(at))

    def __len__(self) -> int:
        at = self._at()
        return 0 if at is None else sum(1 for _ in self._keys(at))

    def __bool__(self) -> bool:
        return True  # a dataset without items is still one

    @property
    def version(self) -> str:
        """12 hex digits that name the content: the same items give the same version, on any machine. ``""``: none."""
        at = self._at()
        return "" if at is None else at.version.version

    def ids(self) -> Iterator[str]:
        """The ids of its items, in order."""
        at = self._at()
        return iter(()) if at is None else (key.item for key in self._keys(at))

    def get(self, id: str) -> Item:
        """The item of an id.

        Raises
        ------
        DatasetError
            There is none.
        """
        at = self._at()
        found = None if at is None else next(self._rows(at, [id]), None)
        if found is None:
            raise DatasetError(f"dataset {self.name!r} has no item {id!r}")
        return item_of_row(found)

    def select(
        self,
        *,
        tags: str | Iterable[str] | None = None,
        split: str | None = None,
        ids: Iterable[str] | None = None,
        filter: ItemFilter | None = None,
        sample: float | None = None,
        seed: int = 0,
    ) -> Selection:
        """Some of the items, of the version that is there now; read-only, in the same order.

        Parameters
        ----------
        tags:
            Those that have at least one of these.
        split:
            Those of this split; ``""``: those of none.
        ids:
            Those with these ids.
        filter:
            Those that match, in the filter language (``'input.topic = "weather" and expected is present'``; the fields
            are ``id``, ``tag``, ``split``, ``input`` and ``expected``), or a function of an ``Item``.
        sample:
            So many of what the others leave (``5``), or each of them with this chance (``0.1``), by the hash of its id
            and ``seed``: always the same ones, in whatever order they were inserted; a larger sample contains every
            smaller one, and a share stays in it when the dataset grows. ``1`` is one item, ``1.0`` is all.

        Raises
        ------
        DatasetError
            An id that is not there; a sample that is no number above 0; a filter that is neither text nor a function.
        FilterError
            The filter does not parse.

        Example
        -------
        >>> import tracekeeper as tk
        >>> dataset = tk.Dataset("doc-select").insert({"n": n, "tags": "odd" if n % 2 else "even"} for n in range(10))
        >>> [item.fields["n"] for item in dataset.select(tags="odd")]
        [1, 3, 5, 7, 9]
        >>> [item.fields["n"] for item in dataset.select(filter="tag = even and input.n > 4")]
        [6, 8]
        >>> len(dataset.select(sample=3, seed=1)), len(dataset.select(tags=["odd", "even"]))
        (3, 10)
        """
        wanted = Wanted(
            tags=None if tags is None else frozenset([tags] if isinstance(tags, str) else tags),
            split=split,
            ids=None if ids is None else tuple(dict.fromkeys([ids] if isinstance(ids, str) else ids)),
            filter=filter,
            takes_item=None if filter is None else item_filter(filter),
            sample=checked_sample(sample),
            seed=seed,
        )
        at = self._at()
        if wanted.ids is not None:
            there = set() if at is None else {key.item for key in self._keys(at, wanted.ids)}
            unknown = [each for each in wanted.ids if each not in there]
            if unknown:
                raise DatasetError(f"dataset {self.name!r} has no item {named(unknown)}")
        return Selection(self, at, wanted)

    def _fixed_view(self) -> View:
        """The same items in every iteration, whatever is inserted meanwhile."""
        return Selection(self, self._at(), Wanted())

    # What subclasses say.

    def _at(self) -> At | None:
        """The version that is read; ``None``: nothing was ever inserted."""
        raise NotImplementedError

    def _rows(self, at: At, ids: Collection[str] | None = None) -> Iterator[ItemRow]:
        return at.items(ids)

    def _keys(self, at: At, ids: Collection[str] | None = None) -> Iterator[KeyRow | ItemRow]:
        return at.keys(ids)


class Wanted(NamedTuple):
    """What is selected."""

    tags: frozenset[str] | None = None
    split: str | None = None
    ids: tuple[str, ...] | None = None
    filter: ItemFilter | None = None
    takes_item: Takes | None = None
    """The same as a function."""
    sample: float | None = None
    seed: int = 0

    def takes_row(self, row: ItemRow) -> bool:
        """Whether an item is among it, but for the sample."""
        return self.takes_key(row) and (self.takes_item is None or bool(self.takes_item(item_of_row(row))))

    def takes_key(self, row: ItemRow | KeyRow) -> bool:
        """The same, as far as it can be told without the fields."""
        if self.split is not None and row.split != self.split:
            return False
        return self.tags is None or not self.tags.isdisjoint(tags_of(row.tags))


class Selection(View):
    """Some items of one version of a dataset. Get one from ``dataset.select(…)``."""

    def __init__(self, of: View, at: At | None, wanted: Wanted) -> None:
        self.name = of.name
        self._of = of
        self._fixed = at
        self._wanted = wanted
        self._drawn: frozenset[str] | None = None

    def __repr__(self) -> str:
        given = ", ".join(
            f"{key}={sorted(value) if isinstance(value, frozenset) else value!r}"
            for key, value in self._wanted._asdict().items()
            if value is not None and key != "takes_item" and not (key == "seed" and self._wanted.sample is None)
        )
        return f"{self._of!r}.select({given})"

    def _at(self) -> At | None:
        return self._fixed

    def _rows(self, at: At, ids: Collection[str] | None = None) -> Iterator[ItemRow]:
        among = self._among(at)
        rows = self._of._rows(at, self._ids(ids))
        return (row for row in rows if (among is None or row.item in among) and self._wanted.takes_row(row))

    def _keys(self, at: At, ids: Collection[str] | None = None) -> Iterator[KeyRow | ItemRow]:
        among = self._among(at)
        keys = self._matching(at, self._ids(ids)) if among is None else self._of._keys(at, self._ids(ids))
        return (key for key in keys if among is None or key.item in among)

    def _matching(self, at: At, ids: Collection[str] | None) -> Iterator[KeyRow | ItemRow]:
        """What is wanted, but for the sample. The fields are only read when a filter looks at them."""
        if self._wanted.takes_item is None:
            return (key for key in self._of._keys(at, ids) if self._wanted.takes_key(key))
        return (row for row in self._of._rows(at, ids) if self._wanted.takes_row(row))

    def _ids(self, ids: Collection[str] | None) -> Collection[str] | None:
        mine = self._wanted.ids
        if ids is None or mine is None:
            return mine if ids is None else ids
        both = set(ids)
        return [each for each in mine if each in both]

    def _among(self, at: At) -> frozenset[str] | None:
        """The sample, drawn once: the version does not change."""
        sample = self._wanted.sample
        if sample is None:
            return None
        if self._drawn is None:
            ids = (key.item for key in self._matching(at, self._wanted.ids))
            self._drawn = drawn(ids, sample, self._wanted.seed)
        return self._drawn


def named(ids: Collection[str]) -> str:
    """A few ids for a message.

    >>> named(["a"]), named(["a", "b", "c", "d", "e", "f", "g"])
    ("'a'", "'a', 'b', 'c', 'd', 'e' and 2 more")
    """
    shown = ", ".join(map(repr, list(ids)[:SHOWN]))
    return shown if len(ids) <= SHOWN else f"{shown} and {len(ids) - SHOWN:,} more"
