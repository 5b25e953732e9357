"""G6 for evaluations: a handler of a web server evaluates, awaited or in a sync endpoint, and others are answered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.support.servers import Server, serving

import tracekeeper as tk
from tracekeeper.integrations.asgi import TracekeeperMiddleware

ITEMS = [{"n": n, "expected": n * 2} for n in range(12)]
PINGS = 10


class Hold:
    """Tasks wait here until the test has had other requests answered. From any loop and any thread."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def task(self, n: int) -> int:
        self.begun.set()
        assert self.go_on.wait(30)
        return n * 2

    async def atask(self, n: int) -> int:
        self.begun.set()
        assert await asyncio.to_thread(self.go_on.wait, 30)
        return n * 2


@pytest.fixture
def hold() -> Iterator[Hold]:
    made = Hold()
    yield made
    made.go_on.set()


def exact(output: int, expected: int) -> bool:
    return output == expected


def said(experiment: tk.Experiment) -> dict[str, Any]:
    return {
        "id": experiment.id,
        "outputs": [item.output for item in experiment],
        "counts": experiment.summary().metrics["exact"].counts,
    }


def fastapi_app(hold: Hold) -> FastAPI:
    app = FastAPI()
    app.add_middleware(TracekeeperMiddleware)

    @app.get("/awaited")
    async def awaited(name: str) -> Any:
        return said(await tk.aevaluate(ITEMS, hold.atask, metrics=[exact], name=name))

    @app.get("/awaited-sync-task")
    async def awaited_sync(name: str) -> Any:
        return said(await tk.aevaluate(ITEMS, hold.task, metrics=[exact], name=name))

    @app.get("/sync")
    def sync(name: str) -> Any:
        return said(tk.evaluate(ITEMS, hold.task, metrics=[exact], name=name))

    @app.get("/ping")
    async def ping() -> str:
        return "pong"

    return app


def starlette_app(hold: Hold) -> Starlette:
    async def awaited(request: Request) -> JSONResponse:
        name = request.query_params["name"]
        return JSONResponse(said(await tk.aevaluate(ITEMS, hold.atask, metrics=[exact], name=name)))

    def sync(request: Request) -> JSONResponse:
        return JSONResponse(said(tk.evaluate(ITEMS, hold.task, metrics=[exact], name=request.query_params["name"])))

    async def ping(request: Request) -> JSONResponse:
        return JSONResponse("pong")

    return Starlette(routes=[Route("/awaited", awaited), Route("/sync", sync), Route("/ping", ping)])


def get(server: Server, path: str, **query: Any) -> Any:
    answer = httpx.get(f"{server.url}{path}", params=query, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("made", "path"),
    [
        (fastapi_app, "/awaited"),
        (fastapi_app, "/awaited-sync-task"),
        (fastapi_app, "/sync"),
        (starlette_app, "/awaited"),
        (starlette_app, "/sync"),
    ],
    ids=[
        "fastapi aevaluate",
        "fastapi aevaluate of a sync task",
        "fastapi evaluate",
        "starlette aevaluate",
        "starlette evaluate",
    ],
)
def test_a_handler_evaluates_and_the_server_answers_others_meanwhile(
    made: Any, path: str, hold: Hold, keeper: object
) -> None:
    with serving(made(hold)) as server, ThreadPoolExecutor(1) as client:
        evaluating = client.submit(get, server, path, name="served")
        assert hold.begun.wait(30)
        assert [get(server, "/ping") for _ in range(PINGS)] == ["pong"] * PINGS
        assert not evaluating.done()
        hold.go_on.set()
        answer = evaluating.result(30)
    assert answer["outputs"] == [n * 2 for n in range(12)]
    assert answer["counts"] == {"scored": 12}
    read = tk.Experiment.load(answer["id"])
    assert read.complete
    assert read.summary().metrics["exact"].counts == {"scored": 12}


def test_four_handlers_evaluate_at_once_and_do_not_mix(hold: Hold, keeper: object) -> None:
    paths = ["/awaited", "/sync", "/awaited-sync-task", "/sync"]
    with serving(fastapi_app(hold)) as server, ThreadPoolExecutor(4) as client:
        evaluating = [client.submit(get, server, path, name=f"e{place}") for place, path in enumerate(paths)]
        assert hold.begun.wait(30)
        assert get(server, "/ping") == "pong"
        hold.go_on.set()
        answers = [one.result(30) for one in evaluating]
    assert len({answer["id"] for answer in answers}) == 4
    for place, answer in enumerate(answers):
        assert answer["counts"] == {"scored": 12}
        read = tk.Experiment.load(f"e{place}")
        assert read.id == answer["id"]
        assert [item.output for item in read] == answer["outputs"] == [n * 2 for n in range(12)]
        assert len(tk.records(f'tag = "experiment:{read.id}"', limit=50)) == 12


def test_a_handler_that_is_cancelled_leaves_an_experiment_that_can_be_resumed(hold: Hold, keeper: object) -> None:
    cancelled = threading.Event()
    app = FastAPI()

    @app.get("/bounded")
    async def bounded() -> Any:
        try:
            async with asyncio.timeout(0.3):
                await tk.aevaluate(ITEMS, hold.atask, metrics=[exact], name="cancelled", concurrency=2)
        except TimeoutError as error:
            cancelled.set()
            return str(error.__cause__)
        return "it was not cancelled"

    with serving(app) as server:
        get(server, "/bounded")
    assert cancelled.is_set()
    hold.go_on.set()
    left = tk.Experiment.load("cancelled")
    assert (left.complete, left.missing) == (False, 12)
    rest = tk.resume(left, task=hold.task, metrics=[exact], data=ITEMS)
    assert [item.output for item in rest] == [n * 2 for n in range(12)]
