"""Amazon Bedrock: ``Converse`` and what models say through ``InvokeModel``, whole and as streams.

Format: the Amazon Bedrock API reference, "Converse", "ConverseStream" and "Inference request parameters and response
fields for foundation models". A stream of ``Converse`` is complete with ``messageStop``; the usage follows it. Tokens
read from and written to the cache come beside ``inputTokens``, as with Anthropic.
"""

from __future__ import annotations

import json
from typing import Any

from tracekeeper.conventions import openai_chat
from tracekeeper.conventions.anthropic_messages import MessagesReader
from tracekeeper.conventions.anthropic_messages import answer as anthropic_answer
from tracekeeper.conventions.openai_chat import ChatReader
from tracekeeper.conventions.told import Told, get, plain_text, response_attributes

_METRICS = "amazon-bedrock-invocationMetrics"
_TEXTS = ("generation", "outputText", "completion", "text")
_REASONS = ("stop_reason", "completionReason", "finish_reason", "stopReason")


def converse_messages(messages: Any, system: Any) -> list[Any]:
    """The messages of a request, with the system's first."""
    given = [{"role": "system", "content": system}] if system else []
    return [
        {"role": get(message, "role"), "content": _joined([_block(block) for block in get(message, "content") or ()])}
        for message in [*given, *(messages or ())]
    ]


def converse_answer(response: Any) -> Told:
    """A whole answer of ``Converse``."""
    message = get(get(response, "output"), "message")
    reason = plain_text(get(response, "stopReason"))
    return Told(
        output=_joined([_block(block) for block in get(message, "content") or ()]),
        usage=_usage(get(response, "usage")),
        attributes=response_attributes(finish_reasons=None if reason is None else [reason]),
        finished=True,
    )


class ConverseReader:
    """Reads the events of one ``ConverseStream`` (a ``tracing.responses.Reader``)."""

    __slots__ = ("_blocks", "_reason", "_usage")

    def __init__(self, stream: Any = None) -> None:
        self._blocks: dict[int, dict[str, Any]] = {}
        self._reason: str | None = None
        self._usage: dict[str, int] | None = None

    def read(self, event: Any) -> str | None:
        """The text in an event."""
        if (delta := get(event, "contentBlockDelta")) is not None:
            return self._read_delta(get(delta, "contentBlockIndex") or 0, get(delta, "delta"))
        if (start := get(event, "contentBlockStart")) is not None:
            use = get(get(start, "start"), "toolUse")
            if use is not None:
                call = {"type": "tool_call", "id": get(use, "toolUseId"), "name": get(use, "name"), "arguments": ""}
                self._blocks[get(start, "contentBlockIndex") or 0] = call
        elif (stop := get(event, "messageStop")) is not None:
            self._reason = plain_text(get(stop, "stopReason")) or "stop"
        elif (metadata := get(event, "metadata")) is not None:
            self._usage = _usage(get(metadata, "usage"))
        return None

    def _read_delta(self, index: int, delta: Any) -> str | None:
        text = plain_text(get(delta, "text"))
        if text is not None:
            return text
        if (use := get(delta, "toolUse")) is not None and index in self._blocks:
            self._blocks[index]["arguments"] += get(use, "input") or ""
        elif thought := plain_text(get(get(delta, "reasoningContent"), "text")):
            self._blocks.setdefault(index, {"type": "thinking", "thinking": ""})["thinking"] += thought
        return None

    def told(self, text: str) -> Told:
        """What was said so far."""
        blocks = [block for _, block in sorted(self._blocks.items())]
        return Told(
            output=[*([{"type": "text", "text": text}] if text else []), *blocks] if blocks else None,
            usage=self._usage,
            attributes=response_attributes(finish_reasons=None if self._reason is None else [self._reason]),
            finished=self._reason is not None,
        )


def invoked_input(body: Any) -> Any:
    """What the body of ``InvokeModel`` asks: its messages, its prompt, or all of it."""
    given = _json(body)
    for name in ("messages", "prompt", "inputText", "inputs", "texts"):
        if (found := get(given, name)) is not None:
            system = get(given, "system")
            return [{"role": "system", "content": system}, *found] if system and isinstance(found, list) else found
    return given


def invoked_answer(body: bytes) -> Told:
    """A whole answer of ``InvokeModel``."""
    said = _json(body)
    if get(said, "type") == "message" or isinstance(get(said, "content"), list):
        return anthropic_answer(said)
    if isinstance(get(said, "choices"), list):
        return openai_chat.answer(said)
    if get(get(said, "output"), "message") is not None:
        return converse_answer(said)
    if (vector := get(said, "embedding")) is not None:
        count = get(said, "inputTextTokenCount")
        usage = None if count is None else {"input_tokens": count}
        return Told(output={"embeddings": 1, "dimensions": len(vector)}, usage=usage, finished=True)
    return _simple(said)


