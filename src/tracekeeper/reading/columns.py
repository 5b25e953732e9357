"""What a column of a table is: where its values come from, of which type they are, and how people see them.

A table is read in two ways. Programs take the *value* (a number, text, ``None``); people see the *text*, which is never
blank: a score that has no value shows its status in words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, Literal, TypeVar

import msgspec

from tracekeeper.reading.storable import storable
from tracekeeper.render import show
from tracekeeper.types import Score

T = TypeVar("T")

ColumnType = Literal["text", "integer", "number", "boolean", "time", "any"]

UNMEASURED = "unmeasured"
"""What stands where a metric never judged the record (it was not among the metrics of that call)."""


@dataclass(frozen=True)
class Column(Generic[T]):
    """One column.

    Parameters
    ----------
    name:
        Unique in its table.
    value:
        Takes the row's object, gives plain data.
    type:
        Type of the values that are not ``None``; ``any`` when they may differ (lists, mappings, mixed scores).
    text:
        How people see it; default: made from the value.
    shown:
        Whether ``print`` shows it. Programs always get it.
    rank:
        Where the terminal is too narrow the highest rank is left out first, and said; 0 is always shown.
    whole:
        Whether a cell is never cut, because half of it would say something else (two ends of an interval).
    """

    name: str
    value: Callable[[T], Any]
    type: ColumnType = "text"
    text: Callable[[T], str] | None = None
    shown: bool = True
    rank: int = 0
    whole: bool = False

    def cell(self, row: T) -> str:
        """The text that people see."""
        return self.text(row) if self.text is not None else text_of(self.value(row))


def text_of(value: Any) -> str:
    """One line of text for any plain value, never empty.

    >>> text_of(None), text_of(0.123), text_of(True), text_of("a\\nb"), text_of({"question": "why?"})
    ('none', '0.12', 'true', 'a b', 'why?')
    """
    match value:
        case datetime():
            return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        case dict() if len(value) == 1:
            return text_of(next(iter(value.values())))
        case dict() | list() | tuple():
            return show(json_text(value))
        case _:
            return show(value)


def score_text(score: Score | None) -> str:
    """A score in words: its status, then its value, or the reason why there is none.

    >>> score_text(Score(0.8333)), score_text(None)
    ('scored 0.83', 'unmeasured')
    >>> from tracekeeper.types import ScoreStatus
    >>> score_text(Score(status=ScoreStatus.TIMED_OUT, reason="no answer in 2 s"))
    'timed_out: no answer in 2 s'
    """
    if score is None:
        return UNMEASURED
    if score.value is not None:
        return f"{score.status} {show(score.value)}"
    why = score.reason or score.error
    return f"{score.status}: {show(why)}" if why else str(score.status)


def json_text(value: Any, *, indent: int = 0) -> str:
    """JSON text of plain data; times are ISO 8601, and what JSON does not know becomes its ``str``."""
    try:
        encoded = msgspec.json.encode(value, enc_hook=str)
    except (UnicodeEncodeError, TypeError):  # half a surrogate pair, or keys that are no text
        encoded = msgspec.json.encode(storable(value), enc_hook=str)
    return (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()


def time_of(nanoseconds: int | None) -> datetime | None:
    """The moment of a stored time (nanoseconds since the Unix epoch), in UTC."""
    return None if nanoseconds is None else datetime.fromtimestamp(nanoseconds / 1e9, UTC)
