"""LangChain and LangGraph: each run one span, below what is around it, ended once, its text kept."""

from __future__ import annotations

import asyncio
import gc
import itertools
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.support.clients import attributes, fixture, kinds, tree
from tests.support.fake_keeper import FakeKeeper
from tests.support.wire import SO_FAR, TEXT, WireServer, serving

import tracekeeper as tk
from tracekeeper.tracing import capture

pytest.importorskip("langchain_core")
pytest.importorskip("langchain_openai")

from langchain_core.documents import Document
from langchain_core.language_models import FakeListLLM
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

seen = fixture("langchain", "openai")
# LangChain keeps its models' connections until they are collected.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
_timeouts = itertools.count(60)


@pytest.fixture(scope="module")
def server() -> Iterator[WireServer]:
    with serving() as started:
        yield started


@pytest.fixture
def model(server: WireServer) -> Any:
    # Its async connections are shared by all models with the same settings, also with those of a loop that is closed.
    seconds = next(_timeouts)

    def make(name: str = "full", **more: Any) -> ChatOpenAI:
        url = f"{server.url}/v1"
        return ChatOpenAI(
            model=name, base_url=url, api_key="none", max_retries=0, timeout=seconds, stream_usage=True, **more
        )

    return make


def chain(model: Any) -> Any:
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{question}")])
    return prompt | model | StrOutputParser()


def test_a_call_is_one_model_span_with_all_that_was_said(seen: FakeKeeper, model: Any) -> None:
    assert model(temperature=0.5).invoke("How is the weather?").content == TEXT
    assert tree(seen) == [" > chat full llm ok"]
    end, said = seen.end(), attributes(seen)
    assert seen.input() == [{"role": "user", "content": "How is the weather?"}]
    assert seen.output() == TEXT
    assert (end.model, end.provider) == ("full-served", "openai")
    assert (end.usage.input_tokens, end.usage.output_tokens, end.usage.estimated) == (7, 10, False)
    assert said["gen_ai.request.temperature"] == 0.5
    assert said["gen_ai.response.finish_reasons"] == ["stop"]


def test_an_async_call_is_the_same(seen: FakeKeeper, model: Any) -> None:
    assert asyncio.run(model().ainvoke("?")).content == TEXT
    assert tree(seen) == [" > chat full llm ok"]
    assert seen.output() == TEXT
    assert seen.end().usage.input_tokens == 7


def test_a_chain_is_a_tree_below_the_caller(seen: FakeKeeper, model: Any) -> None:
    @tk.trace(name="ask")
    def ask(question: str) -> str:
        return chain(model()).invoke({"question": question})

    assert ask("How?") == TEXT
    assert tree(seen) == [
        " > ask task ok",
        "ask > RunnableSequence chain ok",
        "RunnableSequence > ChatPromptTemplate chain ok",
        "RunnableSequence > chat full llm ok",
        "RunnableSequence > StrOutputParser chain ok",
    ]
    assert seen.output("RunnableSequence") == TEXT
    assert len({start.trace_id for start in seen.starts}) == 1


def test_a_stream_read_to_its_end_is_ok(seen: FakeKeeper, model: Any) -> None:
    assert "".join(chain(model()).stream({"question": "?"})) == TEXT
    end = seen.end("chat full")
    assert (end.status, seen.output("chat full"), end.usage.output_tokens) == ("ok", TEXT, 10)
    assert end.chunks >= 10
    assert end.first_chunk is not None
    assert set(seen.statuses) == {"ok"}
    assert capture.decode(seen.end("RunnableSequence").input) == {"question": "?"}


@pytest.mark.slow
def test_a_stream_left_early_keeps_its_text(seen: FakeKeeper, model: Any) -> None:
    got = ""
    for chunk in model().stream("?"):
        got += chunk.content
        if got == SO_FAR:
            break
    gc.collect()
    end = seen.end("chat full")
    assert (end.status, seen.output("chat full")) == ("abandoned", SO_FAR)
    assert end.usage.estimated


