"""DSPy: modules, models, tools and retrievers, sync and async.

DSPy's own callbacks are a setting of the program, which ``dspy.configure(callbacks=…)`` replaces; so the methods that
call them are wrapped instead. The model's answer belongs to DSPy's span, whichever library asks the provider.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from tracekeeper.conventions import dspy as convention
from tracekeeper.conventions.asked import request_attributes
from tracekeeper.conventions.told import Told, get
from tracekeeper.integrations.calls import Operation, Request, asynchronous, synchronous
from tracekeeper.integrations.patching import Patches
from tracekeeper.tracing import trouble
from tracekeeper.tracing.context import INSIDE, OWN_KEY, VAR
from tracekeeper.tracing.responses import Received
from tracekeeper.tracing.spans import Span

_EXECUTION = "dspy.clients.execution"
_AGENTS = frozenset({"ReAct", "ReActV2", "CodeAct", "RLM", "Avatar"})


def install() -> Callable[[], None]:
    """Trace the calls; returns what puts everything back."""
    patches = Patches()
    try:
        patches.wrap("dspy.primitives.module", "Module.__call__", _module)
        patches.wrap_if_there("dspy.primitives.module", "Module.acall", _amodule)
        patches.wrap("dspy.clients.base_lm", "BaseLM.__call__", synchronous(_LM))
        patches.wrap_if_there("dspy.clients.base_lm", "BaseLM.acall", asynchronous(_LM))
        patches.wrap_if_there("dspy.adapters.types.tool", "Tool.__call__", synchronous(_TOOL))
        patches.wrap_if_there("dspy.adapters.types.tool", "Tool.acall", asynchronous(_TOOL))
        patches.wrap_if_there("dspy.retrievers.retrieve", "Retrieve.__call__", synchronous(_RETRIEVER))
        patches.wrap_if_there("dspy.retrievers.embeddings", "Embeddings.__call__", synchronous(_RETRIEVER))
        # What a call has cost is known in one place, which differs from version to version.
        if not patches.wrap_if_there(_EXECUTION, "finalize", _finalized):
            patches.wrap_if_there("dspy.clients.base_lm", "BaseLM.update_history", _recorded)
        patches.wrap_if_there(_EXECUTION, "checked_stream", _watching)
        patches.wrap_if_there(_EXECUTION, "achecked_stream", _watching_async)
    except BaseException:
        patches.undo()
        raise
    return patches.undo


def _asked(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    name = type(instance).__name__
    given = kwargs if not args else {"args": list(args), **kwargs}
    return Request(name, given, attributes={"dspy.class": f"{type(instance).__module__}.{name}"})


def _asked_model(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    provider, model = convention.provider_and_model(getattr(instance, "model", None))
    options = {**(getattr(instance, "kwargs", None) or {}), **kwargs}
    attributes = request_attributes("chat", provider, model, options)
    given = kwargs.get("messages") or (args[0] if args else kwargs.get("prompt"))
    return Request(f"chat {model or ''}".rstrip(), given, model, provider, attributes)


def _asked_tool(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    name = str(getattr(instance, "name", None) or "tool")
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
    return Request(name, kwargs, attributes=attributes)


def _asked_retriever(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    return Request(type(instance).__name__, args[0] if len(args) == 1 and not kwargs else kwargs or list(args))


def _answered_model(outputs: Any) -> Told:
    return Told(output=convention.texts(outputs))


def _passages(output: Any) -> Told:
    found = get(output, "passages")
    return Told(output=convention.prediction(output) if found is None else found)


_MODULE = Operation("chain", _asked, lambda output: Told(output=convention.prediction(output)), contains=True)
_AGENT = Operation("agent", _asked, _MODULE.answer, contains=True)
_LM = Operation("llm", _asked_model, _answered_model)
_TOOL = Operation("tool", _asked_tool, lambda output: Told(output=output), contains=True)
_RETRIEVER = Operation("retriever", _asked_retriever, _passages, contains=True)
_sync = {operation.kind: synchronous(operation) for operation in (_MODULE, _AGENT, _RETRIEVER)}
_async = {operation.kind: asynchronous(operation) for operation in (_MODULE, _AGENT, _RETRIEVER)}


def _kind(instance: Any) -> str:
    return "agent" if any(kind.__name__ in _AGENTS for kind in type(instance).__mro__) else "chain"


def _module(original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    return _sync[_kind(instance)](original, instance, args, kwargs)


async def _amodule(original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    return await _async[_kind(instance)](original, instance, args, kwargs)


def _model_span() -> Span | None:
    """Of the model's call that this is part of."""
    here = VAR.get()
    found = here.get(OWN_KEY)
    return found if here.get(INSIDE) and type(found) is Span and found.kind == "llm" else None


def _finalized(original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    try:
        result = args[2] if len(args) > 2 else kwargs.get("result")
        _used(get(result, "usage"), get(result, "cost"), get(result, "response_model"), get(result, "cache_hit"))
    except Exception as error:  # noqa: BLE001
        trouble.note("reading the usage of DSPy", error)
    return original(*args, **kwargs)


def _recorded(original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    try:
        entry = args[0] if args else kwargs.get("entry")
        cached = get(get(entry, "response"), "cache_hit")
        _used(get(entry, "usage"), get(entry, "cost"), get(entry, "response_model"), cached)
    except Exception as error:  # noqa: BLE001
        trouble.note("reading the usage of DSPy", error)
    return original(*args, **kwargs)


def _used(usage: Any, cost: Any, model: Any, cached: Any) -> None:
    span = _model_span()
    if span is None:
        return
    used = dict(usage) if usage else None
    if used and isinstance(cost, int | float) and not cached:
        used["cost"] = cost
    told = Told(usage=used, model=model if isinstance(model, str) else None)
    if isinstance(span.chunks, Received) and isinstance(span.chunks.reader, convention.EventsReader):
        span.chunks.reader.result = told
    else:
        span.set(usage=told.usage, model=told.model)
    if cached:
        span.set_attribute("dspy.cache_hit", True)


def _watching(original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    events = original(*args, **kwargs)
    received = _receiving()
    return events if received is None else _watched(events, received)


def _watching_async(original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    events = original(*args, **kwargs)
    received = _receiving()
    return events if received is None else _watched_async(events, received)


def _receiving() -> Received | None:
    try:
        span = _model_span()
        if span is None:
            return None
        received = span.chunks = Received(span, convention.EventsReader())
    except Exception as error:  # noqa: BLE001
        trouble.note("following a stream of DSPy", error)
        return None
    return received


def _watched(events: Any, received: Received) -> Generator[Any, Any, None]:
    try:
        for event in events:
            received.take(event)
            yield event
    finally:
        events.close()


async def _watched_async(events: Any, received: Received) -> AsyncGenerator[Any, Any]:
    try:
        async for event in events:
            received.take(event)
            yield event
    finally:
        await events.aclose()
