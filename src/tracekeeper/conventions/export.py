"""Our span in OpenTelemetry's newest conventions for generative AI: the way out.

What those have no name for goes under ``tracekeeper.``; attributes of the span's own are passed on as they are and win,
so a third party's span leaves as it came. Structures are JSON text, which the conventions allow on spans.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from tracekeeper.conventions.messages import looks_like_messages, messages
from tracekeeper.conventions.values import filled, plain
from tracekeeper.types import SpanKind, SpanStatus, Usage

OPERATIONS = {
    SpanKind.LLM: "chat",
    SpanKind.EMBEDDING: "embeddings",
    SpanKind.RETRIEVER: "retrieval",
    SpanKind.TOOL: "execute_tool",
    SpanKind.AGENT: "invoke_agent",
    SpanKind.CHAIN: "invoke_workflow",
}
"""Kinds that the conventions have an operation for."""

CLIENTS = frozenset({SpanKind.LLM, SpanKind.EMBEDDING, SpanKind.RETRIEVER, SpanKind.RERANKER})
"""Kinds whose span is a client's, since what they call is usually another service."""

_NAMES = {
    SpanKind.TOOL: "gen_ai.tool.name",
    SpanKind.AGENT: "gen_ai.agent.name",
    SpanKind.CHAIN: "gen_ai.workflow.name",
}
_USAGE = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_creation.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "cost": "gen_ai.usage.cost",
}
_OWN = {
    "tracekeeper.finish_reasons": "gen_ai.response.finish_reasons",
    "tracekeeper.response_id": "gen_ai.response.id",
    "tracekeeper.tools": "gen_ai.tool.definitions",
}
"""What the bridge keeps under names of ours."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""The standard library's: it takes integers of any size."""


class Outgoing(msgspec.Struct, kw_only=True):
    """A span on its way out. Captured values are plain; ``first_chunk`` is in nanoseconds after the start."""

    kind: str
    name: str
    status: str
    model: str | None = None
    provider: str | None = None
    usage: Usage | None = None
    input: Any = None
    output: Any = None
    documents: Any = None
    attributes: Mapping[str, Any] = {}
    metadata: Mapping[str, Any] = {}
    error_type: str | None = None
    chunks: int | None = None
    first_chunk: int | None = None
    app: str | None = None
    app_version: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    tags: tuple[str, ...] = ()


def exported(span: Outgoing) -> dict[str, Any]:
    """The attributes under which a span of ours leaves: text, numbers, truth values and lists of them.

    Example
    -------
    >>> exported(Outgoing(kind="llm", name="ask", status="ok", model="gpt-4.1", output="Mild."))["gen_ai.request.model"]
    'gpt-4.1'
    """
    found: dict[str, Any] = {
        "gen_ai.operation.name": OPERATIONS.get(span.kind),  # type: ignore[call-overload]
        "gen_ai.provider.name": span.provider,
        "gen_ai.request.model": span.model,
        "gen_ai.conversation.id": span.session_id,
        "user.id": span.user_id,
        "error.type": span.error_type if span.status in (SpanStatus.ERROR, SpanStatus.CANCELLED) else None,
        "tracekeeper.kind": span.kind,
        "tracekeeper.status": span.status,
        "tracekeeper.app.name": span.app,
        "tracekeeper.app.version": span.app_version,
        "tracekeeper.tags": list(span.tags),
        "tracekeeper.metadata": span.metadata,
    }
    if (named := _NAMES.get(span.kind)) is not None:  # type: ignore[call-overload]
        found[named] = span.name
    if span.usage is not None:
        found.update({key: getattr(span.usage, field) for field, key in _USAGE.items()})
        found["tracekeeper.usage.estimated"] = span.usage.estimated or None
    if span.chunks is not None:
        found["gen_ai.request.stream"] = True
        found["tracekeeper.stream.chunks"] = span.chunks
        if span.first_chunk is not None:
            found["gen_ai.response.time_to_first_chunk"] = span.first_chunk / 1e9
    found.update(_contents(span))
    own = dict(span.attributes)
    for ours, theirs in _OWN.items():
        if ours in own:
            found[theirs] = own.pop(ours)
    parameters = own.pop("tracekeeper.parameters", None)
    if isinstance(parameters, Mapping):
        found.update({f"gen_ai.request.{key}": value for key, value in parameters.items()})
    found.update(own)
    return {key: made for key, value in found.items() if filled(made := _value(value))}


def _contents(span: Outgoing) -> dict[str, Any]:
    match span.kind:
        case SpanKind.LLM:
            return {
                "gen_ai.input.messages": _messages(span.input, "user"),
                "gen_ai.output.messages": _messages(span.output, "assistant"),
            }
        case SpanKind.TOOL:
            return {
                "gen_ai.tool.call.arguments": _json(span.input),
                "gen_ai.tool.call.result": _json(span.output),
            }
        case SpanKind.RETRIEVER:
            query = _query(span.input)
            return {
                "gen_ai.retrieval.query.text": query,
                "gen_ai.retrieval.documents": _json(_documents(span.documents)),
                "tracekeeper.input": _json(span.input) if query is None else None,
                "tracekeeper.output": _json(span.output) if span.documents is None else None,
            }
        case _:
            return {
                "tracekeeper.input": _json(span.input),
                "tracekeeper.output": _json(span.output),
                "tracekeeper.documents": _json(span.documents),
            }


def _query(value: Any) -> str | None:
    if isinstance(value, Mapping) and len(value) == 1:
        value = next(iter(value.values()))
    return value if isinstance(value, str) else None


def _documents(found: Any) -> Any:
    if not isinstance(found, list):
        return found
    return [{"content": each} if isinstance(each, str) else each for each in found]


def _messages(value: Any, role: str) -> str | None:
    """Messages in parts, as JSON text; of any other value one message that holds it."""
    if value is None:
        return None
    held = value.get("messages") if isinstance(value, Mapping) else value
    found = messages(held, role) if isinstance(held, str) or looks_like_messages(held) else None
    if found is None:
        if isinstance(value, Mapping) and not _is_message(value):
            value = next(iter(value.values())) if len(value) == 1 else value
        found = messages(value, role) if _is_message(value) else None
    if found is None:
        found = [{"role": role, "content": value if isinstance(value, str) else _encode(plain(value))}]
    return _json([{"role": each["role"], "parts": _parts(each)} for each in found])


def _is_message(value: Any) -> bool:
    return looks_like_messages([value])


def _parts(message: Mapping[str, Any]) -> list[Any]:
    content = message.get("content")
    if message.get("tool_call_id") is not None:
        return [{"type": "tool_call_response", "id": message["tool_call_id"], "response": content}]
    pieces = content if isinstance(content, list) else [content]
    parts: list[Any] = [
        {"type": "text", "content": each} if isinstance(each, str) else each for each in pieces if filled(each)
    ]
    return parts + [{"type": "tool_call", **each} for each in message.get("tool_calls", ())]


def _json(value: Any) -> str | None:
    if not filled(value):
        return None
    return value if isinstance(value, str) else _encode(plain(value))


def _value(value: Any) -> Any:
    """What an attribute may hold."""
    value = plain(value)
    if isinstance(value, list) and value and all(type(each) is type(value[0]) for each in value):
        return value if isinstance(value[0], str | bool | int | float) else _json(value)
    return _json(value) if isinstance(value, dict | list) else value