def test_a_chain_left_early_is_left_although_langchain_reads_on(seen: FakeKeeper, model: Any) -> None:
    stream = chain(model()).stream({"question": "?"})
    got = ""
    while got != SO_FAR:
        got += next(stream)
    stream.close()
    assert (seen.end("RunnableSequence").status, seen.output("RunnableSequence")) == ("abandoned", SO_FAR)
    assert (seen.end("chat full").status, seen.output("chat full")) == ("ok", TEXT)


async def _left(stream: Any) -> str:
    got = ""
    async for piece in stream:
        got += piece
        if got == SO_FAR:
            break
    return got


@pytest.mark.slow
def test_an_async_stream_left_early_keeps_its_text(seen: FakeKeeper, model: Any) -> None:
    assert asyncio.run(_left(chain(model()).astream({"question": "?"}))) == SO_FAR
    gc.collect()
    assert (seen.end("chat full").status, seen.output("chat full")) == ("abandoned", SO_FAR)
    assert (seen.end("RunnableSequence").status, seen.output("RunnableSequence")) == ("abandoned", SO_FAR)


@pytest.mark.slow
def test_an_async_stream_whose_loop_is_gone_keeps_its_text(
    seen: FakeKeeper, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = model().astream("?")
    loop = asyncio.new_event_loop()
    got = ""
    while got != SO_FAR:
        got += loop.run_until_complete(stream.__anext__()).content
    loop.close()
    assert seen.ends == []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: None)  # of LangChain itself, which wants a loop
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del stream
        gc.collect()
    assert (seen.end().status, seen.output()) == ("abandoned", SO_FAR)


@pytest.mark.slow
def test_a_cancelled_call_is_cancelled(seen: FakeKeeper, model: Any, server: WireServer) -> None:
    async def run() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(chain(model("hang")).ainvoke({"question": "?"}), 0.5)

    asyncio.run(run())
    assert (seen.end("chat hang").status, seen.end("RunnableSequence").status) == ("cancelled", "cancelled")


def test_an_error_is_the_same_error_and_is_kept(seen: FakeKeeper, model: Any) -> None:
    import openai

    with pytest.raises(openai.InternalServerError) as raised:
        chain(model("refused")).invoke({"question": "?"})
    assert seen.end("chat refused").error.type.endswith(raised.type.__qualname__)
    assert seen.end("RunnableSequence").status == "error"


def test_a_stream_that_the_provider_cuts_is_truncated(seen: FakeKeeper, model: Any) -> None:
    assert "".join(chunk.content for chunk in model("cut").stream("?")) == SO_FAR
    assert (seen.end().status, seen.output()) == ("truncated", SO_FAR)


def test_calls_of_tools_are_kept_whole_and_streamed(seen: FakeKeeper, model: Any) -> None:
    model("tools").invoke("?")
    list(model("tools").stream("?"))
    outputs = [seen_output(seen, end) for end in seen.ends]
    for output in outputs:
        [call] = output["tool_calls"]
        assert (call["name"], call["arguments"]) == ("weather", {"place": "Ireland"})


def seen_output(seen: FakeKeeper, end: Any) -> Any:
    return capture.decode(end.output)


