"""Tables as pandas DataFrames, with types that can say "missing" without NaN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tracekeeper.reading.columns import ColumnType
from tracekeeper.types import MissingExtraError

if TYPE_CHECKING:
    import pandas

_DTYPES = {
    "text": "string",
    "integer": "Int64",
    "number": "Float64",
    "boolean": "boolean",
    "time": "datetime64[ns, UTC]",
    "any": "object",
}
_EXACT = 1 << 53
"""Up to here a float holds every whole number."""


def frame_of(columns: Sequence[tuple[str, ColumnType]], rows: Sequence[Sequence[Any]]) -> pandas.DataFrame:
    """A DataFrame whose columns have nullable types; a column of type ``any`` gets the narrowest that its values allow.

    Raises
    ------
    MissingExtraError
        When pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError("to_pandas() needs pandas: pip install 'tracekeeper[pandas]'") from error

    series: dict[str, pandas.Series[Any]] = {}
    for position, (name, kind) in enumerate(columns):
        values = [row[position] for row in rows]
        dtype = _DTYPES[narrowest(values) if kind == "any" else kind]
        # None in a "string", "Int64"… column is read as <NA>; an object column would keep it as it is.
        series[name] = pd.Series(
            [pd.NA if v is None else v for v in values] if dtype == "object" else values, dtype=dtype
        )
    return pd.DataFrame(series)


def narrowest(values: Sequence[Any]) -> ColumnType:
    """The one type that all values but ``None`` have, else ``any``. A column without values is a ``number`` column.

    >>> narrowest([True, None]), narrowest([1, 0.5]), narrowest(["a"]), narrowest([True, 0.5])
    ('boolean', 'number', 'text', 'any')

    Whole numbers stay exact: those that a float would round, or that 64 bits cannot hold, are kept as they are.

    >>> narrowest([2**53 + 1, None]), narrowest([2**53 + 1, 0.5]), narrowest([2**64])
    ('integer', 'any', 'any')
    """
    kinds = {type(value) for value in values if value is not None}
    if not kinds or kinds == {float}:
        return "number"
    if kinds == {bool}:
        return "boolean"
    if kinds <= {int, float}:
        largest = max(abs(value) for value in values if type(value) is int)
        if len(kinds) == 2:
            return "number" if largest <= _EXACT else "any"
        return "integer" if largest < 1 << 63 else "any"
    return "text" if kinds == {str} else "any"
