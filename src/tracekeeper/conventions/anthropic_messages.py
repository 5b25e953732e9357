"""Anthropic's Messages, whole and as a stream of events.

Format: the Anthropic API reference, "Messages" and "Streaming messages". ``message_start`` has the input's tokens,
``message_delta`` the output's so far and the ``stop_reason``; ``message_stop`` is the last event.
"""

from __future__ import annotations

from typing import Any

from tracekeeper.conventions.told import Told, get, plain_text, response_attributes

_USAGE = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def answer(message: Any) -> Told:
    """A whole message."""
    model = plain_text(get(message, "model"))
    reason = plain_text(get(message, "stop_reason"))
    return Told(
        output=_output([_block(block) for block in get(message, "content") or ()]),
        usage=get(message, "usage"),
        model=model,
        attributes=response_attributes(
            id=get(message, "id"), model=model, finish_reasons=[reason] if reason is not None else None
        ),
        finished=True,
    )


class MessagesReader:
    """Reads the events of one stream (a ``tracing.responses.Reader``)."""

    __slots__ = ("_blocks", "_id", "_model", "_reason", "_stopped", "_usage")

    def __init__(self, stream: Any = None) -> None:
        self._id: Any = None
        self._model: str | None = None
        self._reason: str | None = None
        self._usage: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}  # those that are not text
        self._stopped = False

    def read(self, event: Any) -> str | None:
        """The text in an event."""
        kind = get(event, "type")
        if kind == "content_block_delta":
            delta = get(event, "delta")
            text = get(delta, "text")
            if text is not None:
                return plain_text(text)
            self._read_delta(get(event, "index") or 0, delta)
        elif kind == "content_block_start":
            block = get(event, "content_block")
            if get(block, "type") == "text":
                return plain_text(get(block, "text"))
            self._blocks[get(event, "index") or 0] = {**_block(block), "parts": []}
        elif kind == "message_start":
            message = get(event, "message")
            self._id, self._model = get(message, "id"), plain_text(get(message, "model"))
            self._count(get(message, "usage"))
        elif kind == "message_delta":
            self._reason = plain_text(get(get(event, "delta"), "stop_reason")) or self._reason
            self._count(get(event, "usage"))
        elif kind == "message_stop":
            self._stopped = True
        return None

    def _read_delta(self, index: int, delta: Any) -> None:
        part = get(delta, "partial_json") or get(delta, "thinking")
        if part and index in self._blocks:
            self._blocks[index]["parts"].append(part)

    def _count(self, usage: Any) -> None:
        for name in _USAGE:
            found = get(usage, name)
            if found is not None:
                self._usage[name] = found

    def told(self, text: str) -> Told:
        """What was said so far."""
        reasons = [self._reason] if self._reason is not None else None
        usage = dict(self._usage)
        if self._reason is None:
            usage.pop("output_tokens", None)  # of the start: a first guess, replaced by the one that comes at the end
        return Told(
            output=self._output(text),
            usage=usage or None,
            model=self._model,
            attributes=response_attributes(id=self._id, model=self._model, finish_reasons=reasons),
            finished=self._stopped or self._reason is not None,
        )

    def _output(self, text: str) -> Any:
        if not self._blocks:
            return None
        blocks: list[dict[str, Any]] = []
        for _, block in sorted(self._blocks.items()):
            said = "".join(block["parts"])
            plain = {name: value for name, value in block.items() if name != "parts"}
            if said:
                plain["thinking" if plain.get("type") == "thinking" else "arguments"] = said
            blocks.append(plain)
        return _output([*([{"type": "text", "text": text}] if text else []), *blocks])


def _block(block: Any) -> dict[str, Any]:
    kind = get(block, "type")
    if kind == "text":
        return {"type": "text", "text": get(block, "text")}
    if kind == "thinking":
        return {"type": "thinking", "thinking": get(block, "thinking")}
    if kind in ("tool_use", "server_tool_use"):
        return {
            "type": "tool_call",
            "id": get(block, "id"),
            "name": get(block, "name"),
            "arguments": get(block, "input"),
        }
    return {"type": kind}


def _output(blocks: list[dict[str, Any]]) -> Any:
    """The text alone where there is nothing else."""
    if all(block["type"] == "text" for block in blocks):
        return "".join(block["text"] or "" for block in blocks)
    return blocks
