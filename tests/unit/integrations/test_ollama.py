"""The ollama library: each call one span, its stream to whichever end."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.clients import attributes, fixture, tree
from tests.support.fake_keeper import FakeKeeper
from tests.support.wire import SO_FAR, TEXT, WireServer, serving
from tests.support.wire_ollama import Ollama

import tracekeeper as tk

ollama = pytest.importorskip("ollama")

seen = fixture("ollama")
ASKED = [{"role": "user", "content": "How is the weather?"}]


@pytest.fixture(scope="module")
def server() -> Iterator[WireServer]:
    with serving(Ollama()) as started:
        yield started


@pytest.fixture
def client(server: WireServer) -> Iterator[Any]:
    made = ollama.Client(server.url)
    yield made
    made.close()


def test_a_call_is_one_span_with_all_that_was_said(seen: FakeKeeper, client: Any) -> None:
    answer = client.chat("full", ASKED, options={"temperature": 0.5, "num_predict": 99})
    assert (type(answer), answer.message.content) == (ollama.ChatResponse, TEXT)
    assert tree(seen) == [" > chat full llm ok"]
    end, said = seen.end(), attributes(seen)
    assert (seen.input(), seen.output()) == (ASKED, TEXT)
    assert (end.model, end.provider) == ("full-served", "ollama")
    assert (end.usage.input_tokens, end.usage.output_tokens, end.usage.estimated) == (7, 10, False)
    assert (said["gen_ai.request.temperature"], said["gen_ai.request.max_tokens"]) == (0.5, 99)
    assert (said["server.address"], said["gen_ai.response.finish_reasons"]) == ("127.0.0.1", ["stop"])


def test_completions_and_embeddings(seen: FakeKeeper, client: Any) -> None:
    assert client.generate("full", "Why?").response == TEXT
    assert len(client.embed("full", ["a", "b"]).embeddings) == 2
    assert tree(seen) == [" > text_completion full llm ok", " > embeddings full embedding ok"]
    assert (seen.input("completion full"), seen.output("completion full")) == ("Why?", TEXT)
    assert seen.output("embeddings full") == {"embeddings": 2, "dimensions": 2}
    assert seen.end("embeddings full").usage.input_tokens == 3


def test_the_functions_of_the_module_are_traced_too(
    seen: FakeKeeper, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ollama.chat.__self__, "_client", client._client)
    assert ollama.chat("full", ASKED).message.content == TEXT
    assert tree(seen) == [" > chat full llm ok"]


def test_a_stream_read_to_its_end(seen: FakeKeeper, client: Any) -> None:
    stream = client.chat("full", ASKED, stream=True)
    assert inspect.isgenerator(stream)
    assert "".join(part.message.content for part in stream) == TEXT
    end = seen.end()
    assert (end.status, seen.output(), end.usage.output_tokens, end.chunks) == ("ok", TEXT, 10, 11)


def test_a_stream_left_early_keeps_its_text(seen: FakeKeeper, client: Any) -> None:
    with tk.span("caller"):
        for number, _ in enumerate(client.chat("full", ASKED, stream=True)):
            if number == 2:
                break
    end = seen.end("chat full")
    assert (end.status, seen.output("chat full"), end.usage.estimated) == ("abandoned", SO_FAR, True)
    assert tree(seen)[1] == "caller > chat full llm abandoned"


def test_an_async_stream_left_early_keeps_its_text(seen: FakeKeeper, server: WireServer) -> None:
    async def run() -> None:
        client = ollama.AsyncClient(server.url)
        assert (await client.chat("full", ASKED)).message.content == TEXT
        stream = await client.chat("full", ASKED, stream=True)
        count = 0
        async for _ in stream:
            count += 1
            if count == 3:
                break
        await stream.aclose()
        await client.close()

    asyncio.run(run())
    assert seen.statuses == ["ok", "abandoned"]


@pytest.mark.parametrize(("model", "status"), [("cut", "truncated"), ("error", "error"), ("malformed", "error")])
def test_a_stream_that_breaks_keeps_its_text(seen: FakeKeeper, client: Any, model: str, status: str) -> None:
    try:
        list(client.chat(model, ASKED, stream=True))
    except (ollama.ResponseError, ValueError):
        assert status == "error"
    assert (seen.end().status, seen.output()) == (status, SO_FAR)


def test_an_error_is_the_same_error(seen: FakeKeeper, client: Any) -> None:
    with pytest.raises(ollama.ResponseError) as raised:
        client.chat("refused", ASKED)
    assert raised.value.status_code == 500
    assert seen.end().error.type == "ollama._types.ResponseError"


def test_calls_of_tools_are_kept(seen: FakeKeeper, client: Any) -> None:
    client.chat("tools", ASKED)
    list(client.chat("tools", ASKED, stream=True))
    from tracekeeper.tracing import capture

    for end in seen.ends:
        assert capture.decode(end.output)["tool_calls"] == [{"name": "weather", "arguments": {"place": "Ireland"}}]


def test_put_back_nothing_is_traced(seen: FakeKeeper, client: Any) -> None:
    tk.uninstrument("ollama")
    assert client.chat("full", ASKED).message.content == TEXT
    assert {type(vars(ollama.Client)[name]).__name__ for name in ("chat", "generate", "embed")} == {"function"}
    assert type(ollama.chat).__name__ == "method"
    assert seen.starts == []
