"""DSPy: modules, models and tools as a tree, with what they used; a stream keeps its text."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.clients import attributes, fixture, tree
from tests.support.fake_keeper import FakeKeeper
from tests.support.wire import TEXT, WireServer, serving

import tracekeeper as tk

dspy = pytest.importorskip("dspy")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
seen = fixture("dspy", "openai")


@pytest.fixture(scope="module")
def server() -> Iterator[WireServer]:
    with serving() as started:
        yield started


@pytest.fixture
def lm(server: WireServer) -> Any:
    def make(name: str = "full", **more: Any) -> Any:
        return dspy.LM(
            f"openai/{name}", api_base=f"{server.url}/v1", api_key="none", cache=False, num_retries=0, **more
        )

    return make


def test_a_model_is_one_span_with_all_that_was_said(seen: FakeKeeper, lm: Any) -> None:
    assert lm(temperature=0.5)("How is the weather?") == [TEXT]
    assert tree(seen) == [" > chat full llm ok"]
    end = seen.end()
    assert (seen.input(), seen.output()) == ("How is the weather?", TEXT)
    assert (end.model, end.provider) == ("full-served", "openai")
    assert (end.usage.input_tokens, end.usage.output_tokens) == (7, 10)
    assert attributes(seen)["gen_ai.request.temperature"] == 0.5


def test_an_async_model_is_the_same(seen: FakeKeeper, lm: Any) -> None:
    assert asyncio.run(lm().acall("?")) == [TEXT]
    assert tree(seen) == [" > chat full llm ok"]
    assert seen.end().usage.output_tokens == 10


def test_a_program_is_a_tree_below_the_caller(seen: FakeKeeper, lm: Any) -> None:
    @tk.trace(name="lookup")
    def lookup(place: str) -> str:
        return "mild in " + place

    class Program(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.answer = dspy.Predict("question -> answer")
            self.tool = dspy.Tool(lookup, name="weather")

        def forward(self, question: str) -> Any:
            self.tool(place="Ireland")
            return self.answer(question=question)

    answering = dspy.utils.DummyLM([{"answer": "mild"}])
    with dspy.context(lm=answering), tk.span("caller"):
        assert Program()(question="?").answer == "mild"
    assert tree(seen)[:4] == [
        " > caller task ok",
        "caller > Program chain ok",
        "Program > weather tool ok",
        "weather > lookup task ok",
    ]
    assert tree(seen)[4] == "Program > Predict chain ok"
    assert tree(seen)[5].startswith("Predict > chat dummy llm ok")
    assert (seen.input("Program"), seen.output("Program")) == ({"question": "?"}, {"answer": "mild"})
    assert (seen.input("weather"), seen.output("weather")) == ({"place": "Ireland"}, "mild in Ireland")


def test_an_error_is_the_same_error_at_every_level(seen: FakeKeeper, lm: Any) -> None:
    with dspy.context(lm=lm("refused")), pytest.raises(dspy.LMError if hasattr(dspy, "LMError") else Exception):
        dspy.Predict("question -> answer")(question="?")
    assert set(seen.statuses) == {"error"}
    assert "chat refused llm error" in " ".join(tree(seen))


def test_a_streaming_program_that_is_left_keeps_the_text(seen: FakeKeeper, lm: Any) -> None:
    pytest.importorskip("dspy.clients.execution")

    async def run() -> str:
        got = ""
        stream = dspy.streamify(dspy.Predict("question -> answer"), is_async_program=True)(question="?")
        async for chunk in stream:
            choices = getattr(chunk, "choices", None)
            got += (choices[0].delta.content or "") if choices else ""
            if len(got) > 8:
                break
        await stream.aclose()
        return got

    with dspy.context(lm=lm("paced")), tk.span("caller"):
        got = asyncio.run(run())
    end = seen.end("chat paced")
    assert (end.status, seen.end("Predict").status) == ("cancelled", "cancelled")
    assert seen.output("chat paced").startswith(got)
    assert end.usage.estimated


def test_put_back_nothing_is_traced(seen: FakeKeeper) -> None:
    before = dspy.Module.__call__
    tk.uninstrument("dspy")
    assert dspy.Module.__call__ is not before
    with dspy.context(lm=dspy.utils.DummyLM([{"answer": "mild"}])):
        assert dspy.Predict("question -> answer")(question="?").answer == "mild"
    assert seen.starts == []
