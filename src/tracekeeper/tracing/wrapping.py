"""The shells around traced callables, one for each nature that a callable can have.

A ``def`` and an ``async def`` are wrapped by a function of the same nature. A generator function cannot be: whatever a
real generator function returns is a generator, but ours has to return an object with a finaliser. So its shell is an
object that ``inspect`` takes for a function, because it has a function's attributes (``__code__`` and the rest, from
the function inside), and that binds as a method. Callable objects get the same shell, which passes their attributes on.

The shells refer to nothing but their closure, so that they can be pickled by value (cloudpickle, Ray).
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable
from typing import Any

from tracekeeper.tracing import lost_context, opening
from tracekeeper.tracing.context import VAR, leave
from tracekeeper.tracing.plan import Plan
from tracekeeper.tracing.results import ENDS, finish, settle
from tracekeeper.tracing.spans import Span
from tracekeeper.tracing.streams import TracedAsyncIterator, TracedIterator, asettle_inline, settle_inline

MARKER = "__tracekeeper__"
leave_span = opening.leave
_reset = VAR.reset
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial)
_OF_FUNCTIONS = frozenset({"__code__", "__defaults__", "__kwdefaults__", "__annotations__", "__globals__"})


def wrap(plan: Plan) -> Any:
    """The traced form of ``plan.function``, of the same nature."""
    function = plan.function
    shell: Any
    if inspect.isasyncgenfunction(function):
        shell = TracedCallable(plan, _streaming(function, plan.open, failed, TracedAsyncIterator))
    elif inspect.isgeneratorfunction(function):
        shell = TracedCallable(plan, _streaming(function, plan.open, failed, TracedIterator))
    elif inspect.iscoroutinefunction(function):
        shell = _asynchronous(function, plan.begin, failed_in, returned, asettle_inline)
    elif isinstance(function, _FUNCTIONS):
        shell = _synchronous(function, plan.begin, failed_in, returned, settle_inline)
    else:
        shell = TracedCallable(plan, _synchronous(function, plan.begin, failed_in, returned, settle_inline))
    if not isinstance(shell, TracedCallable):
        functools.update_wrapper(shell, function)
        shell.__name__, shell.__qualname__ = plan.simple_name, plan.qualified_name
    setattr(shell, MARKER, plan)
    plan.shell = shell
    return shell


def plan_of(callable: Any) -> Plan | None:
    """How a callable is traced already; ``None`` if it is not (another wrapper may carry a copied mark)."""
    plan = getattr(callable, MARKER, None)
    inner = callable.__func__ if inspect.ismethod(callable) else callable
    return plan if isinstance(plan, Plan) and plan.shell is inner else None


def _synchronous(
    function: Callable[..., Any],
    begin: Callable[[Any, Any], Any],
    failed: Callable[[Any, BaseException], Any],
    returned: Callable[[Any, Any], Any],
    settle_inline: Callable[[Any], Any],
) -> Any:
    def traced(*args: Any, **kwargs: Any) -> Any:
        span = begin(args, kwargs)
        if span is None:
            return function(*args, **kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            failed(span, error)
            raise
        result = returned(span, result)
        if span.inline and not span.is_open():
            settle_inline(span)
        return result

    lost_context.wrapper(traced.__code__)
    return traced


def _asynchronous(
    function: Callable[..., Any],
    begin: Callable[[Any, Any], Any],
    failed: Callable[[Any, BaseException, bool], bool],
    returned: Callable[[Any, Any], Any],
    settle_inline: Callable[[Any], Any],
) -> Any:
    async def traced(*args: Any, **kwargs: Any) -> Any:
        span = begin(args, kwargs)
        if span is None:
            return await function(*args, **kwargs)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            if failed(span, error, False):
                await settle_inline(span)
            raise
        result = returned(span, result)
        if span.inline and not span.is_open():
            await settle_inline(span)
        return result

    lost_context.wrapper(traced.__code__)
    return traced


def _streaming(
    function: Callable[..., Any],
    begin: Callable[[Any, Any], Any],
    failed: Callable[[Any, BaseException], None],
    stream: Callable[[Any, Any], Any],
) -> Any:
    def traced(*args: Any, **kwargs: Any) -> Any:
        span = begin(args, kwargs)
        if span is None:
            return function(*args, **kwargs)
        try:
            inner = function(*args, **kwargs)
        except BaseException as error:
            failed(span, error)
            raise
        return stream(span, inner)

    return traced


def failed(span: Span, error: BaseException) -> None:
    """The call itself raised; its span was never current."""
    span.fail(error)


def failed_in(span: Span, error: BaseException, settles: bool = True) -> bool:
    """The call raised: leave and end its span. Whether inline metrics are left to be settled."""
    leave_span(span)
    if not isinstance(error, Exception):
        span.inline = False  # Ctrl-C and cancellation do not wait for metrics
    if not (span.fail(error) and span.inline):
        return False
    if settles:
        settle_inline(span)
    return not settles


def returned(span: Span, result: Any) -> Any:
    """The call returned: leave its span, end it or follow the result. Inline metrics are left to the shell."""
    token = span.token
    if token is not None:
        try:
            _reset(token)
        except (ValueError, RuntimeError):
            leave(token, span.entered)
    # The context holds the span: a cycle that only gc would find.
    span.token = span.entered = None
    return finish(span, result) if type(result) in ENDS else settle(span, result)


class TracedCallable:
    """The shell around generator functions and callable objects."""

    def __init__(self, plan: Plan, call: Callable[..., Any]) -> None:
        function = plan.function
        functools.update_wrapper(self, function, updated=())
        self.__name__, self.__qualname__ = plan.simple_name, plan.qualified_name
        self._call = call
        self._plan = plan
        self._binds = hasattr(type(function), "__get__")

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None or not self._binds:
            return self
        return types.MethodType(self, instance)

    def __getattr__(self, name: str) -> Any:
        plan = self.__dict__.get("_plan")
        if plan is None:
            raise AttributeError(name)
        inner = plan.function
        if name in _OF_FUNCTIONS:  # what makes `inspect` see a function lies below partials and methods
            while isinstance(inner, functools.partial | types.MethodType):
                inner = inner.func if isinstance(inner, functools.partial) else inner.__func__
        return getattr(inner, name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        found: Any = sys.modules.get(self.__module__)
        for part in self.__qualname__.split("."):
            found = getattr(found, part, None)
        return self.__qualname__ if found is self else (wrap, (self._plan,))

    def __repr__(self) -> str:
        return f"<traced {self._plan.function!r}>"
