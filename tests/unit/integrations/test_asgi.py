"""Endings of requests that uvicorn does not produce: messages and exceptions as the ASGI specification has them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.spans import stored

import tracekeeper as tk
from tracekeeper.integrations import http_names
from tracekeeper.integrations.asgi import TracekeeperMiddleware, cookie, header
from tracekeeper.tracing.context import VAR

START = {"type": "http.response.start", "status": 200, "headers": []}
PIECE = {"type": "http.response.body", "body": b"piece", "more_body": True}
LAST = {"type": "http.response.body", "body": b""}
DISCONNECT = {"type": "http.disconnect"}


def scope(kind: str = "http", **more: Any) -> dict[str, Any]:
    return {"type": kind, "method": "GET", "path": "/p", "scheme": "http", "headers": [], **more}


def ended(tmp_path: Path) -> list[tuple[Any, ...]]:
    assert tk.flush(timeout=30).complete
    return stored(tmp_path / "data", "SELECT status, error_type FROM span WHERE record_span_id = '' ORDER BY id")


async def never(message: Any = None) -> Any:
    await asyncio.Event().wait()


async def ignore(message: Any) -> None:
    """A server that takes everything."""


def drive(
    application: Callable[[Any, Any, Any], Awaitable[None]],
    receive: Callable[[], Awaitable[Any]] = never,
    send: Callable[[Any], Awaitable[None]] = ignore,
    kind: str = "http",
) -> None:
    asyncio.run(TracekeeperMiddleware(application)(scope(kind), receive, send))  # type: ignore[arg-type]


async def disconnected() -> Any:
    return DISCONNECT


class ClientDisconnect(Exception):
    """As Starlette calls it."""


def test_a_server_that_raises_at_send_because_the_client_has_gone(keeper: object, tmp_path: Path) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == 3:
            raise OSError("gone")

    async def application(scope: Any, receive: Any, send: Any) -> None:
        try:
            for message in (START, PIECE, PIECE, LAST):
                await send(message)
        except OSError:
            raise ClientDisconnect from None

    with pytest.raises(ClientDisconnect):
        drive(application, send=send)
    assert sent == [START, PIECE, PIECE]
    assert ended(tmp_path) == [("abandoned", None)]


def test_an_application_that_notices_the_disconnect_and_one_that_fails_for_another_reason(
    keeper: object, tmp_path: Path
) -> None:
    async def notices(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        assert await receive() == DISCONNECT

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        await notices(scope, receive, send)
        raise ValueError("while cleaning up")

    async def cancelled(scope: Any, receive: Any, send: Any) -> None:
        await notices(scope, receive, send)
        raise asyncio.CancelledError

    drive(notices, disconnected)
    with pytest.raises(ValueError, match="cleaning"):
        drive(fails, disconnected)
    with pytest.raises(asyncio.CancelledError):
        drive(cancelled, disconnected)
    assert ended(tmp_path) == [("abandoned", None), ("error", "ValueError"), ("abandoned", None)]


def test_a_disconnect_after_the_whole_response_is_no_abandonment(keeper: object, tmp_path: Path) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(LAST)
        await receive()
        raise RuntimeError("a background task")

    with pytest.raises(RuntimeError):
        drive(application, disconnected)
    assert ended(tmp_path) == [("ok", None)]


def test_trailers_files_and_zero_copies_end_a_response(keeper: object, tmp_path: Path) -> None:
    def sends(*messages: Any) -> Any:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            for message in messages:
                await send(message)

        return application

    trailers = {"type": "http.response.trailers", "headers": []}
    drive(sends({**START, "trailers": True}, PIECE, LAST, {**trailers, "more_trailers": True}, trailers))
    drive(sends(START, {"type": "http.response.pathsend", "path": "/f"}))
    drive(sends(START, {"type": "http.response.zerocopysend", "file": 3}))
    drive(sends({**START, "trailers": True}, PIECE, LAST))
    drive(sends(START, PIECE))
    drive(sends())
    assert [status for status, _ in ended(tmp_path)] == ["ok", "ok", "ok", "error", "error", "error"]


@pytest.mark.slow
def test_a_task_that_the_server_cancels_and_one_that_it_drops(keeper: object, tmp_path: Path) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await never()

    async def cancelled() -> None:
        task = asyncio.ensure_future(TracekeeperMiddleware(application)(scope(), never, ignore))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    call = TracekeeperMiddleware(application)(scope(), never, ignore)
    loop = asyncio.new_event_loop()
    asyncio._set_running_loop(loop)
    call.__await__().__next__()  # type: ignore[attr-defined]
    asyncio._set_running_loop(None)
    loop.close()
    del call
    gc.collect()
    assert ended(tmp_path) == [("cancelled", "asyncio.exceptions.CancelledError"), ("abandoned", None)]
    assert tk.current_span().trace_id == ""


def test_a_websocket_that_breaks_and_one_closed_for_an_error(keeper: object, tmp_path: Path) -> None:
    messages: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    class WebSocketDisconnect(Exception):
        """As Starlette calls it."""

    async def listens(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        if (await receive())["type"] == "websocket.disconnect":
            raise WebSocketDisconnect

    async def closes(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1011})

    async def denies(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 503, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b""})

    for code in (1006, 1001):
        messages.append({"type": "websocket.disconnect", "code": code})
        with pytest.raises(WebSocketDisconnect):
            drive(listens, receive, kind="websocket")
    drive(closes, kind="websocket")
    drive(denies, kind="websocket")
    assert ended(tmp_path) == [("abandoned", None), ("ok", None), ("error", "1011"), ("error", "503")]


def test_inside_a_traced_call_a_request_is_part_of_its_record(keeper: object, tmp_path: Path) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        with tk.span("inside"):
            await send(START)
        await send(LAST)

    @tk.trace
    async def outer() -> None:
        await TracekeeperMiddleware(application)(scope(), never, ignore)

    asyncio.run(outer())
    assert len(tk.records()) == 1
    assert ended(tmp_path) == []


@pytest.mark.parametrize("records", [False, True])
def test_after_a_request_its_caller_has_what_it_had(keeper: object, records: bool) -> None:
    """A server that handles requests one after the other in one task, or a test that calls the application."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        for message in scope["messages"]:
            await send(message)
        if not scope["messages"]:
            raise ValueError("no answer")

    async def main() -> None:
        served = TracekeeperMiddleware(application, records=records, session=lambda scope: "s")
        before = VAR.get()
        await served(scope(messages=[START, LAST]), never, ignore)
        assert VAR.get() is before
        await served(scope(messages=[START]), never, ignore)
        with pytest.raises(ValueError, match="no answer"):
            await served(scope(messages=[]), never, ignore)
        assert VAR.get() is before
        assert tk.settings().session_id is None

    asyncio.run(main())


