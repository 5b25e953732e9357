"""Traced response objects: what a client's library returns for a stream, watched to its end.

A provider's stream is an object of the library's own class: iterable, with attributes (``response``, ``headers``),
methods (``close``, ``get_final_message``) and often a context manager. What the program gets here stands in for it:
``isinstance`` and ``inspect`` see the library's class, every attribute is the library's, each step is one call of the
library's own step. Beside that it ends its span exactly once, however the stream ends, as
:mod:`~tracekeeper.tracing.streams` does for generators and for the same reasons. See ``docs/design/streams.md``.

What the chunks mean is told by a ``Reader``, one for each stream: the text in a chunk, and at the end what was learned.

Invariants
----------
- Ending takes no lock, writes no log in a finaliser, needs no loop, and never closes the library's stream.
- The registry of open spans holds the span and through it the chunks and the reader, never these objects.
- A step adds to the stream's own time at most a few microseconds: one read, one append.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from tracekeeper.conventions.told import Told
from tracekeeper.tracing import tracking, trouble
from tracekeeper.tracing.chunks import Chunks
from tracekeeper.tracing.spans import Span
from tracekeeper.tracing.streams import asettle_inline, settle_inline
from tracekeeper.tracing.tokens import completed
from tracekeeper.tracing.usage import read as read_usage
from tracekeeper.types import SpanStatus


class Reader(Protocol):
    """Reads the chunks of one stream. Its methods may raise: that is noted, and the stream goes on."""

    def read(self, chunk: Any) -> str | None:
        """The text in a chunk; ``None`` or ``""`` when it has none. Called once for each chunk, in order."""
        ...

    def told(self, text: str) -> Told:
        """What was learned so far; ``text`` is what ``read`` gave. May be called from a finaliser: takes no lock."""
        ...


class Received(Chunks):
    """The chunks of a response, and what their reader makes of them when the span ends."""

    __slots__ = ("_says_all", "_trackers", "reader")

    def __init__(self, span: Span, reader: Reader, says_all: bool = True) -> None:
        super().__init__(span)
        self.reader = reader
        self._says_all = says_all
        self._trackers = () if getattr(reader, "counted", False) or span.kind != "llm" else tracking.active()

    def take(self, chunk: Any) -> None:
        """One more chunk. Never raises an ``Exception``."""
        try:
            text = self.reader.read(chunk)
        except Exception as error:  # noqa: BLE001
            trouble.note("reading a chunk of a response", error)
            text = None
        self.add(text if type(text) is str else "")

    def ending(self, status: SpanStatus) -> SpanStatus:
        """Say of the span what was learned. The status it really has: a stream that the provider finished is complete
        although nobody read past the end, and one that stops without that word was cut."""
        text, scale = self.sample()
        told = self.reader.told(text)
        span = self._span
        if told.output is not None and span.output is None and self._limit > 0:
            span.output = span.encode(told.output)
        if span.app is not None and span.app.needs_live:
            span.record_state.live_output = text if told.output is None else told.output
        if self._says_all:
            self._say(told, text, scale)
        if told.finished and status is SpanStatus.ABANDONED:
            return SpanStatus.OK
        if told.finished is False and status is SpanStatus.OK:
            return SpanStatus.TRUNCATED
        return status

    def _say(self, told: Told, text: str, scale: float) -> None:
        span = self._span
        late = span.later()
        changes = late.changes
        reported = read_usage(told.usage)
        tracking.count(self._trackers, told.model, reported)
        usage = completed(reported, span.start.input, text, scale)
        if usage is not None:
            changes["usage"] = usage
        if told.model:
            changes["model"] = told.model
        if told.attributes:
            late.attributes = {**late.attributes, **told.attributes}
            late.unsaid = True


class _Response:
    """What all kinds share. ``_tk_state`` holds the span (``None`` once it has ended) and whether a step is under
    way."""

    __slots__ = ("__weakref__", "_tk_inner", "_tk_received", "_tk_state", "_tk_steps")

    def __init__(self, span: Span, inner: Any, reader: Reader, says_all: bool) -> None:
        put = object.__setattr__  # ours passes everything on to the library's object
        put(self, "_tk_inner", inner)
        put(self, "_tk_steps", {})
        received = span.chunks = Received(span, reader, says_all)
        put(self, "_tk_received", received)
        put(self, "_tk_state", [span, False])

    def _tk_over(self, error: BaseException, nested: bool) -> Span | None:
        """A step ended by an exception, so the stream has ended. The span, if its inline metrics are to be settled."""
        state = self._tk_state
        span, state[1] = state[0], nested
        # Refused because another step is under way ("already running"): that one goes on.
        if span is None or nested:
            return None
        state[0] = None
        if isinstance(error, StopIteration | StopAsyncIteration):
            ended = span.close(span.status_or_ok())
        else:
            if not isinstance(error, Exception):
                span.inline = False  # Ctrl-C and cancellation do not wait for metrics
            ended = span.fail(error)
        return span if ended and span.inline else None

    def _tk_left(self, *, quiet: bool = False) -> Span | None:
        """The consumer goes, or has gone. The span, if its inline metrics are to be settled."""
        state = self._tk_state
        span, state[0] = state[0], None
        if span is None:
            return None
        return span if span.close(SpanStatus.ABANDONED, quiet=quiet) and span.inline else None

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # never completed, or the interpreter is past the exit sweep
            self._tk_left(quiet=True)

    def __getattr__(self, name: str) -> Any:
        if name in _OWN:  # half-made: there is no inner stream to ask
            raise AttributeError(name)
        found = getattr(self._tk_inner, name)
        return partial(_closing, self, found) if name in _CLOSING else found

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._tk_inner, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._tk_inner, name)

    def __dir__(self) -> list[str]:
        return dir(self._tk_inner)

    @property
    def __class__(self) -> Any:
        # `isinstance` sees the library's class; `type()` tells the truth.
        return self._tk_inner.__class__

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        raise TypeError("the class of a traced response cannot be changed")

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._tk_inner.__reduce_ex__(protocol)  # a copy is the library's own, and nobody's span

    def __repr__(self) -> str:
        return f"<traced {self._tk_inner!r}>"


_OWN = frozenset(_Response.__slots__)
_CLOSING = frozenset({"close", "aclose"})


class TracedResponse(_Response):
    """A response that is iterated."""

    __slots__ = ()

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        steps = self._tk_steps
        step = steps.get("next") or _first_step(self, "next", iter, "__next__")
        state = self._tk_state
        if state[0] is None:
            return step()
        nested, state[1] = state[1], True
        try:
            chunk = step()
        except BaseException as error:
            _settle(self._tk_over(error, nested))
            raise
        state[1] = nested
        self._tk_received.take(chunk)
        return chunk

    def __enter__(self) -> Any:
        entered = self._tk_inner.__enter__()
        return self if entered is self._tk_inner else entered

    def __exit__(self, *details: Any) -> Any:
        try:
            return self._tk_inner.__exit__(*details)
        finally:
            _settle(self._tk_left())  # what the consumer raised is the consumer's: the stream itself was left


class TracedAsyncResponse(_Response):
    """A response that is iterated by ``async for``."""

    __slots__ = ()

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        steps = self._tk_steps
        step = steps.get("anext") or _first_step(self, "anext", aiter, "__anext__")
        state = self._tk_state
        if state[0] is None:
            return await step()
        nested, state[1] = state[1], True
        try:
            chunk = await step()
        except BaseException as error:
            await _asettle(self._tk_over(error, nested))
            raise
        state[1] = nested
        self._tk_received.take(chunk)
        return chunk

    async def __aenter__(self) -> Any:
        entered = await self._tk_inner.__aenter__()
        return self if entered is self._tk_inner else entered

    async def __aexit__(self, *details: Any) -> Any:
        try:
            return await self._tk_inner.__aexit__(*details)
        finally:
            await _asettle(self._tk_left())


class TracedResponseOfBothKinds(TracedResponse, TracedAsyncResponse):
    """A response that can be iterated either way, such as LiteLLM's."""

    __slots__ = ()


