"""A local server that speaks the wire formats of OpenAI and Anthropic, and misbehaves as it is told.

Other formats (``wire_ollama``, ``wire_google``, ``wire_bedrock``) are given to ``serving``.

The name of the model says what it does: ``full``, ``reset`` (after three words), … (``BEHAVIOURS``). A real socket on
loopback, so clients meet what they meet in production: chunked bodies, RST, a body that ends early, a server that says
nothing more. Waiting ones wait for ``let_go``.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = ["The ", "weather ", "in ", "Ireland ", "is ", "mild ", "and ", "wet ", "all ", "year."]
TEXT = "".join(WORDS)
SO_FAR = "".join(WORDS[:3])
"""What came before the server misbehaves."""
USAGE = {"prompt_tokens": 7, "completion_tokens": 10, "total_tokens": 17}
BEHAVIOURS = {
    "full": "ten words, the finish reason, the usage if it was asked for, the end mark",
    "empty": "three words, an empty chunk, the rest",
    "reset": "three words, then the connection is reset",
    "cut": "three words, then the body ends as if it were complete, without finish reason or end mark",
    "malformed": "three words, then a chunk that is no JSON",
    "error": "three words, then an error object in the stream",
    "stall": "three words, then nothing until `let_go`",
    "hang": "no answer at all until `let_go`",
    "tools": "a call of a tool, its arguments in pieces",
    "refused": "status 500",
    "drip": "a byte a second, of the answer or of the stream, until `let_go`",
    "long": "a thousand words",
    "paced": "a word whenever `pace` is released, then the end",
}


class WireServer(ThreadingHTTPServer):
    """Start one with ``serving()``."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, *others: Any) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.others = others
        """Formats beside the usual ones: ``speaks(path)``, ``model(path, body)``, ``streams(path, body)``, ``media``,
        ``whole(model, body)`` and ``events(model, body)``, a text or bytes each."""
        self.let_go = threading.Event()
        self.pace = threading.Semaphore(0)
        self.script: deque[dict[str, Any]] = deque()
        """What the next requests are answered with: a `text`, `calls` of a tool, or a `status` with `headers`."""
        self.gone = threading.Semaphore(0)
        """Released when a client is found to have closed its connection."""
        self.requests: list[dict[str, Any]] = []
        """Bodies, with ``path`` and ``headers``, in the order in which they came."""

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is what is tested here."""


@contextmanager
def serving(*others: Any) -> Iterator[WireServer]:
    """A server in a thread, until the end of the block."""
    server = WireServer(*others)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.let_go.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WireServer
    disable_nagle_algorithm = True  # each word is sent when it is said

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({**body, "path": self.path, "headers": dict(self.headers)})
        other = next((format for format in self.server.others if format.speaks(self.path)), None)
        model = other.model(self.path, body) if other else str(body.get("model", "full")).rpartition("/")[2]
        said = self.server.script.popleft() if self.server.script else {}
        if "status" in said:
            self._json(said["status"], {"error": {"type": "scripted", "message": "as told"}}, said.get("headers"))
            return
        if "calls" in said:
            self._json(200, _format(self.path).whole("tools", body))
            return
        if "text" in said:
            self._json(200, _format(self.path).whole("full", body, said["text"]))
            return
        if model == "drip":
            self._drip()
            return
        if model == "hang":
            self.server.let_go.wait(60)
            model = "full"
        if model == "refused":
            self._json(500, {"error": {"type": "api_error", "message": "the provider has a bad day"}})
        elif other:
            if other.streams(self.path, body):
                self._stream(other.events(model, body), model, other.media)
            else:
                self._json(200, other.whole(model, {**body, "path": self.path}))
        elif self.path.endswith("/embeddings"):
            given = body["input"] if isinstance(body["input"], list) else [body["input"]]
            data = [{"object": "embedding", "index": i, "embedding": [0.5, 0.25, 0.125]} for i in range(len(given))]
            self._json(
                200, {"object": "list", "model": model, "data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}}
            )
        else:
            format = _format(self.path.partition("?")[0])
            if body.get("stream"):
                self._stream(format.events(model, body), model)
            else:
                self._json(200, format.whole(model, body))

    def _drip(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        try:
            while not self.server.let_go.wait(1):
                self.wfile.write(b":")
        except OSError:
            self.server.gone.release()
        self.close_connection = True

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, said in (headers or {}).items():
            self.send_header(name, said)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, events: Iterator[str | bytes], model: str, media: str = "text/event-stream") -> None:
        self.send_response(200)
        self.send_header("Content-Type", media)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            if event == "RESET":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.wfile.flush()
                self.connection.close()
                self.close_connection = True
                return
            if event == "WAIT":
                self.server.let_go.wait(60)
                continue
            if event == "PACE":
                self.server.pace.acquire(timeout=60)
                continue
            data = event if isinstance(event, bytes) else event.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


class _Chat:
    """Chat Completions: ``POST …/chat/completions``."""

    def whole(self, model: str, body: dict[str, Any], text: str = TEXT) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if model == "tools":
            call = {
                "id": "call_1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"place": "Ireland"}'},
            }
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choices = [{"index": i, "finish_reason": "stop", "message": message} for i in range(body.get("n") or 1)]
        return {**self._head(model, "chat.completion"), "choices": choices, "usage": USAGE}

    def events(self, model: str, body: dict[str, Any]) -> Iterator[str]:
        def chunk(delta: dict[str, Any], reason: str | None = None) -> str:
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            return self._event({**self._head(model, "chat.completion.chunk"), "choices": [choice]})

        yield chunk({"role": "assistant", "content": ""})
        if model == "tools":
            call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
            yield chunk({"tool_calls": [call]})
            for part in ('{"place": ', '"Ireland"}'):
                yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
            yield chunk({}, "tool_calls")
        else:
            yield from misbehaving(
                model,
                lambda word: chunk({"content": word}),
                broken='data: {{"id": "x", "choices": [\n\n',
                error='data: {"error": {"type": "overloaded", "message": "too much at once"}}\n\n',
            )
            if model == "cut":
                return
            yield chunk({}, "stop")
        if (body.get("stream_options") or {}).get("include_usage"):
            yield self._event({**self._head(model, "chat.completion.chunk"), "choices": [], "usage": USAGE})
        yield "data: [DONE]\n\n"

    @staticmethod
    def _head(model: str, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": 1_700_000_000, "model": f"{model}-served"}

    @staticmethod
    def _event(value: Any) -> str:
        return f"data: {json.dumps(value)}\n\n"


class _Responses:
    """Responses: ``POST …/responses``."""

    def whole(self, model: str, body: dict[str, Any]) -> dict[str, Any]:
        part = {"type": "output_text", "text": TEXT, "annotations": []}
        item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
        usage = {"input_tokens": 7, "output_tokens": 10, "total_tokens": 17}
        usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        return {**self._head(model, "completed"), "output": [item], "usage": usage}

    def events(self, model: str, body: dict[str, Any]) -> Iterator[str]:
        number = iter(range(1_000_000))

        def event(kind: str, **fields: Any) -> str:
            return f"event: {kind}\ndata: {json.dumps({'type': kind, 'sequence_number': next(number), **fields})}\n\n"

        place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
        yield event("response.created", response={**self._head(model, "in_progress"), "output": []})
        yield event("response.output_item.added", output_index=0, item=item)
        part = {"type": "output_text", "text": "", "annotations": []}
        yield event("response.content_part.added", **place, part=part)
        yield from misbehaving(
            model,
            lambda word: event("response.output_text.delta", **place, delta=word, logprobs=[]),
            broken='event: response.output_text.delta\ndata: {"type": \n\n',
            error='event: error\ndata: {"error": {"type": "overloaded", "message": "too much at once"}}\n\n',
        )
        if model == "cut":
            return
        yield event("response.completed", response=self.whole(model, body))

    @staticmethod
    def _head(model: str, status: str) -> dict[str, Any]:
        head = {"id": "resp_1", "object": "response", "created_at": 1_700_000_000, "model": f"{model}-served"}
        return head | {"status": status, "parallel_tool_calls": False, "tool_choice": "auto", "tools": []}


class _Messages:
    """Anthropic's Messages: ``POST …/messages``."""

    def whole(self, model: str, body: dict[str, Any], text: str = TEXT) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "text", "text": text}]
        if model == "tools":
            content = [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"place": "Ireland"}}]
        usage = {"input_tokens": 7, "output_tokens": 10}
        return {**self._head(model), "content": content, "stop_reason": "end_turn", "usage": usage}

    def events(self, model: str, body: dict[str, Any]) -> Iterator[str]:
        def event(kind: str, **fields: Any) -> str:
            return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"

        start = {
            **self._head(model),
            "content": [],
            "stop_reason": None,
            "usage": {"input_tokens": 7, "output_tokens": 1},
        }
        yield event("message_start", message=start)
        reason = "end_turn"
        if model == "tools":
            reason = "tool_use"
            block: dict[str, Any] = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
            yield event("content_block_start", index=0, content_block=block)
            for part in ('{"place": ', '"Ireland"}'):
                delta = {"type": "input_json_delta", "partial_json": part}
                yield event("content_block_delta", index=0, delta=delta)
        else:
            yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
            yield from misbehaving(
                model,
                lambda word: event("content_block_delta", index=0, delta={"type": "text_delta", "text": word}),
                broken='event: content_block_delta\ndata: {"type": \n\n',
                error='event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": ""}}\n\n',
            )
            if model == "cut":
                return
        yield event("content_block_stop", index=0)
        delta = {"stop_reason": reason, "stop_sequence": None}
        yield event("message_delta", delta=delta, usage={"output_tokens": 10})
        yield event("message_stop")

    @staticmethod
    def _head(model: str) -> dict[str, Any]:
        head = {"id": "msg_1", "type": "message", "role": "assistant", "model": f"{model}-served"}
        return head | {"stop_sequence": None}


