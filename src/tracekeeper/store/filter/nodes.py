"""The tree of a filter: dataclasses that are equal when they mean the same, and print as the filter they came from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TypeAlias

KEYWORDS = frozenset({"and", "or", "not", "in", "is"})

UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
    "h": 3600 * 1_000_000_000,
    "d": 86_400 * 1_000_000_000,
    "w": 7 * 86_400 * 1_000_000_000,
}
"""Nanoseconds of each unit of time."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string; of an enumeration, one of its words."""

    text: str

    def __str__(self) -> str:
        return quote(self.text)


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number."""

    number: int | float

    def __str__(self) -> str:
        return repr(self.number)


@dataclass(frozen=True, slots=True)
class Boolean:
    """``true`` or ``false``."""

    truth: bool

    def __str__(self) -> str:
        return "true" if self.truth else "false"


@dataclass(frozen=True, slots=True)
class Duration:
    """A length of time in nanoseconds."""

    nanoseconds: int

    def __str__(self) -> str:
        return _duration(self.nanoseconds)


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time, in nanoseconds since the Unix epoch (UTC)."""

    nanoseconds: int

    def __str__(self) -> str:
        from tracekeeper.store.filter.times import show_time

        return quote(show_time(self.nanoseconds))


@dataclass(frozen=True, slots=True)
class Ago:
    """A point in time, so many nanoseconds before now (negative: after now)."""

    nanoseconds: int

    def __str__(self) -> str:
        return f"{'-' if self.nanoseconds >= 0 else '+'}{_duration(abs(self.nanoseconds))}"


Value: TypeAlias = Text | Number | Boolean | Duration | Moment | Ago


@dataclass(frozen=True, slots=True)
class Reference:
    """A field: its name; the keys in brackets; of a score, which part of it."""

    name: str
    keys: tuple[str, ...] = ()
    part: str = ""
    position: int = field(default=0, compare=False)

    def __str__(self) -> str:
        keys = "".join(f"[{quote(key)}]" for key in self.keys)
        return f"{self.name}{keys}{f'.{self.part}' if self.part else ''}"


@dataclass(frozen=True, slots=True)
class Compare:
    """A field compared with a value: ``= != < <= > >= ~ !~``."""

    field: Reference
    operator: str
    value: Value

    def __str__(self) -> str:
        return f"{self.field} {self.operator} {self.value}"


@dataclass(frozen=True, slots=True)
class OneOf:
    """A field that has one of some values."""

    field: Reference
    values: tuple[Value, ...]
    negated: bool = False

    def __str__(self) -> str:
        return f"{self.field} {'not in' if self.negated else 'in'} ({', '.join(map(str, self.values))})"


@dataclass(frozen=True, slots=True)
class Presence:
    """A field that has a value, or has none."""

    field: Reference
    present: bool

    def __str__(self) -> str:
        return f"{self.field} is {'present' if self.present else 'missing'}"


@dataclass(frozen=True, slots=True)
class Not:
    """What does not satisfy a filter."""

    term: Node

    def __str__(self) -> str:
        return f"not {_within(self.term)}"


@dataclass(frozen=True, slots=True)
class And:
    """What satisfies all of two or more filters."""

    terms: tuple[Node, ...]

    def __str__(self) -> str:
        return " and ".join(_within(term) for term in self.terms)


@dataclass(frozen=True, slots=True)
class Or:
    """What satisfies one of two or more filters."""

    terms: tuple[Node, ...]

    def __str__(self) -> str:
        return " or ".join(_within(term) for term in self.terms)


Node: TypeAlias = Compare | OneOf | Presence | Not | And | Or


def quote(text: str) -> str:
    """A text as a quoted string of the language."""
    return f'"{_special.sub(_escape, text)}"'


_special = re.compile(r'[\\"\n\r\t]')
ESCAPES = {"\\": "\\", '"': '"', "'": "'", "n": "\n", "r": "\r", "t": "\t"}
_letters = {character: letter for letter, character in ESCAPES.items()}


def _escape(match: re.Match[str]) -> str:
    return f"\\{_letters[match.group()]}"


def _within(node: Node) -> str:
    # "and" binds tighter than "or", but people read parentheses faster than rules.
    return f"({node})" if isinstance(node, And | Or) else str(node)


def _duration(nanoseconds: int) -> str:
    for unit in ("w", "d", "h", "m", "s", "ms", "us"):
        if nanoseconds and nanoseconds % UNITS[unit] == 0:
            return f"{nanoseconds // UNITS[unit]}{unit}"
    return f"{nanoseconds}ns"
