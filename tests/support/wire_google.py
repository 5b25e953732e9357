"""Google's wire format for the local server: ``models/NAME:generateContent`` and ``:streamGenerateContent?alt=sse``.

Server-sent events, each a ``GenerateContentResponse``; the last has a ``finishReason`` (Gemini API reference,
"Generating content").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.support.wire import TEXT, misbehaving

USAGE = {"promptTokenCount": 7, "candidatesTokenCount": 8, "thoughtsTokenCount": 2, "totalTokenCount": 17}
CALL = {"functionCall": {"name": "weather", "args": {"place": "Ireland"}}}


class Google:
    media = "text/event-stream"

    def speaks(self, path: str) -> bool:
        return "/models/" in path and ":" in path

    def model(self, path: str, body: dict[str, Any]) -> str:
        found = re.search(r"/models/([^:]+):", path)
        assert found is not None
        return found[1]

    def streams(self, path: str, body: dict[str, Any]) -> bool:
        return ":streamGenerateContent" in path

    def whole(self, model: str, body: dict[str, Any]) -> dict[str, Any]:
        if "mbedContent" in body["path"]:
            return {"embeddings": [{"values": [0.5, 0.25]}] * len(body["requests"])}
        parts = [CALL] if model == "tools" else [{"text": "hm", "thought": True}, {"text": TEXT}]
        return self._response(model, parts, "STOP", USAGE)

    def events(self, model: str, body: dict[str, Any]) -> Iterator[str]:
        def event(parts: list[Any], reason: str | None = None, usage: Any = None) -> str:
            return f"data: {json.dumps(self._response(model, parts, reason, usage))}\r\n\r\n"

        if model == "tools":
            yield event([CALL])
        else:
            error = {"error": {"code": 503, "message": "too much at once", "status": "UNAVAILABLE"}}
            yield from misbehaving(
                model,
                lambda word: event([{"text": word}]),
                broken='data: {"candidates": [\r\n\r\n',
                error=f"data: {json.dumps(error)}\r\n\r\n",
            )
            if model == "cut":
                return
        yield event([{"text": ""}], "STOP", USAGE)

    @staticmethod
    def _response(model: str, parts: list[Any], reason: str | None, usage: Any) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
        if reason is not None:
            candidate["finishReason"] = reason
        found = {"candidates": [candidate], "modelVersion": f"{model}-served", "responseId": "resp-1"}
        return {**found, "usageMetadata": usage} if usage else found
