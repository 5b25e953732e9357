"""What reading a file gives: rows, and lines that are none."""

from __future__ import annotations

from typing import Any, NamedTuple


class Row(NamedTuple):
    """One row: the line it begins on (from 1) and its fields."""

    line: int
    fields: dict[str, Any]


class Broken(NamedTuple):
    """A line that could not be read, and why."""

    line: int
    why: str


def row_of(line: int, value: Any) -> Row | Broken:
    """A decoded JSON value as a row.

    >>> row_of(3, {"a": 1}), row_of(4, None)
    (Row(line=3, fields={'a': 1}), Broken(line=4, why='expected an object with fields, not null'))
    """
    if isinstance(value, dict):
        return Row(line, value)
    return Broken(line, f"expected an object with fields, not {_kind(value)}")


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a truth value"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case _:
            return "a list"
