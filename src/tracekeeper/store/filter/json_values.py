"""Conditions on captured values: inputs, outputs, attributes, metadata. They are stored as JSON text.

A key is compared with the keys of the object (``json_each``) rather than put into a path, because SQLite's paths cannot
name a key that holds a quote; so a key is a bound parameter like any value. Damaged JSON has no values, and does not
break the query. Source: https://www.sqlite.org/json1.html (nothing newer than 3.40 is used).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import (
    ColumnElement,
    Float,
    Integer,
    String,
    and_,
    case,
    column,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
    type_coerce,
)

from tracekeeper.store.filter.nodes import Boolean, Compare, Number, OneOf, Presence, Text, Value
from tracekeeper.store.search import match_records
from tracekeeper.store.tables import payload, record, span

Target = Literal["record", "span"]
Test: TypeAlias = Callable[[ColumnElement[Any], ColumnElement[Any]], ColumnElement[bool]]
"""Takes the JSON type (``text``, ``integer``, ``true``, ``object`` …) and the value as SQL."""

COLUMNS = {
    "input": payload.c.input,
    "output": payload.c.output,
    "expected": payload.c.expected,
    "metadata": payload.c.metadata,
    "attr": payload.c.attributes,
}


def condition(target: Target, leaf: Compare | OneOf | Presence) -> ColumnElement[bool]:
    """The condition of a comparison with a captured value, or with what it holds under some keys."""
    name, keys = leaf.field.name, leaf.field.keys
    match leaf:
        case Presence(_, present):
            found = _some(target, name, keys, lambda kind, value: kind != "null")
            return found if present else not_(found)
        case OneOf(_, values, negated):
            return _some(target, name, keys, _one_of(values, negated))
        case Compare(_, "~" | "!~" as operator, Text(text)) if not keys:
            return _whole_contains(target, name, text, negated=operator == "!~")
        case Compare(_, operator, value):
            return _some(target, name, keys, _compare(operator, value))


def _some(target: Target, name: str, keys: tuple[str, ...], test: Test) -> ColumnElement[bool]:
    """Whether the value under the keys passes a test."""
    data = COLUMNS[name]
    whole = case((func.json_valid(data) == 1, data))
    if not keys:
        return _payload(target, _itself(whole, sole=name == "input", test=test))
    inner, conditions = whole, []
    for key in keys:
        each = func.json_each(inner).table_valued(
            column("key", String), column("value", String), column("type", String), joins_implicitly=True
        )
        conditions.append(each.c.key == key)
        kind, value = each.c.type, each.c.value
        inner = case((kind == "object", value))
    return _payload(target, *conditions, test(kind, value))


def _itself(whole: ColumnElement[Any], *, sole: bool, test: Test) -> ColumnElement[bool]:
    """A test of the whole value. The input of a call with one argument is that argument."""
    kind, value = func.json_type(whole), func.json_extract(whole, "$")
    direct = and_(kind.is_not(None), test(kind, value))
    if not sole:
        return direct
    each = func.json_each(whole).table_valued(column("value", String), column("type", String))
    count = select(func.count()).select_from(each).scalar_subquery()
    only = exists(select(literal(1)).select_from(each).where(test(each.c.type, each.c.value)))
    return case((and_(kind == "object", count == 1), only), else_=direct)


def _whole_contains(target: Target, name: str, text: str, *, negated: bool) -> ColumnElement[bool]:
    data = COLUMNS[name]
    there = and_(data.is_not(None), func.trim(data) != "null")  # a null is no value: it contains nothing, not even "nu"
    if target == "record" and name in ("input", "output"):
        found = match_records("input" if name == "input" else "output", text, record_id=record.c.id)
        return and_(_payload(target, there), not_(found)) if negated else found
    # As JSON writes it, without the quotes around it.
    written = msgspec.json.encode(text).decode()[1:-1]
    found = data.icontains(written, autoescape=True)
    return _payload(target, there, not_(found) if negated else found)


def _payload(target: Target, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    table = record if target == "record" else span
    return exists(
        select(literal(1)).select_from(payload).where(payload.c.id == table.c.id, *conditions).correlate(table)
    )


def _one_of(values: tuple[Value, ...], negated: bool) -> Test:
    def test(kind: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
        found = or_(*(_equals(kind, value, wanted) for wanted in values))
        return and_(kind != "null", not_(found)) if negated else found

    return test


def _compare(operator: str, wanted: Value) -> Test:
    def test(kind: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[bool]:
        if operator == "=":
            return _equals(kind, value, wanted)
        if operator == "!=":
            return and_(kind != "null", not_(_equals(kind, value, wanted)))
        if isinstance(wanted, Text):
            # Of a list or an object: in its JSON text.
            texts = kind.in_(["text", "object", "array"])
            found = and_(texts, type_coerce(value, String()).icontains(wanted.text, autoescape=True))
            return found if operator == "~" else and_(kind != "null", not_(found))
        assert isinstance(wanted, Number)
        bound: ColumnElement[Any] = literal(wanted.number, Integer() if isinstance(wanted.number, int) else Float())
        return and_(_is_number(kind), value.bool_op(operator)(bound))

    return test


def _equals(kind: ColumnElement[Any], value: ColumnElement[Any], wanted: Value) -> ColumnElement[bool]:
    match wanted:
        case Text(text):
            return and_(kind == "text", value == literal(text, String()))
        case Boolean(truth):
            return kind == ("true" if truth else "false")
        case Number(number):
            return and_(_is_number(kind), value == literal(number, Integer() if isinstance(number, int) else Float()))
        case _:
            raise AssertionError(f"a captured value is never compared with {wanted}")


def _is_number(kind: ColumnElement[Any]) -> ColumnElement[bool]:
    return kind.in_(["integer", "real"])
