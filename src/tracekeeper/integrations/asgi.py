"""FastAPI, Starlette and every other ASGI application: a span for each request.

``app.add_middleware(TracekeeperMiddleware)``. Plain ASGI, not Starlette's ``BaseHTTPMiddleware``, which runs the
application in a task of its own and stands between a stream and its client.

A request's span lies above the records of what the request calls (see :mod:`tracekeeper.tracing.above`): its trace goes
on from the caller's ``traceparent``, and ``session`` and ``user`` hold for everything inside. See ``docs/web.md``.

Invariants
----------
- The span ends once: with the last byte of the response, else when the application returns, raises, is cancelled or is
  dropped by the server. What runs after the response (background tasks) is below it and does not prolong it.
- Nothing is taken from ``receive`` and nothing is sent that the application does not take or send.
- Whatever fails here is noted; the request goes on.
"""

from __future__ import annotations

import fnmatch
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from tracekeeper.configuration.settings import check, context_of
from tracekeeper.integrations import http_names as names
from tracekeeper.integrations.exchanges import Exchange, HttpExchange, WebSocketExchange
from tracekeeper.integrations.http_names import Scope
from tracekeeper.integrations.registry import instrument
from tracekeeper.tracing import above, opening, propagate, trouble
from tracekeeper.tracing.context import leave
from tracekeeper.tracing.spans import Span
from tracekeeper.types import ConfigurationError, SpanKind

__all__ = ["Source", "TracekeeperMiddleware", "cookie", "header"]

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

Source = Callable[[Scope], str | None]
"""Where a request says whose it is: a function of the ASGI scope."""


def header(name: str) -> Source:
    """A session or user that stands in a header of the request. Anybody can send any header: it proves nothing.

    Example
    -------
    >>> header("X-Session-Id")({"headers": [(b"x-session-id", b"s-1")]})
    's-1'
    """
    return lambda scope: names.header_of(scope, name)


def cookie(name: str) -> Source:
    """A session or user that stands in a cookie. Not the cookie that proves who somebody is: it would be written down.

    Example
    -------
    >>> cookie("chat")({"headers": [(b"cookie", b"theme=dark; chat=s-1")]})
    's-1'
    """
    return lambda scope: names.cookie_of(scope, name)


class TracekeeperMiddleware:
    """A span for each request and each WebSocket connection of an ASGI application.

    Parameters
    ----------
    app:
        The application inside.
    session, user:
        Where a request says which session and user it belongs to: ``header(…)``, ``cookie(…)``, or a function of the
        ASGI scope that returns text or ``None``. They hold for everything that is called inside.
    excluded:
        Paths that are left alone, such as health checks: ``/health``, or with wildcards ``/internal/*``.
    records:
        Whether a request is a record itself, with everything below it, for services that call no app. Otherwise the
        request's span lies above the records of what it calls.

    Raises
    ------
    ConfigurationError
        ``session`` or ``user`` is not callable, or ``excluded`` is one text and not a list.

    Example
    -------
    >>> async def application(scope, receive, send):
    ...     await send({"type": "http.response.start", "status": 200, "headers": []})
    ...     await send({"type": "http.response.body", "body": b"mild"})
    >>> traced = TracekeeperMiddleware(application, session=cookie("chat"), excluded=["/health"])
    """

    def __init__(
        self,
        app: Application,
        *,
        session: Source | None = None,
        user: Source | None = None,
        excluded: Sequence[str] = (),
        records: bool = False,
    ) -> None:
        for option, source in (("session", session), ("user", user)):
            if source is not None and not callable(source):
                raise ConfigurationError(
                    f"{option}={source!r}: expected header({source!r}), cookie({source!r}) or a function of the scope"
                )
        if isinstance(excluded, str):
            raise ConfigurationError(f"excluded={excluded!r}: expected a list of paths, [{excluded!r}]")
        self.app = app
        self._sources = [(key, source) for key, source in (("session_id", session), ("user_id", user)) if source]
        patterns = "|".join(fnmatch.translate(path) for path in excluded)
        self._excluded = re.compile(patterns).match if patterns else None
        self._records = records
        if "fastapi" in sys.modules:
            instrument("fastapi")  # what it cannot do costs one line in the log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or self._is_excluded(scope):
            await self.app(scope, receive, send)
            return
        with self._identity(scope), propagate.extract(scope.get("headers")):
            begun = self._begin(scope)
            if begun is None:
                await self.app(scope, receive, send)
                return
            span, (token, entered) = begun
            kind: type[Exchange] = HttpExchange if scope["type"] == "http" else WebSocketExchange
            exchange = kind(span, scope, receive, send)
            try:
                await self.app(scope, exchange.receive, exchange.send)
            except BaseException as error:
                exchange.failed(error)
                raise
            else:
                exchange.returned()
            finally:
                leave(token, entered)

    def _is_excluded(self, scope: Scope) -> bool:
        if self._excluded is None:
            return False
        path, root = str(scope.get("path", "")), str(scope.get("root_path", ""))
        return self._excluded(path) is not None or (
            bool(root) and path.startswith(root) and self._excluded(path[len(root) :]) is not None
        )

    def _identity(self, scope: Scope) -> AbstractContextManager[Any]:
        said: dict[str, str] = {}
        for key, source in self._sources:
            try:
                value = source(scope)
                if value:
                    said |= check({key: str(value)})
            except Exception as error:  # noqa: BLE001
                trouble.note(f"reading the {key} of a request", error)
        return context_of(said) if said else nullcontext()

    def _begin(self, scope: Scope) -> tuple[Span, tuple[Any, Any]] | None:
        try:
            now = opening.enabled()
            if now is None:
                return None
            name = names.verb(scope)
            made = opening.open_span if self._records else above.open_above
            span = made(now, name, SpanKind.CHAIN.value)
            span.begin_with(names.attributes(scope))
            opening.announce(span)
            return span, above.enter(span)
        except Exception as error:  # noqa: BLE001
            trouble.note("beginning the span of a request", error)
            return None