def test_a_middleware_within_a_middleware_is_a_span_below_it(keeper: object, tmp_path: Path) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(LAST)

    drive(TracekeeperMiddleware(application))
    assert tk.flush(timeout=30).complete
    [outer, inner] = stored(tmp_path / "data", "SELECT trace_id, span_id, parent_id FROM span ORDER BY started_at, id")
    assert (inner[0], inner[2]) == outer[:2]


def test_a_tracer_that_fails_costs_nothing(keeper: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from tracekeeper.tracing import trouble

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(LAST)

    def fails(*args: Any) -> Any:
        raise ValueError("no names")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    monkeypatch.setattr(http_names, "attributes", fails)
    drive(application, send=send)
    monkeypatch.undo()
    monkeypatch.setattr(http_names, "route_of", fails)
    drive(application, send=send)
    assert sent == [LAST, LAST]
    assert trouble.counts() == {"beginning the span of a request": 1, "describing a request": 1}
    trouble.forget()


def test_headers_and_cookies_are_found_as_browsers_send_them() -> None:
    headers = [(b"X-User", b"u-1"), (b"cookie", b'a=1; chat="s 1"; b=x=y; broken; flag=')]
    assert header("x-user")({"headers": headers}) == "u-1"
    assert header("x-other")({"headers": headers}) is None
    found = {name: cookie(name)({"headers": headers}) for name in ("a", "chat", "b", "flag", "none")}
    assert found == {"a": "1", "chat": "s 1", "b": "x=y", "flag": "", "none": None}
    assert cookie("a")({}) is None


def test_the_query_string_is_not_kept() -> None:
    said = http_names.attributes(scope(query_string=b"token=secret", path="/p"))
    assert "secret" not in str(said)
    assert said["url.path"] == "/p"


def test_routes_below_mounts_and_included_routers_are_whole() -> None:
    from fastapi import APIRouter, FastAPI
    from starlette.staticfiles import StaticFiles

    app, below, router = FastAPI(), FastAPI(), APIRouter(prefix="/v1")
    router.get("/items/{id}")(lambda id: id)
    below.get("/s/{x}")(lambda x: x)
    app.include_router(router, prefix="/api")
    app.mount("/sub", below)
    app.mount("/static", StaticFiles(directory="."))
    found: dict[str, str | None] = {}

    async def whole(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        found[scope["path"]] = http_names.route_of(scope)

    async def main() -> None:
        for root in ("", "/proxy"):
            for path in ("/api/v1/items/3", "/sub/s/1", "/none", "/static/no.txt"):
                request = scope(
                    path=root + path, root_path=root, query_string=b"", server=("h", 80), http_version="1.1"
                )
                try:
                    await whole(request, never, ignore)
                except Exception as error:
                    found[root + path] = f"{type(error).__name__} {http_names.route_of(request)}"

    asyncio.run(main())
    for root in ("", "/proxy"):
        assert found[f"{root}/api/v1/items/3"] == "/api/v1/items/{id}"
        assert found[f"{root}/sub/s/1"] == "/sub/s/{x}"
        assert found[f"{root}/none"] is None
        assert found[f"{root}/static/no.txt"] == "/static/{path}"
