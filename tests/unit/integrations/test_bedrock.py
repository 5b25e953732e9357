"""Amazon Bedrock through boto3: each call one span, its stream to whichever end."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.clients import attributes, fixture, tree
from tests.support.fake_keeper import FakeKeeper
from tests.support.wire import SO_FAR, TEXT, WireServer, serving
from tests.support.wire_bedrock import Bedrock

import tracekeeper as tk

boto3 = pytest.importorskip("boto3")

from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from botocore.stub import Stubber

seen = fixture("bedrock")
# A stream of boto3 that is dropped leaves its socket to the garbage collector, traced or not.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ASKED = [{"role": "user", "content": [{"text": "How is the weather?"}]}]
CLAUDE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]}


@pytest.fixture(scope="module")
def server() -> Iterator[WireServer]:
    with serving(Bedrock()) as started:
        yield started


@pytest.fixture
def client(server: WireServer) -> Any:
    return made("bedrock-runtime", server.url)


def made(service: str, url: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="eu-west-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_a_call_is_one_span_with_all_that_was_said(seen: FakeKeeper, client: Any) -> None:
    answer = client.converse(
        modelId="nova.full", messages=ASKED, system=[{"text": "Be brief."}], inferenceConfig={"temperature": 0.5}
    )
    assert answer["output"]["message"]["content"] == [{"text": TEXT}]
    assert tree(seen) == [" > chat nova.full llm ok"]
    end, said = seen.end(), attributes(seen)
    assert seen.input() == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How is the weather?"},
    ]
    assert seen.output() == TEXT
    assert (end.model, end.provider) == ("nova.full", "aws.bedrock")
    assert (end.usage.input_tokens, end.usage.output_tokens) == (7, 10)
    assert (said["gen_ai.request.temperature"], said["cloud.region"]) == (0.5, "eu-west-1")
    assert said["gen_ai.response.finish_reasons"] == ["end_turn"]


def test_calls_of_tools_are_kept_whole_and_streamed(seen: FakeKeeper, client: Any) -> None:
    client.converse(modelId="nova.tools", messages=ASKED)
    list(client.converse_stream(modelId="nova.tools", messages=ASKED)["stream"])
    from tracekeeper.tracing import capture

    [whole], [streamed] = (capture.decode(end.output) for end in seen.ends)
    assert whole == {"type": "tool_call", "id": "t-1", "name": "weather", "arguments": {"place": "Ireland"}}
    assert {**streamed, "arguments": json.loads(streamed["arguments"])} == whole


def test_a_stream_read_to_its_end(seen: FakeKeeper, client: Any) -> None:
    stream = client.converse_stream(modelId="nova.full", messages=ASKED)["stream"]
    assert type(stream).__name__ != "EventStream"
    assert isinstance(stream, type(stream._tk_inner))
    assert len(list(stream)) == 14
    end = seen.end()
    assert (end.status, seen.output(), end.usage.output_tokens, end.chunks) == ("ok", TEXT, 10, 14)


@pytest.mark.slow
def test_a_stream_left_early_keeps_its_text(seen: FakeKeeper, client: Any) -> None:
    with tk.span("caller"):
        got = ""
        for event in client.converse_stream(modelId="nova.full", messages=ASKED)["stream"]:
            got += event.get("contentBlockDelta", {}).get("delta", {}).get("text", "")
            if got == SO_FAR:
                break
    gc.collect()
    assert tree(seen)[1] == "caller > chat nova.full llm abandoned"
    assert seen.output("chat nova.full") == SO_FAR


def test_a_stream_that_is_closed_is_abandoned(seen: FakeKeeper, client: Any) -> None:
    stream = client.converse_stream(modelId="nova.full", messages=ASKED)["stream"]
    next(iter(stream))
    stream.close()
    assert seen.statuses == ["abandoned"]


@pytest.mark.parametrize(("model", "status"), [("cut", "truncated"), ("error", "error"), ("malformed", "error")])
def test_a_stream_that_breaks_keeps_its_text(seen: FakeKeeper, client: Any, model: str, status: str) -> None:
    from botocore.eventstream import ParserError

    try:
        list(client.converse_stream(modelId=f"nova.{model}", messages=ASKED)["stream"])
    except (EventStreamError, ParserError):
        assert status == "error"
    assert (seen.end().status, seen.output()) == (status, SO_FAR)


@pytest.mark.parametrize("model", ["anthropic.full", "meta.full", "titan.full"])
def test_an_invoked_model_ends_when_its_answer_is_read(seen: FakeKeeper, client: Any, model: str) -> None:
    given = CLAUDE if "anthropic" in model else {"prompt": "?"}
    answer = client.invoke_model(modelId=model, body=json.dumps(given))
    assert seen.ends == []
    assert TEXT in answer["body"].read().decode()
    end = seen.end()
    assert (end.status, seen.output(), end.usage.input_tokens, end.usage.output_tokens) == ("ok", TEXT, 7, 10)
    assert seen.input() == (CLAUDE["messages"] if "anthropic" in model else "?")


@pytest.mark.slow
def test_an_answer_read_in_pieces_or_not_at_all_ends_once(seen: FakeKeeper, client: Any) -> None:
    answer = client.invoke_model(modelId="meta.full", body="{}")
    assert TEXT in b"".join(answer["body"].iter_chunks(7)).decode()
    from tracekeeper.tracing import capture

    assert [capture.decode(end.output) for end in seen.ends] == [TEXT]
    answer = client.invoke_model(modelId="meta.full", body="{}")
    answer["body"].close()
    del answer
    gc.collect()
    assert seen.statuses == ["ok", "ok"]


@pytest.mark.parametrize("model", ["anthropic.full", "meta.full"])
def test_an_invoked_models_stream(seen: FakeKeeper, client: Any, model: str) -> None:
    list(client.invoke_model_with_response_stream(modelId=model, body=json.dumps(CLAUDE))["body"])
    end = seen.end()
    assert (end.status, seen.output(), end.usage.input_tokens, end.usage.output_tokens) == ("ok", TEXT, 7, 10)


@pytest.mark.parametrize("model", ["anthropic.cut", "meta.cut"])
def test_an_invoked_models_stream_that_is_cut(seen: FakeKeeper, client: Any, model: str) -> None:
    stream = client.invoke_model_with_response_stream(modelId=model, body=json.dumps(CLAUDE))["body"]
    list(stream)
    assert (seen.end().status, seen.output()) == ("truncated", SO_FAR)


def test_an_invoked_models_stream_that_is_left(seen: FakeKeeper, client: Any) -> None:
    stream = client.invoke_model_with_response_stream(modelId="anthropic.full", body=json.dumps(CLAUDE))["body"]
    got = ""
    for event in stream:
        got += json.loads(event["chunk"]["bytes"]).get("delta", {}).get("text", "")
        if got == SO_FAR:
            break
    stream.close()
    assert (seen.end().status, seen.output()) == ("abandoned", SO_FAR)


def test_an_error_is_the_same_error(seen: FakeKeeper, client: Any) -> None:
    with pytest.raises(ClientError):
        client.converse(modelId="nova.refused", messages=ASKED)
    assert seen.end().status == "error"
    assert "ClientError" in seen.end().error.type or "Exception" in seen.end().error.type


def test_other_services_are_left_alone(seen: FakeKeeper, server: WireServer) -> None:
    client = made("sts", server.url)
    with Stubber(client) as stub:
        stub.add_response("get_caller_identity", {"Account": "1"})
        assert client.get_caller_identity()["Account"] == "1"
    assert seen.starts == []


def test_put_back_nothing_is_traced(seen: FakeKeeper, client: Any) -> None:
    from botocore.client import BaseClient

    tk.uninstrument("bedrock")
    client.converse(modelId="nova.full", messages=ASKED)
    assert type(vars(BaseClient)["_make_api_call"]).__name__ == "function"
    assert seen.starts == []
