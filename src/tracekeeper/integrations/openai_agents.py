"""OpenAI's Agents SDK: workflows, agents, tools, guardrails and handoffs.

The library tells its own trace processors of every span when it begins and when it ends, in the place where it does.
What tells them is wrapped, since a program replaces the list of processors to keep its traces from being uploaded. A
call of a model is the span of the client below it where that client is traced (whose streams keep their text); where
none is, it is the library's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tracekeeper.conventions import openai_responses
from tracekeeper.conventions.asked import request_attributes
from tracekeeper.conventions.told import Told, get, plain_text
from tracekeeper.integrations import registry
from tracekeeper.integrations.calls import Request, tell
from tracekeeper.integrations.patching import Patches
from tracekeeper.integrations.runs import Entered, open_run
from tracekeeper.tracing import trouble
from tracekeeper.tracing.spans import Span
from tracekeeper.types import SpanStatus

_TELLS = "SynchronousMultiTracingProcessor"
_KINDS = {"agent": "agent", "function": "tool", "guardrail": "guardrail", "generation": "llm", "response": "llm"}
_THROUGH = frozenset({"task", "turn"})
"""The library's own bookkeeping between an agent and what it does."""


def install() -> Callable[[], None]:
    """Trace workflows; returns what puts everything back."""
    follower = _Follower()
    patches = Patches()
    try:
        for name in ("on_trace_start", "on_trace_end", "on_span_start", "on_span_end"):
            patches.wrap("agents.tracing.provider", f"{_TELLS}.{name}", _telling(getattr(follower, name)))
    except BaseException:
        patches.undo()
        raise
    return patches.undo


def _telling(follow: Callable[[Any], None]) -> Callable[..., Any]:
    def wrapper(original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        try:
            follow(args[0])
        except Exception as error:  # noqa: BLE001
            trouble.note("following the Agents SDK", error)
        return original(*args, **kwargs)

    return wrapper


class _Run:
    __slots__ = ("above", "entered", "handled", "span")

    def __init__(self, span: Span | None, above: Span | None) -> None:
        self.span = span
        self.above = span or above
        """What its children are below."""
        self.entered = None if span is None else Entered(span, calls_a_model=span.kind == "llm")
        self.handled = sys.exc_info()[1]


class _Follower:
    """Turns the library's spans into ours."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}

    def on_trace_start(self, trace: Any) -> None:
        attributes = {}
        if group := plain_text(getattr(trace, "group_id", None)):
            attributes["gen_ai.conversation.id"] = group
        metadata = getattr(trace, "metadata", None)
        if isinstance(metadata, dict):
            attributes |= {f"openai_agents.{name}": value for name, value in metadata.items()}
        span = open_run("chain", Request(str(trace.name), attributes=attributes))
        if span is not None and group and span.is_record and span.settings.session_id is None:
            span.set(session_id=group)
        self._runs[trace.trace_id] = _Run(span, None)

    def on_trace_end(self, trace: Any) -> None:
        run = self._runs.pop(trace.trace_id, None)
        if run is not None:
            _end(run, None)

    def on_span_start(self, told: Any) -> None:
        data = told.span_data
        parent = self._runs.get(told.parent_id or told.trace_id)
        above = None if parent is None else parent.above
        span = None
        if data.type not in _THROUGH and not (_KINDS.get(data.type) == "llm" and _client_is_traced(data)):
            span = open_run(_KINDS.get(data.type, "chain"), _request(data), above)
        self._runs[told.span_id] = _Run(span, above)

    def on_span_end(self, told: Any) -> None:
        run = self._runs.pop(told.span_id, None)
        if run is None:
            return
        span = run.span
        if span is not None and span.is_open():
            _tell(span, told.span_data)
            if told.error and span.failure is None:
                span.set_status(_error_status(told.error))
        _end(run, told)


def _end(run: _Run, told: Any) -> None:
    if run.entered is not None:
        run.entered.leave()
    span = run.span
    if span is None:
        return
    error = sys.exc_info()[1]
    if error is not None and error is not run.handled:
        span.fail(error)
    else:
        span.close(span.declared or SpanStatus.OK)


def _error_status(error: Any) -> Any:
    from opentelemetry.trace import Status, StatusCode

    said = get(error, "message")
    data = get(error, "data")
    return Status(StatusCode.ERROR, f"{said} {data}" if data else str(said))


def _client_is_traced(data: Any) -> bool:
    config = getattr(data, "model_config", None)
    client = "litellm" if get(config or {}, "model_impl") == "litellm" else "openai"
    return any(row.name == client and row.state == "active" for row in registry.instrumented())


def _request(data: Any) -> Request:
    kind = data.type
    if kind == "agent":
        attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": data.name}
        attributes |= {"openai_agents.tools": data.tools, "openai_agents.handoffs": data.handoffs}
        return Request(str(data.name), attributes={name: value for name, value in attributes.items() if value})
    if kind == "function":
        attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": data.name}
        return Request(str(data.name), attributes=attributes)
    if _KINDS.get(kind) == "llm":
        model = plain_text(getattr(data, "model", None))
        attributes = request_attributes("chat", "openai", model, getattr(data, "model_config", None) or {})
        return Request(f"chat {model or ''}".rstrip(), None, model, "openai", attributes)
    if kind == "handoff":
        return Request(f"handoff from {data.from_agent}")
    return Request(plain_text(getattr(data, "name", None)) or str(kind))


def _tell(span: Span, data: Any) -> None:
    kind = data.type
    if kind == "function":
        span.set(input=data.input)
        span.take_output(data.output)
    elif kind == "response":
        span.set(input=data.input)
        if data.response is not None:
            told = openai_responses.answer(data.response)
            tell(span, told)
            if told.model:
                span.set(name=f"chat {told.model}")
    elif kind == "generation":
        span.set(input=data.input)
        tell(span, Told(output=data.output, usage=data.usage, model=plain_text(data.model)))
    elif kind == "handoff":
        span.set(name=f"handoff from {data.from_agent} to {data.to_agent}")
    elif kind == "guardrail":
        span.take_output({"triggered": data.triggered})
    elif kind == "custom":
        span.take_output(data.data)
