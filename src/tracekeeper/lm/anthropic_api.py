"""Anthropic's Messages by the official ``anthropic`` library."""

from __future__ import annotations

import importlib
import json
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Any, cast

from tracekeeper.conventions import anthropic_messages
from tracekeeper.conventions.told import Told
from tracekeeper.lm import images
from tracekeeper.lm.adapter import key_of, loaded, need
from tracekeeper.lm.clients import Clients
from tracekeeper.lm.engine import HTTP
from tracekeeper.lm.prompt import Prompt
from tracekeeper.lm.providers import Provider
from tracekeeper.lm.timeouts import Timeouts

MAX_TOKENS = 4096
"""Anthropic wants a bound of the answer's length; this one unless ``max_tokens=`` is given."""


class AnthropicAdapter:
    """One model."""

    engine = HTTP
    limited = True

    def __init__(
        self, provider: Provider, model: str, api_base: str | None, api_key: str | None, client: dict[str, Any]
    ) -> None:
        need("anthropic", "anthropic", "tk.LM('anthropic/…')")
        self.provider = provider.otel
        self._model = model
        self._clients = Clients(self.engine, partial(_made, provider, api_base, api_key, client))

    def prepare(self) -> None:
        """Import the library and make the client."""
        self._clients.prepare()

    def options(self, prompt: Prompt) -> dict[str, Any]:
        """Arguments of ``messages.create``."""
        system = [_text(message.get("content")) for message in prompt.messages if message["role"] in _SYSTEM]
        if prompt.output is not None:
            system.append(prompt.output.instructions())
        options: dict[str, Any] = {
            "model": self._model,
            "max_tokens": MAX_TOKENS,
            "messages": list(_messages(message for message in prompt.messages if message["role"] not in _SYSTEM)),
            **prompt.options,
        }
        if system:
            options["system"] = "\n\n".join(system)
        if prompt.tools:
            options["tools"] = [_tool(tool["function"]) for tool in prompt.tools]
        if "stop" in options:
            stop = options.pop("stop")
            options["stop_sequences"] = [stop] if isinstance(stop, str) else stop
        return options

    async def call(self, options: dict[str, Any], timeouts: Timeouts) -> Told:
        """A whole message."""
        create = self._clients.get().messages.create
        return anthropic_messages.answer(
            await create(**self._clients.fitted(create, options), timeout=_timeout(timeouts))
        )

    async def stream(self, options: dict[str, Any], timeouts: Timeouts) -> AsyncIterator[Any]:
        """The events of one."""
        create = self._clients.get().messages.create
        return cast(
            "AsyncIterator[Any]",
            await create(**self._clients.fitted(create, options), stream=True, timeout=_timeout(timeouts)),
        )

    def reader(self) -> anthropic_messages.MessagesReader:
        """Of one stream."""
        return anthropic_messages.MessagesReader()


_SYSTEM = ("system", "developer")


def _made(provider: Provider, api_base: str | None, api_key: str | None, client: dict[str, Any]) -> Any:
    anthropic = loaded("anthropic", "anthropic", "tk.LM('anthropic/…')")
    return anthropic.AsyncAnthropic(
        base_url=api_base, **{"api_key": key_of(provider, api_key), "max_retries": 0, **client}
    )


def _timeout(timeouts: Timeouts) -> Any:
    return importlib.import_module("anthropic").Timeout(None, connect=timeouts.connect)


def _messages(given: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """The results of tools belong to one message of the user."""
    results: list[dict[str, Any]] = []
    for message in given:
        if message["role"] == "tool":
            content = _text(message.get("content"))
            results.append({"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": content})
            continue
        if results:
            yield {"role": "user", "content": results}
            results = []
        yield {"role": message["role"], "content": _content(message)}
    if results:
        yield {"role": "user", "content": results}


def _content(message: dict[str, Any]) -> Any:
    content, calls = message.get("content"), message.get("tool_calls") or ()
    if isinstance(content, list):
        content = [_part(part) for part in content]
    if not calls:
        return content
    said = [{"type": "text", "text": content}] if isinstance(content, str) and content else content or []
    return [*said, *map(_call, calls)]


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {
        "type": "tool_use",
        "id": call["id"],
        "name": function["name"],
        "input": json.loads(function["arguments"] or "{}"),
    }


def _part(part: Any) -> Any:
    if not isinstance(part, dict) or part.get("type") != "image_url":
        return part
    url = part["image_url"]["url"]
    inline = images.split(url)
    if inline is None:
        return {"type": "image", "source": {"type": "url", "url": url}}
    return {"type": "image", "source": {"type": "base64", "media_type": inline[0], "data": inline[1]}}


def _tool(function: dict[str, Any]) -> dict[str, Any]:
    said = {"name": function["name"], "input_schema": function["parameters"]}
    return said | ({"description": function["description"]} if function.get("description") else {})


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content or () if isinstance(part, dict))
