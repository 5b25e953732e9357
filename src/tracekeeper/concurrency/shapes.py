"""Which callables are asynchronous, in every shape that callables come in.

Two questions are kept apart. ``is_async`` asks the callable, before the call: coroutine functions, their bound
methods, partials of them, objects whose ``__call__`` is one, functions annotated to return an awaitable.
``is_awaitable`` asks the result, after the call: it finds what no inspection can (a lambda, or a ``def`` wrapper around
an ``async def``). Whoever runs a callable asks both.
"""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Awaitable
from typing import Any

_ASYNC_NAMES = frozenset({"Awaitable", "Coroutine", "Future", "Task"})
_DEPTH = 32


def is_async(fn: Any) -> bool:
    """Whether calling ``fn`` gives an awaitable, as far as can be told without calling it.

    Example
    -------
    >>> async def judge(output): ...
    >>> is_async(functools.partial(judge, output="x")), is_async(lambda: judge("x"))
    (True, False)
    """
    for _ in range(_DEPTH):  # partials of methods of partials: peel, but never for ever
        if inspect.iscoroutinefunction(fn) or _marked(fn):
            return True
        if isinstance(fn, functools.partial | functools.partialmethod):
            fn = fn.func
        elif inspect.ismethod(fn):
            fn = fn.__func__
        elif inspect.isroutine(fn) or inspect.isclass(fn):
            return _annotated_async(fn)
        else:
            call = getattr(type(fn), "__call__", None)  # noqa: B004  the function itself is wanted
            if call is None or not inspect.isfunction(inspect.unwrap(call, stop=inspect.isfunction)):
                return inspect.iscoroutinefunction(call)
            fn = call
    return False


def is_awaitable(value: Any) -> bool:
    """Whether a result has to be awaited: coroutines, tasks and futures (those of ``concurrent.futures`` too)."""
    if value is None or isinstance(value, str | int | float | dict | list | tuple):  # by far the most results
        return False
    if inspect.isawaitable(value):
        return True
    future = getattr(sys.modules.get("concurrent.futures._base"), "Future", None)  # None also while it is imported
    return future is not None and isinstance(value, future)


def describe(fn: Any) -> str:
    """A short name for a callable, for messages and lists of running calls. Never raises."""
    for _ in range(_DEPTH):
        if isinstance(fn, functools.partial):
            fn = fn.func
            continue
        name = getattr(fn, "__qualname__", None) or getattr(fn, "__name__", None)
        return name if isinstance(name, str) else type(fn).__qualname__
    return type(fn).__qualname__


async def awaited(value: Any) -> Any:
    """The result of an awaitable, whichever loop or executor it belongs to. Runs on the loop that calls it."""
    import asyncio
    import concurrent.futures

    if isinstance(value, concurrent.futures.Future):
        return await asyncio.wrap_future(value)
    if isinstance(value, asyncio.Future) and value.get_loop() is not asyncio.get_running_loop():
        return await asyncio.wrap_future(_bridge(value))
    return await value


def _bridge(future: Any) -> Any:
    """A thread-safe future that follows one of another loop: a function may return a task of the program's own loop."""
    import concurrent.futures

    bridge: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def copy(source: Any) -> None:
        if not bridge.set_running_or_notify_cancel():
            return
        if source.cancelled():
            bridge.set_exception(concurrent.futures.CancelledError())
        elif (error := source.exception()) is not None:
            bridge.set_exception(error)
        else:
            bridge.set_result(source.result())

    future.get_loop().call_soon_threadsafe(future.add_done_callback, copy)
    return bridge


def _marked(fn: Any) -> bool:
    """The marker by which wrappers said that they return coroutines before ``inspect.markcoroutinefunction``."""
    coroutines = sys.modules.get("asyncio.coroutines")
    marker = getattr(coroutines, "_is_coroutine", None)
    return marker is not None and inspect.getattr_static(fn, "_is_coroutine", None) is marker


def _annotated_async(fn: Any) -> bool:
    annotation = getattr(fn, "__annotations__", {}).get("return") if not inspect.isclass(fn) else None
    if annotation is None:
        return False
    if isinstance(annotation, str):  # `from __future__ import annotations`
        head = annotation.split("[", 1)[0].rpartition(".")[2].strip()
        return head in _ASYNC_NAMES
    origin = typing.get_origin(annotation) or annotation
    return inspect.isclass(origin) and (
        issubclass(origin, Awaitable) or (origin.__module__.startswith("concurrent") and origin.__name__ == "Future")
    )
