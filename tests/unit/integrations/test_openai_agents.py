"""OpenAI's Agents SDK: a workflow is a tree; a model's call is one span, the client's where that is traced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.clients import fixture, offline, traced, tree
from tests.support.fake_keeper import FakeKeeper
from tests.support.wire import SO_FAR, TEXT, WireServer, serving

import tracekeeper as tk

agents = pytest.importorskip("agents")

import openai
from agents.models.openai_chatcompletions import OpenAIChatCompletionsModel
from agents.models.openai_responses import OpenAIResponsesModel
from agents.tracing.provider import SynchronousMultiTracingProcessor

seen = fixture("openai-agents", "openai")


@pytest.fixture(autouse=True)
def _no_upload() -> None:
    agents.set_trace_processors([])


@pytest.fixture(scope="module")
def server() -> Iterator[WireServer]:
    with serving() as started:
        yield started


@agents.function_tool
def weather(place: str) -> str:
    """The weather of a place."""
    return looked_up(place)


@tk.trace(name="looked_up")
def looked_up(place: str) -> str:
    return f"mild in {place}"


@asynccontextmanager
async def agent(
    server: WireServer, name: str = "full", kind: Any = OpenAIChatCompletionsModel, **more: Any
) -> AsyncIterator[Any]:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield agents.Agent(name="Guide", model=kind(model=name, openai_client=client), **more)


def run(server: WireServer, *args: Any, max_turns: int = 3, **more: Any) -> Any:
    async def go() -> Any:
        async with agent(server, *args, **more) as made:
            return await agents.Runner.run(made, "How?", max_turns=max_turns)

    return asyncio.run(go())


def test_a_workflow_is_a_tree_below_the_caller(seen: FakeKeeper, server: WireServer) -> None:
    with tk.span("caller"):
        assert run(server).final_output == TEXT
    assert tree(seen) == [
        " > caller task ok",
        "caller > Agent workflow chain ok",
        "Agent workflow > Guide agent ok",
        "Guide > chat full llm ok",
    ]
    assert seen.end("chat full").usage.output_tokens == 10


@pytest.mark.slow
def test_without_a_traced_client_the_models_call_is_the_librarys(
    monkeypatch: pytest.MonkeyPatch, server: WireServer
) -> None:
    offline(monkeypatch)
    with traced(monkeypatch, "openai-agents") as seen:
        run(server)
        run(server, kind=OpenAIResponsesModel)
        lines = [line for line in tree(seen) if " llm " in line]
        assert len(lines) == 2
        ends = [end for end in seen.ends if end.usage is not None]
        assert [(end.usage.input_tokens, end.usage.output_tokens) for end in ends] == [(7, 10), (7, 10)]


def test_tools_are_below_the_agent_and_what_they_trace_below_them(seen: FakeKeeper, server: WireServer) -> None:
    with pytest.raises(agents.MaxTurnsExceeded):
        run(server, "tools", tools=[weather], max_turns=1)
    assert "Guide > weather tool ok" in tree(seen)
    assert "weather > looked_up task ok" in tree(seen)
    assert seen.output("weather") == "mild in Ireland"
    assert seen.input("looked_up") == "Ireland" or seen.input("looked_up") == {"place": "Ireland"}
    assert seen.end("Guide").status == "error"


def test_a_streamed_run_that_is_cancelled_keeps_the_text(seen: FakeKeeper, server: WireServer) -> None:
    async def go() -> None:
        async with agent(server, "paced") as made:
            result = agents.Runner.run_streamed(made, "How?")
            got = ""
            async for event in result.stream_events():
                got += getattr(getattr(event, "data", None), "delta", "") or ""
                if got == SO_FAR:
                    break
            with tk.span("consumer"):
                pass
            result.cancel()
            server.pace.release(20)

    asyncio.run(go())
    assert (seen.end("chat paced").status, seen.output("chat paced")) == ("cancelled", SO_FAR)
    assert {seen.end("Guide").status, seen.end("Agent workflow").status} <= {"cancelled", "ok", "error"}
    assert " > consumer task ok" in tree(seen)


def test_an_error_is_the_same_error(seen: FakeKeeper, server: WireServer) -> None:
    with pytest.raises(openai.InternalServerError):
        run(server, "refused")
    assert seen.end("chat refused").status == "error"
    assert (seen.end("Guide").status, seen.end("Agent workflow").status) == ("error", "error")


def test_put_back_nothing_is_traced(seen: FakeKeeper, server: WireServer) -> None:
    tk.uninstrument("openai-agents")
    run(server)
    assert tree(seen) == [" > chat full llm ok"]
    assert type(vars(SynchronousMultiTracingProcessor)["on_span_start"]).__name__ == "function"
