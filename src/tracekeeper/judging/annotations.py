"""What a return annotation says about the fields that an app's output can have."""

from __future__ import annotations

import collections.abc
import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Any

_WITHOUT_FIELDS: tuple[type, ...] = (
    str,
    bytes,
    bytearray,
    bool,
    int,
    float,
    complex,
    list,
    tuple,
    set,
    frozenset,
    type(None),
)
_BY_NAME = {cls.__name__: cls for cls in _WITHOUT_FIELDS} | {"None": type(None)}
_WRAPPERS = (
    collections.abc.Awaitable,
    collections.abc.Coroutine,
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
)


def return_annotation(function: Callable[..., Any]) -> Any:
    """The return annotation of a callable, resolved where it can be; ``None`` when there is none.

    An annotation of ``None`` itself is given as ``type(None)``.
    """
    target = function
    while hasattr(target, "__wrapped__"):
        target = target.__wrapped__
    target = getattr(target, "func", target)
    if not hasattr(target, "__annotations__"):
        target = type(target).__call__ if callable(target) else target
    raw = getattr(target, "__annotations__", {}).get("return")
    try:
        resolved = typing.get_type_hints(target, include_extras=True).get("return")
    except Exception:  # noqa: BLE001  evaluating annotations runs user code (names under TYPE_CHECKING, old syntax)
        return raw
    return resolved if "return" in getattr(target, "__annotations__", {}) else None


def may_have_field(annotation: Any, name: str) -> bool:
    """Whether a value of this type could be captured as a mapping that has ``name``.

    Example
    -------
    >>> may_have_field(str, "sources"), may_have_field(dict, "sources"), may_have_field(None, "sources")
    (False, True, True)
    """
    if annotation is None or annotation is Any:
        return True
    if isinstance(annotation, str):
        parts = [part.strip().split("[")[0].removeprefix("builtins.") for part in annotation.split("|")]
        return not all(part in _BY_NAME for part in parts) or ("[" in annotation and "|" in annotation)
    annotation = getattr(annotation, "__supertype__", annotation)  # NewType
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Annotated:
        return may_have_field(arguments[0], name)
    if origin in (typing.Union, types.UnionType):
        return any(may_have_field(argument if argument is not None else type(None), name) for argument in arguments)
    if origin is typing.Literal:
        return not all(isinstance(argument, _WITHOUT_FIELDS) for argument in arguments)
    if origin in _WRAPPERS and arguments:
        # A coroutine returns its last argument; the items of a stream are its first, and text is joined to text.
        position = -1 if origin in (collections.abc.Awaitable, collections.abc.Coroutine) else 0
        return may_have_field(arguments[position], name)
    kind = origin or annotation
    if not isinstance(kind, type):
        return True
    if issubclass(kind, _WITHOUT_FIELDS) and not hasattr(kind, "_fields"):
        return False
    if typing.is_typeddict(kind):
        return any(name in getattr(base, "__annotations__", {}) for base in (kind, *kind.__mro__))
    if dataclasses.is_dataclass(kind):
        return name in {field.name for field in dataclasses.fields(kind)} or bool(kind.__subclasses__())
    return True
