"""G3 and G7 in a web server: requests never mix, and each has one span that ends once, however the exchange ends."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import fastapi
import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from tests.conftest import FULL
from tests.support.servers import Server, serving
from tests.support.spans import stored
from websockets.sync.client import connect

import tracekeeper as tk
from tracekeeper.integrations.asgi import TracekeeperMiddleware, cookie, header

USERS, REQUESTS = 50, 40 if FULL else 4


@pytest.fixture(autouse=True)
def _fastapi_as_it_was() -> Iterator[None]:
    yield
    tk.uninstrument("fastapi")


class Seen(NamedTuple):
    """A span as it is stored."""

    name: str
    status: str
    record: str
    trace: str
    id: str
    parent: str | None
    error: str | None
    attributes: dict[str, Any]


def spans(tmp_path: Path) -> list[Seen]:
    """Every stored span, oldest first."""
    assert tk.flush(timeout=30).complete
    rows = stored(
        tmp_path / "data",
        "SELECT s.name, s.status, s.record_span_id, s.trace_id, s.span_id, s.parent_id, s.error_type, p.attributes "
        "FROM span s LEFT JOIN payload p ON p.id = s.id ORDER BY s.started_at, s.id",
    )
    return [Seen(*row[:-1], json.loads(row[-1] or "{}")) for row in rows]  # type: ignore[arg-type, misc]


def requests(tmp_path: Path) -> list[Seen]:
    """The spans of requests: those that belong to no record."""
    return [span for span in spans(tmp_path) if not span.record]


@tk.trace
def inner(q: str) -> str:
    return q


@tk.app(name="rag", version="1")
def ask(q: str) -> str:
    return inner(q)


@tk.app(name="rag async", version="1")
async def ask_async(q: str) -> str:
    await asyncio.sleep(0)
    return inner(q)


def mixing() -> FastAPI:
    """Every kind of endpoint with every kind of dependency; each says whose settings it saw."""
    app = FastAPI()
    app.add_middleware(TracekeeperMiddleware, session=header("x-session"), user=cookie("user"))

    def sync_yield(tag: str) -> Iterator[str]:
        with tk.context(tags=[tag]):
            yield tag
            assert tk.settings().tags == (tag,)

    async def async_yield(tag: str) -> AsyncIterator[str]:
        async with tk.context(tags=[tag]):
            yield tag
            assert tk.settings().tags == (tag,)

    def said(tag: str) -> dict[str, Any]:
        now = tk.settings()
        return {"tag": list(now.tags), "session": now.session_id, "user": now.user_id}

    @app.get("/sync/sync")
    def sync_sync(tag: str = Depends(sync_yield)) -> Any:
        ask(tag)
        return said(tag)

    @app.get("/async/sync")
    async def async_sync(tag: str = Depends(sync_yield)) -> Any:
        await ask_async(tag)
        return said(tag)

    @app.get("/sync/async")
    def sync_async(tag: str = Depends(async_yield)) -> Any:
        ask(tag)
        return said(tag)

    @app.get("/async/async")
    async def async_async(tag: str = Depends(async_yield)) -> Any:
        await asyncio.to_thread(ask, tag)
        return said(tag)

    @app.get("/asyncified/sync")
    async def asyncified_sync(tag: str = Depends(sync_yield)) -> Any:
        await tk.asyncify(ask)(tag)
        return await tk.asyncify(said)(tag)

    @app.get("/asyncified/async")
    async def asyncified_async(tag: str = Depends(async_yield)) -> Any:
        await tk.asyncify(ask)(tag)
        return await tk.asyncify(said)(tag)

    @app.get("/stream/sync")
    async def stream(tag: str = Depends(sync_yield)) -> Any:
        @tk.trace
        async def pieces() -> AsyncIterator[str]:
            yield json.dumps(said(tag))
            await asyncio.sleep(0)
            inner(tag)

        return StreamingResponse(pieces())

    return app


PATHS = [
    "/sync/sync",
    "/async/sync",
    "/sync/async",
    "/async/async",
    "/asyncified/sync",
    "/asyncified/async",
    "/stream/sync",
]


@pytest.mark.filterwarnings("default::ResourceWarning")
def test_fifty_users_at_once_are_never_mixed(keeper: object, tmp_path: Path) -> None:
    mixed: list[Any] = []

    async def user(client: httpx.AsyncClient, number: int) -> None:
        for turn in range(REQUESTS):
            path = PATHS[(number + turn) % len(PATHS)]
            tag, session = f"t{number}.{turn}", f"s{number}"
            headers = {"x-session": session, "cookie": f"user=u{number}"}
            answer = await client.get(path, params={"tag": tag}, headers=headers)
            if answer.status_code != 200 or answer.json() != {"tag": [tag], "session": session, "user": f"u{number}"}:
                mixed.append((path, answer.status_code, answer.text))

    async def main(url: str) -> None:
        limits = httpx.Limits(max_connections=USERS)
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:
            await asyncio.gather(*(user(client, number) for number in range(USERS)))

    with serving(mixing()) as server:
        asyncio.run(main(server.url))
    assert mixed == []

    records = tk.records(limit=10_000)
    assert len(records) == USERS * REQUESTS, "one record a request: calls inside it belong to it"
    sessions = {(record.tags, record.session_id, record.user_id) for record in records}
    assert sessions == {((f"t{n}.{m}",), f"s{n}", f"u{n}") for n in range(USERS) for m in range(REQUESTS)}
    above = {span.trace: span for span in requests(tmp_path)}
    assert len(above) == USERS * REQUESTS
    for record in records:
        assert above[record.trace_id].status == "ok"
        assert above[record.trace_id].name in {f"GET {path}" for path in PATHS}


def test_without_the_middleware_a_sync_dependency_neither_raises_nor_leaks(keeper: object) -> None:
    """FastAPI runs its halves in two contexts: nothing of it reaches the endpoint then, and nothing of it stays."""
    app = FastAPI()
    shared = tk.context(tags=["shared"])

    def dependency() -> Iterator[None]:
        with shared, tk.context(session_id="s"), tk.span("held"):
            yield

    @app.get("/")
    def endpoint(held: None = Depends(dependency)) -> Any:
        return {"tags": list(tk.settings().tags), "session": tk.settings().session_id}

    with serving(app) as server, httpx.Client(base_url=server.url) as client:
        answers = [client.get("/") for _ in range(20)]
    assert [answer.status_code for answer in answers] == [200] * 20
    assert {answer.text for answer in answers} == {'{"tags":[],"session":null}'}
    assert tk.settings().tags == ()


def test_a_context_inside_a_sync_body_holds_for_one_piece_and_leaks_nowhere(keeper: object) -> None:
    """The limit that docs/web.md states: Starlette makes each piece in a new copy of the request's context."""
    app = FastAPI()
    app.add_middleware(TracekeeperMiddleware, session=lambda scope: "s")

    def body() -> Iterator[str]:
        with tk.context(tags=["inside"]):
            yield json.dumps([tk.settings().tags, tk.settings().session_id]) + "\n"
            yield json.dumps([tk.settings().tags, tk.settings().session_id]) + "\n"
        yield json.dumps([tk.settings().tags, tk.settings().session_id]) + "\n"

    app.get("/")(lambda: StreamingResponse(body()))
    with serving(app) as server, httpx.Client(base_url=server.url) as client:
        answers = {client.get("/").text for _ in range(10)}
    assert [[json.loads(line) for line in answer.splitlines()] for answer in answers] == [
        [[["inside"], "s"], [[], "s"], [[], "s"]]
    ]


