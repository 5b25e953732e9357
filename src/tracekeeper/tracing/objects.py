"""What an object that JSON does not know looks like as plain data, by its type and without importing its library.

``issubclass(kind, …)`` on the real type everywhere: ``isinstance`` believes what an object says of its class. Builtin
containers are read through the builtin's own methods, so a subclass's overridden ones never run.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import functools
import os
import pathlib
import types
import uuid
from array import array
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracekeeper.tracing.simplify import Walk

_AS_TEXT = (decimal.Decimal, fractions.Fraction, uuid.UUID, pathlib.PurePath, complex, datetime.timedelta)
_NAMED = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.ModuleType,
    types.GeneratorType,
    types.AsyncGeneratorType,
    types.CoroutineType,
    functools.partial,
    type,
)
_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
_ATTRIBUTES = 64


def plain(walk: Walk, value: Any, kind: type, depth: int) -> Any:
    """The plain form of ``value``. May raise what the object raises: the walk catches it."""
    simple = _scalar(walk, value, kind)
    if simple is not None:
        return simple
    if issubclass(kind, enum.Enum):
        return walk.value(value.value, depth + 1)
    if issubclass(kind, int):
        return walk.integer(int.__int__(value))
    if issubclass(kind, float):
        return walk.number(float.__float__(value))
    if issubclass(kind, dict):
        return walk.mapping(dict.items(value), dict.__len__(value), depth)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return walk.mapping(zip(kind._fields, tuple.__iter__(value), strict=False), tuple.__len__(value), depth)
    if issubclass(kind, list | tuple | set | frozenset | deque):
        base = next(base for base in (list, tuple, set, frozenset, deque) if issubclass(kind, base))
        return walk.items(base.__iter__(value), base.__len__(value), depth)
    if kind is range or kind is array or kind in _VIEWS:
        return walk.items(iter(value), len(value), depth)
    if issubclass(kind, BaseException):
        return _mapping(walk, {"type": f"{kind.__module__}.{kind.__qualname__}", "message": _message(value)}, depth)
    if issubclass(kind, _NAMED):
        return walk.text(_named(value, kind))
    library = kind.__module__.partition(".")[0]
    if library in _LIBRARIES:
        known = _LIBRARIES[library](walk, value, kind, depth)
        if known is not None:
            return known
    fields = _fields(walk, value, kind)
    if fields is not None:
        return _mapping(walk, fields, depth)
    if issubclass(kind, Mapping) and kind is not type(os.environ):  # an environment is full of secrets
        return walk.mapping(((key, value[key]) for key in value), len(value), depth)
    return _other(walk, value, kind, depth)


def _scalar(walk: Walk, value: Any, kind: type) -> Any:
    if issubclass(kind, str) and not issubclass(kind, enum.Enum):
        return walk.text(str.__str__(value))
    if issubclass(kind, bytes | bytearray | memoryview):
        return walk.bytes(value if not issubclass(kind, memoryview) else value.cast("B"))
    if issubclass(kind, datetime.date | datetime.time):
        return walk.text(value.isoformat())
    if issubclass(kind, _AS_TEXT):
        return walk.text(str(value))
    if issubclass(kind, os.PathLike):
        return walk.text(os.fsdecode(os.fspath(value)))
    return None


def _mapping(walk: Walk, fields: dict[str, Any], depth: int) -> dict[str, Any]:
    return walk.mapping(fields.items(), len(fields), depth)


def _fields(walk: Walk, value: Any, kind: type) -> dict[str, Any] | None:
    """Fields of dataclasses, msgspec structs, attrs classes and pydantic models (1 and 2), without copying them."""
    names: Any
    if "__dataclass_fields__" in _everywhere(kind):
        names = kind.__dataclass_fields__  # type: ignore[attr-defined]
    elif hasattr(kind, "__struct_fields__"):
        names = kind.__struct_fields__
    elif hasattr(kind, "__attrs_attrs__"):
        names = [attribute.name for attribute in kind.__attrs_attrs__]
    elif hasattr(kind, "__pydantic_fields__") or (hasattr(kind, "__fields__") and hasattr(kind, "__fields_set__")):
        extra = walk.attempt(lambda: value.__pydantic_extra__)
        return {**vars(value), **(extra if type(extra) is dict else {})}
    else:
        return None
    return {name: walk.attempt(functools.partial(getattr, value, name)) for name in names}


def _everywhere(kind: type) -> set[str]:
    return {name for base in kind.__mro__ for name in vars(base) if name == "__dataclass_fields__"}


def _numpy(walk: Walk, value: Any, kind: type, depth: int) -> Any:
    if kind.__name__ != "ndarray":
        return walk.value(value.item(), depth + 1) if hasattr(kind, "item") else None
    if value.ndim == 0:
        return walk.value(value.item(), depth + 1)
    if value.size * 2 <= max(walk.left, 0) and value.size <= 65_536:
        return walk.value(value.tolist(), depth + 1)
    head = value.flat[: min(max(walk.left, 0) // 4, 16_384)].tolist()
    described = {"dtype": str(value.dtype), "shape": list(value.shape), "values": head}
    shown = _mapping(walk, described, depth)
    walk.missed(value.nbytes)
    return shown


def _pandas(walk: Walk, value: Any, kind: type, depth: int) -> Any:
    name = kind.__name__
    if name not in ("DataFrame", "Series", "Index", "RangeIndex", "DatetimeIndex"):
        return None
    length = len(value)
    width = len(value.columns) if name == "DataFrame" else 1
    rows = max(min(length, max(walk.left, 0) // (8 * max(width, 1))), 0)
    head = value[:rows] if name.endswith("Index") else value.iloc[:rows]
    plain = head.to_dict("records") if name == "DataFrame" else head.tolist()
    return walk.items(iter(plain), length, depth)


def _torch(walk: Walk, value: Any, kind: type, depth: int) -> Any:
    # Values may be on another device: reading them would wait for it.
    shape = getattr(value, "shape", None)
    return walk.text(f"<{kind.__name__} {tuple(shape)} {value.dtype}>") if shape is not None else None


_LIBRARIES = {"numpy": _numpy, "pandas": _pandas, "torch": _torch}


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:  # noqa: BLE001
        return f"<str() failed: {type(failure).__name__}>"


def _named(value: Any, kind: type) -> str:
    if issubclass(kind, functools.partial):
        return f"<partial of {_named(value.func, type(value.func))}>"
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if not isinstance(name, str):
        return f"<{kind.__qualname__}>"
    module = getattr(value, "__module__", None)
    if isinstance(module, str):
        name = f"{module}.{name}"
    return f"<{'class' if issubclass(kind, type) else kind.__name__} {name}>"


def _other(walk: Walk, value: Any, kind: type, depth: int) -> Any:
    """An object of a class nobody described: its ``repr`` if it has one of its own, else its public attributes."""
    if kind is type(os.environ):
        return walk.text("<os.environ>")
    if getattr(kind, "__repr__", None) is not object.__repr__:
        shown = walk.attempt(lambda: repr(value))
        return walk.text(shown if isinstance(shown, str) else f"<{kind.__qualname__}>")
    name = f"{kind.__module__}.{kind.__qualname__}"
    attributes = walk.attempt(lambda: object.__getattribute__(value, "__dict__"))
    attributes = attributes if type(attributes) is dict else {}
    public = {key: item for key, item in list(attributes.items())[:_ATTRIBUTES] if str(key)[:1] != "_"}
    if not public:
        return walk.text(f"<{name}>")
    return _mapping(walk, {"__class__": name, **public}, depth)
