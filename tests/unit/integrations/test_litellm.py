"""What a call of the ``litellm`` library leaves: one span, although it calls other clients."""

from __future__ import annotations

import asyncio
import importlib
import os
from typing import Any

import pytest
from tests.support import garbage
from tests.support.fake_keeper import FakeKeeper
from tests.support.wire import SO_FAR, TEXT, WireServer

import tracekeeper as tk

pytest.importorskip("litellm")
pytestmark = [
    pytest.mark.slow,  # its import takes seconds
    pytest.mark.usefixtures("_put_back"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Pydantic.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # its own, of clients it leaves open
]
SAID = [{"role": "user", "content": "What is the weather like?"}]


@pytest.fixture
def litellm() -> Any:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    library = importlib.import_module("litellm")
    tk.instrument("litellm", "openai", "anthropic")
    return library


@pytest.fixture
def more(server: WireServer) -> dict[str, Any]:
    return {"messages": SAID, "api_base": f"{server.url}/v1", "api_key": "k", "max_retries": 0}


def test_a_completion_is_one_span_although_openai_is_traced_as_well(
    litellm: Any, more: dict[str, Any], kept: FakeKeeper
) -> None:
    answer = litellm.completion("openai/full", temperature=0.5, **more)
    assert answer.choices[0].message.content == TEXT
    [start], [end] = kept.starts, kept.ends
    assert (start.name, end.status, end.provider) == ("chat openai/full", "ok", "openai")
    assert (kept.input(), kept.output()) == (SAID, TEXT)
    assert (end.usage.input_tokens, end.usage.output_tokens) == (7, 10)


def test_an_async_completion_through_its_router(litellm: Any, more: dict[str, Any], kept: FakeKeeper) -> None:
    messages = more.pop("messages")
    router = litellm.Router(model_list=[{"model_name": "weather", "litellm_params": {"model": "openai/full", **more}}])

    async def main() -> list[str]:
        answer = await router.acompletion(model="weather", messages=messages)
        stream = await router.acompletion(model="weather", messages=messages, stream=True)
        return [answer.choices[0].message.content, *[chunk.choices[0].delta.content or "" async for chunk in stream]]

    said = asyncio.run(main())
    assert (said[0], "".join(said[1:])) == (TEXT, TEXT)
    garbage.collect()
    assert kept.statuses == ["ok", "ok"]


@pytest.mark.parametrize("way", ["async", "sync"])
def test_a_stream_can_be_read_either_way(litellm: Any, more: dict[str, Any], kept: FakeKeeper, way: str) -> None:
    if way == "sync":
        stream = litellm.completion("openai/full", stream=True, **more)
        said = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    else:

        async def main() -> str:
            stream = await litellm.acompletion("openai/full", stream=True, **more)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        said = asyncio.run(main())
    assert said == TEXT
    assert (kept.statuses, kept.output()) == (["ok"], TEXT)


def test_a_stream_that_is_left_is_kept(litellm: Any, more: dict[str, Any], kept: FakeKeeper) -> None:
    said = ""
    stream = litellm.completion("openai/full", stream=True, **more)
    assert isinstance(stream, litellm.CustomStreamWrapper)
    for chunk in stream:
        said += chunk.choices[0].delta.content or ""
        if said == SO_FAR:
            break
    del stream
    garbage.collect()
    assert (kept.statuses, kept.output()) == (["abandoned"], SO_FAR)
    assert kept.ends[0].usage.estimated


def test_an_embedding(litellm: Any, more: dict[str, Any], kept: FakeKeeper) -> None:
    more.pop("messages")
    litellm.embedding(model="openai/small", input=["a", "b"], **more)
    [start] = kept.starts
    assert (start.name, start.kind) == ("embeddings openai/small", "embedding")
    assert kept.output()["embeddings"] == 2


def test_an_error_passes_and_is_kept(litellm: Any, more: dict[str, Any], kept: FakeKeeper) -> None:
    with pytest.raises(litellm.InternalServerError):
        litellm.completion("openai/refused", **more)
    assert kept.statuses == ["error"]


def test_uninstrument_puts_everything_back(litellm: Any, more: dict[str, Any], kept: FakeKeeper) -> None:
    tk.uninstrument()
    litellm.completion("openai/full", **more)
    assert kept.frames == []


@pytest.mark.parametrize("left", [False, True], ids=["read", "left"])
def test_a_mocked_stream_is_complete_when_it_was_read_to_its_end(
    litellm: Any, more: dict[str, Any], kept: FakeKeeper, left: bool
) -> None:
    said = []
    for chunk in litellm.completion("openai/full", mock_response=TEXT, stream=True, **more):
        said.append(chunk.choices[0].delta.content or "")
        if left:
            break
    del chunk
    garbage.collect()
    assert kept.statuses == ["abandoned" if left else "ok"]
    assert kept.output() == "".join(said)
    assert ("".join(said) == TEXT) is not left


def test_an_async_mocked_stream_is_complete_when_it_was_read_to_its_end(
    litellm: Any, more: dict[str, Any], kept: FakeKeeper
) -> None:
    async def main() -> str:
        stream = await litellm.acompletion("openai/full", mock_response=TEXT, stream=True, **more)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(main()) == TEXT
    garbage.collect()
    assert (kept.statuses, kept.output()) == (["ok"], TEXT)