class InvokedReader:
    """Reads the chunks of ``InvokeModelWithResponseStream``, whichever model speaks."""

    __slots__ = ("_metrics", "_reader", "_reason")

    def __init__(self, stream: Any = None) -> None:
        self._metrics: Any = None
        self._reader: Any = None
        self._reason: str | None = None

    def read(self, event: Any) -> str | None:
        """The text in an event."""
        data = get(get(event, "chunk"), "bytes")
        if data is None:
            return None
        said = _json(data)
        self._metrics = get(said, _METRICS) or self._metrics
        if self._reader is None:
            self._reader = _reader_of(said)
        if self._reader is not None:
            text: str | None = self._reader.read(said)
            return text
        told = _simple(said)
        for reason in told.attributes.get("gen_ai.response.finish_reasons", ()):
            self._reason = reason
        return plain_text(told.output)

    def told(self, text: str) -> Told:
        """What was said so far. The metrics come with the last chunk, whichever model it is."""
        told: Told = self._reader.told(text) if self._reader is not None else Told()
        if self._reason is not None:
            told.attributes = response_attributes(finish_reasons=[self._reason])
        metrics = self._metrics
        if metrics is not None and told.usage is None:
            counts = {
                "input_tokens": get(metrics, "inputTokenCount"),
                "output_tokens": get(metrics, "outputTokenCount"),
            }
            told.usage = {name: count for name, count in counts.items() if count is not None}
        told.finished = bool(told.finished or metrics is not None or self._reason is not None)
        return told


def _reader_of(said: Any) -> Any:
    if plain_text(get(said, "type")) is not None:
        return MessagesReader()
    if isinstance(get(said, "choices"), list):
        return ChatReader()
    if any(get(said, name) is not None for name in ("messageStart", "contentBlockDelta", "contentBlockStart")):
        return ConverseReader()
    return None


def _simple(said: Any) -> Told:
    """Of Titan, Llama, Mistral and Cohere: one text, or a list of them."""
    inner = said
    for name in ("results", "outputs", "generations", "completions"):
        found = get(said, name)
        if isinstance(found, list) and found:
            inner = found[0]
    text = next((found for name in _TEXTS if (found := plain_text(get(inner, name))) is not None), None)
    reason = next((found for name in _REASONS if (found := plain_text(get(inner, name))) is not None), None)
    counts = {
        "input_tokens": get(said, "prompt_token_count", get(said, "inputTextTokenCount")),
        "output_tokens": get(said, "generation_token_count", get(inner, "tokenCount")),
    }
    return Told(
        output=text,
        usage={name: count for name, count in counts.items() if count is not None} or None,
        attributes=response_attributes(finish_reasons=None if reason is None else [reason]),
        finished=True,
    )


def _block(block: Any) -> dict[str, Any]:
    if (text := plain_text(get(block, "text"))) is not None:
        return {"type": "text", "text": text}
    if (use := get(block, "toolUse")) is not None:
        return {
            "type": "tool_call",
            "id": get(use, "toolUseId"),
            "name": get(use, "name"),
            "arguments": get(use, "input"),
        }
    if (result := get(block, "toolResult")) is not None:
        return {"type": "tool_call_response", "id": get(result, "toolUseId"), "response": get(result, "content")}
    if (thought := get(block, "reasoningContent")) is not None:
        return {"type": "thinking", "thinking": get(get(thought, "reasoningText"), "text")}
    return {"type": next(iter(block), "empty")} if isinstance(block, dict) else {"type": type(block).__name__}


def _joined(blocks: list[dict[str, Any]]) -> Any:
    """The text alone where there is nothing else."""
    if all(block["type"] == "text" for block in blocks):
        return "".join(block["text"] for block in blocks)
    return blocks


def _usage(found: Any) -> dict[str, int] | None:
    said = {ours: get(found, theirs) for ours, theirs in _USAGE.items()}
    return {name: value for name, value in said.items() if isinstance(value, int)} or None


def _json(body: Any) -> Any:
    if isinstance(body, str | bytes | bytearray):
        try:
            return json.loads(body)
        except ValueError:
            return body.decode("utf-8", "replace") if isinstance(body, bytes | bytearray) else body
    return None


_USAGE = {
    "input_tokens": "inputTokens",
    "output_tokens": "outputTokens",
    "cache_read_input_tokens": "cacheReadInputTokens",
    "cache_creation_input_tokens": "cacheWriteInputTokens",
}
