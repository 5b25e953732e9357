"""What a model answered, in one shape whoever it was."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from tracekeeper.conventions.told import Told
from tracekeeper.types import Usage


class ToolCall(msgspec.Struct, frozen=True):
    """A call that the model asks for. ``arguments`` is what it wrote as JSON; the text itself where that is none."""

    id: str
    name: str
    arguments: Any

    def as_message(self) -> dict[str, Any]:
        """As part of a message that is sent back."""
        written = self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments, ensure_ascii=False)
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": written}}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer. It cannot be changed, and one from the cache is nobody else's.

    Parameters
    ----------
    text:
        What the model said; empty where it only calls tools.
    output:
        The value that ``output=`` asked for: an instance of the pydantic model, or what the JSON text holds.
    tool_calls:
        Tools that the model wants to be called.
    usage:
        Tokens as the provider reported them, with their cost where the price is known; ``None``: not reported.
    model:
        That answered, as the provider names it.
    finish_reason:
        In the provider's words: ``stop``, ``length``, ``end_turn``, ``tool_calls``, …
    complete:
        ``False`` for a stream that ended before the provider said that this is all.
    cached:
        It came from the cache: nothing was asked, and nothing is counted.
    attempts:
        Requests that were sent for it.

    Example
    -------
    >>> answer = Answer(text="Mild.", finish_reason="stop")
    >>> answer.text, answer.message
    ('Mild.', {'role': 'assistant', 'content': 'Mild.'})
    """

    text: str = ""
    output: Any = None
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage | None = None
    model: str | None = None
    finish_reason: str | None = None
    complete: bool = True
    cached: bool = False
    attempts: int = 1

    @property
    def message(self) -> dict[str, Any]:
        """The answer as a message of the conversation, to be sent back before what follows."""
        said: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.tool_calls:
            said["tool_calls"] = [call.as_message() for call in self.tool_calls]
        return said

    def __str__(self) -> str:
        return self.text


class Chunk(msgspec.Struct, frozen=True):
    """A piece of a streamed answer; ``str(chunk)`` is its text."""

    text: str

    def __str__(self) -> str:
        return self.text


def answered(told: Told, usage: Usage | None, text: str | None = None) -> Answer:
    """An answer from what was told of it; ``text``: what came as a stream."""
    said, calls = _parts(told.output if told.output is not None else text)
    reasons = told.attributes.get("gen_ai.response.finish_reasons") or [None]
    return Answer(
        text=said,
        tool_calls=calls,
        usage=usage,
        model=told.model,
        finish_reason=reasons[0],
        complete=told.finished is not False,
    )


def _parts(output: Any) -> tuple[str, tuple[ToolCall, ...]]:
    if isinstance(output, dict):  # a message of Chat Completions
        return output.get("content") or output.get("refusal") or "", _calls(output.get("tool_calls") or ())
    if isinstance(output, list):  # blocks of Anthropic's Messages
        text = "".join(block.get("text") or "" for block in output if block.get("type") == "text")
        return text, _calls([block for block in output if block.get("type") == "tool_call"])
    return output or "", ()


def _calls(given: Any) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(call.get("id") or "", call.get("name") or "", _read(call.get("arguments"))) for call in given)


def _read(arguments: Any) -> Any:
    if not isinstance(arguments, str):
        return {} if arguments is None else arguments  # Anthropic sends nothing for a tool without parameters
    try:
        return json.loads(arguments) if arguments else {}
    except ValueError:
        return arguments
