"""LlamaIndex: what it does as a tree, models by its own events or by the client below them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.support.clients import fixture, kinds, tree
from tests.support.fake_keeper import FakeKeeper
from tests.support.wire import SO_FAR, TEXT, WORDS, WireServer, serving

import tracekeeper as tk

core = pytest.importorskip("llama_index.core")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.tools import FunctionTool

seen = fixture("llama-index", "openai")


class Said(CustomLLM):
    """A model of the program's own."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="said")

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        if "fail" in prompt:
            raise ValueError("no")
        return CompletionResponse(text=TEXT)

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Iterator[CompletionResponse]:
        def pieces() -> Iterator[CompletionResponse]:
            for number, word in enumerate(WORDS):
                yield CompletionResponse(text="".join(WORDS[: number + 1]), delta=word)

        return pieces()

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> AsyncIterator[Any]:
        async def pieces() -> AsyncIterator[CompletionResponse]:
            for number, word in enumerate(WORDS):
                yield CompletionResponse(text="".join(WORDS[: number + 1]), delta=word)

        return pieces()


@pytest.fixture(scope="module")
def server() -> Iterator[WireServer]:
    with serving() as started:
        yield started


def test_a_call_is_one_model_span(seen: FakeKeeper) -> None:
    with tk.span("caller"):
        assert Said().complete("How?").text == TEXT
    assert tree(seen) == [" > caller task ok", "caller > text_completion said llm ok"]
    assert (seen.input("said"), seen.output("said")) == ("How?", TEXT)


def test_a_chat_made_of_a_completion_is_one_model_span(seen: FakeKeeper) -> None:
    assert Said().chat([ChatMessage("How?")]).message.content == TEXT
    assert kinds(seen).count("llm") == 1
    assert seen.output("chat said") == TEXT


def test_a_query_is_a_tree_with_its_documents(seen: FakeKeeper) -> None:
    index = VectorStoreIndex.from_documents(
        [Document(text="mild"), Document(text="wet")], embed_model=MockEmbedding(embed_dim=2)
    )
    seen.forget()
    engine = index.as_query_engine(llm=Said(), similarity_top_k=2)
    with tk.span("caller"):
        assert str(engine.query("How?")) == TEXT
    lines = tree(seen)
    assert lines[1].startswith("caller > RetrieverQueryEngine.query chain ok")
    assert any("VectorIndexRetriever.retrieve retriever ok" in line for line in lines)
    assert any("embeddings" in line and "embedding ok" in line for line in lines)
    assert any("> text_completion said llm ok" in line or "> chat said llm ok" in line for line in lines)
    from tracekeeper.tracing import capture

    [found] = [capture.decode(end.context) for end in seen.ends if end.context is not None][:1]
    assert sorted(document["content"] for document in found) == ["mild", "wet"]
    assert seen.output("RetrieverQueryEngine.query") == TEXT
    assert set(seen.statuses) == {"ok"}


def test_a_stream_read_to_its_end_and_one_left_early(seen: FakeKeeper) -> None:
    assert "".join(part.delta or "" for part in Said().stream_complete("How?")) == TEXT
    assert (seen.end().status, seen.output(), seen.end().chunks) == ("ok", TEXT, 10)
    seen.forget()
    for number, _ in enumerate(Said().stream_complete("How?")):
        if number == 2:
            break
    gc.collect()
    assert (seen.end().status, seen.output()) == ("abandoned", SO_FAR)


def test_an_async_stream_whose_loop_is_gone_keeps_its_text(seen: FakeKeeper) -> None:
    loop = asyncio.new_event_loop()
    stream = loop.run_until_complete(Said().astream_complete("How?"))
    for _ in range(3):
        loop.run_until_complete(stream.__anext__())
    loop.close()
    del stream
    gc.collect()
    assert (seen.end().status, seen.output()) == ("abandoned", SO_FAR)


def test_a_consumer_of_a_stream_is_not_inside_it(seen: FakeKeeper) -> None:
    with tk.span("caller"):
        for _ in Said().stream_complete("How?"):
            with tk.span("consumer"):
                pass
            break
    gc.collect()
    assert "caller > consumer task ok" in tree(seen)


def test_tools_and_errors(seen: FakeKeeper) -> None:
    @tk.trace(name="looked_up")
    def weather(place: str) -> str:
        return "mild in " + place

    tool = FunctionTool.from_defaults(weather, name="weather")
    assert tool.call(place="Ireland").raw_output == "mild in Ireland"
    assert tree(seen) == [" > weather tool ok", "weather > looked_up task ok"]
    with pytest.raises(ValueError, match=r"^no$"):
        Said().complete("fail")
    assert seen.ends[-1].status == "error"


def test_a_traced_client_below_gives_the_models_span(seen: FakeKeeper, server: WireServer) -> None:
    pytest.importorskip("llama_index.llms.openai")
    from llama_index.llms.openai import OpenAI

    model = OpenAI(model="gpt-4.1-mini", api_base=f"{server.url}/v1", api_key="none", max_retries=0)
    with tk.span("caller"):
        assert model.chat([ChatMessage("How?")]).message.content == TEXT
        stream = model.stream_chat([ChatMessage("How?")])
        for part in stream:
            if part.message.content == SO_FAR:
                break
        del stream, part
    gc.collect()
    assert kinds(seen).count("llm") == 2
    from tracekeeper.tracing import capture

    llms = {start.span_id for start in seen.starts if start.kind == "llm"}
    ends = [end for end in seen.ends if end.span_id in llms]
    assert [(end.status, capture.decode(end.output)) for end in ends] == [("ok", TEXT), ("abandoned", SO_FAR)]


def test_put_back_nothing_is_traced(seen: FakeKeeper) -> None:
    from llama_index.core.instrumentation import get_dispatcher

    tk.uninstrument("llama-index")
    Said().complete("How?")
    assert seen.starts == []
    assert type(vars(type(get_dispatcher()))["span_enter"]).__name__ == "function"
