"""Where the value of each plain field is: a column, or rows of another table.

A *source* answers "does a value of this field pass a test?" as SQL. Written so that the database finds the index: what
identifies few records is looked up first (``id IN (SELECT …)``), what belongs to one record is looked at when the
record is at hand (``EXISTS``). What a subquery correlates with is always said, since the query around it may join
any of the tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from sqlalchemy import ColumnElement, and_, exists, func, or_, select

from tracekeeper.store.tables import app, payload, record, span, tag

Target = Literal["record", "span"]
Test: TypeAlias = Callable[[ColumnElement[Any]], ColumnElement[bool]]
Holds: TypeAlias = Callable[[Test], ColumnElement[bool]]
"""``holds(test)``: a value is there and passes the test. Two-valued."""


def source(target: Target, name: str) -> Holds:
    """The source of a field, for records or for spans."""
    if target == "record":
        return _RECORD[name]
    return _SPAN[name] if name in _SPAN else _of_the_record(_RECORD[name])


def _column(column: ColumnElement[Any], nullable: bool = True) -> Holds:
    if not nullable:
        return lambda test: test(column)
    return lambda test: and_(column.is_not(None), test(column))


def _tokens(table: Any) -> Holds:
    """The sum of what was reported; absent when nothing was."""
    read, written = table.c.input_tokens, table.c.output_tokens
    total = func.coalesce(read, 0) + func.coalesce(written, 0)
    return lambda test: and_(or_(read.is_not(None), written.is_not(None)), test(total))


def _app(column: ColumnElement[Any]) -> Holds:
    def holds(test: Test) -> ColumnElement[bool]:
        found = select(app.c.id).where(test(column)).correlate(None)
        return and_(record.c.app_id.is_not(None), record.c.app_id.in_(found))

    return holds


def _tag(test: Test) -> ColumnElement[bool]:
    return record.c.id.in_(select(tag.c.record_id).where(test(tag.c.tag)).correlate(None))


def _error(table: Any) -> Holds:
    def holds(test: Test) -> ColumnElement[bool]:
        column = payload.c.error_message
        return exists().where(payload.c.id == table.c.id, column.is_not(None), test(column)).correlate(table)

    return holds


def _any_span(column: ColumnElement[Any]) -> Holds:
    """Of a record: what some span in it has."""

    def holds(test: Test) -> ColumnElement[bool]:
        inside = and_(span.c.trace_id == record.c.trace_id, span.c.record_span_id == record.c.span_id)
        return exists().where(inside, column.is_not(None), test(column)).correlate(record)

    return holds


def _of_the_record(holds: Holds) -> Holds:
    """Of a span: what the record that it belongs to has."""

    def through(test: Test) -> ColumnElement[bool]:
        its = and_(record.c.trace_id == span.c.trace_id, record.c.span_id == span.c.record_span_id)
        return exists().where(its, holds(test)).correlate(span)

    return through


_RECORD: dict[str, Holds] = {
    "app": _app(app.c.name),
    "app.version": _app(app.c.version),
    "project": _column(record.c.project, nullable=False),
    "name": _column(record.c.name, nullable=False),
    "status": _column(record.c.status, nullable=False),
    "kind": _any_span(span.c.kind),
    "latency": _column(record.c.duration),
    "started": _column(record.c.started_at, nullable=False),
    "session": _column(record.c.session_id),
    "user": _column(record.c.user_id),
    "tag": _tag,
    "environment": _column(record.c.environment),
    "release": _column(record.c.release),
    "error": _error(record),
    "error.type": _column(record.c.error_type),
    "model": _any_span(span.c.model),
    "provider": _any_span(span.c.provider),
    "tokens": _tokens(record),
    "tokens.input": _column(record.c.input_tokens),
    "tokens.output": _column(record.c.output_tokens),
    "cost": _column(record.c.cost),
    "trace": _column(record.c.trace_id, nullable=False),
    "span": _any_span(span.c.span_id),
}

# What is not here, a span has from its record.
_SPAN: dict[str, Holds] = {
    "name": _column(span.c.name, nullable=False),
    "status": _column(span.c.status, nullable=False),
    "kind": _column(span.c.kind, nullable=False),
    "latency": _column(span.c.duration),
    "started": _column(span.c.started_at, nullable=False),
    "error": _error(span),
    "error.type": _column(span.c.error_type),
    "model": _column(span.c.model),
    "provider": _column(span.c.provider),
    "tokens": _tokens(span),
    "tokens.input": _column(span.c.input_tokens),
    "tokens.output": _column(span.c.output_tokens),
    "cost": _column(span.c.cost),
    "trace": _column(span.c.trace_id, nullable=False),
    "span": _column(span.c.span_id, nullable=False),
}
