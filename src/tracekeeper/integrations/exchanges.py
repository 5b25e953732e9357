"""What passes between a server and its application, watched: how a request's span ends.

HTTP: ``ok`` with the last byte of a response below 500, ``error`` with one of 500 and more or with an exception,
``abandoned`` when the client left before, ``cancelled`` when the server cancelled the application. A WebSocket
connection: ``ok`` when either side closed it, ``abandoned`` when it broke, ``error`` and ``cancelled`` as above.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tracekeeper.integrations import http_names as names
from tracekeeper.journal.frames import ErrorInfo
from tracekeeper.tracing import failures, trouble
from tracekeeper.tracing.spans import Span
from tracekeeper.types import SpanStatus

NORMAL = 1000
BROKEN = 1006
"""Close codes of WebSockets (RFC 6455, section 7.4.1): closed as meant, and gone without a word."""
FAILED = 1011
REFUSED = 403
SWITCHED = 101


class Exchange:
    """One connection: what both kinds share."""

    def __init__(
        self,
        span: Span,
        scope: names.Scope,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        self.span = span
        self._scope = scope
        self._receive, self._send = receive, send
        self.status: int | None = None
        self.left = False
        """Whether the client has gone before it was served."""

    async def receive(self) -> Any:
        """The server's ``receive``, watched."""
        message = await self._receive()
        self.received(message)
        return message

    async def send(self, message: Any) -> None:
        """The server's ``send``, watched."""
        self.sends(message)
        try:
            await self._send(message)
        except OSError:  # how a server says that there is nobody to send to (ASGI 2.4)
            self.left = True
            raise
        self.sent(message)

    def received(self, message: Any) -> None:
        """A message came from the client."""
        raise NotImplementedError

    def sends(self, message: Any) -> None:
        """A message is about to be sent."""
        raise NotImplementedError

    def sent(self, message: Any) -> None:
        """It was sent."""
        raise NotImplementedError

    def returned(self) -> None:
        """The application returned."""
        raise NotImplementedError

    def failed(self, error: BaseException) -> None:
        """The application raised, was cancelled, or was dropped by the server (``GeneratorExit``)."""
        quiet = isinstance(error, GeneratorExit)  # a finaliser may be running this
        status = failures.status_of(error)
        if self.left and (status is SpanStatus.CANCELLED or _is_disconnect(error)):
            self.end(SpanStatus.ABANDONED)
            return
        if status is SpanStatus.ERROR and self.status is None:
            self.status = 500  # what the server answers
        self._describe(quiet=quiet)
        self.span.fail(error, quiet=quiet)

    def end(self, status: SpanStatus, failure: ErrorInfo | None = None) -> None:
        """End the span; the first end counts."""
        self._describe()
        if failure is not None and self.span.failure is None:
            self.span.failure = failure
        self.span.close(status)

    def _describe(self, *, quiet: bool = False) -> None:
        try:
            span = self.span
            route = names.route_of(self._scope)
            if route is not None:
                span.set_attribute("http.route", route)
                span.update_name(f"{names.verb(self._scope)} {route}")
            if self.status is not None:
                span.set_attribute("http.response.status_code", self.status)
        except Exception as error:  # noqa: BLE001
            trouble.note("describing a request", error, quiet=quiet)


class HttpExchange(Exchange):
    """A request and its response."""

    complete = False
    """Whether the last byte of the response was sent."""
    _trailers = False

    def received(self, message: Any) -> None:
        """Servers also say ``http.disconnect`` after a complete response."""
        if message.get("type") == "http.disconnect" and not self.complete:
            self.left = True

    def sends(self, message: Any) -> None:
        """The head of the response says its status."""
        if message.get("type") == "http.response.start":
            self.status = message.get("status")
            self._trailers = bool(message.get("trailers"))

    def sent(self, message: Any) -> None:
        """The last part ends the request, unless it failed: then the exception that follows says why."""
        kind = message.get("type")
        if kind == "http.response.trailers":
            over = not message.get("more_trailers", False)
        elif kind in ("http.response.body", "http.response.zerocopysend"):
            over = not message.get("more_body", False) and not self._trailers
        else:
            over = kind == "http.response.pathsend" and not self._trailers
        if over and not self.complete:
            self.complete = True
            if not self._is_failure():
                self.end(SpanStatus.ABANDONED if self.left else SpanStatus.OK)

    def returned(self) -> None:
        """Everything was sent, or the client left, or the application forgot to answer."""
        if not self.span.is_open():
            return
        if self._is_failure():
            code = self.status or 500
            self.end(SpanStatus.ERROR, ErrorInfo(type=str(code), message=names.phrase(code)))
        elif self.complete:
            self.end(SpanStatus.OK)
        elif self.left:
            self.end(SpanStatus.ABANDONED)
        else:
            self.end(SpanStatus.ERROR, ErrorInfo(type="", message="the application returned before its response ended"))

    def _is_failure(self) -> bool:
        return self.status is not None and self.status >= 500


class WebSocketExchange(Exchange):
    """A WebSocket connection, from the handshake to its close."""

    code: int | None = None
    """The close code of whoever closed first."""

    def received(self, message: Any) -> None:
        """The client closed the connection, or is gone."""
        if message.get("type") == "websocket.disconnect" and self.code is None:
            self.code = message.get("code", 1005)
            self.left = self.code == BROKEN

    def sends(self, message: Any) -> None:
        """The application accepts, refuses or closes."""
        match message.get("type"):
            case "websocket.accept":
                self.status = SWITCHED
            case "websocket.http.response.start":
                self.status = message.get("status")
            case "websocket.close" if self.code is None:
                self.code = message.get("code", NORMAL)
                if self.status is None:
                    self.status = REFUSED

    def sent(self, message: Any) -> None:
        """The application may close and go on for a while: the connection ends when it returns."""

    def returned(self) -> None:
        """The connection is closed."""
        code = self.code
        if code is not None:
            self.span.set_attribute("websocket.close_code", code)
        if self.left:
            self.end(SpanStatus.ABANDONED)
        elif code == FAILED or (self.status is not None and self.status >= 500):
            self.end(SpanStatus.ERROR, ErrorInfo(type=str(code or self.status), message="closed because of an error"))
        else:
            self.end(SpanStatus.OK)

    def failed(self, error: BaseException) -> None:
        """What Starlette raises when the client closed is the end of the connection, not a failure."""
        if self.code is not None and _is_disconnect(error):
            self.returned()
            return
        super().failed(error)


def _is_disconnect(error: BaseException) -> bool:
    """Whether it says that the client has gone: by name, since Starlette need not be there."""
    return isinstance(error, OSError) or type(error).__name__ in ("ClientDisconnect", "WebSocketDisconnect")
