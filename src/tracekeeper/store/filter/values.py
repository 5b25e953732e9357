"""What a value that was typed means, given the type of the field it is compared with."""

from __future__ import annotations

import math
import re

from tracekeeper.store.filter.fields import CONTAINS, Field, nearest
from tracekeeper.store.filter.lexer import Token
from tracekeeper.store.filter.nodes import Ago, Boolean, Duration, Moment, Number, Text, Value
from tracekeeper.store.filter.times import LARGEST, looks_like_duration, parse_duration, parse_time
from tracekeeper.types.text import query_terms

_number = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def read_value(field: Field, keyed: bool, operator: str, token: Token) -> Value:
    """The value of a word or string that is compared with a field.

    Parameters
    ----------
    field:
        What it is compared with; ``keyed``: with keys in brackets.
    operator:
        ``~`` and ``!~`` look for text whatever the field's type.

    Raises
    ------
    ValueError
        When the field has no such values.
    """
    if operator in CONTAINS:
        return _contained(field, keyed, token)
    match field.type:
        case "text":
            return Text(token.text)
        case "word":
            return _word(field, token)
        case "id":
            return _id(token)
        case "number":
            return _number_only(field, token)
        case "duration":
            return _duration(field, token)
        case "time":
            return _time(token)
        case "json" | "score":
            return _any(field, token, operator)


def _contained(field: Field, keyed: bool, token: Token) -> Text:
    if field.type == "id":
        return _id(token)
    if not token.text:
        raise ValueError("there is nothing to look for in an empty text")
    if field.name in ("input", "output") and not keyed and not query_terms(token.text):
        raise ValueError(f"there is no word to look for in {token.text!r}")
    return Text(token.text)


def _word(field: Field, token: Token) -> Text:
    word = token.text.lower()
    if word in field.words:
        return Text(word)
    guess = nearest(word, field.words)
    hint = f"did you mean {guess}? " if guess else ""
    raise ValueError(f"{field.name} is never {token.text!r}; {hint}(it is one of {', '.join(field.words)})")


def _id(token: Token) -> Text:
    if not re.fullmatch(r"[0-9a-fA-F]{1,32}", token.text):
        raise ValueError(f"{token.text!r} is not an id: ids have up to 32 hexadecimal digits")
    return Text(token.text.lower())


def _number_only(field: Field, token: Token) -> Number:
    if token.kind == "word":
        number = _as_number(token.text)
        if number is not None:
            return number
    raise ValueError(f"{field.name} is a number, {_shown(token)} is not")


def _duration(field: Field, token: Token) -> Duration:
    if token.kind == "word" and looks_like_duration(token.text):
        return Duration(parse_duration(token.text))
    if token.kind == "word" and _number.fullmatch(token.text):
        raise ValueError(f"{field.name} needs a unit: {token.text}s or {token.text}ms?")
    raise ValueError(f"{field.name} is a duration such as 500ms, 2s or 3m; {_shown(token)} is not")


def _time(token: Token) -> Moment | Ago:
    if token.kind == "word" and token.text[0] in "+-" and looks_like_duration(token.text[1:]):
        ago = parse_duration(token.text[1:])
        return Ago(ago if token.text[0] == "-" else -ago)
    if token.kind == "word" and looks_like_duration(token.text):
        raise ValueError(f"to say {token.text} before now, write -{token.text}")
    return Moment(parse_time(token.text))


def _any(field: Field, token: Token, operator: str) -> Text | Number | Boolean:
    """A value of a field that can hold anything: quotes make text, else it is what it looks like."""
    value: Text | Number | Boolean = Text(token.text)
    if token.kind == "word":
        if token.text.lower() in ("true", "false"):
            value = Boolean(token.text.lower() == "true")
        else:
            value = _as_number(token.text) or value
    if operator in ("<", "<=", ">", ">=") and not isinstance(value, Number):
        hint = "; write the number without quotes" if token.kind == "string" and _number.fullmatch(token.text) else ""
        raise ValueError(f"only numbers are smaller or larger, {_shown(token)} is not a number{hint}")
    return value


def _as_number(word: str) -> Number | None:
    if not _number.fullmatch(word):
        return None
    exact = re.fullmatch(r"[+-]?[0-9]{1,18}", word)
    number = int(word) if exact else float(word)
    if not math.isfinite(number) or (abs(number) > LARGEST and isinstance(number, int)):
        raise ValueError(f"the number {word} is too large")
    return Number(number)


def _shown(token: Token) -> str:
    return f'"{token.text}"' if token.kind == "string" else token.text
