"""The items of a file that somebody named: on a command line, in a mark of a test."""

from __future__ import annotations

from pathlib import Path

from tracekeeper.evaluation.datasets.items import items_of
from tracekeeper.evaluation.datasets.sources import rows_of
from tracekeeper.evaluation.item import Item
from tracekeeper.reading.rows import Broken
from tracekeeper.types import DatasetError, ImportFileError

NAMED = 3
"""Broken lines that a message names."""


def items_of_file(path: str | Path) -> list[Item]:
    """The items of a file of JSON Lines, JSON, CSV, YAML or Parquet, told by its content and its ending.

    They are what :meth:`Dataset.from_file` makes of the file: ids, tags and splits are those that ``to_file`` wrote.

    A line that cannot be read is refused, never left out: a smaller dataset than was meant would judge something else.

    Raises
    ------
    DatasetError
        It cannot be read, has a broken line or no items, or two of them have the same id.
    MissingExtraError
        YAML or Parquet, and its package is not installed.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    ...     _ = file.write("id,question,expected,tags,split\\na,1 + 1?,2,\\"sums,easy\\",test\\n")
    ...     file.flush()
    ...     [item] = items_of_file(file.name)
    >>> item.id, item.expected, item.tags, item.split
    ('a', '2', ('sums', 'easy'), 'test')
    """
    broken: list[Broken] = []
    rows = []
    try:
        for row in rows_of(path):
            if isinstance(row, Broken):
                broken.append(row)
            else:
                rows.append(row.fields)
    except ImportFileError as error:
        raise DatasetError(str(error)) from error
    if broken:
        said = "; ".join(f"line {one.line:,}: {one.why}" for one in broken[:NAMED])
        more = f"; and {len(broken) - NAMED:,} more" if len(broken) > NAMED else ""
        raise DatasetError(f"{path}: {said}{more}")
    try:
        found = list(items_of(rows))
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error
    if not found:
        raise DatasetError(f"{path}: there are no items in it")
    return found
