"""LlamaIndex's messages, responses and events as plain values.

Format: ``llama_index.core.base.llms.types`` (``ChatMessage``: role and blocks or content; ``ChatResponse`` and
``CompletionResponse``: ``delta`` while they stream, ``raw`` as the provider's library gave it).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracekeeper.conventions.told import Told, get, plain_text, response_attributes


def message(said: Any) -> Any:
    """A message as most providers write it; anything else as it is."""
    role = get(said, "role")
    if role is None:
        return said
    return {"role": str(getattr(role, "value", role)), "content": _content(said)}


def plain(value: Any) -> Any:
    """An argument or a result, with messages and responses made plain."""
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if get(value, "role") is not None and hasattr(value, "blocks"):
        return message(value)
    response = getattr(value, "response", None)
    if isinstance(response, str) and hasattr(value, "source_nodes"):
        return response
    if hasattr(response, "blocks"):  # of an agent
        return _content(response)
    if type(value).__name__ == "QueryBundle":
        return get(value, "query_str")
    return value


def answer(response: Any) -> Told:
    """A whole ``ChatResponse`` or ``CompletionResponse``."""
    said = get(response, "message")
    text = plain_text(get(response, "text")) if said is None else plain_text(_content(said))
    raw = get(response, "raw")
    calls = get(get(said, "additional_kwargs") or {}, "tool_calls")
    model = plain_text(get(raw, "model"))
    usage = get(raw, "usage") or get(raw, "usage_metadata") or _counts(get(response, "additional_kwargs"))
    return Told(
        output=text if not calls else {"role": "assistant", "content": text, "tool_calls": list(calls)},
        usage=usage,
        model=model,
        attributes=response_attributes(id=plain_text(get(raw, "id")), model=model),
        finished=True,
    )


def _content(said: Any) -> Any:
    """The text of a message's blocks: a property."""
    return getattr(said, "content", None)


def _counts(found: Any) -> dict[str, Any] | None:
    if not isinstance(found, Mapping):
        return None
    counts = {name: found[name] for name in ("prompt_tokens", "completion_tokens") if found.get(name) is not None}
    return counts or None


class DeltaReader:
    """Reads the responses of one stream (a ``tracing.responses.Reader``): each has what is new, and all so far."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: Any = None

    def read(self, response: Any) -> str | None:
        """The new text in a response."""
        self._last = response
        return plain_text(get(response, "delta"))

    def told(self, text: str) -> Told:
        """What was said so far."""
        if self._last is None:
            return Told()
        told = answer(self._last)
        told.finished = None
        if isinstance(told.output, str):
            told.output = None  # the text that came
        return told
