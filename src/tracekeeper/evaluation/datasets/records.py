"""Records as items: what production asked becomes what is tested."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from tracekeeper.reading.fresh import checked, fresh
from tracekeeper.reading.rows import Broken, Row
from tracekeeper.scoring import stored
from tracekeeper.scoring.stored import StoredRecord
from tracekeeper.tracing import capture
from tracekeeper.types import DatasetError

PAGE = 500
"""Records that are read at once."""

Expected = Literal["expected", "output", "none"]


def rows_of_records(filter: str | None, *, limit: int | None, expected: Expected) -> Iterator[Row | Broken]:
    """A row for each record that matches, oldest first; of ``limit`` the newest. The line is the number of the record.

    A record whose input was not captured, or not all of it, is :class:`Broken`.

    Raises
    ------
    FilterError
        The filter does not parse.
    DatasetError
        ``limit`` or ``expected`` is none.
    StoreError
        The database cannot be read.
    """
    checked(filter)
    if expected not in ("expected", "output", "none"):
        raise DatasetError(f"expected={expected!r}: expected 'expected', 'output' or 'none'")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise DatasetError(f"limit={limit!r}: expected a number of records, or None for all")
    return _rows(filter, limit, expected)


def _rows(filter: str | None, limit: int | None, expected: Expected) -> Iterator[Row | Broken]:
    store = fresh().store
    after: int | None = None
    if limit is not None:
        newest = store.records(filter, limit=limit)
        if not newest:
            return
        after = newest[-1].id - 1
    number = 0
    while limit is None or number < limit:
        size = PAGE if limit is None else min(PAGE, limit - number)
        page = store.records(filter, limit=size, after=after, oldest_first=True)
        if not page:
            return
        for record in stored.from_rows(page, store.payloads([row.id for row in page])):
            number += 1
            yield _row(number, record, expected)
        after = page[-1].id


def _row(number: int, record: StoredRecord, expected: Expected) -> Row | Broken:
    which = f"record {record.trace_id}:{record.span_id}"
    if record.input is None:
        return Broken(number, f"{which}: its input was not captured")
    if record.input_size:
        return Broken(number, f"{which}: its input was cut at the capture limit")
    given = capture.decode(record.input)
    fields: dict[str, Any] = dict(given) if isinstance(given, dict) and given else {"input": given}
    for name in ("id", "tags", "split"):  # arguments of the app, not of the item
        if name in fields:
            fields[f"{name}_"] = fields.pop(name)
    wanted = {"expected": record.expected, "output": record.output, "none": None}[expected]
    if expected == "output" and record.output_size:
        return Broken(number, f"{which}: its output was cut at the capture limit")
    if wanted is not None:
        fields["expected"] = capture.decode(wanted)
    return Row(number, fields)
