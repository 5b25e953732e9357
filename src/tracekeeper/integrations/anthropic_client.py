"""The ``anthropic`` library: messages, whole and streamed, sync and async; also those of the beta namespace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracekeeper.conventions import anthropic_messages
from tracekeeper.conventions.asked import request_attributes
from tracekeeper.conventions.told import plain_text
from tracekeeper.integrations.calls import Operation, Request, asynchronous, begin, synchronous
from tracekeeper.integrations.patching import Patches
from tracekeeper.integrations.raw_responses import unwrap
from tracekeeper.tracing import responses, trouble
from tracekeeper.tracing.spans import Span
from tracekeeper.tracing.wrapping import failed_in, leave_span

_MODULES = ("anthropic.resources.messages", "anthropic.resources.beta.messages")


def install() -> Callable[[], None]:
    """Trace the library's calls; returns what puts everything back."""
    patches = Patches()
    try:
        patches.wrap(_MODULES[0], "Messages.create", synchronous(MESSAGES))
        patches.wrap(_MODULES[0], "AsyncMessages.create", asynchronous(MESSAGES))
        patches.wrap_if_there(_MODULES[1], "Messages.create", synchronous(MESSAGES))
        patches.wrap_if_there(_MODULES[1], "AsyncMessages.create", asynchronous(MESSAGES))
        for module in _MODULES:
            for prefix in ("", "Async"):
                patches.wrap_if_there(
                    module, f"{prefix}Messages.parse", (asynchronous if prefix else synchronous)(MESSAGES)
                )
                patches.wrap_if_there(module, f"{prefix}Messages.stream", _streaming)
    except BaseException:
        patches.undo()
        raise
    return patches.undo


def _request(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    model = plain_text(kwargs.get("model"))
    attributes = request_attributes("chat", "anthropic", model, kwargs)
    host = getattr(getattr(getattr(instance, "_client", None), "base_url", None), "host", None)
    if isinstance(host, str):
        attributes["server.address"] = host
    messages = kwargs.get("messages")
    given = messages if isinstance(messages, list | tuple) else None
    system = kwargs.get("system")
    if given is not None and isinstance(system, str | list):
        given = [{"role": "system", "content": system}, *given]
    return Request(f"chat {model or ''}".rstrip(), given, model, "anthropic", attributes)


MESSAGES = Operation("llm", _request, anthropic_messages.answer, anthropic_messages.MessagesReader, unwrap)


def _streaming(original: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``messages.stream(…)`` gives a context manager; the request is made, and the span begins, when it is entered."""
    manager = original(*args, **kwargs)
    try:
        return (_AsyncManager if hasattr(type(manager), "__aenter__") else _Manager)(manager, instance, args, kwargs)
    except Exception as error:  # noqa: BLE001
        trouble.note("following a stream of anthropic", error)
        return manager


class _Managed:
    """Stands in for the library's manager of a stream."""

    def __init__(self, manager: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._tk_manager = manager
        self._tk_call = (instance, args, kwargs)
        self._tk_raw: Any = None

    def _tk_follow(self, span: Span | None, stream: Any) -> Any:
        if span is None:
            return stream
        try:
            leave_span(span)
            # Everything that such a stream offers reads this one: events, texts, the final message.
            raw = stream._raw_stream
            self._tk_raw = stream._raw_stream = responses.traced(span, raw, anthropic_messages.MessagesReader(raw))
        except Exception as error:  # noqa: BLE001
            trouble.note("following a stream of anthropic", error)
            span.end()
        return stream

    def __getattr__(self, name: str) -> Any:
        if name == "_tk_manager":
            raise AttributeError(name)
        return getattr(self._tk_manager, name)

    @property
    def __class__(self) -> Any:
        return type(self._tk_manager)

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        raise TypeError("the class of a traced stream's manager cannot be changed")


class _Manager(_Managed):
    def __enter__(self) -> Any:
        span = begin(MESSAGES, *self._tk_call)
        try:
            stream = self._tk_manager.__enter__()
        except BaseException as error:
            if span is not None:
                failed_in(span, error)
            raise
        return self._tk_follow(span, stream)

    def __exit__(self, *details: Any) -> Any:
        try:
            return self._tk_manager.__exit__(*details)
        finally:
            responses.release(self._tk_raw)


class _AsyncManager(_Managed):
    async def __aenter__(self) -> Any:
        span = begin(MESSAGES, *self._tk_call)
        try:
            stream = await self._tk_manager.__aenter__()
        except BaseException as error:
            if span is not None:
                failed_in(span, error)
            raise
        return self._tk_follow(span, stream)

    async def __aexit__(self, *details: Any) -> Any:
        try:
            return await self._tk_manager.__aexit__(*details)
        finally:
            responses.release(self._tk_raw)
