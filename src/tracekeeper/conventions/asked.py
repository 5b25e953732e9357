"""What a request says, in OpenTelemetry's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PLAIN = (str, int, float, bool)


def request_attributes(operation: str, provider: str | None, model: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """``gen_ai.*`` of a request (OpenTelemetry semantic conventions for generative AI, 1.37 and newer)."""
    found: dict[str, Any] = {"gen_ai.operation.name": operation}
    if provider is not None:
        found["gen_ai.provider.name"] = provider
    if isinstance(model, str):
        found["gen_ai.request.model"] = model
    for option, name in _OPTIONS.items():
        value = options.get(option)
        if isinstance(value, _PLAIN) or type(value) is list:
            found[name] = value
    tools = options.get("tools")
    if isinstance(tools, list | tuple) and tools:
        found["gen_ai.tool.definitions"] = list(tools)
    return found


_OPTIONS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "seed": "gen_ai.request.seed",
    "stop": "gen_ai.request.stop_sequences",
    "stop_sequences": "gen_ai.request.stop_sequences",
    "n": "gen_ai.request.choice.count",
    "stream": "gen_ai.request.stream",
    "reasoning_effort": "gen_ai.request.reasoning_effort",
    "encoding_format": "gen_ai.request.encoding_formats",
    "dimensions": "gen_ai.embeddings.dimension.count",
}
