"""Traced generators: objects that end their span exactly once, however the stream ends.

An object and not a generator with a ``finally``: after a bare ``break`` an async generator's ``finally`` runs two ticks
later in another task, on a closed loop never, and in a generator that was never started never either. The finaliser of
an object runs when its last reference goes, needs no loop, and takes no lock. See ``docs/design/streams.md``.

Invariants
----------
- The span is current only inside a step, never across a ``yield``: what the consumer does between two chunks belongs to
  the consumer's span. What the generator itself made current is put back at its next step. The same holds for settings
  that it overrides: ``with tk.context(…)`` around a ``yield`` reaches neither the consumer nor another stream.
- The inner generator is closed by whoever would have closed it; this only watches.
- The registry of open spans holds the span, never these objects, or they would never be finalised.
"""

from __future__ import annotations

from typing import Any

from tracekeeper.configuration.settings import overrides_variable as SETTINGS
from tracekeeper.tracing import documents, trouble
from tracekeeper.tracing.chunks import Chunks
from tracekeeper.tracing.context import VAR, containing, leave, restore
from tracekeeper.tracing.spans import Span
from tracekeeper.types import SpanStatus

_CONSUMERS: Any = object()
"""A stream has no settings of its own: it sees its consumer's."""


class _Stream:
    """What both kinds share: the inner stream, its span, and the context of its steps (``None`` once it has ended)."""

    __slots__ = ("__weakref__", "_busy", "_chunks", "_context", "_inner", "_settings", "_span")

    def __init__(self, span: Span, inner: Any) -> None:
        self._inner = inner
        self._span = span
        live = span.app is not None and span.app.needs_live
        self._chunks = span.chunks = Chunks(span, listed=span.start.kind == "retriever", live=live)
        self._context: Any = containing(span, VAR.get())
        self._busy = False
        self._settings: Any = _CONSUMERS

    def _enter(self) -> Any:
        """A step begins: the settings that the stream had after its last one. What its consumer has is returned."""
        outside = SETTINGS.get()
        if self._settings is not _CONSUMERS:
            SETTINGS.set(self._settings)
        return outside

    def _leave(self, outside: Any) -> None:
        """A step ends: the consumer's settings again. What the stream overrides is kept for the next one."""
        inside = SETTINGS.get()
        if inside is outside:
            self._settings = _CONSUMERS
        else:
            self._settings = inside
            SETTINGS.set(outside)

    def _over(self, error: BaseException) -> bool:
        """A step ended by an exception, so the stream has ended. Whether inline metrics are to be settled now."""
        ended = isinstance(error, StopIteration | StopAsyncIteration)
        if ended:
            value = getattr(error, "value", None)
            if value is not None and self._chunks.count == 0:
                self._span.take_output(value)
            return self._close(self._span.status_or_ok())
        if not isinstance(error, Exception):
            self._span.inline = False
        self._prepare()
        self._context = None
        return self._span.fail(error) and self._span.inline

    def _close(self, status: SpanStatus, *, quiet: bool = False) -> bool:
        self._prepare()
        self._context = None
        return self._span.close(status, quiet=quiet) and self._span.inline

    def _prepare(self) -> None:
        span = self._span
        try:
            if span.start.kind == "retriever":
                found = documents.found_in(self._chunks.values())
                if found:
                    span.set(context=found)
            if span.app is not None and span.app.needs_live:
                span.record_state.live_output = self._chunks.live()
        except Exception as error:  # noqa: BLE001
            trouble.note("reading a stream's chunks", error, quiet=True)

    def __del__(self) -> None:
        try:
            if self._context is not None:
                self._span.inline = False
                self._close(SpanStatus.ABANDONED, quiet=True)
        except AttributeError:
            pass  # it was never completed, or the interpreter is past the exit sweep and modules are gone

    def __getattr__(self, name: str) -> Any:
        if name in _OWN:  # half-made: there is no inner stream to ask
            raise AttributeError(name)
        return getattr(self._inner, name)

    @property
    def __class__(self) -> Any:
        # What asks whether it is a generator (inspect, frameworks) is told so; `type()` tells the truth.
        return self._inner.__class__

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        raise TypeError("the class of a traced stream cannot be changed")

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._inner.__reduce_ex__(protocol)

    def __repr__(self) -> str:
        return f"<traced {self._inner!r}>"


_OWN = frozenset(_Stream.__slots__)


