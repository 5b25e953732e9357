"""What a call of the ``openai`` library leaves, over every way that leads to one; results are the library's own."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tests.support import garbage
from tests.support.fake_keeper import FakeKeeper
from tests.support.wire import SO_FAR, TEXT, WireServer

import tracekeeper as tk

openai = pytest.importorskip("openai")
pytestmark = [
    pytest.mark.usefixtures("_put_back"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
SAID = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "What is the weather like?"}]


@pytest.fixture
def client(server: WireServer) -> Iterator[Any]:
    tk.instrument("openai")
    with openai.OpenAI(api_key="secret-key", base_url=f"{server.url}/v1", max_retries=0) as made:
        yield made


def attributes(kept: FakeKeeper) -> dict[str, Any]:
    [start], [end] = kept.starts, kept.ends
    return {**json.loads(start.attributes or b"{}"), **json.loads(end.attributes or b"{}")}


def test_a_chat_completion(client: Any, kept: FakeKeeper) -> None:
    answer = client.chat.completions.create(model="full", messages=SAID, temperature=0.5, max_tokens=99, seed=7)
    assert answer.choices[0].message.content == TEXT
    [start], [end] = kept.starts, kept.ends
    assert (start.name, start.kind, end.status, end.model, end.provider) == (
        *("chat full", "llm", "ok", "full-served", "openai"),
    )
    assert kept.input() == SAID
    assert kept.output() == TEXT
    assert (end.usage.input_tokens, end.usage.output_tokens, end.usage.estimated) == (7, 10, False)
    assert attributes(kept) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "full",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 99,
        "gen_ai.request.seed": 7,
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "full-served",
        "gen_ai.response.finish_reasons": ["stop"],
        "server.address": "127.0.0.1",
    }
    assert b"secret-key" not in b"".join(map(msgspec.json.encode, kept.frames))


def test_an_async_chat_completion_of_several_choices(server: WireServer, kept: FakeKeeper) -> None:
    tk.instrument("openai")

    async def main() -> Any:
        async with openai.AsyncOpenAI(api_key="k", base_url=f"{server.url}/v1", max_retries=0) as client:
            return await client.chat.completions.create(model="full", messages=SAID, n=2)

    assert len(asyncio.run(main()).choices) == 2
    assert kept.output() == [TEXT, TEXT]
    assert kept.statuses == ["ok"]


@pytest.mark.parametrize("stream", [False, True])
def test_calls_of_tools_are_kept_whole_and_in_pieces_alike(client: Any, kept: FakeKeeper, stream: bool) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    answer = client.chat.completions.create(model="tools", messages=SAID, tools=tools, stream=stream)
    if stream:
        list(answer)
    call = {"id": "call_1", "name": "weather", "arguments": '{"place": "Ireland"}'}
    assert kept.output() == {"role": "assistant", "tool_calls": [call]}
    assert attributes(kept)["gen_ai.tool.definitions"] == tools
    assert kept.statuses == ["ok"]


def test_usage_of_a_stream_is_as_reported_and_an_estimate_says_that_it_is_one(client: Any, kept: FakeKeeper) -> None:
    options = {"include_usage": True}
    list(client.chat.completions.create(model="full", messages=SAID, stream=True, stream_options=options))
    list(client.chat.completions.create(model="full", messages=SAID, stream=True))
    reported, estimated = (end.usage for end in kept.ends)
    assert (reported.input_tokens, reported.output_tokens, reported.estimated) == (7, 10, False)
    assert (estimated.estimated, estimated.output_tokens) == (True, 12)  # 48 characters
    assert estimated.input_tokens == (3 + 4) + (7 + 4)  # "Be short.", "What is the weather like?"


def test_the_time_of_the_first_chunk_and_their_number_are_kept(client: Any, kept: FakeKeeper) -> None:
    chunks = list(client.chat.completions.create(model="full", messages=SAID, stream=True))
    [start], [end] = kept.starts, kept.ends
    assert end.chunks == len(chunks) == 12
    assert start.started <= end.first_chunk <= end.ended


def test_structured_parsing(client: Any, kept: FakeKeeper) -> None:
    pydantic = pytest.importorskip("pydantic")

    class Anything(pydantic.RootModel[str]):
        pass

    with pytest.raises(Exception):  # noqa: B017  the answer is no JSON: the library's own error, after the answer came
        client.chat.completions.parse(model="full", messages=SAID, response_format=Anything)
    assert [start.name for start in kept.starts] == ["chat full"]
    assert kept.statuses == ["error"]


def test_the_helper_for_streams(client: Any, kept: FakeKeeper) -> None:
    with client.chat.completions.stream(model="full", messages=SAID) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content == TEXT
    assert (kept.statuses, kept.output()) == (["ok"], TEXT)


def test_the_helper_for_streams_ends_the_span_when_its_block_is_left(client: Any, kept: FakeKeeper) -> None:
    gc.disable()
    try:
        with client.chat.completions.stream(model="full", messages=SAID) as stream:
            said = ""
            for event in stream:
                said += event.delta if event.type == "content.delta" else ""
                if said == SO_FAR:
                    break
        assert (kept.statuses, kept.output()) == (["abandoned"], SO_FAR)
    finally:
        gc.enable()


def test_the_helper_for_streams_of_responses(client: Any, kept: FakeKeeper) -> None:
    with client.responses.stream(model="full", input="weather?") as stream:
        for _ in stream:
            pass
    with client.responses.stream(model="full", input="weather?") as stream:
        next(iter(stream))
    assert kept.statuses == ["ok", "abandoned"]


def test_the_async_helper_for_streams(server: WireServer, kept: FakeKeeper) -> None:
    tk.instrument("openai")

    async def main() -> None:
        async with openai.AsyncOpenAI(api_key="k", base_url=f"{server.url}/v1", max_retries=0) as client:
            async with client.chat.completions.stream(model="full", messages=SAID) as stream:
                async for _ in stream:
                    break
            assert kept.statuses == ["abandoned"]

    asyncio.run(main())


def test_a_response(client: Any, kept: FakeKeeper) -> None:
    answer = client.responses.create(model="full", input="weather?", instructions="Be short.")
    assert answer.output_text == TEXT
    assert (kept.input(), kept.output()) == ("weather?", TEXT)
    assert kept.ends[0].usage.output_tokens == 10
    assert attributes(kept)["gen_ai.system_instructions"] == "Be short."


def test_embeddings(client: Any, kept: FakeKeeper) -> None:
    answer = client.embeddings.create(model="small", input=["a", "b"])
    assert len(answer.data) == 2
    [start], [end] = kept.starts, kept.ends
    assert (start.name, start.kind, end.status) == ("embeddings small", "embedding", "ok")
    assert kept.input() == ["a", "b"]
    assert kept.output()["embeddings"] == 2
    assert end.usage.input_tokens == 3


def test_a_raw_response_is_read_when_the_program_parses_it(client: Any, kept: FakeKeeper) -> None:
    raw = client.chat.completions.with_raw_response.create(model="full", messages=SAID)
    assert raw.headers["content-type"] == "application/json"
    assert raw.parse().choices[0].message.content == TEXT
    assert raw.parse() is raw.parse()
    assert (kept.statuses, kept.output()) == (["ok"], TEXT)


def test_a_raw_response_that_is_never_parsed_ends_with_its_last_reference(client: Any, kept: FakeKeeper) -> None:
    gc.disable()  # nothing is left to the collector
    try:
        raw = client.chat.completions.with_raw_response.create(model="full", messages=SAID)
        assert kept.statuses == []
        del raw
        assert kept.statuses == ["ok"]
    finally:
        gc.enable()


def test_a_raw_response_is_the_librarys_in_every_other_respect(client: Any, kept: FakeKeeper) -> None:
    with client.chat.completions.with_streaming_response.create(model="full", messages=SAID) as response:
        tk.uninstrument("openai")
        kind = openai.APIResponse
        assert isinstance(response, kind)
        assert (type(response).__name__, type(response).__module__) == (kind.__name__, kind.__module__)
        assert repr(response).startswith("<APIResponse [200 OK]")
        assert copy.copy(response).status_code == 200


def test_a_streaming_response_that_is_read_by_lines_ends_when_it_is_closed(client: Any, kept: FakeKeeper) -> None:
    asked = client.chat.completions.with_streaming_response
    with asked.create(model="full", messages=SAID, stream=True) as response:
        assert any(line.startswith("data:") for line in response.iter_lines())
        assert kept.statuses == []
    assert kept.statuses == ["ok"]


def test_an_async_streaming_response_that_is_read_by_lines_ends_when_it_is_closed(
    server: WireServer, kept: FakeKeeper
) -> None:
    tk.instrument("openai")

    async def main() -> None:
        async with openai.AsyncOpenAI(api_key="k", base_url=f"{server.url}/v1", max_retries=0) as client:
            asked = client.chat.completions.with_streaming_response
            async with asked.create(model="full", messages=SAID, stream=True) as response:
                assert any([line.startswith("data:") async for line in response.iter_lines()])
                assert kept.statuses == []
            assert kept.statuses == ["ok"]

    asyncio.run(main())


def test_the_stream_of_a_raw_response(client: Any, kept: FakeKeeper) -> None:
    raw = client.chat.completions.with_raw_response.create(model="full", messages=SAID, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in raw.parse()) == TEXT
    assert (kept.statuses, kept.output()) == (["ok"], TEXT)


@pytest.mark.slow
def test_a_streaming_response(client: Any, kept: FakeKeeper) -> None:
    with client.chat.completions.with_streaming_response.create(model="full", messages=SAID) as response:
        assert response.parse().choices[0].message.content == TEXT
    garbage.collect()
    assert (kept.statuses, kept.output()) == (["ok"], TEXT)


def test_an_error_passes_and_is_kept(client: Any, kept: FakeKeeper) -> None:
    with pytest.raises(openai.InternalServerError, match="bad day"):
        client.chat.completions.create(model="refused", messages=SAID)
    [end] = kept.ends
    assert end.status == "error"
    assert "bad day" in end.error.message


def test_a_stream_is_the_librarys_in_every_other_respect(client: Any, kept: FakeKeeper) -> None:
    stream = client.chat.completions.create(model="full", messages=SAID, stream=True)
    assert isinstance(stream, openai.Stream)
    assert stream.response.status_code == 200
    assert iter(stream) is stream
    stream.mark = 1
    assert stream.mark == 1
    assert "response" in dir(stream)
    assert not hasattr(stream, "__anext__")
    with stream as entered:
        assert entered is stream
        next(stream)
    assert kept.statuses == ["abandoned"]
    with pytest.raises(AttributeError):
        stream.no_such_thing  # noqa: B018


def test_messages_from_an_iterator_reach_the_library_whole(client: Any, server: WireServer, kept: FakeKeeper) -> None:
    client.chat.completions.create(model="full", messages=iter(SAID))
    assert server.requests[-1]["messages"] == SAID
    assert kept.statuses == ["ok"]


def test_after_uninstrument_nothing_is_traced_and_a_stream_under_way_ends(client: Any, kept: FakeKeeper) -> None:
    stream = client.chat.completions.create(model="full", messages=SAID, stream=True)
    tk.uninstrument("openai")
    client.chat.completions.create(model="full", messages=SAID)
    assert len(kept.starts) == 1
    list(stream)
    assert (kept.statuses, kept.output()) == (["ok"], TEXT)


@pytest.mark.slow
@pytest.mark.parametrize("instrumented", [True, False])
def test_a_traced_function_that_returns_a_stream_is_followed_to_its_end(
    client: Any, kept: FakeKeeper, instrumented: bool
) -> None:
    if not instrumented:
        tk.uninstrument("openai")

    @tk.trace
    def ask(question: str) -> Any:
        return client.chat.completions.create(model="full", messages=SAID, stream=True)

    said = ""
    for chunk in ask("weather?"):
        said += chunk.choices[0].delta.content or ""
        if said == SO_FAR:
            break
    del chunk
    garbage.collect()
    assert kept.statuses == ["abandoned"] * (1 + instrumented)
    assert {kept.output(start.name) for start in kept.starts} == {SO_FAR}
    outer = kept.end("ask")
    assert outer.usage is None, "what the client's own span says is not said twice"


def test_nothing_is_captured_where_the_settings_say_so(client: Any, kept: FakeKeeper) -> None:
    with tk.context(capture_input=False, capture_output=False):
        list(client.chat.completions.create(model="full", messages=SAID, stream=True))
        client.chat.completions.create(model="full", messages=SAID)
    assert [start.input for start in kept.starts] == [None, None]
    assert [end.output for end in kept.ends] == [None, None]


def test_the_kill_switch_leaves_the_library_alone(
    client: Any, kept: FakeKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    tk.configure(enabled=False)
    stream = client.chat.completions.create(model="full", messages=SAID, stream=True)
    assert type(stream) is openai.Stream
    assert kept.frames == []
    stream.close()


def test_a_mistake_of_ours_costs_no_call(client: Any, kept: FakeKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    from tracekeeper.conventions import openai_chat
    from tracekeeper.tracing import trouble

    def breaks(*args: Any) -> Any:
        raise RuntimeError("ours")

    monkeypatch.setattr(openai_chat.ChatReader, "read", breaks)
    monkeypatch.setattr(openai_chat.ChatReader, "told", breaks)
    stream = client.chat.completions.create(model="full", messages=SAID, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == TEXT
    assert kept.statuses == ["ok"]
    assert set(trouble.counts()) == {"reading a chunk of a response", "reading what a stream said"}
    trouble.forget()


def test_a_copy_of_a_stream_is_the_librarys_own(client: Any, kept: FakeKeeper) -> None:
    stream = client.chat.completions.create(model="full", messages=SAID, stream=True)
    copied = copy.copy(stream)
    assert type(copied) is openai.Stream
    assert copied.response is stream.response
    text = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "".join(text) == TEXT
    del copied
    garbage.collect()
    assert kept.statuses == ["ok"]
