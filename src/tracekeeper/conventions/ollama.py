"""Ollama's chat and generate, whole and as a stream.

Format: the Ollama API documentation, "Generate a chat completion" and "Generate a completion". A stream is complete
with the object that has ``done``; that one also has the counts.
"""

from __future__ import annotations

from typing import Any

from tracekeeper.conventions.told import Told, get, plain_text, response_attributes


def answer(response: Any) -> Told:
    """A whole answer."""
    reader = OllamaReader()
    told = reader.told(reader.read(response) or "")
    if told.output is None:
        told.output = text(response)
    told.finished = True
    return told


def embedded(response: Any) -> Told:
    """The answer of ``embed``, or of the older ``embeddings``."""
    vectors = get(response, "embeddings")
    if vectors is None:
        vectors = [get(response, "embedding") or ()]
    counted = get(response, "prompt_eval_count")
    return Told(
        output={"embeddings": len(vectors), "dimensions": len(vectors[0]) if vectors else None},
        usage=None if counted is None else {"input_tokens": counted},
        model=plain_text(get(response, "model")),
        attributes=response_attributes(model=get(response, "model")),
        finished=True,
    )


def text(response: Any) -> str | None:
    """The text in one object: of a message, or of a completion."""
    said = get(response, "message")
    return plain_text(get(response, "response") if said is None else get(said, "content"))


class OllamaReader:
    """Reads the objects of one stream (a ``tracing.responses.Reader``)."""

    __slots__ = ("_calls", "_done", "_model", "_reason", "_thinking", "_usage")

    def __init__(self, stream: Any = None) -> None:
        self._calls: list[dict[str, Any]] = []
        self._done = False
        self._model: str | None = None
        self._reason: str | None = None
        self._thinking: list[str] = []
        self._usage: dict[str, Any] = {}

    def read(self, chunk: Any) -> str | None:
        """The text in an object."""
        said = get(chunk, "message")
        if self._model is None:
            self._model = plain_text(get(chunk, "model"))
        for call in get(said, "tool_calls") or ():
            function = get(call, "function")
            self._calls.append({"name": get(function, "name"), "arguments": get(function, "arguments")})
        if thinking := get(chunk if said is None else said, "thinking"):
            self._thinking.append(thinking)
        if get(chunk, "done"):
            self._done = True
            self._reason = plain_text(get(chunk, "done_reason"))
            for theirs, ours in (("prompt_eval_count", "input_tokens"), ("eval_count", "output_tokens")):
                if (count := get(chunk, theirs)) is not None:
                    self._usage[ours] = count
        return text(chunk)

    def told(self, text: str) -> Told:
        """What was said so far."""
        output = None
        if self._calls or self._thinking:
            said = {"role": "assistant", "content": text or None, "tool_calls": self._calls or None}
            said["reasoning"] = "".join(self._thinking) or None
            output = {name: value for name, value in said.items() if value is not None}
        reasons = None if self._reason is None else [self._reason]
        return Told(
            output=output,
            usage=self._usage or None,
            model=self._model,
            attributes=response_attributes(model=self._model, finish_reasons=reasons),
            finished=self._done,
        )
