"""LangChain's messages, documents and results as plain values, and its streamed chunks.

Format: ``langchain_core.messages`` (``type`` human, ai, system, tool; ``content`` a text or a list of blocks;
``tool_calls``; ``usage_metadata``) and ``langchain_core.outputs`` (``LLMResult.generations``, a list for each prompt).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracekeeper.conventions.told import Told, get, plain_text, response_attributes

_ROLES = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant", "HumanMessageChunk": "user"}
_DEPTH = 4
_FINAL = frozenset(
    {"openai", "azure", "azure_openai", "anthropic", "groq", "mistralai", "deepseek", "xai", "fireworks"}
)
"""Providers whose streams say why they end."""
PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "amazon_bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
}
"""LangChain's names of providers that OpenTelemetry calls otherwise."""


def plain(value: Any, depth: int = _DEPTH) -> Any:
    """A value with messages and documents in it made plain; anything else as it is."""
    if isinstance(value, str | int | float | bool | None):
        return value
    if depth > 0:
        if type(value) is dict:
            return {name: plain(item, depth - 1) for name, item in value.items()}
        if type(value) is list or type(value) is tuple:
            return [plain(item, depth - 1) for item in value]
    if is_message(value):
        return message(value)
    if isinstance(page := getattr(value, "page_content", None), str):
        found = {"content": page, "metadata": get(value, "metadata"), "id": get(value, "id")}
        return {name: item for name, item in found.items() if item}
    if callable(to_messages := getattr(type(value), "to_messages", None)):
        return [message(one) for one in to_messages(value)]
    return value


def is_message(value: Any) -> bool:
    """Whether it is one of LangChain's messages."""
    return isinstance(getattr(value, "type", None), str) and hasattr(value, "response_metadata")


def message(said: Any) -> dict[str, Any]:
    """A message as most providers write it."""
    kind = str(get(said, "type"))
    found: dict[str, Any] = {"role": _ROLES.get(kind, kind), "content": get(said, "content")}
    if calls := get(said, "tool_calls"):
        found["tool_calls"] = [_call(call) for call in calls]
    for name in ("name", "tool_call_id"):
        if value := get(said, name):
            found[name] = value
    return found


def answer(result: Any) -> Told:
    """An ``LLMResult`` of one prompt."""
    generations = [one for group in get(result, "generations") or () for one in group]
    outputs = [_said(one) for one in generations]
    first = generations[0] if generations else None
    said = get(first, "message")
    about = {**(get(first, "generation_info") or {}), **(get(said, "response_metadata") or {})}
    of_all = get(result, "llm_output") or {}
    usage = _usage(said) or of_all.get("token_usage") or of_all.get("usage") or about.get("token_usage")
    return Told(
        output=outputs[0] if len(outputs) == 1 else outputs or None,
        usage=usage or None,
        model=_model(about) or plain_text(of_all.get("model_name")),
        attributes=_attributes(about, plain_text(get(said, "id"))),
        finished=True,
    )


