"""CrewAI: a crew, its tasks, agents and tools as a tree, the models' calls below them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.clients import OFFLINE, fixture, tree
from tests.support.fake_keeper import FakeKeeper
from tests.support.wire import TEXT, WireServer, serving

import tracekeeper as tk

os.environ.update({name: value for name, value in OFFLINE.items() if value})  # telemetry starts with the import
crewai = pytest.importorskip("crewai")

seen = fixture("crewai", "openai")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def server() -> Iterator[WireServer]:
    with serving() as started:
        yield started


def crew(server: WireServer, model: str = "gpt-4.1-mini", **more: Any) -> Any:
    llm = crewai.LLM(model=model, provider="openai", base_url=f"{server.url}/v1", api_key="none")
    guide = crewai.Agent(role="Guide", goal="Answer", backstory="A guide.", llm=llm, verbose=False, max_iter=2)
    task = crewai.Task(name="answer", description="How is {what}?", expected_output="A sentence.", agent=guide)
    return crewai.Crew(name="guides", agents=[guide], tasks=[task], verbose=False, **more)


def test_a_crew_is_a_tree_below_the_caller(seen: FakeKeeper, server: WireServer) -> None:
    with tk.span("caller"):
        result = crew(server).kickoff(inputs={"what": "the weather"})
    assert TEXT in result.raw
    assert tree(seen)[:5] == [
        " > caller task ok",
        "caller > guides chain ok",
        "guides > answer task ok",
        "answer > Guide agent ok",
        "Guide > chat gpt-4.1-mini llm ok",
    ]
    assert (seen.input("guides"), seen.output("guides")) == ({"what": "the weather"}, result.raw)
    assert seen.input("answer")["description"] == "How is the weather?"


def test_an_async_crew_is_the_same(seen: FakeKeeper, server: WireServer) -> None:
    asyncio.run(crew(server).kickoff_async(inputs={"what": "the weather"}))
    assert tree(seen)[:3] == [" > guides chain ok", "guides > answer task ok", "answer > Guide agent ok"]
    seen.forget()
    asyncio.run(crew(server).akickoff(inputs={"what": "the weather"}))
    assert tree(seen)[:3] == [" > guides chain ok", "guides > answer task ok", "answer > Guide agent ok"]


def test_a_crew_that_streams_has_one_span(seen: FakeKeeper, server: WireServer) -> None:
    with tk.span("caller"):
        for _ in crew(server, stream=True).kickoff(inputs={"what": "the weather"}):
            pass
    assert [line for line in tree(seen) if " guides " in line] == ["caller > guides chain ok"]
    [chat] = {start.span_id for start in seen.starts if start.kind == "llm"}
    [end] = [end for end in seen.ends if end.span_id == chat]
    assert (end.status, end.chunks is not None) == ("ok", True)


def test_tools_have_their_arguments_and_what_they_trace(seen: FakeKeeper) -> None:
    from crewai.tools import tool

    @tk.trace(name="looked_up")
    def looked_up(place: str) -> str:
        return "mild in " + place

    @tool("weather")
    def weather(place: str) -> str:
        """The weather of a place."""
        return looked_up(place)

    assert weather.run(place="Ireland") == "mild in Ireland"
    assert tree(seen) == [" > weather tool ok", "weather > looked_up task ok"]
    assert seen.input("weather") == {"place": "Ireland"}


def test_an_error_is_kept_at_every_level(seen: FakeKeeper, server: WireServer) -> None:
    with pytest.raises(Exception, match="bad day"):
        crew(server, "refused").kickoff(inputs={"what": "x"})
    assert tree(seen)[:2] == [" > guides chain error", "guides > answer task error"]
    assert "Guide > chat refused llm error" in tree(seen)


def test_put_back_nothing_is_traced(seen: FakeKeeper) -> None:
    tk.uninstrument("crewai")
    assert type(vars(crewai.Crew)["kickoff"]).__name__ == "function"
    assert type(vars(crewai.Task)["_execute_core"]).__name__ == "function"
