"""Guarded callables, one shell for each nature: what is decorated stays what it was.

A ``def`` stays a ``def``, an ``async def`` one, a generator function one, an object an object with its attributes, an
app an app. What is traced already gets the guard *inside* its span, wherever the decorators stand: a blocked call is
then a record with its input and the reason, and the guard's span lies below it.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, Literal

from tracekeeper.concurrency import is_async
from tracekeeper.judging import return_annotation
from tracekeeper.scoring.app import App
from tracekeeper.scoring.guards.deciding import Guard
from tracekeeper.scoring.guards.fitting import check_fits
from tracekeeper.scoring.guards.rule import Rule
from tracekeeper.tracing.plan import Plan, names_of
from tracekeeper.tracing.wrapping import MARKER, plan_of, wrap
from tracekeeper.types import ConfigurationError

Nature = Literal["sync", "async", "awaitable", "generator", "async generator"]
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial)


def guarded(rule: Rule, target: Any) -> Any:
    """The callable with a guard on it.

    Raises
    ------
    ConfigurationError, MetricError
        The guard can never work on it.
    """
    if isinstance(target, staticmethod | classmethod):
        return type(target)(guarded(rule, target.__func__))
    if isinstance(target, App):
        target.replace_call(guarded(rule, target.call))
        return target
    if inspect.isclass(target):
        raise ConfigurationError(
            f"@tk.guard.{rule.kind}: {target.__name__} is a class; decorate the method that is to be guarded"
        )
    if not callable(target):
        raise ConfigurationError(f"@tk.guard.{rule.kind} decorates a function, not {type(target).__name__}: {target!r}")
    plan = plan_of(target)
    return _shell(rule, target) if plan is None else _inside(rule, target, plan)


def _inside(rule: Rule, traced: Any, plan: Plan) -> Any:
    """A traced callable whose guard is below its span."""
    again = wrap(Plan(_shell(rule, plan.function), **plan.given))
    if inspect.ismethod(traced):
        return types.MethodType(again, traced.__self__)
    app = getattr(traced, "app", None)
    if isinstance(app, App):
        again.app = app
        if app.call is traced:
            app.replace_call(again)
    return again


def _shell(rule: Rule, function: Any) -> Any:
    nature = nature_of(function)
    check_fits(rule, function, nature in ("generator", "async generator"))
    if callable(rule.on_block) and is_async(rule.on_block) and nature in ("sync", "generator"):
        raise ConfigurationError(
            f"@tk.guard.{rule.kind} on {names_of(function)[0]}: on_block is async, and the function is not"
        )
    shell = _SHELLS[nature](Guard(rule, function))
    if not isinstance(function, _FUNCTIONS):
        return _OBJECTS[nature](function, shell)
    functools.update_wrapper(shell, function)
    shell.__dict__.pop(MARKER, None)
    shell.__name__, shell.__qualname__ = names_of(function)
    return shell


def nature_of(function: Any) -> Nature:
    """What calling it gives."""
    inner = function if isinstance(function, _FUNCTIONS) else type(function).__call__
    if inspect.isasyncgenfunction(inner) or inspect.isasyncgenfunction(function):
        return "async generator"
    if inspect.isgeneratorfunction(inner) or inspect.isgeneratorfunction(function):
        return "generator"
    if inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(function):
        return "async"
    if not is_async(function):
        return "sync"
    # A future of a thread is waited for by `.result()`: a coroutine would be no such thing.
    annotation = return_annotation(inner)
    kind = typing.get_origin(annotation) or annotation
    return "sync" if getattr(kind, "__module__", "").startswith("concurrent") else "awaitable"


def _sync(guard: Guard) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        return guard.call(args, kwargs)

    return call


def _async(guard: Guard) -> Any:
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await guard.acall(args, kwargs)

    return call


def _awaitable(guard: Guard) -> Any:
    """A ``def`` that is annotated to return an awaitable: it must not wait for its guard itself."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return guard.acall(args, kwargs) if guard.rule.kind == "input" else guard.call(args, kwargs)

    return call


def _generator(guard: Guard) -> Any:
    """Judged at the first step, where the body of a generator begins too."""

    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        stop = guard.judge_input(guard.inputs(args, kwargs))
        if stop is not None:
            yield guard.instead(stop)
            return None
        return (yield from guard.function(*args, **kwargs))

    return call


def _async_generator(guard: Guard) -> Any:
    async def call(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        stop = await guard.ajudge_input(guard.inputs(args, kwargs))
        if stop is not None:
            yield await guard.ainstead(stop)
            return
        inner = guard.function(*args, **kwargs)
        try:
            chunk = await anext(inner)
            while True:  # what `yield from` does, which async generators do not have
                try:
                    sent = yield chunk
                except GeneratorExit:
                    raise
                except BaseException as error:  # noqa: BLE001  thrown in by the consumer: it is the generator's to handle
                    chunk = await inner.athrow(error)
                else:
                    chunk = await anext(inner) if sent is None else await inner.asend(sent)
        except StopAsyncIteration:
            return
        finally:
            await inner.aclose()

    return call


class GuardedObject:
    """The shell around a callable object: it passes on every attribute."""

    def __init__(self, inner: Any, shell: Callable[..., Any]) -> None:
        self.__wrapped__ = inner
        self._shell = shell

    def __getattr__(self, name: str) -> Any:
        if name in ("__wrapped__", "_shell"):  # half-made (being unpickled or copied)
            raise AttributeError(name)
        return getattr(self.__wrapped__, name)

    def __repr__(self) -> str:
        return f"<guarded {self.__wrapped__!r}>"


class _SyncObject(GuardedObject):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._shell(*args, **kwargs)


class _AsyncObject(GuardedObject):
    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return await self._shell(*args, **kwargs)


class _GeneratorObject(GuardedObject):
    def __call__(self, *args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        return (yield from self._shell(*args, **kwargs))


class _AsyncGeneratorObject(GuardedObject):
    async def __call__(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async for chunk in self._shell(*args, **kwargs):
            yield chunk


_SHELLS: dict[Nature, Callable[[Guard], Any]] = {
    "sync": _sync,
    "async": _async,
    "awaitable": _awaitable,
    "generator": _generator,
    "async generator": _async_generator,
}
_OBJECTS: dict[Nature, type[GuardedObject]] = {
    "sync": _SyncObject,
    "async": _AsyncObject,
    "awaitable": _SyncObject,
    "generator": _GeneratorObject,
    "async generator": _AsyncGeneratorObject,
}