class Passages(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        inner(query)
        return [Document("mild", metadata={"source": "a"}), Document("wet")]


@tk.trace(name="inner")
def inner(query: str) -> str:
    return query


@tool
def weather(place: str) -> str:
    """The weather of a place."""
    return inner(place) + ": mild"


def test_retrievers_give_documents_and_tools_their_arguments(seen: FakeKeeper) -> None:
    assert len(Passages().invoke("weather")) == 2
    assert weather.invoke({"place": "Ireland"}) == "Ireland: mild"
    assert [line.split(" > ")[0] for line in tree(seen) if "inner task" in line] == [
        "Passages",
        "weather",
    ]
    assert capture.decode(seen.end("Passages").context) == [
        {"content": "mild", "metadata": {"source": "a"}},
        {"content": "wet"},
    ]
    assert seen.input("weather") == {"place": "Ireland"}
    assert seen.output("weather") == "Ireland: mild"


def test_what_a_step_traces_by_itself_is_below_the_step_and_steps_below_that(seen: FakeKeeper) -> None:
    step = RunnableLambda(lambda value: value + 1).with_config(run_name="add")

    @tk.trace(name="mine")
    def mine(value: int) -> int:
        return step.invoke(value)

    both = RunnableParallel(a=RunnableLambda(mine).with_config(run_name="first"), b=step)
    assert both.invoke(1) == {"a": 2, "b": 2}
    lines = tree(seen)
    assert "first > mine task ok" in lines
    assert "mine > add chain ok" in lines
    assert "RunnableParallel<a,b> > add chain ok" in lines


def test_a_consumer_of_a_stream_is_not_inside_it(seen: FakeKeeper, model: Any) -> None:
    with tk.span("caller"):
        for number, _ in enumerate(chain(model()).stream({"question": "?"})):
            if number == 1:
                inner("x")
                model("full").invoke("another")
    lines = tree(seen)
    assert lines.count("caller > chat full llm ok") == 1
    assert [line.split(" > ")[0] for line in lines if "inner task" in line] == ["caller"]


def test_a_consumer_of_an_async_stream_is_not_inside_it(seen: FakeKeeper, model: Any) -> None:
    import openai

    client = openai.OpenAI(base_url=model().openai_api_base, api_key="none")

    async def run() -> None:
        with tk.span("caller"):
            async for _ in model().astream("?"):
                client.chat.completions.create(model="other", messages=[{"role": "user", "content": "?"}])
                break

    asyncio.run(run())
    assert "caller > chat other llm ok" in tree(seen)


def test_a_batch_gives_spans_side_by_side(seen: FakeKeeper, model: Any) -> None:
    with tk.span("caller"):
        model().batch(["a", "b", "c"])
        asyncio.run(model().abatch(["d", "e"]))
        model().generate([_human("f"), _human("g")])
    assert tree(seen)[1:] == ["caller > chat full llm ok"] * 7
    assert tk.current_span().trace_id == ""


def _human(text: str) -> list[Any]:
    from langchain_core.messages import HumanMessage

    return [HumanMessage(text)]


def test_an_async_completion_leaves_other_handlers_their_start(seen: FakeKeeper) -> None:
    from langchain_core.callbacks import BaseCallbackHandler

    begun: list[str] = []

    class Other(BaseCallbackHandler):
        def on_llm_start(self, serialized: Any, prompts: Any, **more: Any) -> None:
            begun.extend(prompts)

    llm = FakeListLLM(responses=["mild"])
    assert asyncio.run(llm.ainvoke("?", config={"callbacks": [Other()]})) == "mild"
    assert begun == ["?"]
    assert kinds(seen) == ["llm"]
    assert (seen.input(), seen.output()) == ("?", "mild")


def test_a_conversation_is_a_session(seen: FakeKeeper) -> None:
    RunnableLambda(lambda value: value).invoke(1, config={"metadata": {"session_id": "s-1"}})
    assert seen.end().session_id == "s-1"
    assert attributes(seen)["gen_ai.conversation.id"] == "s-1"


def test_put_back_nothing_is_traced(seen: FakeKeeper, model: Any) -> None:
    from langchain_core.callbacks.manager import BaseRunManager
    from langchain_core.runnables import config
    from langchain_core.tracers.context import _configure_hooks

    stream = model().stream("?")
    next(stream)
    tk.uninstrument("langchain")
    list(stream)
    assert seen.statuses == ["ok"]
    chain(model()).invoke({"question": "?"})
    assert kinds(seen) == ["llm", "llm"]  # openai's own
    assert not any("tracekeeper" in hook[0].name for hook in _configure_hooks)
    assert type(vars(BaseRunManager)["__init__"]).__name__ == "function"
    assert type(config._set_config_context).__name__ == "function"


def test_a_graph_is_a_tree_with_its_nodes_and_their_own_work(seen: FakeKeeper, model: Any) -> None:
    pytest.importorskip("langgraph")
    from typing import TypedDict

    from langgraph.graph import END, START, StateGraph

    tk.instrument("langgraph")

    class State(TypedDict):
        question: str
        answer: str

    def retrieve(state: State) -> dict[str, str]:
        inner(state["question"])
        return {}

    async def answer(state: State) -> dict[str, str]:
        inner("async")
        said = await model().ainvoke(state["question"])
        return {"answer": said.content}

    graph = StateGraph(State)
    graph.add_node("retrieve", retrieve)
    graph.add_node("answer", answer)
    graph.add_edge(START, "retrieve")
    graph.add_edge("retrieve", "answer")
    graph.add_edge("answer", END)
    compiled = graph.compile()
    with tk.span("caller"):
        found = asyncio.run(compiled.ainvoke({"question": "?"}, config={"configurable": {"thread_id": "t-1"}}))
    assert found["answer"] == TEXT
    lines = [line for line in tree(seen) if "async" not in line]
    assert lines == [
        " > caller task ok",
        "caller > LangGraph chain ok",
        "LangGraph > retrieve chain ok",
        "retrieve > inner task ok",
        "LangGraph > answer chain ok",
        "answer > inner task ok",
        "answer > chat full llm ok",
    ]
    assert attributes(seen, "chat full")["langgraph.node"] == "answer"


@pytest.mark.slow
def test_a_graph_whose_stream_is_left_is_abandoned(seen: FakeKeeper, model: Any) -> None:
    pytest.importorskip("langgraph")
    from langgraph.graph import START, MessagesState, StateGraph

    graph = StateGraph(MessagesState)
    graph.add_node("answer", lambda state: {"messages": [model().invoke(state["messages"])]})
    graph.add_edge(START, "answer")
    compiled = graph.compile()
    for _ in compiled.stream({"messages": [("human", "?")]}, stream_mode="messages"):
        break
    gc.collect()
    assert seen.end("LangGraph").status == "abandoned"
    assert seen.end("chat full").status in ("ok", "abandoned")
    list(compiled.stream({"messages": [("human", "?")]}, stream_mode="updates"))
    assert seen.ends[-1].status == "ok"


def test_many_at_once_each_have_their_own_parent(seen: FakeKeeper, model: Any) -> None:
    made = chain(model())

    def ask(number: int) -> None:
        with tk.span(f"caller {number}"):
            for _ in made.stream({"question": str(number)}):
                inner(str(number))

    async def aask(number: int) -> None:
        with tk.span(f"caller {number}"):
            async for _ in made.astream({"question": str(number)}):
                inner(str(number))

    async def all_of_them() -> None:
        await asyncio.gather(*(aask(number) for number in range(10, 20)))

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(ask, range(10)))
    asyncio.run(all_of_them())
    starts = {start.span_id: start for start in seen.starts}
    for start in starts.values():
        if start.kind == "llm":
            sequence = starts[start.parent_id or b""]
            caller = starts[sequence.parent_id or b""]
            assert (sequence.name, caller.name.partition(" ")[0]) == ("RunnableSequence", "caller")
            [said] = [one for one in capture.decode(start.input) if one["role"] == "user"]
            assert said["content"] == caller.name.partition(" ")[2]
        elif start.name == "inner":
            assert starts[start.parent_id or b""].name == f"caller {capture.decode(start.input)['query']}"
    assert kinds(seen).count("llm") == 20
    assert set(seen.statuses) == {"ok"}


def test_switched_off_nothing_is_kept_and_everything_works(seen: FakeKeeper, model: Any) -> None:
    with tk.context(enabled=False):
        assert chain(model()).invoke({"question": "?"}) == TEXT
        assert "".join(chain(model()).stream({"question": "?"})) == TEXT
    assert seen.frames == []
