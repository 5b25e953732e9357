"""A metric's version: a hash that is the same wherever the same code with the same parameters runs.

It covers the source of the function (without comments, layout, docstring and decorators), the values in its closure,
its defaults, and the parameters of a callable object or a partial. It does not follow the functions that it calls:
whoever changes those gives the metric a new ``version=``. Where there is no source (a REPL, ``exec``) the code object
is hashed, which is stable for one Python version only.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from pathlib import PurePath
from typing import Any

from tracekeeper.judging.source import source_text

LENGTH = 12
_BUDGET = 10_000  # values described of one closure: a metric that holds a million rows is known by its first ones


def fingerprint(function: Callable[..., Any], *extra: Any) -> str:
    """Twelve hex digits for a callable and anything else that its results depend on.

    Example
    -------
    >>> def short(output): return len(output) < 100
    >>> fingerprint(short) == fingerprint(short)
    True
    """
    return digest([_Describer().callable(function), *extra])


def digest(value: Any) -> str:
    """Twelve hex digits of plain data, the same in every process."""
    text = json.dumps(_Describer().value(value), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def parameters(function: Any) -> dict[str, Any] | None:
    """What a callable object or a partial was made with, as plain data; ``None`` when some of it is not plain.

    Of a function or method there is nothing: ``{}``.
    """
    if isinstance(function, partial):
        return None if function.args else _plain(function.keywords)
    if inspect.isroutine(function):
        return {}
    if is_dataclass(function) and not isinstance(function, type):
        if not all(field.init for field in fields(function)):
            return None
        return _plain({field.name: getattr(function, field.name) for field in fields(function)})
    found = getattr(function, "__dict__", {})
    return _plain({name: value for name, value in found.items() if not name.startswith("__")})


def _plain(values: Mapping[str, Any]) -> dict[str, Any] | None:
    return dict(values) if _json_ready(dict(values)) else None


def _json_ready(value: Any) -> bool:
    """Whether JSON gives the value back as it was, up to tuples, which come back as lists."""
    if value is None or type(value) in (bool, int, str):
        return True
    if type(value) is float:
        return math.isfinite(value)
    if type(value) in (list, tuple):
        return all(_json_ready(element) for element in value)
    return type(value) is dict and all(type(key) is str and _json_ready(inner) for key, inner in value.items())


class _Describer:
    """Turns values into plain data whose text depends on nothing but their content: no addresses, no set order."""

    def __init__(self) -> None:
        self.left = _BUDGET
        self.seen: set[int] = set()

    def callable(self, function: Any) -> Any:
        """A callable of any shape."""
        if isinstance(function, partial):
            return ["partial", self.callable(function.func), self.value(function.args), self.value(function.keywords)]
        if inspect.ismethod(function):
            owner = function.__self__
            held = [] if isinstance(owner, type | types.ModuleType) else self.attributes(owner)
            return ["method", self.callable(function.__func__), held]
        if isinstance(function, types.FunctionType):
            return self.function(function)
        if inspect.isroutine(function) or isinstance(function, type):
            return ["named", getattr(function, "__module__", ""), getattr(function, "__qualname__", "")]
        call = inspect.getattr_static(type(function), "__call__", None)
        code = self.function(call) if isinstance(call, types.FunctionType) else None
        return ["object", type(function).__qualname__, code, self.attributes(function)]

    def function(self, function: types.FunctionType) -> Any:
        if id(function) in self.seen:
            return ["again", function.__qualname__]
        self.seen.add(id(function))
        closure = []
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            try:
                content = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            if name != "__class__":
                closure.append([name, self.value(content)])
        wrapped = getattr(function, "__wrapped__", None)
        return [
            "function",
            source_text(function) or _code_text(function.__code__),
            closure,
            self.value(function.__defaults__),
            self.value(function.__kwdefaults__),
            self.callable(wrapped) if callable(wrapped) else None,
        ]

    def attributes(self, owner: Any) -> Any:
        if is_dataclass(owner) and not isinstance(owner, type):
            return self.value({field.name: getattr(owner, field.name) for field in fields(owner)})
        held = getattr(owner, "__dict__", None)
        if not isinstance(held, dict):
            return None
        # Only plain attributes: a client, a lock or a cache says nothing about what the metric computes.
        return self.value({name: value for name, value in held.items() if _is_plain(value)})

    def value(self, value: Any) -> Any:
        """Plain data that stands for any value."""
        self.left -= 1
        if self.left < 0:
            return "…"
        try:
            return self.described(value)
        except Exception:  # noqa: BLE001  user code: a proxy outside of its request, a broken __len__; its type stands
            return ["object", type(value).__module__, type(value).__qualname__]

    def described(self, value: Any) -> Any:
        """The same, as long as the value can be looked at."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Enum):
            return ["enum", type(value).__qualname__, value.name]
        if isinstance(value, str):
            return _bounded(value)
        if isinstance(value, int | float | complex):
            return [type(value).__name__, hex(value) if isinstance(value, int) else complex.__repr__(complex(value))]
        if isinstance(value, bytes | bytearray):
            return ["bytes", hashlib.sha256(value).hexdigest()]
        if isinstance(value, PurePath):
            return ["path", str(value)]
        if isinstance(value, list | tuple | dict | set | frozenset):
            if id(value) in self.seen:
                return "↺"
            self.seen.add(id(value))
            described = self.container(value)
            self.seen.discard(id(value))
            return described
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__]
        if callable(value):
            return self.callable(value) if id(value) not in self.seen else "↺"
        if id(value) in self.seen:
            return "↺"
        self.seen.add(id(value))
        return ["object", type(value).__module__, type(value).__qualname__, self.attributes(value)]

    def container(self, value: Any) -> Any:
        bounded = range(min(len(value), max(self.left, 0) + 1))
        if isinstance(value, dict):
            return [
                "dict",
                len(value),
                [[self.value(key), self.value(value[key])] for _, key in zip(bounded, value, strict=False)],
            ]
        if isinstance(value, set | frozenset):
            parts = sorted(json.dumps(self.value(element)) for _, element in zip(bounded, value, strict=False))
            return ["set", len(value), parts]
        return ["list", len(value), [self.value(element) for _, element in zip(bounded, value, strict=False)]]


def _is_plain(value: Any, depth: int = 4) -> bool:
    if value is None or isinstance(value, bool | int | float | str | bytes | Enum | PurePath):
        return True
    if depth and isinstance(value, list | tuple | set | frozenset):
        return all(_is_plain(element, depth - 1) for element in value)
    if depth and isinstance(value, dict):
        return all(_is_plain(key, depth - 1) and _is_plain(inner, depth - 1) for key, inner in value.items())
    return isinstance(value, types.FunctionType) or (is_dataclass(value) and not isinstance(value, type))


def _bounded(text: str) -> str:
    return (
        text
        if len(text) <= 1000
        else f"{text[:100]}…sha256:{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()}"
    )


def _code_text(code: types.CodeType) -> str:
    held = [_code_text(const) if isinstance(const, types.CodeType) else digest(const) for const in code.co_consts]
    parts = [code.co_code.hex(), *held, *code.co_names, *code.co_varnames]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()
