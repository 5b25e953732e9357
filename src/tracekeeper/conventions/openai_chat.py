"""OpenAI's Chat Completions, whole and as a stream; LiteLLM and everything that calls itself compatible speak it too.

Format: the OpenAI API reference, "Chat Completions" and "The chat completion chunk object". A stream is complete when
each choice had its ``finish_reason``; the chunk with the usage (``stream_options={"include_usage": true}``) comes
after it and has no choices.
"""

from __future__ import annotations

from typing import Any

from tracekeeper.conventions.told import Told, get, plain_text, response_attributes


def message(choice: Any) -> Any:
    """What one choice says: its text, or a mapping where there is more than text."""
    said = get(choice, "message")
    if said is None:
        return plain_text(get(choice, "text"))
    content = get(said, "content")
    calls = [_call(call) for call in get(said, "tool_calls") or ()]
    return _message(content, calls, get(said, "refusal"), _reasoning(said))


def answer(completion: Any) -> Told:
    """A whole completion."""
    choices = list(get(completion, "choices") or ())
    messages = [message(choice) for choice in choices]
    reasons = [reason for choice in choices if isinstance(reason := get(choice, "finish_reason"), str)]
    model = plain_text(get(completion, "model"))
    return Told(
        output=messages[0] if len(messages) == 1 else messages,
        usage=get(completion, "usage"),
        model=model,
        attributes=response_attributes(id=get(completion, "id"), model=model, finish_reasons=reasons),
        finished=True,
    )


class ChatReader:
    """Reads the chunks of one stream (a ``tracing.responses.Reader``)."""

    __slots__ = ("_calls", "_id", "_model", "_reasoning", "_reasons", "_refusal", "_texts", "_usage")

    def __init__(self, stream: Any = None) -> None:
        self._id: Any = None
        self._model: str | None = None
        self._usage: Any = None
        self._reasons: dict[int, str] = {}
        self._texts: dict[int, list[str]] = {}  # of choices beside the first one
        self._calls: dict[tuple[int, int], dict[str, Any]] = {}
        self._reasoning: list[str] = []
        self._refusal: list[str] = []

    def read(self, chunk: Any) -> str | None:
        """The text in a chunk of the first choice."""
        if self._id is None:
            self._id, self._model = get(chunk, "id"), plain_text(get(chunk, "model"))
        text = None
        for choice in get(chunk, "choices") or ():
            index = get(choice, "index") or 0
            delta = get(choice, "delta")
            content = get(choice, "text") if delta is None else get(delta, "content")
            if content:
                if index == 0:
                    text = content if text is None else text + content
                else:
                    self._texts.setdefault(index, []).append(content)
            elif delta is not None:
                self._read_rest(index, delta)
            reason = get(choice, "finish_reason")
            if reason is not None:
                self._reasons[index] = str(reason)
        usage = get(chunk, "usage")
        if usage is not None:
            self._usage = usage
        return text

    def _read_rest(self, index: int, delta: Any) -> None:
        for part in get(delta, "tool_calls") or ():
            call = self._calls.setdefault((index, get(part, "index") or 0), {"id": None, "name": None, "arguments": []})
            call["id"] = get(part, "id") or call["id"]
            function = get(part, "function")
            call["name"] = get(function, "name") or call["name"]
            if arguments := get(function, "arguments"):
                call["arguments"].append(arguments)
        if reasoning := _reasoning(delta):
            self._reasoning.append(reasoning)
        if refusal := get(delta, "refusal"):
            self._refusal.append(refusal)

    def told(self, text: str) -> Told:
        """What was said so far; ``text`` is the text of the first choice."""
        reasons = [reason for _, reason in sorted(self._reasons.items())]
        return Told(
            output=self._output(text),
            usage=self._usage,
            model=self._model,
            attributes=response_attributes(id=self._id, model=self._model, finish_reasons=reasons),
            finished=bool(reasons),
        )

    def _output(self, text: str) -> Any:
        if not (self._texts or self._calls or self._reasoning or self._refusal):
            return None
        calls: dict[int, list[dict[str, Any]]] = {}
        for (index, _), call in sorted(self._calls.items()):
            calls.setdefault(index, []).append({**call, "arguments": "".join(call["arguments"])})
        reasoning, refusal = "".join(self._reasoning), "".join(self._refusal)
        messages = [_message(text, calls.get(0, []), refusal or None, reasoning or None)]
        messages += [
            _message("".join(self._texts.get(index, ())), calls.get(index, []), None, None)
            for index in sorted({*self._texts, *calls} - {0})
        ]
        return messages[0] if len(messages) == 1 else messages


def _message(content: Any, calls: list[dict[str, Any]], refusal: Any, reasoning: Any) -> Any:
    if not (calls or refusal or reasoning):
        return content
    said = {"role": "assistant", "content": content or None, "tool_calls": calls or None}
    said |= {"refusal": refusal or None, "reasoning": reasoning or None}
    return {name: value for name, value in said.items() if value is not None}


def _call(call: Any) -> dict[str, Any]:
    function = get(call, "function")
    if function is None:  # a custom tool's call has its input as a text
        custom = get(call, "custom")
        return {"id": get(call, "id"), "name": get(custom, "name"), "arguments": get(custom, "input")}
    return {"id": get(call, "id"), "name": get(function, "name"), "arguments": get(function, "arguments")}


def _reasoning(said: Any) -> str | None:
    """Not in OpenAI's format; DeepSeek, vLLM, OpenRouter and LiteLLM add it under one of two names."""
    return plain_text(get(said, "reasoning_content")) or plain_text(get(said, "reasoning"))