class ChunkReader:
    """Reads the chunks of one stream (a ``tracing.responses.Reader``), of chat models and of others."""

    __slots__ = ("_about", "_calls", "_final", "_id", "_last", "_usage")

    def __init__(self) -> None:
        self._about: dict[str, Any] = {}
        self._final: Told | None = None
        self._calls: dict[Any, dict[str, Any]] = {}
        self._id: str | None = None
        self._last = False
        self._usage: dict[str, int] = {}

    def read(self, chunk: Any) -> str | None:
        """The text in a chunk; a token alone is its own text."""
        if isinstance(chunk, str):
            return str(chunk)
        if type(chunk) is dict:
            return self._read_event(chunk)
        said = getattr(chunk, "message", None)
        self._read_about(getattr(chunk, "generation_info", None))
        if said is None:
            return plain_text(get(chunk, "text"))
        self._read_about(said.response_metadata)
        self._id = said.id or self._id
        self._last = self._last or getattr(said, "chunk_position", None) == "last"
        if getattr(said, "usage_metadata", None):
            for name, count in (_usage(said) or {}).items():
                self._usage[name] = self._usage.get(name, 0) + count  # parts of it come with several chunks
        for part in getattr(said, "tool_call_chunks", None) or ():
            self._add_call(part)
        return text_of(said.content)

    def _read_about(self, about: Any) -> None:
        if about:
            self._about.update({name: value for name, value in about.items() if value is not None})

    def _read_event(self, event: dict[str, Any]) -> str | None:
        """Of LangChain's newer protocol of events: only texts are read, the rest comes with the result."""
        delta = event.get("delta")
        return plain_text(get(delta, "text")) if event.get("event") == "content-block-delta" else None

    def finish(self, result: Any) -> None:
        """The stream was read to its end, and LangChain has put it together."""
        self._final = answer(result)

    def _add_call(self, part: Any) -> None:
        index = get(part, "index")
        call = self._calls.setdefault(index, {"id": None, "name": None, "arguments": []})
        call["id"] = get(part, "id") or call["id"]
        call["name"] = get(part, "name") or call["name"]
        if arguments := get(part, "args"):
            call["arguments"].append(arguments)

    def told(self, text: str) -> Told:
        """What was said so far."""
        about = self._about
        reason = _reason(about)
        ends = plain_text(about.get("model_provider")) in _FINAL
        finished = True if reason or (self._last and not ends) else False if ends else None
        if self._final is not None:
            self._final.finished = finished
            return self._final
        output = None
        if self._calls:
            calls = [{**call, "arguments": "".join(call["arguments"])} for call in self._calls.values()]
            output = {"role": "assistant", "content": text or None, "tool_calls": calls}
        return Told(
            output=output,
            usage=dict(self._usage) or None,
            model=_model(about),
            attributes=_attributes(about, self._id),
            finished=finished,
        )


def text_of(content: Any) -> str | None:
    """The text of a message's content."""
    if isinstance(content, str):
        return str(content)  # LangChain has a class of its own for texts
    if isinstance(content, list):
        parts = [part if isinstance(part, str) else plain_text(get(part, "text")) for part in content]
        return "".join(part for part in parts if part)
    return None


def _said(generation: Any) -> Any:
    said = get(generation, "message")
    if said is None:
        return plain_text(get(generation, "text"))
    if get(said, "tool_calls"):
        return {**message(said), "content": text_of(get(said, "content")) or None}
    text = text_of(get(said, "content"))
    return text if text else get(said, "content")


def _usage(said: Any) -> dict[str, int] | None:
    """Flat and in names that are understood everywhere; LangChain's ``input_tokens`` include what was cached."""
    found = get(said, "usage_metadata")
    if not isinstance(found, Mapping):
        return None
    usage = {name: found[name] for name in ("input_tokens", "output_tokens") if isinstance(found.get(name), int)}
    for group in ("input_token_details", "output_token_details"):
        usage.update(_details(group, found.get(group) or {}))
    return usage


_DETAILS = {
    ("input_token_details", "cache_read"): "cache_read_tokens",
    ("input_token_details", "cache_creation"): "cache_write_tokens",
    ("output_token_details", "reasoning"): "reasoning_tokens",
}


def _details(group: str, found: Mapping[str, Any]) -> dict[str, int]:
    return {
        ours: found[theirs]
        for (of, theirs), ours in _DETAILS.items()
        if of == group and isinstance(found.get(theirs), int)
    }


def _call(call: Any) -> dict[str, Any]:
    return {"id": get(call, "id"), "name": get(call, "name"), "arguments": get(call, "args")}


def _model(about: Mapping[str, Any]) -> str | None:
    for name in ("model_name", "model", "model_id"):
        if found := plain_text(about.get(name)):
            return found
    return None


def _reason(about: Mapping[str, Any]) -> str | None:
    for name in ("finish_reason", "stop_reason", "stopReason", "done_reason"):
        if found := plain_text(about.get(name)):
            return found
    status = plain_text(about.get("status"))  # of OpenAI's Responses
    return status if status in ("completed", "incomplete") else None


def _attributes(about: Mapping[str, Any], id: str | None) -> dict[str, Any]:
    reason = _reason(about)
    return response_attributes(
        id=plain_text(about.get("id")) or id, model=_model(about), finish_reasons=None if reason is None else [reason]
    )