def misbehaving(model: str, said: Any, *, broken: Any, error: Any) -> Iterator[Any]:
    """Words, each as ``said`` makes an event of it, with what the model's name asks for in between."""
    words = [f"word{i} " for i in range(1000)] if model == "long" else WORDS
    for number, word in enumerate(words):
        if number == 3 and model == "empty":
            yield said("")
        if number == 3 and model in ("reset", "cut", "malformed", "error", "stall"):
            if model == "reset":
                yield from ("PACE", "RESET")  # once what came is read: a reset throws away what waits
            elif model == "malformed":
                yield broken
            elif model == "error":
                yield error
            elif model == "stall":
                yield "WAIT"
            if model != "stall":
                return
        if model == "paced" and number >= 3:
            yield "PACE"
        yield said(word)


def _format(path: str) -> Any:
    if path.endswith("/messages"):
        return _Messages()
    return _Responses() if path.endswith("/responses") else _Chat()


if __name__ == "__main__":  # in a process of its own, for benchmarks: prints its address, ends with its input
    from tests.support.wire_bedrock import Bedrock
    from tests.support.wire_google import Google
    from tests.support.wire_ollama import Ollama

    with serving(Bedrock(), Google(), Ollama()) as _server:
        print(_server.url, flush=True)
        sys.stdin.read()
