"""Pydantic AI: an agent's run with its tools, the model's calls below it, streams to whichever end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.clients import fixture, tree
from tests.support.fake_keeper import FakeKeeper
from tests.support.wire import SO_FAR, TEXT, WireServer, serving

import tracekeeper as tk

pytest.importorskip("pydantic_ai")

import openai
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError, UsageLimitExceeded
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.providers.openai import OpenAIProvider

seen = fixture("pydantic-ai", "openai")


@pytest.fixture(scope="module")
def server() -> Iterator[WireServer]:
    with serving() as started:
        yield started


@pytest.fixture
def loop() -> Iterator[None]:
    """Running without ``await`` makes an event loop and keeps it; here it is one that is closed in the end."""
    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    yield
    asyncio.set_event_loop(None)
    made.close()


@asynccontextmanager
async def agent(server: WireServer, name: str = "full") -> AsyncIterator[Any]:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        made = Agent(OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client)), name="guide")

        @made.tool_plain
        def weather(place: str) -> str:
            """The weather of a place."""
            return looked_up(place)

        yield made


@tk.trace(name="looked_up")
def looked_up(place: str) -> str:
    return f"mild in {place}"


def test_a_run_is_a_tree_below_the_caller(seen: FakeKeeper, server: WireServer) -> None:
    async def go() -> Any:
        async with agent(server) as made:
            return await made.run("How?")

    with tk.span("caller"):
        assert asyncio.run(go()).output == TEXT
    assert tree(seen) == [" > caller task ok", "caller > guide agent ok", "guide > chat full llm ok"]
    assert (seen.input("guide"), seen.output("guide")) == ("How?", TEXT)
    assert seen.end("chat full").usage.output_tokens == 10
    assert seen.end("guide").usage is None


def test_a_sync_run_and_its_tools(seen: FakeKeeper, loop: None) -> None:
    made = Agent(TestModel(), name="guide")
    made.tool_plain(looked_up)
    with tk.span("caller"):
        made.run_sync("How?")
    assert tree(seen)[:3] == [" > caller task ok", "caller > guide agent ok", "guide > looked_up tool ok"]
    assert tree(seen)[3] == "looked_up > looked_up task ok"


def test_a_stream_left_early_keeps_its_text(seen: FakeKeeper, server: WireServer) -> None:
    async def go() -> None:
        async with agent(server) as made, made.run_stream("How?") as result:
            async for text in result.stream_text(debounce_by=None):
                if text == SO_FAR:
                    break

    with tk.span("caller"):
        asyncio.run(go())
    end = seen.end("chat full")
    assert (end.status, seen.output("chat full")) == ("abandoned", SO_FAR)
    assert seen.end("guide").status in ("abandoned", "ok")


def test_errors_are_the_same_errors(seen: FakeKeeper, server: WireServer) -> None:
    async def go(name: str) -> Any:
        async with agent(server, name) as made:
            from pydantic_ai.usage import UsageLimits

            return await made.run("How?", usage_limits=UsageLimits(request_limit=1))

    with pytest.raises(ModelHTTPError):
        asyncio.run(go("refused"))
    assert (seen.end("chat refused").status, seen.end("guide").status) == ("error", "error")
    seen.forget()
    with pytest.raises(UsageLimitExceeded):
        asyncio.run(go("tools"))
    assert "guide > weather tool ok" in tree(seen)
    assert "weather > looked_up task ok" in tree(seen)


def test_put_back_nothing_is_traced(seen: FakeKeeper, loop: None) -> None:
    tk.uninstrument("pydantic-ai")
    Agent(TestModel()).run_sync("How?")
    assert seen.starts == []
    assert type(vars(Agent)["iter"]).__name__ == "function"
