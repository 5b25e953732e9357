"""Where a dataset can come from: files, data frames, Hugging Face, stored records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypedDict, Unpack

from tracekeeper.evaluation.datasets.importing import LeftOut, Shape, items_of_rows, shape_of, tell
from tracekeeper.evaluation.datasets.inserting import Inserted
from tracekeeper.evaluation.datasets.items import raw_items
from tracekeeper.evaluation.datasets.records import Expected, rows_of_records
from tracekeeper.evaluation.datasets.sources import Format, rows_of
from tracekeeper.evaluation.datasets.typed import Types
from tracekeeper.evaluation.item import Item
from tracekeeper.reading.rows import Broken, Row, row_of
from tracekeeper.types import ImportFileError


class Options(TypedDict, total=False):
    """How rows become items; see :meth:`Imports.from_file`."""

    id: str | None
    rename: Mapping[str, str] | None
    tags: str | Iterable[str] | None
    split: str | None
    update: bool


class FileOptions(Options, total=False):
    """The same for files."""

    encoding: str | None


class Imports:
    """The class methods that make a dataset of something."""

    _types: ClassVar[Types | None]

    _left: LeftOut
    """What the one that made this object left out."""

    def __init__(self, name: str) -> None:
        raise NotImplementedError

    @classmethod
    def from_file(
        cls,
        name: str,
        path: str | Path,
        *,
        format: Format | None = None,
        encoding: str | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """Insert the rows of a file: JSON Lines, JSON, CSV, YAML or Parquet, told by its content and its ending.

        Rows that cannot be read are left out, with a warning that names their lines; they are in ``left_out``.

        Parameters
        ----------
        name:
            Of the dataset.
        id:
            The field that is the id; by default ``id``, where there is one.
        rename:
            Name in the file -> name in the items, e.g. ``{"answer": "expected"}``.
        tags, split:
            For every item; a row's own split counts before this one.
        update:
            Let an item replace the one with its id.
        encoding:
            Of text; by default UTF-8, or by the byte order mark.

        Raises
        ------
        ImportFileError
            The file cannot be read, is empty, is in none of the formats, or has no good row.
        DatasetError
            An id is taken by another item.
        MissingExtraError
            YAML or Parquet, and its package is not installed.
        """
        shape, update = _asked(options)
        rows = rows_of(path, format=format, encoding=encoding)
        dataset = cls(name)
        dataset._take(rows, shape, str(path), "line", update=update)
        return dataset

    @classmethod
    def from_jsonl(cls, name: str, path: str | Path, **options: Unpack[FileOptions]) -> Self:
        """Insert the rows of a file of JSON Lines; takes and raises what :meth:`from_file` does."""
        return cls.from_file(name, path, format="jsonl", **options)

    @classmethod
    def from_json(cls, name: str, path: str | Path, **options: Unpack[FileOptions]) -> Self:
        """Insert the rows of a JSON list, or of an object with one; takes and raises what :meth:`from_file` does."""
        return cls.from_file(name, path, format="json", **options)

    @classmethod
    def from_csv(cls, name: str, path: str | Path, **options: Unpack[FileOptions]) -> Self:
        """Insert the rows of a CSV file; takes and raises what :meth:`from_file` does."""
        return cls.from_file(name, path, format="csv", **options)

    @classmethod
    def from_yaml(cls, name: str, path: str | Path, **options: Unpack[FileOptions]) -> Self:
        """Insert the rows of a YAML list, or of a mapping with one; takes and raises what :meth:`from_file` does."""
        return cls.from_file(name, path, format="yaml", **options)

    @classmethod
    def from_parquet(cls, name: str, path: str | Path, **options: Unpack[FileOptions]) -> Self:
        """Insert the rows of a Parquet file; takes and raises what :meth:`from_file` does."""
        return cls.from_file(name, path, format="parquet", **options)

    @classmethod
    def from_pandas(cls, name: str, frame: Any, **options: Unpack[Options]) -> Self:
        """Insert the rows of a data frame; what is missing is null. Takes and raises what :meth:`from_file` does."""
        return cls._from_rows(name, frame, "data frame", options)

    @classmethod
    def from_huggingface(cls, name: str, dataset: Any, **options: Unpack[Options]) -> Self:
        """Insert the rows of a ``datasets.Dataset`` of Hugging Face, or of all splits of a ``DatasetDict``.

        Also a streamed one. Takes and raises what :meth:`from_file` does.

        Example
        -------
        >>> import tracekeeper as tk
        >>> rows = [{"question": "1 + 1?", "answer": "2"}]  # datasets.load_dataset(…)
        >>> [item.expected for item in tk.Dataset.from_huggingface("doc-hub", rows, rename={"answer": "expected"})]
        ['2']
        """
        return cls._from_rows(name, dataset, "dataset", options)

    @classmethod
    def _from_rows(cls, name: str, thing: Any, source: str, options: Options) -> Self:
        shape, update = _asked(options)
        made = cls(name)
        rows = (row_of(number, value) for number, value in enumerate(raw_items(thing), 1))
        made._take(rows, shape, source, "row", update=update)
        return made

    @classmethod
    def from_records(
        cls,
        name: str,
        filter: str | None = None,
        *,
        limit: int | None = None,
        expected: Expected = "expected",
        tags: str | Iterable[str] | None = None,
        split: str | None = None,
    ) -> Self:
        """Insert the inputs of stored records, so that what went wrong in production is tested from now on.

        The arguments of the call are the item's fields. The same input twice is one item. Records whose input was not
        captured, or cut at the capture limit, are left out with a warning.

        Parameters
        ----------
        filter:
            Which records, in the filter language; default: all.
        limit:
            Only so many, the newest.
        expected:
            What is the item's ``expected``: the record's own (if it has one), its ``output`` (when that is known to be
            good), or ``none``.
        tags, split:
            For every item.

        Raises
        ------
        FilterError
            The filter does not parse.
        StoreError
            The database cannot be used.

        Example
        -------
        >>> import tracekeeper as tk
        >>> for answer in ("mild", "no idea"):
        ...     _ = tk.log_record(input={"question": f"weather: {answer}?"}, output=answer, app="doc-failures")
        >>> dataset = tk.Dataset.from_records("failures", 'app = "doc-failures" and output = "no idea"', tags="prod")
        >>> [(item.fields, item.tags) for item in dataset]
        [({'question': 'weather: no idea?'}, ('prod',))]
        """
        shape = shape_of(tags=tags, split=split)
        dataset = cls(name)
        rows = rows_of_records(filter, limit=limit, expected=expected)
        dataset._take(rows, shape, "records", "record", update=False)
        return dataset

    @property
    def left_out(self) -> LeftOut:
        """What the ``from_…`` that gave this object left out: how many rows, and ``line`` and ``why`` of the first."""
        return self._left

    def _take(self, rows: Iterable[Row | Broken], shape: Shape, source: str, noun: str, *, update: bool) -> None:
        """Insert what is good, warn of what is not.

        Raises
        ------
        ImportFileError
            Nothing is good.
        """
        self._left = LeftOut()
        if self._types is not None:
            shape = shape._replace(check=self._types.checked)
        done = self._insert(items_of_rows(rows, shape, self._left), update=update, noun=noun)
        if self._left and not sum(done):
            raise ImportFileError(f"{source}: nothing could be kept; {self._left.describe(noun)}")
        tell(self._left, source, noun)

    def _insert(self, items: Iterable[tuple[int, Item]], *, update: bool, noun: str = "item") -> Inserted:
        raise NotImplementedError


def _asked(options: Options) -> tuple[Shape, bool]:
    """How rows become items, and whether they replace others. A misspelt option is no silent one."""
    unknown = sorted(set(options) - set(Options.__annotations__))
    if unknown:
        raise TypeError(f"unexpected keyword argument {unknown[0]!r}; there are {', '.join(Options.__annotations__)}")
    shape = shape_of(options.get("id"), options.get("rename"), options.get("tags"), options.get("split"))
    return shape, bool(options.get("update", False))
