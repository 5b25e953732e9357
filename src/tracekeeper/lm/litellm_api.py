"""Whatever LiteLLM knows: ``litellm/bedrock/…`` and the like, by its ``acompletion``."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any, cast

from tracekeeper.conventions import openai_chat
from tracekeeper.conventions.told import Told
from tracekeeper.lm.adapter import loaded, need
from tracekeeper.lm.engine import OTHERS
from tracekeeper.lm.prompt import Prompt
from tracekeeper.lm.providers import Provider
from tracekeeper.lm.timeouts import Timeouts


class LiteLLMAdapter:
    """One model, in LiteLLM's name for it."""

    engine = OTHERS
    limited = True

    def __init__(
        self, provider: Provider, model: str, api_base: str | None, api_key: str | None, client: dict[str, Any]
    ) -> None:
        need("litellm", "litellm", "tk.LM('litellm/…')")
        self.provider = provider.otel
        self._model = model
        self._fixed = {"api_base": api_base, "api_key": api_key, **client}
        self._litellm: Any = None

    def prepare(self) -> None:
        """Import the library, which takes seconds."""
        if self._litellm is None:
            os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would ask the network for prices
            self._litellm = loaded("litellm", "litellm", "tk.LM('litellm/…')")

    def options(self, prompt: Prompt) -> dict[str, Any]:
        """Arguments of ``acompletion``."""
        messages = list(prompt.messages)
        if prompt.output is not None:
            messages.insert(0, {"role": "system", "content": prompt.output.instructions()})
        options = {"model": self._model, "messages": messages, **prompt.options}
        if prompt.tools:
            options["tools"] = list(prompt.tools)
        return options | {name: value for name, value in self._fixed.items() if value is not None}

    async def call(self, options: dict[str, Any], timeouts: Timeouts) -> Told:
        """A whole completion."""
        done = await self._litellm.acompletion(**options, **_once(timeouts))
        return openai_chat.answer(done)

    async def stream(self, options: dict[str, Any], timeouts: Timeouts) -> AsyncIterator[Any]:
        """The chunks of one."""
        options = {"stream_options": {"include_usage": True}, **options}
        return cast("AsyncIterator[Any]", await self._litellm.acompletion(**options, stream=True, **_once(timeouts)))

    def reader(self) -> openai_chat.ChatReader:
        """Of one stream."""
        return openai_chat.ChatReader()


def _once(timeouts: Timeouts) -> dict[str, Any]:
    """One request: trying again is ours, and so are the deadlines."""
    return {"num_retries": 0, "max_retries": 0, "timeout": timeouts.total}
