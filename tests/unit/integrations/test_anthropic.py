"""What a call of the ``anthropic`` library leaves; results are the library's own."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support import garbage
from tests.support.fake_keeper import FakeKeeper
from tests.support.wire import SO_FAR, TEXT, WireServer

import tracekeeper as tk

anthropic = pytest.importorskip("anthropic")
pytestmark = [
    pytest.mark.usefixtures("_put_back"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
MORE: dict[str, Any] = {"max_tokens": 99, "messages": [{"role": "user", "content": "What is the weather like?"}]}


@pytest.fixture
def client(server: WireServer) -> Iterator[Any]:
    tk.instrument("anthropic")
    with anthropic.Anthropic(api_key="k", base_url=server.url, max_retries=0) as made:
        yield made


def test_a_message(client: Any, kept: FakeKeeper) -> None:
    answer = client.messages.create(model="full", system="Be short.", stop_sequences=["END"], **MORE)
    assert answer.content[0].text == TEXT
    [start], [end] = kept.starts, kept.ends
    assert (start.name, start.kind, end.status, end.model, end.provider) == (
        *("chat full", "llm", "ok", "full-served", "anthropic"),
    )
    assert kept.input() == [{"role": "system", "content": "Be short."}, *MORE["messages"]]
    assert kept.output() == TEXT
    assert (end.usage.input_tokens, end.usage.output_tokens) == (7, 10)
    said = {**json.loads(start.attributes or b"{}"), **json.loads(end.attributes or b"{}")}
    assert said["gen_ai.request.stop_sequences"] == ["END"]
    assert said["gen_ai.response.finish_reasons"] == ["end_turn"]


@pytest.mark.parametrize("stream", [False, True])
def test_calls_of_tools(client: Any, kept: FakeKeeper, stream: bool) -> None:
    answer = client.messages.create(model="tools", stream=stream, **MORE)
    if stream:
        list(answer)
    [call] = kept.output()
    assert (call["type"], call["name"], call["id"]) == ("tool_call", "weather", "toolu_1")
    place = call["arguments"]
    assert (json.loads(place) if stream else place) == {"place": "Ireland"}


def test_usage_of_a_stream_that_was_left_is_what_was_reported_and_an_estimate(client: Any, kept: FakeKeeper) -> None:
    list(client.messages.create(model="full", stream=True, **MORE))
    stream = client.messages.create(model="full", stream=True, **MORE)
    said = ""
    while said != SO_FAR:
        event = next(stream)
        said += (event.delta.text if event.type == "content_block_delta" else "") or ""
    stream.close()
    whole, left = (end.usage for end in kept.ends)
    assert (whole.input_tokens, whole.output_tokens, whole.estimated) == (7, 10, False)
    assert (left.input_tokens, left.output_tokens, left.estimated) == (7, 4, True)


def test_the_helper_for_streams(client: Any, kept: FakeKeeper) -> None:
    with client.messages.stream(model="full", **MORE) as stream:
        assert "".join(stream.text_stream) == TEXT
        assert stream.get_final_message().usage.output_tokens == 10
        assert stream.response.status_code == 200
    assert (kept.statuses, kept.output()) == (["ok"], TEXT)
    assert kept.starts[0].name == "chat full"


def test_the_helper_for_streams_ends_the_span_when_its_block_is_left(client: Any, kept: FakeKeeper) -> None:
    gc.disable()
    try:
        with client.messages.stream(model="full", **MORE) as stream:
            for number, _ in enumerate(stream.text_stream, 1):
                if number == 3:
                    break
        assert (kept.statuses, kept.output()) == (["abandoned"], SO_FAR)
    finally:
        gc.enable()


def test_the_helper_whose_request_fails(client: Any, kept: FakeKeeper) -> None:
    with pytest.raises(anthropic.InternalServerError), client.messages.stream(model="refused", **MORE):
        pass
    assert kept.statuses == ["error"]


@pytest.mark.slow
def test_a_manager_that_is_never_entered_makes_no_request_and_no_span(client: Any, kept: FakeKeeper) -> None:
    manager = client.messages.stream(model="full", **MORE)
    assert isinstance(manager, anthropic.MessageStreamManager)
    del manager
    garbage.collect()
    assert kept.frames == []


def test_the_async_helper_for_streams(server: WireServer, kept: FakeKeeper) -> None:
    tk.instrument("anthropic")

    async def main() -> None:
        async with anthropic.AsyncAnthropic(api_key="k", base_url=server.url, max_retries=0) as client:
            async with client.messages.stream(model="full", **MORE) as stream:
                assert "".join([text async for text in stream.text_stream]) == TEXT
            async with client.messages.stream(model="full", **MORE) as stream:
                async for _ in stream.text_stream:
                    break

    asyncio.run(main())
    assert kept.statuses == ["ok", "abandoned"]


def test_the_beta_namespace(client: Any, kept: FakeKeeper) -> None:
    client.beta.messages.create(model="full", **MORE)
    with client.beta.messages.stream(model="full", **MORE) as stream:
        stream.until_done()
    assert kept.statuses == ["ok", "ok"]


def test_a_raw_response(client: Any, kept: FakeKeeper) -> None:
    raw = client.messages.with_raw_response.create(model="full", **MORE)
    assert raw.parse().content[0].text == TEXT
    assert (kept.statuses, kept.output()) == (["ok"], TEXT)


def test_a_streaming_response_that_is_read_by_lines_ends_when_it_is_closed(client: Any, kept: FakeKeeper) -> None:
    with client.messages.with_streaming_response.create(model="full", stream=True, **MORE) as response:
        assert any(line.startswith("data:") for line in response.iter_lines())
        assert kept.statuses == []
    assert kept.statuses == ["ok"]


def test_uninstrument_puts_everything_back(client: Any, kept: FakeKeeper) -> None:
    tk.uninstrument("anthropic")
    client.messages.create(model="full", **MORE)
    with client.messages.stream(model="full", **MORE) as stream:
        stream.until_done()
    assert kept.frames == []
