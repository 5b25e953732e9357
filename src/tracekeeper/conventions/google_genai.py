"""Gemini's ``generateContent``, whole and as a stream, and its contents as plain messages.

Format: the Gemini API reference, "Generating content" (``GenerateContentResponse``: candidates with parts,
``usageMetadata``, ``finishReason``), as the ``google-genai`` library names it. Tokens of thoughts come beside those of
the answer; ours include them.
"""

from __future__ import annotations

from typing import Any

from tracekeeper.conventions.told import Told, get, plain_text, response_attributes

_ROLES = {"model": "assistant"}


def contents(given: Any) -> Any:
    """Contents, in any of the shapes that are allowed, as messages where they have a role."""
    if isinstance(given, list | tuple):
        return [contents(one) for one in given]
    parts = get(given, "parts")
    if parts is not None:
        role = plain_text(get(given, "role")) or "user"
        return {"role": _ROLES.get(role, role), "content": _joined([_part(part) for part in parts])}
    return given if isinstance(given, str) else _part(given)


def answer(response: Any) -> Told:
    """A whole answer."""
    reader = GeminiReader()
    text = reader.read(response) or ""
    told = reader.told(text)
    if told.output is None:
        told.output = text
    told.finished = True
    return told


def embedded(response: Any) -> Told:
    """The answer of ``embed_content``."""
    vectors = get(response, "embeddings") or []
    values = get(vectors[0], "values") if vectors else None
    return Told(
        output={"embeddings": len(vectors), "dimensions": None if values is None else len(values)}, finished=True
    )


class GeminiReader:
    """Reads the responses of one stream (a ``tracing.responses.Reader``)."""

    __slots__ = ("_id", "_model", "_others", "_reason", "_thoughts", "_usage")

    def __init__(self, stream: Any = None) -> None:
        self._id: str | None = None
        self._model: str | None = None
        self._others: list[dict[str, Any]] = []
        self._reason: str | None = None
        self._thoughts: list[str] = []
        self._usage: Any = None

    def read(self, chunk: Any) -> str | None:
        """The text of the first candidate in a response."""
        self._id = self._id or plain_text(get(chunk, "response_id"))
        self._model = self._model or plain_text(get(chunk, "model_version"))
        usage = get(chunk, "usage_metadata")
        if usage is not None:
            self._usage = usage
        candidates = get(chunk, "candidates")
        if not candidates:
            blocked = get(get(chunk, "prompt_feedback"), "block_reason")
            if blocked is not None:
                self._reason = _name(blocked)
            return None
        first = candidates[0]
        reason = get(first, "finish_reason")
        if reason is not None:
            self._reason = _name(reason)
        texts: list[str] = []
        for part in get(get(first, "content"), "parts") or ():
            said = plain_text(get(part, "text"))
            if said is None:
                self._others.append(_part(part))
            elif get(part, "thought"):
                self._thoughts.append(said)
            else:
                texts.append(said)
        return "".join(texts)

    def told(self, text: str) -> Told:
        """What was said so far."""
        output: Any = None
        thoughts = "".join(self._thoughts)
        if thoughts or self._others:
            output = [{"type": "thinking", "thinking": thoughts}] if thoughts else []
            output += [{"type": "text", "text": text}] if text else []
            output += self._others
        return Told(
            output=output,
            usage=_usage(self._usage),
            model=self._model,
            attributes=response_attributes(
                id=self._id, model=self._model, finish_reasons=None if self._reason is None else [self._reason]
            ),
            finished=self._reason is not None,
        )


def _part(part: Any) -> Any:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if (text := plain_text(get(part, "text"))) is not None:
        return {"type": "text", "text": text}
    if (call := get(part, "function_call")) is not None:
        return {"type": "tool_call", "id": get(call, "id"), "name": get(call, "name"), "arguments": get(call, "args")}
    if (result := get(part, "function_response")) is not None:
        return {"type": "tool_call_response", "name": get(result, "name"), "response": get(result, "response")}
    if (data := get(part, "inline_data")) is not None:
        return {"type": "blob", "mime_type": get(data, "mime_type"), "size": len(get(data, "data") or b"")}
    if (file := get(part, "file_data")) is not None:
        return {"type": "uri", "uri": get(file, "file_uri"), "mime_type": get(file, "mime_type")}
    return {"type": type(part).__name__}


def _joined(parts: list[Any]) -> Any:
    """The text alone where there is nothing else."""
    if all(part.get("type") == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _usage(found: Any) -> dict[str, int] | None:
    if found is None:
        return None
    said = {name: get(found, theirs) for name, theirs in _USAGE.items()}
    thoughts = said["reasoning_tokens"]
    if said["output_tokens"] is not None and thoughts is not None:
        said["output_tokens"] += thoughts
    return {name: value for name, value in said.items() if isinstance(value, int)} or None


def _name(value: Any) -> str:
    return str(getattr(value, "value", value))


_USAGE = {
    "input_tokens": "prompt_token_count",
    "output_tokens": "candidates_token_count",
    "reasoning_tokens": "thoughts_token_count",
    "cache_read_tokens": "cached_content_token_count",
}
