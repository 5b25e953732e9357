"""The clients whose streams are broken off, each behind the same three functions."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from tests.support.wire import WireServer

import tracekeeper as tk

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would ask the network for prices otherwise

MESSAGES = [{"role": "user", "content": "What is the weather like?"}]
TIMEOUT = 20.0


def chat_text(chunk: Any) -> str:
    return (chunk.choices[0].delta.content or "") if chunk.choices else ""


def chat_finished(chunk: Any) -> bool:
    return bool(chunk.choices and chunk.choices[0].finish_reason)


class OpenAI:
    """Chat Completions."""

    name = "openai"
    library = "openai"
    text = staticmethod(chat_text)
    finished = staticmethod(chat_finished)

    @contextmanager
    def using(self, server: WireServer, timeout: float = TIMEOUT) -> Iterator[Any]:
        openai = importlib.import_module("openai")
        with openai.OpenAI(api_key="k", base_url=f"{server.url}/v1", max_retries=0, timeout=timeout) as client:
            yield lambda model: client.chat.completions.create(model=model, messages=MESSAGES, stream=True)

    @asynccontextmanager
    async def ausing(self, server: WireServer, timeout: float = TIMEOUT) -> AsyncIterator[Any]:
        openai = importlib.import_module("openai")
        async with openai.AsyncOpenAI(
            api_key="k", base_url=f"{server.url}/v1", max_retries=0, timeout=timeout
        ) as client:
            yield lambda model: client.chat.completions.create(model=model, messages=MESSAGES, stream=True)


class OpenAIResponses(OpenAI):
    """The Responses API."""

    name = "openai-responses"

    @staticmethod
    def text(event: Any) -> str:
        return event.delta if event.type == "response.output_text.delta" else ""

    @staticmethod
    def finished(event: Any) -> bool:
        return bool(event.type == "response.completed")

    @contextmanager
    def using(self, server: WireServer, timeout: float = TIMEOUT) -> Iterator[Any]:
        openai = importlib.import_module("openai")
        with openai.OpenAI(api_key="k", base_url=f"{server.url}/v1", max_retries=0, timeout=timeout) as client:
            yield lambda model: client.responses.create(model=model, input="What is the weather like?", stream=True)

    @asynccontextmanager
    async def ausing(self, server: WireServer, timeout: float = TIMEOUT) -> AsyncIterator[Any]:
        openai = importlib.import_module("openai")
        async with openai.AsyncOpenAI(
            api_key="k", base_url=f"{server.url}/v1", max_retries=0, timeout=timeout
        ) as client:
            yield lambda model: client.responses.create(model=model, input="What is the weather like?", stream=True)


class Anthropic:
    """Messages."""

    name = "anthropic"
    library = "anthropic"

    @staticmethod
    def text(event: Any) -> str:
        return (getattr(event.delta, "text", "") or "") if event.type == "content_block_delta" else ""

    @staticmethod
    def finished(event: Any) -> bool:
        return bool(event.type == "message_delta")

    @contextmanager
    def using(self, server: WireServer, timeout: float = TIMEOUT) -> Iterator[Any]:
        anthropic = importlib.import_module("anthropic")
        with anthropic.Anthropic(api_key="k", base_url=server.url, max_retries=0, timeout=timeout) as client:
            yield lambda model: client.messages.create(model=model, max_tokens=99, messages=MESSAGES, stream=True)

    @asynccontextmanager
    async def ausing(self, server: WireServer, timeout: float = TIMEOUT) -> AsyncIterator[Any]:
        anthropic = importlib.import_module("anthropic")
        async with anthropic.AsyncAnthropic(api_key="k", base_url=server.url, max_retries=0, timeout=timeout) as client:
            yield lambda model: client.messages.create(model=model, max_tokens=99, messages=MESSAGES, stream=True)


class LiteLLM:
    """``completion`` and ``acompletion`` on an OpenAI-compatible server."""

    name = "litellm"
    library = "litellm"
    text = staticmethod(chat_text)
    finished = staticmethod(chat_finished)

    @staticmethod
    def _options(server: WireServer, model: str, timeout: float) -> dict[str, Any]:
        options = {"model": f"openai/{model}", "messages": MESSAGES, "api_base": f"{server.url}/v1", "api_key": "k"}
        return {**options, "stream": True, "timeout": timeout, "num_retries": 0, "max_retries": 0}

    @contextmanager
    def using(self, server: WireServer, timeout: float = TIMEOUT) -> Iterator[Any]:
        litellm = importlib.import_module("litellm")
        yield lambda model: litellm.completion(**self._options(server, model, timeout))

    @asynccontextmanager
    async def ausing(self, server: WireServer, timeout: float = TIMEOUT) -> AsyncIterator[Any]:
        litellm = importlib.import_module("litellm")
        # Its clients are not closed: they are the library's, and those of other threads' loops would be closed as well.
        yield lambda model: litellm.acompletion(**self._options(server, model, timeout))


class Generator:
    """What needs no library: a traced generator over the server's own chunks."""

    name = "generator"
    library = None

    @staticmethod
    def text(chunk: Any) -> str:
        return str(chunk)

    @staticmethod
    def finished(chunk: Any) -> bool:
        return False

    @contextmanager
    def using(self, server: WireServer, timeout: float = TIMEOUT) -> Iterator[Any]:
        yield lambda model: _words(server, model)

    @asynccontextmanager
    async def ausing(self, server: WireServer, timeout: float = TIMEOUT) -> AsyncIterator[Any]:
        async def opened(model: str) -> Any:
            return _awords(server, model)

        yield opened


@tk.trace(name="words", kind="llm")
def _words(server: WireServer, model: str) -> Iterator[str]:
    from tests.support.wire import WORDS

    for number, word in enumerate(WORDS):
        if number == 3:
            if model == "empty":
                yield ""
            if model == "stall":
                server.let_go.wait(60)
        yield word


@tk.trace(name="words", kind="llm")
async def _awords(server: WireServer, model: str) -> AsyncIterator[str]:
    from tests.support.wire import WORDS

    for number, word in enumerate(WORDS):
        if number == 3:
            if model == "empty":
                yield ""
            if model == "stall":
                await asyncio.Event().wait()
        yield word


CLIENTS = (OpenAI(), OpenAIResponses(), Anthropic(), LiteLLM(), Generator())
BY_NAME = {client.name: client for client in CLIENTS}
