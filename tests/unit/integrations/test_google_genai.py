"""The google-genai library: each request one span, its stream to whichever end."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.clients import attributes, fixture, tree
from tests.support.fake_keeper import FakeKeeper
from tests.support.wire import SO_FAR, TEXT, WireServer, serving
from tests.support.wire_google import Google

import tracekeeper as tk

pytest.importorskip("google.genai")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from google import genai
    from google.genai import errors, types

seen = fixture("google-genai")


@pytest.fixture(scope="module")
def server() -> Iterator[WireServer]:
    with serving(Google()) as started:
        yield started


def made(server: WireServer) -> Any:
    options = types.HttpOptions(base_url=server.url, retry_options=types.HttpRetryOptions(attempts=1))
    return genai.Client(api_key="none", http_options=options)


@pytest.fixture
def client(server: WireServer) -> Iterator[Any]:
    found = made(server)
    yield found
    found.close()


def test_a_call_is_one_span_with_all_that_was_said(seen: FakeKeeper, client: Any) -> None:
    config = types.GenerateContentConfig(temperature=0.5, system_instruction="Be brief.", stop_sequences=["x"])
    answer = client.models.generate_content(model="full", contents="How is the weather?", config=config)
    assert (type(answer), answer.text) == (types.GenerateContentResponse, TEXT)
    assert tree(seen) == [" > chat full llm ok"]
    end, said = seen.end(), attributes(seen)
    assert seen.input() == "How is the weather?"
    assert seen.output() == [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": TEXT}]
    assert (end.model, end.provider) == ("full-served", "gcp.gemini")
    assert (end.usage.input_tokens, end.usage.output_tokens, end.usage.reasoning_tokens) == (7, 10, 2)
    assert (said["gen_ai.request.temperature"], said["gen_ai.request.stop_sequences"]) == (0.5, ["x"])
    assert said["gen_ai.system_instructions"] == "Be brief."
    assert said["gen_ai.response.finish_reasons"] == ["STOP"]


def test_contents_are_plain_messages(seen: FakeKeeper, client: Any) -> None:
    chat = client.chats.create(model="full")
    chat.send_message("one")
    chat.send_message("two")
    said = [start.input for start in seen.starts]
    from tracekeeper.tracing import capture

    messages = capture.decode(said[1])
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[2]["content"] == "two"


def test_embeddings(seen: FakeKeeper, client: Any) -> None:
    client.models.embed_content(model="full", contents=["a", "b"])
    assert tree(seen) == [" > embeddings full embedding ok"]
    assert seen.output() == {"embeddings": 2, "dimensions": 2}


def test_a_stream_read_to_its_end(seen: FakeKeeper, client: Any) -> None:
    got = "".join(part.text or "" for part in client.models.generate_content_stream(model="full", contents="?"))
    end = seen.end()
    assert (got, end.status, seen.output(), end.usage.output_tokens) == (TEXT, "ok", TEXT, 10)


@pytest.mark.slow
def test_a_stream_left_early_keeps_its_text(seen: FakeKeeper, client: Any) -> None:
    with tk.span("caller"):
        for number, _ in enumerate(client.models.generate_content_stream(model="full", contents="?")):
            if number == 2:
                break
    gc.collect()
    assert tree(seen)[1] == "caller > chat full llm abandoned"
    assert (seen.output("chat full"), seen.end("chat full").usage.estimated) == (SO_FAR, True)


@pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning")  # of the library's own use of aiohttp
def test_an_async_call_and_a_stream_left_early(seen: FakeKeeper, server: WireServer) -> None:
    async def run() -> None:
        async with made(server).aio as client:
            assert (await client.models.generate_content(model="full", contents="?")).text == TEXT
            count = 0
            stream = await client.models.generate_content_stream(model="full", contents="?")
            async for _ in stream:
                count += 1
                if count == 3:
                    break
            await stream.aclose()

    asyncio.run(run())
    assert seen.statuses == ["ok", "abandoned"]
    from tracekeeper.tracing import capture

    assert capture.decode(seen.ends[1].output) == SO_FAR


@pytest.mark.parametrize(("model", "status"), [("cut", "truncated"), ("error", "error"), ("malformed", "error")])
def test_a_stream_that_breaks_keeps_its_text(seen: FakeKeeper, client: Any, model: str, status: str) -> None:
    try:
        list(client.models.generate_content_stream(model=model, contents="?"))
    except (errors.APIError, ValueError):
        assert status == "error"
    assert (seen.end().status, seen.output()) == (status, SO_FAR)


def test_an_error_is_the_same_error(seen: FakeKeeper, client: Any) -> None:
    with pytest.raises(errors.ServerError):
        client.models.generate_content(model="refused", contents="?")
    assert seen.end().error.type == "google.genai.errors.ServerError"


def test_a_function_that_the_library_calls_makes_a_span_for_each_request(seen: FakeKeeper, client: Any) -> None:
    @tk.trace(name="weather")
    def weather(place: str) -> str:
        """The weather."""
        return "mild"

    config = types.GenerateContentConfig(
        tools=[weather], automatic_function_calling=types.AutomaticFunctionCallingConfig(maximum_remote_calls=2)
    )
    with tk.span("caller"):
        client.models.generate_content(model="tools", contents="?", config=config)
    assert tree(seen)[1:] == [
        "caller > chat tools llm ok",
        "caller > weather task ok",
        "caller > chat tools llm ok",
    ]


def test_put_back_nothing_is_traced(seen: FakeKeeper, client: Any) -> None:
    tk.uninstrument("google-genai")
    assert client.models.generate_content(model="full", contents="?").text == TEXT
    held = vars(genai.models.Models)
    names = ("_generate_content", "_generate_content_stream", "embed_content")
    assert {type(held[name]).__name__ for name in names} == {"function"}
    assert seen.starts == []
