"""The ``litellm`` library: ``completion``, ``acompletion``, ``text_completion``, ``embedding``, ``responses``,
``rerank``.

LiteLLM's own callbacks are not used: a stream that is not read to its end never reaches them, and of an ``asyncio.run``
that ends right after its calls most are lost.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from tracekeeper.conventions import openai_chat, openai_responses
from tracekeeper.conventions.asked import request_attributes
from tracekeeper.conventions.told import Told, get, plain_text, response_attributes
from tracekeeper.integrations.calls import Operation, Request, asynchronous, synchronous
from tracekeeper.integrations.openai_client import EMBEDDINGS as _OPENAI_EMBEDDINGS
from tracekeeper.integrations.patching import Patches


def install() -> Callable[[], None]:
    """Trace the library's calls; returns what puts everything back."""
    patches = Patches()
    try:
        for name, operation in FUNCTIONS.items():
            for prefix, wrapper in (("", synchronous), ("a", asynchronous)):
                found = _homes(f"{prefix}{name}")
                if not found and name == "completion":
                    raise AttributeError(f"litellm.{prefix}{name} is not there")
                for home in found:
                    patches.wrap(home, f"{prefix}{name}", wrapper(operation))
    except BaseException:
        patches.undo()
        raise
    return patches.undo


def _homes(name: str) -> list[str]:
    """Where the library holds a function: programs use ``litellm.name``, its own router other modules' names."""
    package = importlib.import_module("litellm")
    function = getattr(package, name, None)
    if function is None:
        return []
    home = getattr(function, "__module__", None)
    held = sys.modules.get(home or "")
    return ["litellm", home] if home and held is not package and getattr(held, name, None) is function else ["litellm"]


def _request(operation: str, given: str, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    said = {**dict(zip(("model", given), args, strict=False)), **kwargs}
    model = plain_text(said.get("model"))
    provider = plain_text(said.get("custom_llm_provider")) or (
        model.partition("/")[0] if model and "/" in model else None
    )
    attributes = request_attributes(operation, provider, model, said)
    value = said.get(given)
    return Request(
        f"{operation} {model or ''}".rstrip(),
        value if isinstance(value, str | list | tuple) else None,
        model,
        provider,
        attributes,
    )


class LiteLLMReader(openai_chat.ChatReader):
    """LiteLLM makes up a finish reason where the provider's stream was cut; its wrapper knows whether one came."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Any = None) -> None:
        super().__init__(stream)
        self._stream = stream

    def told(self, text: str) -> Told:
        """What was said so far."""
        told = super().told(text)
        came = [getattr(self._stream, name, ...) for name in ("received_finish_reason", "intermittent_finish_reason")]
        if told.finished and ... not in came and came == [None, None] and not _is_mock(self._stream):
            told.finished = False
            told.attributes.pop("gen_ai.response.finish_reasons", None)
        return told


def _is_mock(stream: Any) -> bool:
    """Whether it is a stream of ``mock_response``, whose finish reason is always made up. Before there was a flag for
    it, only the name of its generator told."""
    chunks = getattr(stream, "completion_stream", None)
    return getattr(stream, "is_mock", False) is True or getattr(chunks, "__name__", "") in _MOCKS


_MOCKS = ("mock_completion_streaming_obj", "async_mock_completion_streaming_obj")


def _reranked(answer: Any) -> Told:
    model = plain_text(get(answer, "model"))
    return Told(
        output=[
            {"index": get(one, "index"), "score": get(one, "relevance_score")} for one in get(answer, "results") or ()
        ],
        model=model,
        attributes=response_attributes(id=get(answer, "id"), model=model),
        finished=True,
    )


FUNCTIONS = {
    "completion": Operation("llm", partial(_request, "chat", "messages"), openai_chat.answer, LiteLLMReader),
    "text_completion": Operation(
        "llm", partial(_request, "text_completion", "prompt"), openai_chat.answer, LiteLLMReader
    ),
    "embedding": Operation("embedding", partial(_request, "embeddings", "input"), _OPENAI_EMBEDDINGS.answer),
    "responses": Operation(
        "llm", partial(_request, "chat", "input"), openai_responses.answer, openai_responses.ResponsesReader
    ),
    "rerank": Operation("reranker", partial(_request, "rerank", "query"), _reranked),
}