def test_a_dependencys_span_and_recording_hold_for_the_endpoint(keeper: object, tmp_path: Path) -> None:
    app = FastAPI()
    app.add_middleware(TracekeeperMiddleware)
    counted: list[int] = []

    def dependency() -> Iterator[None]:
        with tk.recording() as recording, tk.span("the dependency's"):
            yield
        counted.append(len(recording.records))

    @app.get("/")
    async def endpoint(held: None = Depends(dependency)) -> str:
        return inner("a")

    with serving(app) as server, httpx.Client(base_url=server.url) as client:
        assert [client.get("/").json() for _ in range(3)] == ["a"] * 3
    assert counted == [1, 1, 1]
    found = spans(tmp_path)
    held = {span.id: span for span in found if span.name == "the dependency's"}
    assert {span.status for span in held.values()} == {"ok"}
    assert sorted(span.parent or "" for span in found if span.name == "inner") == sorted(held)


def test_a_fastapi_that_is_built_otherwise_costs_a_line_and_no_request(
    keeper: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from fastapi.dependencies import utils

    from tracekeeper.integrations.fastapi import install

    monkeypatch.setattr(utils, "contextmanager_in_threadpool", None)
    with pytest.raises(RuntimeError, match="async def"):
        install()
    served = TracekeeperMiddleware(FastAPI().router)
    assert served.app is not None
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("fastapi ")
    assert "async def" in line


def test_uninstrumenting_puts_fastapis_own_function_back() -> None:
    from fastapi.dependencies import utils

    before = utils.contextmanager_in_threadpool
    TracekeeperMiddleware(FastAPI())
    TracekeeperMiddleware(FastAPI())
    assert utils.contextmanager_in_threadpool is not before
    tk.uninstrument("fastapi")
    assert utils.contextmanager_in_threadpool is before


def test_a_dependencys_exception_and_its_handling_are_fastapis(keeper: object, tmp_path: Path) -> None:
    app = FastAPI()
    app.add_middleware(TracekeeperMiddleware)
    handled: list[str] = []

    def raises() -> Iterator[None]:
        raise fastapi.HTTPException(418)
        yield

    def handles() -> Iterator[None]:
        try:
            with tk.context(tags=["kept"]):
                yield
        except ValueError as error:
            handled.append(str(error))
            raise fastapi.HTTPException(409, str(error)) from error

    @app.get("/raises")
    def one(held: None = Depends(raises)) -> None: ...

    @app.get("/handles")
    def two(held: None = Depends(handles)) -> None:
        raise ValueError(str(tk.settings().tags))

    with serving(app) as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/raises").status_code == 418
        assert client.get("/handles").json() == {"detail": "('kept',)"}
    assert handled == ["('kept',)"]
    assert [(span.name, span.status) for span in requests(tmp_path)] == [("GET /raises", "ok"), ("GET /handles", "ok")]


# How requests end.


def read_pieces(server: Server, path: str, count: int, how: Callable[[socket.socket], None]) -> None:
    """Read a stream's first pieces over a raw socket, then leave."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: test\r\n\r\n".encode())
        text = b""
        while text.count(b"piece") < count:
            received = connection.recv(4096)
            assert received
            text += received
        how(connection)


def closes(connection: socket.socket) -> None:
    connection.close()


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("leave", [closes, resets])
@pytest.mark.parametrize("nature", ["async", "sync"])
def test_a_client_that_leaves_a_stream_after_three_pieces(
    keeper: object, tmp_path: Path, leave: Callable[[socket.socket], None], nature: str
) -> None:
    app = FastAPI()
    app.add_middleware(TracekeeperMiddleware, session=lambda scope: "s-1")
    ended, gone = threading.Event(), threading.Event()  # the second is never set

    @tk.app(name="streaming", version="1")
    async def pieces() -> AsyncIterator[str]:
        try:
            for number in range(3):
                yield f"piece {number}. "
            inner("after the third")
            await asyncio.Event().wait()  # until somebody cancels it
        finally:
            ended.set()

    @tk.app(name="streaming", version="1")
    def sync_pieces() -> Iterator[str]:
        try:
            for number in range(3):
                yield f"piece {number}. "
            inner("after the third")
            while True:
                gone.wait(0.01)  # the pace of a model
                yield " "
        finally:
            ended.set()

    @app.get("/stream")
    def stream() -> StreamingResponse:
        return StreamingResponse(pieces() if nature == "async" else sync_pieces())

    with serving(app) as server:
        read_pieces(server, "/stream", 3, leave)
        if nature == "async":
            assert ended.wait(30)
    gc.collect()  # the server's own cycles may hold the body of a response that it gave up
    assert ended.wait(30)
    [request] = requests(tmp_path)
    assert (request.name, request.status) == ("GET /stream", "abandoned")
    assert request.attributes["http.response.status_code"] == 200
    [record] = tk.records()
    assert record.trace_id == request.trace
    assert record.session_id == "s-1"
    assert str(record.status) in ("abandoned", "cancelled")
    assert str(record.output).startswith("piece 0. piece 1. piece 2. ")


def test_background_tasks_run_below_the_request_and_do_not_prolong_it(keeper: object, tmp_path: Path) -> None:
    app = FastAPI()
    app.add_middleware(TracekeeperMiddleware, session=header("x-session"))
    answered = threading.Event()
    seen: list[tuple[bool, str]] = []

    def later() -> None:
        assert answered.wait(30), "the client has its answer while this runs"
        from tracekeeper.tracing.runtime import open_spans

        seen.append((any(getattr(span, "kind", "") == "chain" for span in open_spans.values()), inner("later")))

    @app.post("/work")
    def work(tasks: BackgroundTasks) -> str:
        tasks.add_task(later)
        return inner("now")

    with serving(app) as server, httpx.Client(base_url=server.url) as client:
        assert client.post("/work", headers={"x-session": "s-1"}).json() == "now"
        answered.set()
    assert seen == [(False, "later")]
    [request] = requests(tmp_path)
    assert (request.name, request.status) == ("POST /work", "ok")
    records = tk.records()
    assert sorted(str(record.output) for record in records) == ["later", "now"]
    assert {(record.trace_id, record.session_id) for record in records} == {(request.trace, "s-1")}
    assert {span.parent for span in spans(tmp_path) if span.record} == {request.id}


def test_a_request_that_the_server_cancels(keeper: object, tmp_path: Path) -> None:
    app = FastAPI()
    app.add_middleware(TracekeeperMiddleware)
    inside = threading.Event()

    @app.get("/slow")
    async def slow() -> None:
        inside.set()
        await asyncio.Event().wait()

    with (
        serving(app, timeout_graceful_shutdown=0) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection,
    ):
        connection.sendall(b"GET /slow HTTP/1.1\r\nhost: test\r\n\r\n")
        assert inside.wait(30)
        server.stop()
    assert [(span.name, span.status) for span in requests(tmp_path)] == [("GET /slow", "cancelled")]


def test_exceptions_and_statuses(keeper: object, tmp_path: Path) -> None:
    app = FastAPI()
    app.add_middleware(TracekeeperMiddleware)

    @app.get("/raises/{number}")
    def raises(number: int) -> None:
        raise KeyError(number)

    @app.get("/unavailable")
    async def unavailable() -> None:
        raise fastapi.HTTPException(503)

    @app.get("/late")
    async def late() -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            yield "one"
            raise OSError("the model is gone")

        return StreamingResponse(pieces())

    # uvicorn closes the connection after an exception: a client that used it again would race with that.
    with serving(app) as server, httpx.Client(base_url=server.url, headers={"connection": "close"}) as client:
        assert client.get("/raises/7").status_code == 500
        assert client.get("/unavailable").status_code == 503
        assert client.get("/nowhere", headers={"user-agent": "test"}).status_code == 404
        assert client.request("BREW", "/raises/1").status_code == 405
        with pytest.raises(httpx.TransportError):
            client.get("/late")
    found = requests(tmp_path)
    assert [(span.name, span.status, span.error) for span in found] == [
        ("GET /raises/{number}", "error", "KeyError"),
        ("GET /unavailable", "error", "503"),
        ("GET", "ok", None),
        ("HTTP /raises/{number}", "ok", None),
        ("GET /late", "error", "OSError"),
    ]
    assert [span.attributes["http.response.status_code"] for span in found] == [500, 503, 404, 405, 200]
    assert found[0].attributes["url.path"] == "/raises/7"
    assert found[0].attributes["http.route"] == "/raises/{number}"
    assert found[0].attributes["client.address"] == "127.0.0.1"
    assert found[2].attributes["user_agent.original"] == "test"
    assert found[3].attributes["http.request.method_original"] == "BREW"
    assert "http.route" not in found[2].attributes


def test_wrapped_around_the_whole_application_it_still_knows_the_exception(keeper: object, tmp_path: Path) -> None:
    app = FastAPI()

    @app.get("/raises")
    def raises() -> None:
        raise KeyError("x")

    with serving(TracekeeperMiddleware(app)) as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/raises").status_code == 500
    [request] = requests(tmp_path)
    assert (request.status, request.error) == ("error", "KeyError")


# WebSockets.


def chat() -> FastAPI:
    app = FastAPI()
    app.add_middleware(TracekeeperMiddleware, session=header("x-session"))

    @app.websocket("/chat/{room}")
    async def talk(socket: WebSocket, room: str) -> None:
        if room == "closed":
            await socket.close(4403)
            return
        await socket.accept()
        if room == "broken":
            raise ValueError("no such room")
        while True:
            await socket.send_text(await ask_async(await socket.receive_text()))

    @app.websocket("/polite")
    async def polite(socket: WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                await socket.send_text(await ask_async(await socket.receive_text()))
        except WebSocketDisconnect:
            pass

    return app


def test_a_websocket_connection_is_one_span_above_its_records(keeper: object, tmp_path: Path) -> None:
    with serving(chat()) as server:
        for path in ("/chat/a", "/polite"):
            with connect(f"ws://127.0.0.1:{server.port}{path}", additional_headers={"x-session": path}) as client:
                for text in ("one", "two"):
                    client.send(text)
                    assert client.recv(30) == text
    found = requests(tmp_path)
    assert [(span.name, span.status) for span in found] == [
        ("WEBSOCKET /chat/{room}", "ok"),
        ("WEBSOCKET /polite", "ok"),
    ]
    assert found[0].attributes["websocket.close_code"] == 1000
    assert found[0].attributes["http.response.status_code"] == 101
    records = tk.records()
    assert sorted((record.session_id or "", record.trace_id) for record in records) == sorted(
        (path, span.trace) for path, span in zip(("/chat/a", "/polite"), found, strict=True) for _ in range(2)
    )


def test_websocket_connections_that_are_refused_or_fail(keeper: object, tmp_path: Path) -> None:
    from websockets.exceptions import ConnectionClosedError, InvalidStatus

    with serving(chat()) as server:
        with pytest.raises(InvalidStatus):
            connect(f"ws://127.0.0.1:{server.port}/chat/closed")
        with connect(f"ws://127.0.0.1:{server.port}/chat/broken") as client, pytest.raises(ConnectionClosedError):
            client.recv(30)
    assert [(span.status, span.error) for span in requests(tmp_path)] == [
        ("ok", None),
        ("error", "ValueError"),
    ]


# What it leaves alone.


def test_lifespan_excluded_paths_and_a_switched_off_tracer_are_left_alone(
    keeper: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        lived.append("began")
        yield
        lived.append("ended")

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(TracekeeperMiddleware, excluded=["/health", "/internal/*"], session=lambda scope: "s")

    @app.get("/{path:path}")
    def anything(path: str) -> Any:
        return [path, tk.settings().session_id]

    with serving(app) as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/health").json() == ["health", None]
        assert client.get("/internal/deep/down").json() == ["internal/deep/down", None]
        assert client.get("/healthy").json() == ["healthy", "s"]
        tk.configure(enabled=False)
        assert client.get("/off").json() == ["off", "s"], "settings hold whether or not anything is traced"
        tk.configure(enabled=True)
    assert lived == ["began", "ended"]
    assert [span.attributes["url.path"] for span in requests(tmp_path)] == ["/healthy"]


def test_a_trace_goes_on_from_the_callers_and_through_to_the_next(keeper: object, tmp_path: Path) -> None:
    app = FastAPI()
    app.add_middleware(TracekeeperMiddleware)

    @app.get("/")
    def endpoint() -> Any:
        return tk.propagate.inject()

    trace = "0af7651916cd43dd8448eb211c80319c"
    with serving(app) as server, httpx.Client(base_url=server.url) as client:
        onward = client.get("/", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"}).json()
        client.get("/", headers={"traceparent": "00-broken"})
    first, second = requests(tmp_path)
    assert (first.trace, first.parent) == (trace, "b7ad6b7169203331")
    assert onward["traceparent"] == f"00-{trace}-{first.id}-01"
    assert second.parent is None


def test_a_request_is_kept_or_left_out_together_with_its_records(keeper: object, tmp_path: Path) -> None:
    app = FastAPI()
    app.add_middleware(TracekeeperMiddleware)
    app.get("/")(lambda: ask("a"))
    tk.configure(sample=0.5)
    with serving(app) as server, httpx.Client(base_url=server.url) as client:
        for number in range(40):
            told = f"00-{number + 1:032x}-{1:016x}-{number % 2:02x}"
            client.get("/", headers={} if number < 20 else {"traceparent": told})
    kept = requests(tmp_path)
    assert {span.trace for span in kept} == {record.trace_id for record in tk.records(limit=100)}
    assert {span.trace for span in kept if span.parent} == {f"{n + 1:032x}" for n in range(20, 40) if n % 2}


def test_a_source_that_fails_costs_nothing_but_its_answer(keeper: object) -> None:
    from tracekeeper.tracing import trouble

    app = FastAPI()
    app.add_middleware(TracekeeperMiddleware, session=lambda scope: scope["no such key"], user=lambda scope: "u")
    app.get("/")(lambda: [tk.settings().session_id, tk.settings().user_id])
    with serving(app) as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/").json() == [None, "u"]
    assert trouble.counts() == {"reading the session_id of a request": 1}
    trouble.forget()


def test_as_records_requests_hold_all_that_they_call(keeper: object, tmp_path: Path) -> None:
    app = FastAPI()
    app.add_middleware(TracekeeperMiddleware, records=True, session=header("x-session"))

    @app.get("/two")
    def two() -> str:
        tk.current_span().set(tags=["from the endpoint"], output="said")
        return inner("a") + inner("b")

    with serving(app) as server, httpx.Client(base_url=server.url) as client:
        assert client.get("/two", headers={"x-session": "s"}).json() == "ab"
    [record] = tk.records()
    assert (record.name, record.session_id, record.tags) == ("GET /two", "s", ("from the endpoint",))
    assert (record.output, len(spans(tmp_path))) == ("said", 3)


def test_wrong_options_are_refused_with_the_right_ones() -> None:
    app = FastAPI()
    with pytest.raises(tk.ConfigurationError, match="header\\('x-session'\\)"):
        TracekeeperMiddleware(app, session="x-session")  # type: ignore[arg-type]
    with pytest.raises(tk.ConfigurationError, match="\\['/health'\\]"):
        TracekeeperMiddleware(app, excluded="/health")
