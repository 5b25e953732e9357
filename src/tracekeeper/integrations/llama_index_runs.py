"""LlamaIndex: query engines, retrievers, rerankers, embeddings, agents, tools, workflows and models.

Whatever LlamaIndex does, it tells its dispatcher: the beginning and the end of a call, and events in between, among
them each piece of a streamed answer. What it tells is read here; no handler is added, so that nothing is left behind.
A call of a model is the span of the provider's client below it where that client is traced.
"""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Callable
from typing import Any

from tracekeeper.conventions import llama_index as convention
from tracekeeper.conventions.asked import request_attributes
from tracekeeper.conventions.told import get, plain_text
from tracekeeper.integrations import registry
from tracekeeper.integrations.calls import Request, is_stream, tell
from tracekeeper.integrations.patching import Patches
from tracekeeper.integrations.runs import Entered, open_run
from tracekeeper.tracing import trouble
from tracekeeper.tracing.responses import Received
from tracekeeper.tracing.spans import Span
from tracekeeper.types import SpanStatus

_DISPATCHERS = ("llama_index_instrumentation.dispatcher", "llama_index.core.instrumentation.dispatcher")
_KINDS = {
    "BaseLLM": "llm",
    "BaseEmbedding": "embedding",
    "BaseRetriever": "retriever",
    "BaseNodePostprocessor": "reranker",
    "BaseTool": "tool",
    "BaseWorkflowAgent": "agent",
    "AgentWorkflow": "agent",
    "BaseAgentRunner": "agent",
}
_SUFFIX = len("-00000000-0000-0000-0000-000000000000")
"""Of an id: ``OpenAI.chat-…``."""
_MODEL_METHODS = frozenset({"chat", "complete", "stream_chat", "stream_complete"})
_CLIENTS = {
    "openai": "openai",
    "openai_like": "openai",
    "azure_openai": "openai",
    "anthropic": "anthropic",
    "ollama": "ollama",
    "google_genai": "google-genai",
    "bedrock": "bedrock",
    "bedrock_converse": "bedrock",
    "litellm": "litellm",
}
"""By the name of LlamaIndex's package: whose client it calls."""


def install() -> Callable[[], None]:
    """Trace what LlamaIndex does; returns what puts everything back."""
    follower = _Follower()
    patches = Patches()
    try:
        module = _dispatcher()
        for name in ("span_enter", "span_exit", "span_drop", "event"):
            patches.wrap(module, f"Dispatcher.{name}", _telling(getattr(follower, name)))
    except BaseException:
        patches.undo()
        raise
    return patches.undo


def _dispatcher() -> str:
    for module in _DISPATCHERS:
        try:
            if hasattr(importlib.import_module(module), "Dispatcher"):
                return module
        except ImportError:
            continue
    raise AttributeError("there is no Dispatcher in this version of LlamaIndex")


