"""Ollama's wire format for the local server: ``POST /api/chat``, ``/api/generate`` and ``/api/embed``.

Newline-delimited JSON, one object a line; the last has ``done: true`` and the counts (Ollama API documentation,
"Generate a chat completion").
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.support.wire import TEXT, misbehaving

COUNTS = {"prompt_eval_count": 7, "eval_count": 10, "total_duration": 5_000_000, "done_reason": "stop"}
CALL = {"function": {"name": "weather", "arguments": {"place": "Ireland"}}}


class Ollama:
    media = "application/x-ndjson"

    def speaks(self, path: str) -> bool:
        return path.startswith("/api/")

    def model(self, path: str, body: dict[str, Any]) -> str:
        return str(body["model"])

    def streams(self, path: str, body: dict[str, Any]) -> bool:
        return not path.endswith("/embed") and bool(body.get("stream", True))

    def whole(self, model: str, body: dict[str, Any]) -> dict[str, Any]:
        if body["path"].endswith("/embed"):
            given = body["input"] if isinstance(body["input"], list) else [body["input"]]
            return {"model": model, "embeddings": [[0.5, 0.25]] * len(given), "prompt_eval_count": 3}
        return {**_said(model, body, TEXT), "done": True, **COUNTS}

    def events(self, model: str, body: dict[str, Any]) -> Iterator[str]:
        def line(text: str, **more: Any) -> str:
            return json.dumps({**_said(model, body, text), "done": False, **more}) + "\n"

        if model == "tools":
            yield line("")
        else:
            error = json.dumps({"error": "too much at once"}) + "\n"
            yield from misbehaving(model, line, broken='{"model": \n', error=error)
            if model == "cut":
                return
        yield json.dumps({**_said(model if model != "tools" else "full", body, ""), "done": True, **COUNTS}) + "\n"


def _said(model: str, body: dict[str, Any], text: str) -> dict[str, Any]:
    head = {"model": f"{model}-served", "created_at": "2026-11-01T00:00:00Z"}
    if "messages" not in body:
        return {**head, "response": text}
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if model == "tools":
        message = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    return {**head, "message": message}
