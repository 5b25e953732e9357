"""Arguments by name, from a signature that was read once.

What the caller passed is what is kept: a default that was not passed is part of the function, not of the call, and
would turn a call with one argument into one with several. ``*args`` keep their name and are a list, ``**kwargs`` are
merged in by their own names, ``self`` and ``cls`` are left out. Arguments that do not fit are kept too, so that the
record of a ``TypeError`` shows what was passed.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

Binder = Callable[[tuple[Any, ...], dict[str, Any]], dict[str, Any]]


def binder(function: Any) -> Binder:
    """A function from ``(args, kwargs)`` of a call to the mapping that is captured.

    Example
    -------
    >>> binder(lambda question, k=3, *more, **rest: 0)(("why?", 4, 5), {"tone": "dry"})
    {'question': 'why?', 'k': 4, 'more': [5], 'tone': 'dry'}
    """
    if isinstance(function, functools.partial):
        return _of_partial(function)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # many builtins say nothing of their parameters
        return functools.partial(_bind, (), 0, "args")
    names = tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "args")
    # A method that is decorated in its class body still has its first parameter.
    skipped = 1 if names and names[0] in ("self", "cls") and not inspect.ismethod(function) else 0
    if skipped:
        return functools.partial(_bind, names, skipped, rest)

    def bind(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if not kwargs and len(args) <= len(names):
            if len(args) == 1:
                return {names[0]: args[0]}
            return dict(zip(names, args))  # noqa: B905  fewer arguments than names: defaults
        return _bind(names, 0, rest, args, kwargs)

    return bind


def _bind(
    names: tuple[str, ...], skipped: int, rest: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    bound = dict(zip(names, args, strict=False))
    if skipped and args:
        del bound[names[0]]
    if len(args) > len(names):
        bound[rest] = list(args[len(names) :])
    if kwargs:
        for name, value in kwargs.items():
            bound[name if name not in bound else f"**{name}"] = value
    return bound


def _of_partial(function: functools.partial[Any]) -> Binder:
    inner = binder(function.func)
    given, named = function.args, function.keywords
    return lambda args, kwargs: inner((*given, *args), {**named, **kwargs})
