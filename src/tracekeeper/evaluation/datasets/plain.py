"""Plain data of what users put into items: what JSON can hold, a copy that no later change of theirs reaches.

Unlike what is captured of a call, nothing is cut or replaced here: what has no form in JSON is refused. Two things are
taken for what they mean: NaN, pandas' ``NA`` and ``NaT`` are ``null`` (a missing value).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any

import msgspec
import orjson

from tracekeeper.types import DatasetError

_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
_MISSING = ("NAType", "NaTType")
_LONGEST = 80


def plain(value: Any) -> Any:
    """The value as plain data: dictionaries with text keys, lists, text, numbers, truth values, ``None``.

    Models (pydantic, msgspec, dataclasses, attrs), dates, enumerations, sets, UUIDs, paths, decimals and numpy's arrays
    and numbers are written as JSON has them; bytes as base64.

    Raises
    ------
    DatasetError
        Something in it has no form in JSON; the message names it.

    Example
    -------
    >>> plain({"when": date(2026, 1, 2), "n": (1, float("nan"))})
    {'when': '2026-01-02', 'n': [1, None]}
    """
    try:
        text = orjson.dumps(value, default=_default, option=_OPTIONS)
    except (TypeError, RecursionError) as error:
        place, why = _culprit(value)
        raise DatasetError(f"{place or 'it'} cannot be kept: {why or error}") from error
    if b"null" in text:  # the one thing that JSON would take silently for another
        _refuse_infinity(value)
    return orjson.loads(text)


def mapping_of(value: Any) -> Mapping[Any, Any] | None:
    """The fields of a mapping or a model; ``None`` of anything else."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, type):
        return None
    dump = getattr(value, "model_dump", None)  # pydantic
    if callable(dump):
        dumped = dump(mode="json")
        return dumped if isinstance(dumped, Mapping) else None  # a root model may be a list
    if isinstance(value, tuple):
        named = getattr(value, "_asdict", None)
        return named() if callable(named) else None
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    if hasattr(value, "__dataclass_fields__"):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    if hasattr(value, "__attrs_attrs__"):
        return {each.name: getattr(value, each.name) for each in value.__attrs_attrs__}
    return None


def _default(value: Any) -> Any:
    """What orjson does not write itself."""
    if type(value).__name__ in _MISSING:
        return None
    if isinstance(value, set | frozenset):
        return sorted((plain(each) for each in value), key=orjson.dumps)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Decimal | PurePath):
        return str(value)
    if isinstance(value, date | time):  # a subclass, such as pandas' Timestamp
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    found = mapping_of(value)
    if found is not None:
        return dict(found)
    if isinstance(value, tuple):
        return list(value)
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    listed = getattr(value, "tolist", None)  # an array that orjson does not take as it lies
    if callable(listed):
        return listed()
    raise TypeError(f"a {type(value).__qualname__} has no form in JSON")


def _culprit(value: Any, place: str = "", depth: int = 0) -> tuple[str, str]:
    """Where in a value something is that cannot be written, and why. Only called when there is."""
    if depth > 100:
        return place[:_LONGEST], "it is nested too deeply, or holds itself"
    fields = mapping_of(value)
    inner: list[tuple[str, Any]] = []
    if fields is not None:
        inner = [(f"{place}.{name}" if place else str(name), each) for name, each in fields.items()]
        for name in fields:
            try:
                orjson.dumps({name: None}, option=_OPTIONS)
            except TypeError as error:
                return place, f"its key {name!a}: {error}"
    elif isinstance(value, list | tuple):
        inner = [(f"{place}[{number}]", each) for number, each in enumerate(value)]
    for where, each in inner:
        try:
            orjson.dumps(each, default=_default, option=_OPTIONS)
        except (TypeError, RecursionError):
            return _culprit(each, where, depth + 1)
    try:
        orjson.dumps(value, default=_default, option=_OPTIONS)
    except (TypeError, RecursionError) as error:
        why = error.__cause__ if isinstance(error.__cause__, TypeError) else error
        if isinstance(value, int):
            return place, "an integer of more than 64 bits; give it as text"
        if isinstance(value, str):
            return place, "text that UTF-8 cannot hold (half of a surrogate pair)"
        return place, str(why)
    return place, ""


def _refuse_infinity(value: Any, place: str = "") -> None:
    if isinstance(value, float):
        if math.isinf(value):
            raise DatasetError(f"{place or 'it'} cannot be kept: JSON has no infinity; give it as text, or as a number")
        return
    listed = getattr(value, "tolist", None)
    if callable(listed):  # numpy's
        value = listed()
    fields = mapping_of(value)
    if fields is not None:
        for name, each in fields.items():
            _refuse_infinity(each, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            _refuse_infinity(each, f"{place}[{number}]")
