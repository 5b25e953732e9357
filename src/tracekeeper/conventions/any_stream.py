"""A reader for a stream whose format nobody named: told by its first chunk that is of a known one."""

from __future__ import annotations

from typing import Any

from tracekeeper.conventions.anthropic_messages import MessagesReader
from tracekeeper.conventions.openai_chat import ChatReader
from tracekeeper.conventions.openai_responses import ResponsesReader
from tracekeeper.conventions.told import Told, get

LIBRARIES = frozenset({"openai", "anthropic", "litellm"})
"""Whose response objects are streams in one of these formats."""


class AnyReader:
    """Chat Completions, Responses or Anthropic's Messages; also their libraries' helpers, which mix in events of
    their own."""

    __slots__ = ("_reader",)

    def __init__(self) -> None:
        self._reader: Any = None

    def read(self, chunk: Any) -> str | None:
        """The text in a chunk."""
        if type(chunk) is str:  # a helper that gives nothing but texts
            return chunk
        if get(chunk, "type") == "chunk":  # of OpenAI's helper: the chunk itself is inside
            chunk = get(chunk, "chunk")
        reader = self._reader
        if reader is None:
            kind = _format(chunk)
            if kind is None:
                return None
            reader = self._reader = kind()
        text: str | None = reader.read(chunk)
        return text

    def told(self, text: str) -> Told:
        """What was said so far."""
        told: Told = self._reader.told(text) if self._reader is not None else Told()
        return told


def _format(chunk: Any) -> Any:
    if get(chunk, "choices") is not None:
        return ChatReader
    kind = get(chunk, "type")
    if not isinstance(kind, str):
        return None
    if kind.startswith("response."):
        return ResponsesReader
    return MessagesReader if kind.startswith(("message_", "content_block_")) else None
