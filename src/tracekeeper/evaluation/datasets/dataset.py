"""``tk.Dataset``: items under a name, in the store, with every version that there was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self

from tracekeeper.evaluation.datasets import versions as version_rules
from tracekeeper.evaluation.datasets.difference import Difference, difference
from tracekeeper.evaluation.datasets.importing import LeftOut
from tracekeeper.evaluation.datasets.imports import Imports
from tracekeeper.evaluation.datasets.inserting import Inserted, insert
from tracekeeper.evaluation.datasets.items import raw_items, read_items
from tracekeeper.evaluation.datasets.typed import TypedItem, Types, check_types
from tracekeeper.evaluation.datasets.versions import Version
from tracekeeper.evaluation.datasets.view import At, View, named
from tracekeeper.evaluation.item import Item
from tracekeeper.store.datasets.rows import UnknownItems
from tracekeeper.tracing import runtime
from tracekeeper.types import DatasetError

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from tracekeeper.store.datasets.dataset_store import DatasetStore

    In = TypeVar("In", default=Any)
    Out = TypeVar("Out", default=Any)
else:  # types have no defaults at run time before Python 3.13, and need none
    from typing import TypeVar

    In = TypeVar("In")
    Out = TypeVar("Out")


class Dataset(View, Imports, Generic[In, Out]):
    """Items under a name, kept in the store. Each change makes a version; a version is named by its content.

    ``tk.Dataset[In, Out]`` has types of the input and of what is expected: pydantic models, msgspec structs,
    dataclasses, or plain types. Items are checked against them, may be given as pairs, and are read by ``typed()``.

    Iterating reads a page at a time, in the order of insertion, of the version that was the newest when it began.

    Parameters
    ----------
    name:
        Of the dataset. Nothing is made before the first ``insert``.
    version:
        Read this version, and refuse changes: its digits (the first of them are enough), or its number.

    Raises
    ------
    DatasetError
        The name is no text; there is no such version.
    StoreError
        The database cannot be read (with ``version`` only).

    Example
    -------
    >>> import tracekeeper as tk
    >>> dataset = tk.Dataset("capitals").insert([
    ...     {"id": "fr", "question": "capital of France?", "expected": "Paris", "tags": ["europe"]},
    ...     {"id": "pe", "question": "capital of Peru?", "expected": "Lima"},
    ... ])
    >>> len(dataset), [item.expected for item in dataset]
    (2, ['Paris', 'Lima'])
    >>> before = dataset.version
    >>> dataset.insert([{"id": "pe", "question": "capital of Peru?", "expected": "Lima"}]).version == before
    True
    >>> len(dataset.delete(["fr"])), len(tk.Dataset("capitals", version=before))
    (1, 2)
    """

    _types: ClassVar[Types | None] = None

    if not TYPE_CHECKING:

        def __class_getitem__(cls, types: Any) -> Any:
            """A class of its own, so that ``tk.Dataset[In, Out].from_jsonl(…)`` knows its types too."""
            if types == (In, Out):  # a generic subclass
                return super().__class_getitem__(types)
            made = check_types(types)
            return type(cls.__name__, (cls,), {"_types": made, "__module__": cls.__module__, "__doc__": cls.__doc__})

    def __init__(self, name: str, *, version: str | int | None = None) -> None:
        if not isinstance(name, str) or not name.strip():
            raise DatasetError(f"name={name!r}: expected the name of a dataset, a text that is not empty")
        self.name = name
        self._version = version
        self._left = LeftOut()
        self._inserted = Inserted()
        if version is not None:
            at = self._at()
            if at is None:
                raise DatasetError(f"there is no dataset {name!r}, so it has no version {version!r}")
            self._version = at.version.version

    def __repr__(self) -> str:
        pinned = "" if self._version is None else f", version={self._version!r}"
        return f"Dataset({self.name!r}{pinned})"

    def __len__(self) -> int:
        at = self._at()
        return 0 if at is None else at.version.items

    # Changes.

    def insert(self, items: Any, *, update: bool = False) -> Self:
        """Add items, and return the dataset. What is there already is not stored again.

        They are stored in batches, each whole or not at all, so that any number can be given. A process that dies
        leaves the batches that it stored; inserting everything again then adds the rest.

        Parameters
        ----------
        items:
            As :func:`~tracekeeper.evaluation.datasets.items.items_of` takes them; but what is the same twice is one.
        update:
            Let an item replace the one with its id. It keeps its place.

        Raises
        ------
        DatasetError
            An id is taken by another item; something cannot be kept as JSON; the dataset is pinned to a version. The
            message says what was stored before.
        StoreError
            The database cannot be used.
        """
        self._check_writable()
        things = items if self._types is None else map(self._types.opened, raw_items(items))
        self._insert(self._positioned(things), update=update)
        return self

    @property
    def inserted(self) -> Inserted:
        """What the last insert by this object did: how many items it ``added``, ``changed``, and found the ``same``."""
        return self._inserted

    def delete(self, ids: str | Iterable[str]) -> Self:
        """Take items out, all or none, and return the dataset. Earlier versions keep them.

        Raises
        ------
        DatasetError
            An id is not there; the dataset is pinned to a version.
        StoreError
            The database cannot be used.
        """
        self._check_writable()
        wanted = list(dict.fromkeys([ids] if isinstance(ids, str) else ids))
        try:
            if _store().remove(self.name, wanted) is None and wanted:
                raise UnknownItems(wanted)
        except UnknownItems as error:
            raise DatasetError(
                f"dataset {self.name!r} has no item {named(error.items)}; nothing was deleted"
            ) from error
        return self

    def _positioned(self, things: Any) -> Iterator[tuple[int, Item]]:
        for position, (item, _) in enumerate(read_items(things), 1):
            try:
                yield position, item if self._types is None else self._types.checked(item)
            except DatasetError as error:
                raise DatasetError(f"item {position:,}: {error}") from error

    def typed(self) -> Iterator[TypedItem[In, Out]]:
        """The items with input and expected output as their types, a page at a time.

        Raises
        ------
        DatasetError
            An item does not fit: it was inserted without types, or by others. While it is iterated.

        Example
        -------
        >>> import msgspec, tracekeeper as tk
        >>> class Question(msgspec.Struct):
        ...     text: str
        ...     language: str = "en"
        >>> dataset = tk.Dataset[Question, str]("doc-typed").insert([(Question("capital of Peru?"), "Lima")])
        >>> [(item.input, item.expected) for item in dataset.typed()]
        [(Question(text='capital of Peru?', language='en'), 'Lima')]
        >>> dataset.insert([{"txt": "capital of France?"}])
        Traceback (most recent call last):
        tracekeeper.types.errors.DatasetError: item 1: it is no Question: Object missing required field `text`
        """
        types = self._types or Types(Any, Any)
        for item in self:
            try:
                yield types.typed(item)
            except DatasetError as error:
                raise DatasetError(f"item {item.id!r} of dataset {self.name!r}: {error}") from error

    def schema(self) -> dict[str, Any]:
        """The JSON schema (draft 2020-12) of a file of these items: that of their types, else what all of them show."""
        found = None if self._types is None else self._types.schema(self.name)
        return super().schema() if found is None else found

    def _insert(self, items: Iterable[tuple[int, Item]], *, update: bool, noun: str = "item") -> Inserted:
        self._check_writable()
        self._inserted = insert(_store(), self.name, items, update=update, noun=noun)
        return self._inserted

    # Versions.

    @property
    def pinned(self) -> bool:
        """Whether it is the view of one version, whatever the dataset gets."""
        return self._version is not None

    def versions(self) -> list[Version]:
        """Every version, oldest first.

        Raises
        ------
        StoreError
            The database cannot be read.
        """
        store = _store()
        row = store.get(self.name)
        return [] if row is None else list(version_rules.shown(store.versions(row.id)))

    def pin(self) -> Self:
        """The dataset at its present version, read-only.

        Raises
        ------
        DatasetError
            It has none: nothing was inserted.
        """
        return type(self)(self.name, version=self._require().version.number)

    def diff(self, a: str | int | None = None, b: str | int | None = None) -> Difference:
        """What differs between two versions.

        Parameters
        ----------
        a:
            The older one; by default the one before ``b``.
        b:
            The newer one; by default the dataset's own.

        Raises
        ------
        DatasetError
            There is no such version.
        StoreError
            The database cannot be read.
        """
        at = self._require()
        new = at.version.number if b is None else version_rules.find(at.store, at.row, b).number
        if a is None:
            old = max((each.number for each in self.versions() if each.number < new), default=0)
        else:
            old = version_rules.find(at.store, at.row, a).number
        return difference(at.store.differing(at.row.id, old, new))

    def _at(self) -> At | None:
        store = _store()
        row = store.get(self.name)
        if row is None or not row.number:
            return None
        return At(store, row, version_rules.find(store, row, row.number if self._version is None else self._version))

    def _require(self) -> At:
        at = self._at()
        if at is None:
            raise DatasetError(f"dataset {self.name!r} holds nothing; insert items first")
        return at

    def _check_writable(self) -> None:
        if self._version is not None:
            raise DatasetError(
                f"{self!r} is read-only, because it names a version; change tk.Dataset({self.name!r}) instead"
            )


def _store() -> DatasetStore:
    return runtime.keeper().store().datasets
