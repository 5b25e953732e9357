"""Raw responses of openai and anthropic: ``with_raw_response`` and ``with_streaming_response``.

The program parses such a response, reads it by other ways and closes it, or throws it away, and the span ends with
whichever comes first. The object becomes one of a subclass of its own class: so it holds the span, nothing holds it in
a circle, and it is gone with its last reference.
"""

from __future__ import annotations

import inspect
from typing import Any

from tracekeeper.integrations.calls import Operation, is_stream, tell
from tracekeeper.tracing import responses, trouble
from tracekeeper.tracing.spans import Span
from tracekeeper.types import SpanStatus

_kinds: dict[type, type] = {}


def unwrap(span: Span, result: Any, operation: Operation) -> bool:
    """Follow a result that is a raw response; whether it is one."""
    if not hasattr(result, "http_response") or not hasattr(result, "parse"):
        return False
    kind = type(result)
    try:
        result.__class__ = _kinds.get(kind) or _kinds.setdefault(kind, _followed(kind))
    except TypeError as error:  # a class that is laid out in a way of its own: what the program reads is not seen
        trouble.note("following a raw response", error)
        span.close(SpanStatus.OK)
        return True
    result._tk_said = span, operation
    return True


def _followed(kind: Any) -> type:
    """A class like another one, whose objects say how they are read. One base: else no object could become one."""

    def parse(self: Any, *args: Any, **kwargs: Any) -> Any:
        parsed = kind.parse(self, *args, **kwargs)
        if hasattr(type(parsed), "__await__"):
            return _awaited(self, parsed)
        return _read(self, parsed)

    def close(self: Any) -> None:
        kind.close(self)
        _unread(self)

    async def aclose(self: Any) -> None:
        await kind.close(self)
        _unread(self)

    more: dict[str, Any] = {
        "__del__": _unread,  # the answer came; nobody parsed it
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__slots__": (),
        "parse": parse,
    }
    if hasattr(kind, "close"):
        more["close"] = aclose if inspect.iscoroutinefunction(kind.close) else close
    return type(kind.__name__, (kind,), more)


async def _awaited(raw: Any, parsing: Any) -> Any:
    return _read(raw, await parsing)


def _read(raw: Any, parsed: Any) -> Any:
    span, operation = raw._tk_said
    try:
        if is_stream(parsed) and operation.reader is not None:
            if span.is_open() and span.chunks is None:
                return responses.traced(span, parsed, operation.reader(parsed))
            return parsed
        if span.is_open():
            tell(span, operation.answer(parsed))
    except Exception as error:  # noqa: BLE001
        trouble.note("reading a raw response", error)
    span.close(SpanStatus.OK)
    return parsed


def _unread(raw: Any) -> None:
    said = getattr(raw, "_tk_said", None)
    if said is not None and said[0].chunks is None:
        said[0].close(SpanStatus.OK, quiet=True)
