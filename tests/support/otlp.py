"""An OTLP endpoint on this machine: takes requests, decodes them, and answers as it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Reply(NamedTuple):
    """An answer. ``rejected`` makes it a partial success; ``hang`` is waited for before it is given."""

    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})
    rejected: int = 0
    message: str = ""
    hang: threading.Event | None = None
    body: bytes | None = None


class Span(NamedTuple):
    """A span as it arrived, with its resource and scope."""

    proto: Any
    attributes: dict[str, Any]
    resource: dict[str, Any]
    scope: str

    @property
    def name(self) -> str:
        return str(self.proto.name)


class OtlpServer(ThreadingHTTPServer):
    """Keeps what it took; ``replies`` are given first, then 200 for ever."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.replies: list[Reply] = []
        self.arrived = threading.Condition()
        self.requests: list[tuple[str, dict[str, str], ExportTraceServiceRequest]] = []
        self.taken: list[Span] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def wait(self, count: int, timeout: float = 20.0) -> list[Span]:
        """Wait until so many spans were taken."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.taken) >= count, timeout), [s.name for s in self.taken]
            return list(self.taken)

    def wait_for_requests(self, count: int, timeout: float = 20.0) -> None:
        """Wait until it was asked so often, whatever it answered."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.requests) >= count, timeout), len(self.requests)

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.taken]


class _Handler(BaseHTTPRequestHandler):
    server: OtlpServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = ExportTraceServiceRequest.FromString(body)
        server = self.server
        with server.arrived:
            reply = server.replies.pop(0) if server.replies else Reply()
            server.requests.append((self.path, {name.lower(): text for name, text in self.headers.items()}, request))
            server.arrived.notify_all()
        if reply.hang is not None:
            reply.hang.wait(30)
        told = ExportTraceServiceResponse()
        if reply.rejected or reply.message:
            told.partial_success.CopyFrom(
                ExportTracePartialSuccess(rejected_spans=reply.rejected, error_message=reply.message)
            )
        answer = told.SerializeToString() if reply.body is None else reply.body
        if reply.status == 200:
            with server.arrived:
                server.taken += spans_of(request)
                server.arrived.notify_all()
        try:
            self.send_response(reply.status)
            for name, text in reply.headers.items():
                self.send_header(name, text)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
        except OSError:
            assert reply.hang is not None, "the client hung up"

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def spans_of(request: ExportTraceServiceRequest) -> list[Span]:
    return [
        Span(span, plain(span.attributes), plain(of_resource.resource.attributes), of_scope.scope.name)
        for of_resource in request.resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    ]


def plain(attributes: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)


@contextmanager
def otlp_server(port: int = 0) -> Iterator[OtlpServer]:
    """An endpoint that runs inside the block."""
    server = OtlpServer(port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
