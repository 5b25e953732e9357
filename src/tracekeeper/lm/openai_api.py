"""Chat Completions by the official ``openai`` library: OpenAI, Azure, and everything that speaks the format."""

from __future__ import annotations

import importlib
import os
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, cast

from tracekeeper.conventions import openai_chat
from tracekeeper.conventions.told import Told
from tracekeeper.lm.adapter import key_of, loaded, need
from tracekeeper.lm.clients import Clients
from tracekeeper.lm.engine import HTTP
from tracekeeper.lm.prompt import Prompt
from tracekeeper.lm.providers import Provider
from tracekeeper.lm.timeouts import Timeouts

AZURE_VERSION = "2024-10-21"
"""The generally available version of Azure's API that has structured output."""


class OpenAIAdapter:
    """One model behind one address."""

    engine = HTTP
    limited = True

    def __init__(
        self, provider: Provider, model: str, api_base: str | None, api_key: str | None, client: dict[str, Any]
    ) -> None:
        need("openai", "openai", f"tk.LM('{provider.prefix}/…')")
        self.provider = provider.otel
        self._model = model
        self._clients = Clients(self.engine, partial(_made, provider, api_base or provider.api_base, api_key, client))

    def prepare(self) -> None:
        """Import the library and make the client."""
        self._clients.prepare()

    def options(self, prompt: Prompt) -> dict[str, Any]:
        """Arguments of ``chat.completions.create``."""
        options: dict[str, Any] = {"model": self._model, "messages": list(prompt.messages), **prompt.options}
        if prompt.tools:
            options["tools"] = list(prompt.tools)
        if prompt.output is not None:
            schema = {"name": prompt.output.name, "schema": prompt.output.schema}
            options.setdefault("response_format", {"type": "json_schema", "json_schema": schema})
        return options

    async def call(self, options: dict[str, Any], timeouts: Timeouts) -> Told:
        """A whole completion."""
        create = self._clients.get().chat.completions.create
        return openai_chat.answer(await create(**self._clients.fitted(create, options), timeout=_timeout(timeouts)))

    async def stream(self, options: dict[str, Any], timeouts: Timeouts) -> AsyncIterator[Any]:
        """The chunks of one; the last has the usage."""
        create = self._clients.get().chat.completions.create
        options = {"stream_options": {"include_usage": True}, **options}
        return cast(
            "AsyncIterator[Any]",
            await create(**self._clients.fitted(create, options), stream=True, timeout=_timeout(timeouts)),
        )

    def reader(self) -> openai_chat.ChatReader:
        """Of one stream."""
        return openai_chat.ChatReader()


def _made(provider: Provider, api_base: str | None, api_key: str | None, client: dict[str, Any]) -> Any:
    openai = loaded("openai", "openai", f"tk.LM('{provider.prefix}/…')")
    options = {"api_key": key_of(provider, api_key), "max_retries": 0, **client}
    if provider.kind == "azure":
        options.setdefault("api_version", os.environ.get("OPENAI_API_VERSION") or AZURE_VERSION)
        return openai.AsyncAzureOpenAI(**{"azure_endpoint": api_base, **options})
    return openai.AsyncOpenAI(base_url=api_base, **options)


def _timeout(timeouts: Timeouts) -> Any:
    """The client's own deadline is for connecting alone: the rest is kept by ours, which sees whole events."""
    return importlib.import_module("openai").Timeout(None, connect=timeouts.connect)
