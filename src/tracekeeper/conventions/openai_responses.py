"""OpenAI's Responses API, whole and as a stream of events.

Format: the OpenAI API reference, "Responses" and "Streaming events". Text comes in ``response.output_text.delta``;
the last event (``response.completed``, ``.incomplete``, ``.failed``) holds the whole response.
"""

from __future__ import annotations

from typing import Any

from tracekeeper.conventions.told import Told, get, plain_text, response_attributes

_LAST = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


def answer(response: Any) -> Told:
    """A whole response."""
    texts: list[str] = []
    others: list[Any] = []
    for item in get(response, "output") or ():
        kind = get(item, "type")
        if kind == "message":
            for part in get(item, "content") or ():
                said = plain_text(get(part, "text"))
                if said is not None:
                    texts.append(said)
                elif refusal := plain_text(get(part, "refusal")):
                    others.append({"type": "refusal", "refusal": refusal})
        elif kind in ("function_call", "custom_tool_call"):
            arguments = get(item, "arguments") if kind == "function_call" else get(item, "input")
            others.append(
                {"type": "tool_call", "id": get(item, "call_id"), "name": get(item, "name"), "arguments": arguments}
            )
        elif kind != "reasoning":
            others.append({"type": kind, "id": get(item, "id"), "status": get(item, "status")})
    text = "".join(texts)
    model = plain_text(get(response, "model"))
    status = plain_text(get(response, "status"))
    reason = plain_text(get(get(response, "incomplete_details"), "reason")) or status
    return Told(
        output=text if not others else [*([{"type": "text", "text": text}] if text else []), *others],
        usage=get(response, "usage"),
        model=model,
        attributes=response_attributes(
            id=get(response, "id"), model=model, finish_reasons=None if reason is None else [reason]
        ),
        finished=True,
    )


class ResponsesReader:
    """Reads the events of one stream (a ``tracing.responses.Reader``)."""

    __slots__ = ("_last", "_model", "_response")

    def __init__(self, stream: Any = None) -> None:
        self._response: Any = None
        self._last = False

    def read(self, event: Any) -> str | None:
        """The text in an event."""
        kind = get(event, "type")
        if kind == "response.output_text.delta":
            return plain_text(get(event, "delta"))
        response = get(event, "response")
        if response is not None:
            self._response, self._last = response, kind in _LAST
        return None

    def told(self, text: str) -> Told:
        """What was said so far."""
        if self._response is None:
            return Told(finished=False)
        told = answer(self._response)
        if not self._last:
            told.output = None
        told.finished = self._last
        return told
