"""Amazon Bedrock's wire format for the local server: ``/model/ID/converse``, ``/converse-stream``, ``/invoke`` and
``/invoke-with-response-stream``.

Streams are in the binary event stream encoding: a prelude (total length, headers' length, its CRC-32), headers, the
payload, a CRC-32 of it all (Amazon Transcribe developer guide, "Event stream encoding", which all AWS services share).
"""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from tests.support.wire import TEXT, _Messages, misbehaving

USAGE = {"inputTokens": 7, "outputTokens": 10, "totalTokens": 17}
CALL = {"toolUseId": "t-1", "name": "weather", "input": {"place": "Ireland"}}
METRICS = {"inputTokenCount": 7, "outputTokenCount": 10, "invocationLatency": 1, "firstByteLatency": 1}


class Bedrock:
    media = "application/vnd.amazon.eventstream"

    def __init__(self) -> None:
        self._path = ""

    def speaks(self, path: str) -> bool:
        return path.startswith("/model/")

    def model(self, path: str, body: dict[str, Any]) -> str:
        """The last part of the model's id: ``anthropic.reset`` resets."""
        found = re.match(r"/model/([^/]+)/", path)
        assert found is not None
        return unquote(found[1]).rpartition(".")[2]

    def streams(self, path: str, body: dict[str, Any]) -> bool:
        body["path"] = path
        return path.endswith("-stream")

    def whole(self, model: str, body: dict[str, Any]) -> dict[str, Any]:
        if body["path"].endswith("/converse"):
            content = [{"toolUse": CALL}] if model == "tools" else [{"text": TEXT}]
            reason = "tool_use" if model == "tools" else "end_turn"
            message = {"role": "assistant", "content": content}
            return {"output": {"message": message}, "stopReason": reason, "usage": USAGE, "metrics": {"latencyMs": 5}}
        if "anthropic" in body["path"]:
            return _Messages().whole(model, body)
        if "titan" in body["path"]:
            result = {"outputText": TEXT, "tokenCount": 10, "completionReason": "FINISH"}
            return {"inputTextTokenCount": 7, "results": [result]}
        return {"generation": TEXT, "prompt_token_count": 7, "generation_token_count": 10, "stop_reason": "stop"}

    def events(self, model: str, body: dict[str, Any]) -> Iterator[Any]:
        return self._converse(model) if body["path"].endswith("/converse-stream") else self._invoke(model, body)

    def _converse(self, model: str) -> Iterator[Any]:
        yield event("messageStart", {"role": "assistant"})
        reason = "end_turn"
        if model == "tools":
            reason = "tool_use"
            start = {"toolUse": {"toolUseId": CALL["toolUseId"], "name": CALL["name"]}}
            yield event("contentBlockStart", {"start": start, "contentBlockIndex": 0})
            for part in ('{"place": ', '"Ireland"}'):
                yield event("contentBlockDelta", {"delta": {"toolUse": {"input": part}}, "contentBlockIndex": 0})
        else:
            yield from misbehaving(
                model,
                lambda word: event("contentBlockDelta", {"delta": {"text": word}, "contentBlockIndex": 0}),
                broken=b"\0" * 64,
                error=exception("throttlingException", {"message": "too much at once"}),
            )
            if model == "cut":
                return
        yield event("contentBlockStop", {"contentBlockIndex": 0})
        yield event("messageStop", {"stopReason": reason})
        yield event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 5}})

    def _invoke(self, model: str, body: dict[str, Any]) -> Iterator[Any]:
        for one in self._pieces(model, body):
            yield one if isinstance(one, str | bytes) else _chunk(one)

    def _pieces(self, model: str, body: dict[str, Any]) -> Iterator[Any]:
        if "anthropic" in body["path"]:
            for text in _Messages().events(model, body):
                yield text if not text.startswith("event:") else json.loads(text.split("data: ", 1)[1])
            if model != "cut":
                yield {"type": "message_stop", "amazon-bedrock-invocationMetrics": METRICS}
            return
        yield from misbehaving(model, lambda word: {"generation": word, "stop_reason": None}, broken=b"", error=b"")
        if model != "cut":
            yield {"generation": "", "stop_reason": "stop", "amazon-bedrock-invocationMetrics": METRICS}


def _chunk(value: Any) -> bytes:
    return event("chunk", {"bytes": base64.b64encode(json.dumps(value).encode()).decode()})


def event(kind: str, payload: dict[str, Any]) -> bytes:
    """One event of the stream."""
    return _framed({":message-type": "event", ":event-type": kind, ":content-type": "application/json"}, payload)


def exception(kind: str, payload: dict[str, Any]) -> bytes:
    """An exception in the stream."""
    headers = {":message-type": "exception", ":exception-type": kind, ":content-type": "application/json"}
    return _framed(headers, payload)


def _framed(headers: dict[str, str], payload: dict[str, Any]) -> bytes:
    encoded = b""
    for name, value in headers.items():
        data = value.encode()
        encoded += bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(data)) + data
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(encoded) + len(body), len(encoded))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + encoded + body
    return message + struct.pack(">I", zlib.crc32(message))
