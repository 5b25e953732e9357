"""From tree to SQL.

Invariant: every condition made here is two-valued, true or false and never NULL, so ``not`` is an exact complement. A
comparison is false where there is no value to compare (also ``!=``), but a field that can hold several values (``tag``,
``kind`` …) is ``!=`` a value when *none* of them is that value.

Values and keys become bound parameters; the only text in the SQL is our own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from sqlalchemy import BigInteger, ColumnElement, Connection, Float, String, and_, literal, not_, or_

from tracekeeper.store.filter import json_values, scores
from tracekeeper.store.filter.grammar import field_of, parse
from tracekeeper.store.filter.nodes import (
    Ago,
    And,
    Boolean,
    Compare,
    Duration,
    Moment,
    Node,
    Not,
    Number,
    OneOf,
    Or,
    Presence,
    Reference,
    Text,
    Value,
)
from tracekeeper.store.filter.sources import Holds, source
from tracekeeper.store.filter.times import LARGEST

Target = Literal["record", "span"]
Leaf: TypeAlias = Compare | OneOf | Presence

OPERATORS: dict[str, Callable[[ColumnElement[Any], ColumnElement[Any]], ColumnElement[bool]]] = {
    "=": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
}
OPPOSITES = {"!=": "=", "!~": "~"}


def compile_filter(
    text: str, *, target: Target = "record", now: int | None = None, connection: Connection | None = None
) -> ColumnElement[bool] | None:
    """The condition of a filter, over ``tables.record`` or ``tables.span`` (not an alias of it).

    Parameters
    ----------
    text:
        The filter; blank text filters nothing.
    target:
        What is filtered: records, or single spans.
    now:
        What ``-2h`` is relative to, in nanoseconds since the Unix epoch; default: the time of the call.
    connection:
        Give one when the query wants only the first rows (``limit``): then how many scores match is looked at first,
        and a condition that holds for many is checked row by row. What is found is the same.

    Returns
    -------
    ColumnElement[bool] or None
        A condition for ``where``; ``None`` for blank text.

    Raises
    ------
    FilterError
        When the filter does not parse or compares what does not compare.

    Example
    -------
    >>> print(compile_filter("status = error"))
    record.status = :param_1
    """
    if not text.strip():
        return None
    return compile_node(parse(text), target=target, now=now, connection=connection)


def compile_node(
    node: Node, *, target: Target = "record", now: int | None = None, connection: Connection | None = None
) -> ColumnElement[bool]:
    """The condition of a parsed filter; see ``compile_filter``."""
    return _Compiler(target, time.time_ns() if now is None else now, connection).node(node)


class _Compiler:
    def __init__(self, target: Target, now: int, connection: Connection | None) -> None:
        self.target = target
        self.now = now
        self.find_score = scores.finder(target, connection)

    def node(self, node: Node) -> ColumnElement[bool]:
        match node:
            case And(terms):
                return and_(*map(self.node, terms))
            case Or(terms):
                return or_(*map(self.node, terms))
            case Not(term):
                return not_(self.node(term))
            case Compare() | OneOf() | Presence():
                return self.leaf(node)

    def leaf(self, leaf: Leaf) -> ColumnElement[bool]:
        reference = leaf.field
        field = field_of(reference)
        if field.type == "score":
            return scores.condition(self.find_score, reference.keys[0], leaf)
        if field.type == "json":
            return json_values.condition(self.target, leaf)
        holds = self.holds(reference)
        match leaf:
            case Presence(_, present):
                return _when(present, holds(lambda column: column.is_not(None)))
            case OneOf(_, values, negated):
                wanted = [self.plain(value) for value in values]
                if negated and not field.many:
                    return holds(lambda column: column.not_in(wanted))
                return _when(not negated, holds(lambda column: column.in_(wanted)))
            case Compare(_, operator, value):
                if field.many and operator in OPPOSITES:
                    return not_(holds(self.test(OPPOSITES[operator], value)))
                return holds(self.test(operator, value))

    def holds(self, reference: Reference) -> Holds:
        if reference.name == "score":
            return scores.part(self.find_score, reference.keys[0], reference.part)
        return source(self.target, reference.name)

    def test(self, operator: str, value: Value) -> Callable[[ColumnElement[Any]], ColumnElement[bool]]:
        if operator in ("~", "!~"):
            assert isinstance(value, Text)
            return lambda column: _when(operator == "~", contains(column, value.text))
        bound = self.bound(value)
        return lambda column: OPERATORS[operator](column, bound)

    def plain(self, value: Value) -> str | int | float:
        match value:
            case Text(text):
                return text
            case Number(number):
                return number
            case Boolean(truth):
                return int(truth)
            case Duration(nanoseconds) | Moment(nanoseconds):
                return nanoseconds
            case Ago(nanoseconds):
                return max(-LARGEST, min(LARGEST, self.now - nanoseconds))

    def bound(self, value: Value) -> ColumnElement[Any]:
        plain = self.plain(value)
        # With a type of its own, so that the column's type does not turn 0.5 into an integer on the way.
        return literal(
            plain, String() if isinstance(plain, str) else Float() if isinstance(plain, float) else BigInteger()
        )


def contains(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    """Whether a column contains a text, upper and lower case of ASCII letters being the same."""
    return column.icontains(text, autoescape=True)


def _when(condition: bool, expression: ColumnElement[bool]) -> ColumnElement[bool]:
    return expression if condition else not_(expression)
