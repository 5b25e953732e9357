"""What OpenTelemetry's semantic conventions call the parts of an HTTP request (stable since version 1.23).

https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server-span. The query string is left out although the
convention has it: it is where links carry their secrets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any

Scope = MutableMapping[str, Any]
"""An ASGI connection scope."""

METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})


def attributes(scope: Scope) -> dict[str, Any]:
    """What is known of a request when it arrives."""
    said: dict[str, Any] = {"url.path": scope.get("path", ""), "url.scheme": scope.get("scheme") or "http"}
    if scope["type"] == "websocket":
        said["http.request.method"] = "GET"
        said["network.protocol.name"] = "websocket"
    else:
        method = str(scope.get("method", ""))
        known = method.upper() in METHODS
        said["http.request.method"] = method.upper() if known else "_OTHER"
        if not known:
            said["http.request.method_original"] = method
    if scope.get("http_version"):
        said["network.protocol.version"] = scope["http_version"]
    server, client = scope.get("server"), scope.get("client")
    if server:
        said["server.address"] = server[0]
        if server[1] is not None:
            said["server.port"] = server[1]
    if client:
        said["client.address"] = client[0]
    agent = header_of(scope, "user-agent")
    if agent is not None:
        said["user_agent.original"] = agent
    return said


def verb(scope: Scope) -> str:
    """How the name of the span begins: ``POST``, ``WEBSOCKET``, or ``HTTP`` for a method that nobody knows."""
    if scope["type"] == "websocket":
        return "WEBSOCKET"
    method = str(scope.get("method", "")).upper()
    return method if method in METHODS else "HTTP"


def route_of(scope: Scope) -> str | None:
    """The template of the path that was chosen (``/items/{id}``), once the router of Starlette or FastAPI has run."""
    route = chosen = scope.get("route")
    mount = ""
    if "app_root_path" in scope:  # below a mount, whose part of the path was moved there
        mount = str(scope.get("root_path", ""))[len(str(scope["app_root_path"])) :]
        if not hasattr(route, "endpoint"):  # nothing nearer is known: a folder, or another kind of application
            return f"{mount}/{{path}}"
    known = scope.get("fastapi")
    if isinstance(known, Mapping):  # a route of an included router knows its own part of the path only
        effective = known.get("effective_route_context")
        if effective is not None and getattr(effective, "original_route", None) is route:
            chosen = effective
    path = getattr(chosen, "path_format", None) or getattr(chosen, "path", None)
    return mount + path if isinstance(path, str) else None


def phrase(status: int) -> str:
    """What a status code means."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "unknown status"


def header_of(scope: Scope, name: str) -> str | None:
    """The first header of this name."""
    wanted = name.lower().encode("latin-1")
    headers: Iterable[tuple[bytes, bytes]] = scope.get("headers") or ()
    for key, value in headers:
        if key.lower() == wanted:
            return value.decode("latin-1")
    return None


def cookie_of(scope: Scope, name: str) -> str | None:
    """The value of a cookie."""
    sent = header_of(scope, "cookie")
    if sent is None:
        return None
    for pair in sent.split(";"):
        key, _, value = pair.strip().partition("=")
        if key != name:
            continue
        try:
            parsed = SimpleCookie(f"{key}={value}")
        except CookieError:
            return value
        return parsed[key].value if key in parsed else value
    return None