class TracedIterator(_Stream):
    """A traced generator (or any iterator): everything a generator has, ``yield from`` and its value included."""

    __slots__ = ()

    def __iter__(self) -> TracedIterator:
        return self

    def __next__(self) -> Any:
        if self._context is None:
            return next(self._inner)
        nested, self._busy = self._busy, True
        token = VAR.set(self._context)
        outside = self._enter()
        try:
            chunk = next(self._inner)
        except BaseException as error:
            self._leave(outside)
            self._step_failed(token, nested, error)
            raise
        self._context = VAR.get()
        self._leave(outside)
        restore(token)
        self._busy = nested
        self._chunks.add(chunk)
        return chunk

    def send(self, value: Any) -> Any:
        """As of a generator."""
        return self._step(self._inner.send, value)

    def throw(self, *details: Any) -> Any:
        """As of a generator."""
        return self._step(self._inner.throw, *details)

    def close(self) -> Any:
        """As of a generator. A stream that had not ended is abandoned."""
        if self._context is None:
            return self._inner.close()
        nested, self._busy = self._busy, True
        token = VAR.set(self._context)
        outside = self._enter()
        try:
            value = self._inner.close()
        except BaseException as error:
            self._leave(outside)
            self._step_failed(token, nested, error)
            raise
        self._leave(outside)
        restore(token)
        self._busy = nested
        if self._close(SpanStatus.ABANDONED):
            settle_inline(self._span)
        return value

    def _step(self, step: Any, *details: Any) -> Any:
        if self._context is None:
            return step(*details)
        nested, self._busy = self._busy, True
        token = VAR.set(self._context)
        outside = self._enter()
        try:
            chunk = step(*details)
        except BaseException as error:
            self._leave(outside)
            self._step_failed(token, nested, error)
            raise
        self._context = VAR.get()
        self._leave(outside)
        restore(token)
        self._busy = nested
        self._chunks.add(chunk)
        return chunk

    def _step_failed(self, token: Any, nested: bool, error: BaseException) -> None:
        restore(token)
        self._busy = nested
        # "Already executing": refused by a generator that is in the middle of another step, and goes on.
        if not nested and self._over(error):
            settle_inline(self._span)


class TracedAsyncIterator(_Stream):
    """A traced async generator (or any async iterator)."""

    __slots__ = ()

    def __aiter__(self) -> TracedAsyncIterator:
        return self

    async def __anext__(self) -> Any:
        if self._context is None:
            return await self._inner.__anext__()
        nested, self._busy = self._busy, True
        entered = self._context
        token = VAR.set(entered)
        outside = self._enter()
        try:
            chunk = await self._inner.__anext__()
        except BaseException as error:
            self._leave(outside)
            await self._step_failed(token, entered, nested, error)
            raise
        self._context = VAR.get()
        self._leave(outside)
        leave(token, entered)
        self._busy = nested
        self._chunks.add(chunk)
        return chunk

    async def asend(self, value: Any) -> Any:
        """As of an async generator."""
        return await self._step(self._inner.asend, value)

    async def athrow(self, *details: Any) -> Any:
        """As of an async generator."""
        return await self._step(self._inner.athrow, *details)

    async def aclose(self) -> None:
        """As of an async generator. A stream that had not ended is abandoned."""
        if self._context is None:
            await self._inner.aclose()
            return
        nested, self._busy = self._busy, True
        entered = self._context
        token = VAR.set(entered)
        outside = self._enter()
        try:
            await self._inner.aclose()
        except BaseException as error:
            self._leave(outside)
            await self._step_failed(token, entered, nested, error)
            raise
        self._leave(outside)
        leave(token, entered)
        self._busy = nested
        if self._close(SpanStatus.ABANDONED):
            await asettle_inline(self._span)

    async def _step(self, step: Any, *details: Any) -> Any:
        if self._context is None:
            return await step(*details)
        nested, self._busy = self._busy, True
        entered = self._context
        token = VAR.set(entered)
        outside = self._enter()
        try:
            chunk = await step(*details)
        except BaseException as error:
            self._leave(outside)
            await self._step_failed(token, entered, nested, error)
            raise
        self._context = VAR.get()
        self._leave(outside)
        leave(token, entered)
        self._busy = nested
        self._chunks.add(chunk)
        return chunk

    async def _step_failed(self, token: Any, entered: Any, nested: bool, error: BaseException) -> None:
        leave(token, entered)
        self._busy = nested
        if not nested and self._over(error):
            await asettle_inline(self._span)


def settle_inline(span: Span) -> None:
    """Run an app's inline metrics, whose record has just ended, before the call returns. Raises no ``Exception``."""
    try:
        if span.app is not None:
            span.app.settle_inline(span.record_state)
    except Exception as error:  # noqa: BLE001
        trouble.note("settling inline metrics", error)


async def asettle_inline(span: Span) -> None:
    """The same in a task; a cancellation meanwhile is the caller's and passes."""
    try:
        if span.app is not None:
            await span.app.asettle_inline(span.record_state)
    except Exception as error:  # noqa: BLE001
        trouble.note("settling inline metrics", error)
