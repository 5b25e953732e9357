"""The ``google-genai`` library: ``generate_content``, whole and streamed, and ``embed_content``; sync and async.

Each request is a span: where the library calls functions of the program by itself and asks the model again, there is a
span for each time that the model was asked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tracekeeper.conventions import google_genai as convention
from tracekeeper.conventions.asked import request_attributes
from tracekeeper.conventions.told import get, plain_text
from tracekeeper.integrations.calls import Operation, Request, asynchronous, synchronous
from tracekeeper.integrations.patching import Patches

_MODULE = "google.genai.models"


def install() -> Callable[[], None]:
    """Trace the library's calls; returns what puts everything back."""
    patches = Patches()
    try:
        for name, operation in _METHODS.items():
            for owner, wrapper in (("Models", synchronous), ("AsyncModels", asynchronous)):
                # One request is a method of its own in the versions known; else the public one.
                if not patches.wrap_if_there(_MODULE, f"{owner}._{name}", wrapper(operation)):
                    patches.wrap(_MODULE, f"{owner}.{name}", wrapper(operation))
        for owner, wrapper in (("Models", synchronous), ("AsyncModels", asynchronous)):
            patches.wrap_if_there(_MODULE, f"{owner}.embed_content", wrapper(_EMBED))
    except BaseException:
        patches.undo()
        raise
    return patches.undo


def _request(operation: str, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    model = plain_text(kwargs.get("model"))
    model = model.removeprefix("models/") if model else None
    api = getattr(instance, "_api_client", None)
    provider = "gcp.vertex_ai" if getattr(api, "vertexai", False) else "gcp.gemini"
    config = kwargs.get("config")
    options = {name: get(config, name) for name in _OPTIONS}
    options |= {"n": get(config, "candidate_count")}
    attributes = request_attributes(operation, provider, model, options)
    if (tools := get(config, "tools")) and isinstance(tools, list):
        attributes["gen_ai.tool.definitions"] = [getattr(tool, "__name__", None) or tool for tool in tools]
    given = convention.contents(kwargs.get("contents"))
    if system := get(config, "system_instruction"):
        said = convention.contents(system)
        attributes["gen_ai.system_instructions"] = get(said, "content") if isinstance(said, dict) else said
    return Request(f"{operation} {model or ''}".rstrip(), given, model, provider, attributes)


_OPTIONS = (
    "temperature",
    "top_p",
    "top_k",
    "max_output_tokens",
    "stop_sequences",
    "seed",
    "presence_penalty",
    "frequency_penalty",
)
_METHODS = {
    "generate_content": Operation("llm", partial(_request, "chat"), convention.answer),
    "generate_content_stream": Operation("llm", partial(_request, "chat"), convention.answer, convention.GeminiReader),
}
_EMBED = Operation("embedding", partial(_request, "embeddings"), convention.embedded)
