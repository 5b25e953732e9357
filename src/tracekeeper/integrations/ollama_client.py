"""The ``ollama`` library: ``chat``, ``generate`` and ``embed``, whole and streamed, sync and async."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tracekeeper.conventions import ollama as convention
from tracekeeper.conventions.asked import request_attributes
from tracekeeper.conventions.told import get, plain_text
from tracekeeper.integrations.calls import Operation, Request, asynchronous, synchronous
from tracekeeper.integrations.patching import Patches


def install() -> Callable[[], None]:
    """Trace the library's calls; returns what puts everything back."""
    patches = Patches()
    try:
        for name, operation in _METHODS.items():
            wrap = patches.wrap if name == "chat" else patches.wrap_if_there
            wrap("ollama", f"Client.{name}", synchronous(operation))
            wrap("ollama", f"AsyncClient.{name}", asynchronous(operation))
            # The functions of the module are methods of a client that was made when the module was imported.
            patches.wrap_if_there("ollama", name, synchronous(operation))
    except BaseException:
        patches.undo()
        raise
    return patches.undo


def _request(operation: str, given: str, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    said = {**dict(zip(("model", given), args, strict=False)), **kwargs}
    model = plain_text(said.get("model"))
    options = said.get("options") or {}
    known = {name: get(options, name) for name in _OPTIONS}
    known |= {"max_tokens": get(options, "num_predict"), "stream": said.get("stream"), "tools": _tools(said)}
    attributes = request_attributes(operation, "ollama", model, known)
    host = getattr(getattr(getattr(instance, "_client", None), "base_url", None), "host", None)
    if isinstance(host, str):
        attributes["server.address"] = host
    if system := plain_text(said.get("system")):
        attributes["gen_ai.system_instructions"] = system
    value = said.get(given)
    return Request(
        f"{operation} {model or ''}".rstrip(),
        value if isinstance(value, str | list | tuple) else None,
        model,
        "ollama",
        attributes,
    )


def _tools(said: dict[str, Any]) -> list[Any] | None:
    """Tools may be given as functions; their names are kept."""
    tools = said.get("tools")
    if not isinstance(tools, list | tuple):
        return None
    return [getattr(tool, "__name__", None) or tool if callable(tool) else tool for tool in tools]


_OPTIONS = ("temperature", "top_p", "top_k", "seed", "stop", "presence_penalty", "frequency_penalty")
_METHODS = {
    "chat": Operation("llm", partial(_request, "chat", "messages"), convention.answer, convention.OllamaReader),
    "generate": Operation(
        "llm", partial(_request, "text_completion", "prompt"), convention.answer, convention.OllamaReader
    ),
    "embed": Operation("embedding", partial(_request, "embeddings", "input"), convention.embedded),
    "embeddings": Operation("embedding", partial(_request, "embeddings", "prompt"), convention.embedded),
}
