"""Which items a filter takes: the language of ``tk.records(filter=…)`` asked of items, one at a time, in Python.

Items may come from anywhere and be any number, so nothing of this needs a database or a second look. What a comparison
means is what it means of records (``store.filter.compile`` says it in SQL, ``docs/filters.md`` in words): it holds only
where there is a value, ``not`` is an exact complement, and ``input ~ "…"`` looks for words as the full-text index does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import orjson

from tracekeeper.evaluation.item import Item
from tracekeeper.store.filter import ITEMS, Node, parse
from tracekeeper.store.filter.grammar import field_of
from tracekeeper.store.filter.nodes import (
    And,
    Boolean,
    Compare,
    Not,
    Number,
    OneOf,
    Or,
    Presence,
    Reference,
    Text,
    Value,
)
from tracekeeper.types import DatasetError
from tracekeeper.types.text import query_terms, terms, texts_within

ItemFilter: TypeAlias = str | Callable[[Item], Any]
"""A filter as text, or a function of an item."""
Takes: TypeAlias = Callable[[Item], Any]
Test: TypeAlias = Callable[[Any], bool]
Values: TypeAlias = Callable[[Item], Sequence[Any]]

SEARCHED = 200_000
"""Characters of an item's texts in which words are looked for, as many as are indexed of a record."""


def item_filter(given: ItemFilter) -> Takes:
    """What a filter takes, as a function of an item. A mistake is told before any item is looked at.

    Raises
    ------
    FilterError
        The text does not parse or compares what does not compare.
    DatasetError
        It is neither text nor a function.

    Example
    -------
    >>> takes = item_filter('tag = hard and input.topic = "weather" and expected is present')
    >>> takes(Item(id="a", fields={"topic": "weather", "expected": "rain"}, tags=("hard",)))
    True
    >>> takes(Item(id="b", fields={"topic": "weather"}, tags=("hard",)))
    False
    """
    if isinstance(given, str):
        return _holds(parse(given, ITEMS))
    if not callable(given):
        raise DatasetError(
            f"filter={given!r}: expected a filter such as 'tag = hard and input.topic = \"weather\"', "
            "or a function of an item, such as lambda item: …"
        )
    return given


def _holds(node: Node) -> Takes:
    match node:
        case And(terms):
            every = [_holds(term) for term in terms]
            return lambda item: all(takes(item) for takes in every)
        case Or(terms):
            some = [_holds(term) for term in terms]
            return lambda item: any(takes(item) for takes in some)
        case Not(term):
            inner = _holds(term)
            return lambda item: not inner(item)
        case Presence(reference, present):
            found = _values(reference)
            return lambda item: bool(found(item)) == present
        case OneOf(reference, wanted, negated):
            return _one_of(reference, wanted, negated)
        case Compare(reference, operator, value):
            return _compared(reference, operator, value)


def _one_of(reference: Reference, wanted: Sequence[Value], negated: bool) -> Takes:
    found = _values(reference)
    tests = [_equal(value) for value in wanted]
    if negated and field_of(reference, ITEMS).many:
        return lambda item: not any(test(value) for value in found(item) for test in tests)
    return lambda item: any(any(test(value) for test in tests) != negated for value in found(item))


def _compared(reference: Reference, operator: str, wanted: Value) -> Takes:
    found = _values(reference)
    opposite = operator.startswith("!")
    if operator in ("~", "!~") and reference.name in ("input", "expected") and not reference.keys:
        assert isinstance(wanted, Text)
        found, test = (
            _whole(reference.name),
            _words(wanted.text) if reference.name == "input" else _written(wanted.text),
        )
    else:
        test = _test(operator.removeprefix("!"), wanted)
    if opposite and field_of(reference, ITEMS).many:
        return lambda item: not any(test(value) for value in found(item))
    return lambda item: any(test(value) != opposite for value in found(item))


def _values(reference: Reference) -> Values:
    """The values that an item has of a field; none where it is missing, as a ``null`` is."""
    keys = reference.keys
    match reference.name:
        case "id":
            return lambda item: (item.id,)
        case "tag":
            return lambda item: item.tags
        case "split":
            return lambda item: (item.split,) if item.split else ()
        case "input" if not keys:
            return lambda item: _given(_sole(item.inputs))
        case "input":
            return lambda item: _given(_within(item.inputs, keys))
        case _:
            return lambda item: _given(_within(item.expected, keys))


def _whole(name: str) -> Values:
    return (lambda item: (item.inputs,)) if name == "input" else (lambda item: _given(item.expected))


def _given(value: Any) -> Sequence[Any]:
    return () if value is None else (value,)


def _sole(fields: dict[str, Any]) -> Any:
    """An input of one field is that field's value."""
    return next(iter(fields.values())) if len(fields) == 1 else fields


def _within(value: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _test(operator: str, wanted: Value) -> Test:
    if operator == "=":
        return _equal(wanted)
    if operator == "~":
        assert isinstance(wanted, Text)
        return _contains(wanted.text)
    assert isinstance(wanted, Number)
    limit = wanted.number
    match operator:
        case "<":
            return lambda value: _is_number(value) and value < limit
        case "<=":
            return lambda value: _is_number(value) and value <= limit
        case ">":
            return lambda value: _is_number(value) and value > limit
        case _:
            return lambda value: _is_number(value) and value >= limit


def _equal(wanted: Value) -> Test:
    match wanted:
        case Number(number):
            return lambda value: _is_number(value) and value == number
        case Boolean(truth):
            return lambda value: value is truth
        case Text(text):
            return lambda value: isinstance(value, str) and value == text
        case _:
            raise AssertionError(f"nothing of an item is compared with {wanted}")


def _contains(text: str) -> Test:
    """In a text, or in the JSON text of a list or an object; the letters a to z match in either case."""
    part = text.encode().lower()

    def test(value: Any) -> bool:
        if isinstance(value, bool | int | float):
            return False
        whole = value.encode() if isinstance(value, str) else orjson.dumps(value)
        return part in whole.lower()

    return test


def _written(text: str) -> Test:
    """In the value as JSON writes it."""
    part = orjson.dumps(text)[1:-1].lower()
    return lambda value: part in orjson.dumps(value).lower()


def _words(text: str) -> Test:
    """Words, one after the other, of which the last may go on."""
    *first, last = query_terms(text)

    def test(value: Any) -> bool:
        have = terms(texts_within(value, SEARCHED))
        ends = (place for place, term in enumerate(have) if place >= len(first) and term.startswith(last))
        return any(have[place - len(first) : place] == first for place in ends)

    return test


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