def _telling(follow: Callable[..., None]) -> Callable[..., Any]:
    def wrapper(original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        try:
            follow(*args, **kwargs)
        except Exception as error:  # noqa: BLE001
            trouble.note("following LlamaIndex", error)
        return original(*args, **kwargs)

    return wrapper


class _Run:
    __slots__ = ("above", "entered", "span", "stream")

    def __init__(self, span: Span | None, above: Span | None) -> None:
        self.span = span
        self.above = span or above
        """What its children are below."""
        self.entered: Entered | None = None
        self.stream: Any = None
        """A weak reference to what is left to be read."""


class _Follower:
    """Turns what the dispatcher is told into spans."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}

    def span_enter(
        self, id_: str, bound_args: Any = None, instance: Any = None, parent_id: str | None = None, **more: Any
    ) -> None:
        parent = self._runs.get(parent_id or "")
        above = None if parent is None else parent.above
        name = id_[:-_SUFFIX]
        method = name.rpartition(".")[2]
        kind = _kind(instance, method)
        span = None
        inner = method.startswith("_") and method != "__call__"  # what a public method of the same name is made of
        if not inner and not (kind in ("llm", "embedding") and _client_is_traced(instance)):
            span = open_run(kind, _request(kind, name, method, instance, bound_args), above)
        run = self._runs[id_] = _Run(span, above)
        # What a workflow's `run` gives is awaited elsewhere; its steps are spans of their own.
        if span is not None and not (method == "run" and hasattr(instance, "run")):
            run.entered = Entered(span, calls_a_model=kind == "llm")

    def span_exit(
        self, id_: str, bound_args: Any = None, instance: Any = None, result: Any = None, **more: Any
    ) -> None:
        run = self._runs.get(id_)
        if run is None:
            return
        if run.entered is not None:
            run.entered.leave()
        span = run.span
        if span is not None and span.kind == "llm" and is_stream(result):
            span.chunks = span.chunks or Received(span, convention.DeltaReader())
            run.stream = weakref.ref(result, lambda gone: self._gone(id_))
            return
        self._runs.pop(id_, None)
        if span is None or not span.is_open():
            return
        if span.kind == "llm":
            tell(span, convention.answer(result))
        elif span.kind == "embedding":
            span.take_output(_measured(result))
        else:
            span.take_output(result if span.kind == "retriever" else convention.plain(result))
        span.close(span.status_or_ok())

    def span_drop(self, id_: str, bound_args: Any = None, instance: Any = None, err: Any = None, **more: Any) -> None:
        run = self._runs.pop(id_, None)
        if run is None:
            return
        if run.entered is not None:
            run.entered.leave()
        if run.span is None:
            return
        if isinstance(err, BaseException):
            run.span.fail(err)
        else:
            run.span.close(SpanStatus.ERROR)

    def event(self, event: Any, **more: Any) -> None:
        run = self._runs.get(get(event, "span_id") or "")
        span = None if run is None else run.span
        if run is None or span is None or span.kind != "llm":
            return
        name = type(event).__name__
        if name in ("LLMChatInProgressEvent", "LLMCompletionInProgressEvent"):
            if span.chunks is None:
                span.chunks = Received(span, convention.DeltaReader())
            if isinstance(span.chunks, Received):
                span.chunks.take(event.response)
        elif run.stream is not None and name == "ExceptionEvent":
            self._runs.pop(event.span_id, None)
            span.fail(event.exception)
        elif run.stream is not None and name in ("LLMChatEndEvent", "LLMCompletionEndEvent"):
            self._runs.pop(event.span_id, None)
            span.close(span.status_or_ok())

    def _gone(self, id_: str) -> None:
        """Nobody will read the stream any more. Runs in a finaliser."""
        run = self._runs.pop(id_, None)
        if run is not None and run.span is not None:
            run.span.close(SpanStatus.ABANDONED, quiet=True)


def _kind(instance: Any, method: str) -> str:
    for kind in type(instance).__mro__:
        found = _KINDS.get(kind.__name__)
        if found == "llm":
            return "llm" if method.removeprefix("a").replace("astream", "stream") in _MODEL_METHODS else "chain"
        if found is not None:
            return found
    return "chain"


def _client_is_traced(instance: Any) -> bool:
    for kind in type(instance).__mro__:
        parts = kind.__module__.split(".")
        if len(parts) > 2 and parts[0] == "llama_index" and parts[1] in ("llms", "embeddings"):
            client = _CLIENTS.get(parts[2])
            return any(row.name == client and row.state == "active" for row in registry.instrumented())
    return False


def _request(kind: str, name: str, method: str, instance: Any, bound_args: Any) -> Request:
    given = {
        key: convention.plain(value)
        for key, value in dict(getattr(bound_args, "arguments", None) or {}).items()
        if key not in ("self", "kwargs") and value is not None
    }
    value = next(iter(given.values())) if len(given) == 1 else given
    if "args" in given and len(given) == 1 and len(given["args"]) == 1:
        value = given["args"][0]
    if kind == "llm":
        metadata = getattr(instance, "metadata", None)
        model = plain_text(get(metadata, "model_name"))
        provider = next((part for part in _module_of(instance) if part in _CLIENTS), None)
        options = {
            "temperature": getattr(instance, "temperature", None),
            "max_tokens": getattr(instance, "max_tokens", None),
        }
        operation = "chat" if "chat" in method else "text_completion"
        attributes = request_attributes(operation, provider, model, options)
        asked = given.get("messages", given.get("prompt", value))
        return Request(f"{operation} {model or ''}".rstrip(), asked, model, provider, attributes)
    if kind == "embedding":
        model = plain_text(getattr(instance, "model_name", None))
        return Request(
            f"embeddings {model or ''}".rstrip(), value, model, None, request_attributes("embeddings", None, model, {})
        )
    if kind == "tool":
        tool = plain_text(get(get(instance, "metadata"), "name")) or name
        return Request(tool, value, attributes={"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool})
    return Request(name, value or None)


def _module_of(instance: Any) -> list[str]:
    return type(instance).__module__.split(".")


def _measured(result: Any) -> Any:
    """Vectors are counted, not kept."""
    if isinstance(result, list) and result and isinstance(result[0], list):
        return {"embeddings": len(result), "dimensions": len(result[0])}
    if isinstance(result, list):
        return {"embeddings": 1, "dimensions": len(result)}
    return result
