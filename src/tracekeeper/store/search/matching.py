"""The condition ``contains these words``, for SQL."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import ColumnElement, false, literal_column, select

from tracekeeper.store.search.schema import search
from tracekeeper.types.text import query_terms


def match_records(
    field: Literal["input", "output"], text: str, *, record_id: ColumnElement[Any]
) -> ColumnElement[bool]:
    """Whether a record's input or output contains the words of a text, one after the other.

    The last word may go on (``refund`` finds *refunds*, ``东`` finds *东京*); letters match in either case. The text
    reaches the database as a bound parameter that holds one quoted phrase of terms, so no search syntax can be
    injected. It is false for a text without any word, and for records that are not indexed yet (see ``index_pending``).

    Parameters
    ----------
    field:
        ``input`` or ``output``.
    text:
        What to look for, in the user's own words.
    record_id:
        The column that holds the record's id.

    Example
    -------
    >>> from tracekeeper.store.tables import record
    >>> condition = match_records("input", 'a "refund" please', record_id=record.c.id)
    >>> list(condition.compile().params.values())
    ['input : "a refund please" *']
    """
    query = phrase(field, text)
    if query is None:
        return false()
    found = select(search.c.rowid).where(literal_column("search").op("MATCH")(query)).correlate(None)
    return record_id.in_(found)


def phrase(field: str, text: str) -> str | None:
    """The FTS5 query for a text, or ``None`` when it holds no word."""
    found = query_terms(text)
    # Terms hold letters, digits and marks only, so there is nothing to escape within the quotes.
    return f'{field} : "{" ".join(found)}" *' if found else None
