"""One call of a client as one span: what all clients have in common.

A client's function is described by an ``Operation``: what a request and an answer say, and who reads its stream. The
span is current while the function runs, so that HTTP instrumentation nests below it; a stream is followed to its end
by :mod:`~tracekeeper.tracing.responses`. A client inside a client (LiteLLM calls OpenAI's) gives one span, the outer
one's: two would count every token twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from opentelemetry.context.context import Context

from tracekeeper.configuration import Settings
from tracekeeper.conventions.told import Told
from tracekeeper.integrations.patching import Wrapper
from tracekeeper.tracing import capture, opening, tracking, trouble
from tracekeeper.tracing.context import INSIDE, VAR, containing
from tracekeeper.tracing.responses import Reader, traced
from tracekeeper.tracing.spans import Span
from tracekeeper.tracing.usage import read as read_usage
from tracekeeper.tracing.wrapping import failed_in, leave_span
from tracekeeper.types import SpanStatus


class Request(msgspec.Struct):
    """What a request says."""

    name: str
    """Of the span: ``chat gpt-4.1-mini``."""
    input: Any = None
    model: str | None = None
    provider: str | None = None
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)


class Operation(msgspec.Struct, frozen=True):
    """A function of a client's library."""

    kind: str
    """Of the span: ``llm``, ``embedding``, ``reranker``, ``tool``, …"""
    request: Callable[[Any, tuple[Any, ...], dict[str, Any]], Request]
    """``request(instance, args, kwargs)``."""
    answer: Callable[[Any], Told]
    """What a whole answer says."""
    reader: Callable[[Any], Reader] | None = None
    """``reader(stream)`` makes the one for a stream."""
    unwrap: Callable[[Span, Any, Operation], bool] | None = None
    """Deals with a result that is neither an answer nor a stream; whether it did."""
    contains: bool = False
    """Whether what it calls has spans of its own, as of an agent, a chain or a tool; a client's call has not."""


def synchronous(operation: Operation) -> Wrapper:
    """The wrapper of a ``def``."""

    def wrapper(original: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        span = begin(operation, instance, args, kwargs)
        if span is None:
            return original(*args, **kwargs)
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            failed_in(span, error)
            raise
        return returned(operation, span, result)

    return wrapper


def asynchronous(operation: Operation) -> Wrapper:
    """The wrapper of an ``async def``."""

    async def wrapper(
        original: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        span = begin(operation, instance, args, kwargs)
        if span is None:
            return await original(*args, **kwargs)
        try:
            result = await original(*args, **kwargs)
        except BaseException as error:
            failed_in(span, error)
            raise
        return returned(operation, span, result)

    return wrapper


def begin(operation: Operation, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Span | None:
    """The span of a call, written and current; ``None`` where there is to be none. Raises no ``Exception``."""
    try:
        now = opening.enabled()
        if now is None or (not operation.contains and VAR.get().get(INSIDE)):
            return None
        span = opened(now, operation.kind, operation.request(instance, args, kwargs))
        entered = span.entered = Context({**containing(span, VAR.get()), INSIDE: not operation.contains})
        span.token = VAR.set(entered)
    except Exception as error:  # noqa: BLE001
        trouble.note("beginning the span of a client's call", error)
        return None
    return span


def opened(now: Settings, kind: str, said: Request) -> Span:
    """A span for a request, written and not current. What fails on the way leaves no span open."""
    span = opening.open_span(now, capture.text(said.name), kind)
    try:
        if not now.capture_output:
            span.takes_output = False
        if said.input is not None and now.capture_input and opening.takes_payload(span):
            span.start.input, span.start.input_size = span.encode(said.input)
        if said.attributes:
            span.begin_with(said.attributes)
        opening.announce(span)
        span.set(model=said.model, provider=said.provider)
    except BaseException:
        span.close(SpanStatus.ABANDONED)
        raise
    return span


def returned(operation: Operation, span: Span, result: Any) -> Any:
    """The call returned: end its span, or follow the stream that it returned."""
    try:
        leave_span(span)
        if operation.reader is not None and is_stream(result):
            return traced(span, result, operation.reader(result))
        if operation.unwrap is not None and operation.unwrap(span, result, operation):
            return result
        tell(span, operation.answer(result))
    except Exception as error:  # noqa: BLE001
        trouble.note("reading a client's answer", error)
    span.close(span.declared or SpanStatus.OK)
    return result


def tell(span: Span, told: Told) -> None:
    """Say of a span what an answer says, and count it."""
    span.set(usage=told.usage, model=told.model, **told.attributes)
    usage = read_usage(told.usage) if span.kind == "llm" else None
    if usage is not None:  # a framework's own span around a client's says none: it is counted there
        tracking.count(tracking.active(), told.model, usage)
    if told.output is not None:
        span.take_output(told.output)


def is_stream(result: Any) -> bool:
    """Whether a result is something to iterate once, and not an answer that happens to be iterable."""
    kind = type(result)
    return any(hasattr(kind, name) for name in ("__next__", "__anext__"))
