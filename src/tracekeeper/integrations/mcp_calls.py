"""The ``mcp`` library: a client's calls of tools, and a server's tools.

A trace goes on in the server by the W3C ``traceparent`` in the request's ``_meta`` (MCP's SEP-414). Newer versions of
the library send and read it themselves; for older ones it is done here.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from typing import Any

from opentelemetry import propagate
from opentelemetry.trace import Status, StatusCode, get_current_span

from tracekeeper.conventions.told import Told, get, plain_text
from tracekeeper.integrations.calls import Operation, Request, asynchronous
from tracekeeper.integrations.patching import Patches
from tracekeeper.tracing import trouble
from tracekeeper.tracing.context import VAR
from tracekeeper.tracing.spans import Span

_MANAGERS = ("mcp.server.mcpserver.tools.tool_manager", "mcp.server.fastmcp.tools.tool_manager")


def install() -> Callable[[], None]:
    """Trace calls of tools on both sides; returns what puts everything back."""
    patches = Patches()
    try:
        patches.wrap("mcp.client.session", "ClientSession.call_tool", _called)
        for module in _MANAGERS:
            patches.wrap_if_there(module, "ToolManager.call_tool", _served)
    except BaseException:
        patches.undo()
        raise
    return patches.undo


def _asked(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    said = {**dict(zip(("name", "arguments"), args, strict=False)), **kwargs}
    name = str(said.get("name"))
    attributes = {"mcp.method.name": "tools/call", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
    return Request(f"tools/call {name}", said.get("arguments") or {}, attributes=attributes)


def _asked_here(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    said = {**dict(zip(("name", "arguments"), args, strict=False)), **kwargs}
    name = str(said.get("name"))
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
    return Request(name, said.get("arguments") or {}, attributes=attributes)


def _answered(result: Any) -> Told:
    structured = get(result, "structuredContent", get(result, "structured_content"))
    content = get(result, "content")
    if structured is not None or not isinstance(content, list):
        return Told(output=result if structured is None and content is None else structured or content)
    texts = [plain_text(get(part, "text")) for part in content]
    if all(text is not None for text in texts):
        return Told(output="\n".join(text or "" for text in texts))
    return Told(output=content)


def _failed(span: Span, result: Any, operation: Operation) -> bool:
    """A tool's failure is an answer like any other; the span says what it is."""
    if get(result, "isError", get(result, "is_error")) is True:
        span.set_status(Status(StatusCode.ERROR, str(_answered(result).output)))
    return False


_CALL = Operation("tool", _asked, _answered, None, _failed, contains=True)
_SERVE = Operation("tool", _asked_here, _answered, None, _failed, contains=True)
_call, _serve = asynchronous(_CALL), asynchronous(_SERVE)


async def _called(original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    async def sending(*args: Any, **kwargs: Any) -> Any:
        return await original(*args, **_with_trace(original, kwargs))  # here the call's span is current

    return await _call(sending, instance, args, kwargs)


def _with_trace(function: Callable[..., Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    try:
        if importlib.util.find_spec("mcp.shared._otel") is not None:
            return kwargs  # the library does it
        if "meta" not in inspect.signature(function).parameters:
            return kwargs
        meta = dict(kwargs.get("meta") or {})
        propagate.inject(meta)
        return {**kwargs, "meta": meta} if meta else kwargs
    except Exception as error:  # noqa: BLE001
        trouble.note("sending a trace on to an MCP server", error)
        return kwargs


async def _served(original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    around = _trace_of(args[2] if len(args) > 2 else kwargs.get("context"))
    if around is None:
        return await _serve(original, instance, args, kwargs)
    token = VAR.set(around)
    try:
        return await _serve(original, instance, args, kwargs)
    finally:
        VAR.reset(token)


def _trace_of(context: Any) -> Any:
    """The context that the request's ``_meta`` names, where the library has not read it already."""
    try:
        if get_current_span().get_span_context().is_valid or context is None:
            return None
        meta = context.request_context.meta
        carried = {name: get(meta, name) for name in ("traceparent", "tracestate") if plain_text(get(meta, name))}
        return propagate.extract(carried) if carried else None
    except Exception as error:  # noqa: BLE001
        trouble.note("reading the trace of an MCP request", error)
        return None