def traced(span: Span, inner: Any, reader: Reader, *, says_all: bool = True) -> Any:
    """What stands in for ``inner``, a response that is a stream. The span is open and not current.

    ``says_all``: usage, model and the like are said of this span. Not so of a function's that only returns what a
    client's own span has said it of.
    """
    kind = type(inner)
    if kind in KINDS:  # what it stands in for may be of another nature than its class shows
        return kind(span, inner, reader, says_all)
    both = any(hasattr(kind, name) for name in _SYNC), any(hasattr(kind, name) for name in _ASYNC)
    if both == (True, True):
        return TracedResponseOfBothKinds(span, inner, reader, says_all)
    return (TracedAsyncResponse if both[1] else TracedResponse)(span, inner, reader, says_all)


_SYNC, _ASYNC = ("__next__", "__iter__"), ("__anext__", "__aiter__")
KINDS = frozenset({TracedResponse, TracedAsyncResponse, TracedResponseOfBothKinds})


def release(response: Any) -> None:
    """The consumer has left a response by a way that does not lead through it. Nothing, when it is none of ours."""
    if type(response) in KINDS:
        _settle(response._tk_left())


def _settle(span: Span | None) -> None:
    if span is not None:
        settle_inline(span)


async def _asettle(span: Span | None) -> None:
    if span is not None:
        await asettle_inline(span)


def _first_step(response: _Response, key: str, begin: Callable[[Any], Any], name: str) -> Any:
    inner = response._tk_inner
    steps = inner if hasattr(type(inner), name) else begin(inner)
    step = response._tk_steps[key] = getattr(steps, name)
    return step


def _closing(response: _Response, close: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The library's own ``close``, which may be awaitable. A stream that had not ended is abandoned."""
    try:
        closed = close(*args, **kwargs)
    except BaseException:
        _settle(response._tk_left())
        raise
    if hasattr(type(closed), "__await__"):
        return _closed(response, closed)
    _settle(response._tk_left())
    return closed


async def _closed(response: _Response, closing: Any) -> Any:
    try:
        return await closing
    finally:
        await _asettle(response._tk_left())
