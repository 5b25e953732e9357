"""What becomes of a span when the traced call has given its result.

Most results end it. A generator, a coroutine, a future or another awaitable is the call still going on: the span ends
when that ends, and what the caller gets behaves as what the function returned.
"""

from __future__ import annotations

import functools
import sys
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from tracekeeper.conventions.any_stream import LIBRARIES, AnyReader
from tracekeeper.tracing import responses, trouble
from tracekeeper.tracing.context import VAR, containing, leave
from tracekeeper.tracing.spans import Span
from tracekeeper.tracing.streams import TracedAsyncIterator, TracedIterator, asettle_inline
from tracekeeper.types import SpanStatus

_OK = SpanStatus.OK
ENDS = frozenset({str, dict, list, tuple, set, int, float, bool, bytes, type(None)})
_AWAITABLE_GENERATOR = 0x100  # inspect.CO_ITERABLE_COROUTINE, of types.coroutine
_STEPS = ("__next__", "__anext__")
_OTHER_NATURES = ("__aenter__", "__enter__", "__aiter__", "__iter__", "__call__")


def settle(span: Span, result: Any) -> Any:
    """End the span by this result, or see to it that it ends when the result does. Returns what the caller gets."""
    kind = type(result)
    if kind in ENDS:
        return finish(span, result)
    try:
        return _follow(span, result, kind)
    except Exception as error:  # noqa: BLE001
        trouble.note("following a result", error)
        return finish(span, result)


def finish(span: Span, result: Any) -> Any:
    """End the span by this result."""
    try:
        span.take_output(result)
        if span.app is not None and span.app.needs_live:
            span.record_state.live_output = result
    except Exception as error:  # noqa: BLE001
        trouble.note("capturing a result", error)
    if not span.close(span.declared or _OK):
        span.inline = False
    return result


def _follow(span: Span, result: Any, kind: type) -> Any:
    if kind is CoroutineType:
        return _awaiting(span, result)
    if kind is GeneratorType:
        if result.gi_code.co_flags & _AWAITABLE_GENERATOR:
            return finish(span, result)  # it must stay what `await` takes
        return TracedIterator(span, result)
    if kind is AsyncGeneratorType or kind is TracedAsyncIterator:
        return TracedAsyncIterator(span, result)
    if kind is TracedIterator:
        return TracedIterator(span, result)
    if kind in responses.KINDS or _is_client_stream(kind):
        return responses.traced(span, result, AnyReader(), says_all=False)
    if hasattr(kind, "_asyncio_future_blocking") or _is_thread_future(kind):
        return _watching(span, result)
    if hasattr(kind, "__await__") and not any(name in vars(base) for base in kind.__mro__ for name in _OTHER_NATURES):
        return TracedAwaitable(span, result)
    return finish(span, result)


def _is_client_stream(kind: type) -> bool:
    """A response object of a model client that is being streamed, whether or not the client is instrumented."""
    return kind.__module__.partition(".")[0] in LIBRARIES and any(hasattr(kind, name) for name in _STEPS)


def _is_thread_future(kind: type) -> bool:
    futures = sys.modules.get("concurrent.futures._base")
    future = getattr(futures, "Future", None)  # None also while another thread is importing it
    return future is not None and issubclass(kind, future)


class _Guard:
    """Ends the span as abandoned when whatever would have ended it is thrown away."""

    __slots__ = ("coroutine", "span")

    def __init__(self, span: Span, coroutine: Any = None) -> None:
        self.span = span
        self.coroutine = coroutine

    def __del__(self) -> None:
        self.span.inline = False
        self.span.close(SpanStatus.ABANDONED, quiet=True)
        inner = self.coroutine
        if inner is not None and not inner.cr_running and not inner.cr_suspended and inner.cr_frame is not None:
            inner.close()  # never started: its wrapper has said so, under its name


def _awaiting(span: Span, coroutine: Any) -> Any:
    """A coroutine for a coroutine: frameworks insist on a real one."""
    made: Any = _await_to_end(span, coroutine, _Guard(span, coroutine))
    made.__name__, made.__qualname__ = coroutine.__name__, coroutine.__qualname__
    return made


async def _await_to_end(span: Span, awaitable: Any, guard: Any) -> Any:
    entered = containing(span, VAR.get())
    token = VAR.set(entered)
    try:
        result = await awaitable
    except BaseException as error:
        leave(token, entered)
        if not isinstance(error, Exception):
            span.inline = False
        if span.fail(error) and span.inline:
            await asettle_inline(span)
        raise
    leave(token, entered)
    result = settle(span, result)
    if span.inline and not span.is_open():
        await asettle_inline(span)
    return result


def _watching(span: Span, future: Any) -> Any:
    """The very future: it may be compared, cancelled and awaited by others."""
    guard = _Guard(span)
    ended = functools.partial(_future_ended, guard)
    if future.done():
        ended(future)
    elif hasattr(type(future), "_asyncio_future_blocking") and not _here(future):
        future.get_loop().call_soon_threadsafe(future.add_done_callback, ended)
    else:
        future.add_done_callback(ended)
    return future


def _here(future: Any) -> bool:
    running = getattr(sys.modules.get("asyncio.events"), "_get_running_loop", None)
    return running is None or running() is future.get_loop()


def _future_ended(guard: _Guard, future: Any) -> None:
    span = guard.span
    span.inline = False  # nobody waits here for metrics
    try:
        if future.cancelled():
            span.close(SpanStatus.CANCELLED)
            return
        # `exception()` would tell asyncio that somebody has seen it, and its warning would not come.
        error = future._exception if hasattr(future, "_exception") else future.exception()
        if error is not None:
            span.fail(error)
        else:
            finish(span, future.result())
    except Exception as error:  # noqa: BLE001
        trouble.note("ending the span of a future", error)


class TracedAwaitable:
    """An awaitable of a class of its own, with its attributes; the span ends when it was awaited."""

    __slots__ = ("__weakref__", "_inner", "_span")

    def __init__(self, span: Span, inner: Any) -> None:
        self._inner = inner
        self._span = span

    def __await__(self) -> Any:
        return _await_to_end(self._span, self._inner, self).__await__()

    def __getattr__(self, name: str) -> Any:
        if name in ("_inner", "_span"):
            raise AttributeError(name)
        return getattr(self._inner, name)

    @property
    def __class__(self) -> Any:
        return type(self._inner)

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        raise TypeError("the class of a traced awaitable cannot be changed")

    def __del__(self) -> None:
        try:
            self._span.inline = False
            self._span.close(SpanStatus.ABANDONED, quiet=True)
        except AttributeError:
            pass  # it was never completed

    def __repr__(self) -> str:
        return f"<traced {self._inner!r}>"
