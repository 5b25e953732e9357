"""The ``openai`` library, 2.x and 3.x: chat completions, responses, embeddings, completions; sync and async.

Covers what leads through them: structured parsing, ``.stream(…)``, raw and streaming responses, Azure, and everything
that is used with ``base_url``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tracekeeper.conventions import openai_chat, openai_responses
from tracekeeper.conventions.asked import request_attributes
from tracekeeper.conventions.told import Told, get, plain_text, response_attributes
from tracekeeper.integrations.calls import (
    Operation,
    Request,
    asynchronous,
    synchronous,
)
from tracekeeper.integrations.patching import Patches
from tracekeeper.integrations.raw_responses import unwrap
from tracekeeper.tracing import responses

_CHAT = "openai.resources.chat.completions"
_RESPONSES = "openai.resources.responses"
_STREAMS = ("openai.lib.streaming.chat", "openai.lib.streaming.responses")


def install() -> Callable[[], None]:
    """Trace the library's calls; returns what puts everything back."""
    patches = Patches()
    try:
        for prefix, wrapper in (("", synchronous), ("Async", asynchronous)):
            patches.wrap(_CHAT, f"{prefix}Completions.create", wrapper(CHAT))
            patches.wrap_if_there(_CHAT, f"{prefix}Completions.parse", wrapper(CHAT))
            patches.wrap_if_there(_RESPONSES, f"{prefix}Responses.create", wrapper(RESPONSES))
            patches.wrap_if_there(_RESPONSES, f"{prefix}Responses.parse", wrapper(RESPONSES))
            patches.wrap("openai.resources.embeddings", f"{prefix}Embeddings.create", wrapper(EMBEDDINGS))
            patches.wrap_if_there("openai.resources.completions", f"{prefix}Completions.create", wrapper(COMPLETIONS))
        for module, name in zip(_STREAMS, ("ChatCompletionStream", "ResponseStream"), strict=True):
            # These close the HTTP response, not the stream that they read.
            patches.wrap_if_there(module, f"{name}.close", _closing_helper)
            patches.wrap_if_there(module, f"Async{name}.close", _closing_helper_async)
    except BaseException:
        patches.undo()
        raise
    return patches.undo


def _request(operation: str, given: str, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    model = plain_text(kwargs.get("model"))
    provider, address = _provider(instance)
    attributes = request_attributes(operation, provider, model, kwargs)
    if address:
        attributes["server.address"] = address
    if instructions := plain_text(kwargs.get("instructions")):
        attributes["gen_ai.system_instructions"] = instructions
    return Request(f"{operation} {model or ''}".rstrip(), _given(kwargs.get(given)), model, provider, attributes)


def _given(value: Any) -> Any:
    """What was given; messages may come as any iterable, which is left to the library to read."""
    return value if isinstance(value, str | list | tuple) else None


def _provider(resource: Any) -> tuple[str, str | None]:
    """As OpenTelemetry names it, and the host that is asked."""
    client = getattr(resource, "_client", None)
    host = getattr(getattr(client, "base_url", None), "host", None)
    if "Azure" in type(client).__name__:
        return "azure.ai.openai", host
    return "openai", host if isinstance(host, str) else None


def _embedded(answer: Any) -> Told:
    model = plain_text(get(answer, "model"))
    vectors = list(get(answer, "data") or ())
    first = get(vectors[0], "embedding") if vectors else None
    length = len(first) if isinstance(first, list) else None
    return Told(
        output={"embeddings": len(vectors), "dimensions": length},
        usage=get(answer, "usage"),
        model=model,
        attributes=response_attributes(model=model),
        finished=True,
    )


def _closing_helper(original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    try:
        return original(*args, **kwargs)
    finally:
        responses.release(getattr(instance, "_raw_stream", None))


async def _closing_helper_async(original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    try:
        return await original(*args, **kwargs)
    finally:
        responses.release(getattr(instance, "_raw_stream", None))


CHAT = Operation("llm", partial(_request, "chat", "messages"), openai_chat.answer, openai_chat.ChatReader, unwrap)
COMPLETIONS = Operation(
    "llm", partial(_request, "text_completion", "prompt"), openai_chat.answer, openai_chat.ChatReader, unwrap
)
RESPONSES = Operation(
    "llm", partial(_request, "chat", "input"), openai_responses.answer, openai_responses.ResponsesReader, unwrap
)
EMBEDDINGS = Operation("embedding", partial(_request, "embeddings", "input"), _embedded, None, unwrap)
