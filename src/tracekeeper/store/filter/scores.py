"""Conditions on scores: some current score of that name, of any metric version, is such.

A record's scores can be asked for in two ways. Where few match, they are found first, by name, status and value (index
``score_name``), and then their records. Where many match and only the first records are wanted, it is far cheaper to go
through the records and look at each one's scores (index ``score_record``) until there are enough. SQLite keeps no
statistics to choose by, so the matches are counted, up to a bound, when there is a connection to count with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, Float, and_, exists, func, literal, not_, or_, select

from tracekeeper.store.filter.nodes import Boolean, Compare, Number, OneOf, Presence, Text, Value
from tracekeeper.store.filter.sources import Holds, Target, Test
from tracekeeper.store.tables import record, score, span
from tracekeeper.types import ScoreStatus

MANY = 10_000
"""Matching scores from which on records are looked at one by one."""

Find: TypeAlias = Callable[[str, ColumnElement[bool]], ColumnElement[bool]]
"""``find(name, test)``: some score of that name of the target passes the test. Two-valued."""


def finder(target: Target, connection: Connection | None) -> Find:
    """How scores of a target are found; with a connection, in the cheaper way for a query that wants the first rows."""
    if target == "span":
        return _of_a_span

    def find(name: str, test: ColumnElement[bool]) -> ColumnElement[bool]:
        matches = and_(score.c.name == name, test, score.c.target == "record")
        if connection is not None:
            some = select(literal(1)).select_from(score).where(matches).limit(MANY).subquery()
            if (connection.scalar(select(func.count()).select_from(some)) or 0) >= MANY:
                return _one_by_one(name, test)
        # Without the NULLs of scores whose record is not stored, since "x IN (NULL)" is neither true nor false.
        found = select(score.c.record_id).where(matches, score.c.record_id.is_not(None)).correlate(None)
        return record.c.id.in_(found)

    return find


def part(find: Find, name: str, part: str) -> Holds:
    """The source of a score's status, reason or source."""
    column = score.c[part]

    def holds(test: Test) -> ColumnElement[bool]:
        return find(name, and_(column.is_not(None), test(column)) if column.nullable else test(column))

    return holds


def condition(find: Find, name: str, leaf: Compare | OneOf | Presence) -> ColumnElement[bool]:
    """A condition on a score's value. A score that has not (or never) got one has no value to compare."""
    match leaf:
        case Presence(_, present):
            found = find(name, _scored())
            return found if present else not_(found)
        case OneOf(_, values, negated):
            one = or_(*map(_equals, values))
            return find(name, and_(_scored(), not_(one) if negated else one))
        case Compare(_, operator, value):
            return find(name, and_(_scored(), _compare(operator, value)))


def _one_by_one(name: str, test: ColumnElement[bool]) -> ColumnElement[bool]:
    its = and_(score.c.record_id == record.c.id, _is_named(name), score.c.target == "record")
    return exists().where(its, test).correlate(record)


def _of_a_span(name: str, test: ColumnElement[bool]) -> ColumnElement[bool]:
    here = and_(score.c.trace_id == span.c.trace_id, score.c.span_id == span.c.span_id)
    return exists().where(here, _is_named(name), score.c.target.in_(["span", "record"]), test).correlate(span)


def _is_named(name: str) -> ColumnElement[bool]:
    # An expression instead of the plain column, so that no index that begins with the name is taken: the scores of one
    # record or span are few, those of one name are many.
    return score.c.name.concat("") == name


def _scored() -> ColumnElement[bool]:
    return score.c.status == ScoreStatus.SCORED.value


def _compare(operator: str, value: Value) -> ColumnElement[bool]:
    label, number = score.c.label, score.c.value
    if operator == "=":
        return _equals(value)
    if operator == "!=":
        return not_(_equals(value))
    if isinstance(value, Text):
        found = and_(label.is_not(None), label.icontains(value.text, autoescape=True))
        return found if operator == "~" else not_(found)
    assert isinstance(value, Number)
    bound: ColumnElement[Any] = literal(float(value.number), Float())
    return and_(number.is_not(None), number.bool_op(operator)(bound))


def _equals(value: Value) -> ColumnElement[bool]:
    match value:
        case Number(number):
            return and_(score.c.value.is_not(None), score.c.value == literal(float(number), Float()))
        case Boolean(truth):
            return and_(score.c.value_type == "bool", score.c.value.is_not(None), score.c.value == float(truth))
        case Text(text):
            return and_(score.c.label.is_not(None), score.c.label == text)
        case _:
            raise AssertionError(f"a score is never compared with {value}")
