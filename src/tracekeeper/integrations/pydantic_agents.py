"""Pydantic AI: runs of agents and their tools. A call of a model is the span of the provider's client below it.

All ways to run an agent lead through ``Agent.iter``, an asynchronous context manager; the run's span is current inside
it. The library speaks OpenTelemetry by itself as well (``Agent.instrument_all()``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracekeeper.conventions.told import Told, get, plain_text
from tracekeeper.integrations.calls import Operation, Request, asynchronous, begin
from tracekeeper.integrations.patching import Patches
from tracekeeper.tracing import trouble
from tracekeeper.tracing.spans import Span
from tracekeeper.tracing.wrapping import failed_in, leave_span
from tracekeeper.types import SpanStatus


def install() -> Callable[[], None]:
    """Trace runs and tools; returns what puts everything back."""
    patches = Patches()
    try:
        patches.wrap("pydantic_ai.agent", "Agent.iter", _iterated)
        patches.wrap_if_there("pydantic_ai.tool_manager", "ToolManager.execute_tool_call", asynchronous(_TOOL))
    except BaseException:
        patches.undo()
        raise
    return patches.undo


def _asked(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    name = plain_text(getattr(instance, "name", None)) or "agent"
    given = args[0] if args else kwargs.get("user_prompt")
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}
    if conversation := plain_text(kwargs.get("conversation_id")):
        attributes["gen_ai.conversation.id"] = conversation
    return Request(name, given, attributes=attributes)


def _asked_tool(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    validated = args[0] if args else kwargs.get("validated")
    call = get(validated, "call")
    name = str(get(call, "tool_name") or "tool")
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
    if number := plain_text(get(call, "tool_call_id")):
        attributes["gen_ai.tool.call.id"] = number
    given = get(validated, "validated_args")
    return Request(name, given if given is not None else get(call, "args"), attributes=attributes)


_AGENT = Operation("agent", _asked, lambda result: Told(output=get(result, "output")), contains=True)
_TOOL = Operation("tool", _asked_tool, lambda result: Told(output=get(result, "return_value", result)), contains=True)


def _iterated(original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    return _Run(original(*args, **kwargs), instance, args, kwargs)


class _Run:
    """Stands for the context manager of one run."""

    def __init__(self, manager: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._manager = manager
        self._call = (instance, args, kwargs)
        self._span: Span | None = None
        self._run: Any = None

    async def __aenter__(self) -> Any:
        span = self._span = begin(_AGENT, *self._call)
        try:
            self._run = await self._manager.__aenter__()
        except BaseException as error:
            if span is not None:
                failed_in(span, error)
            raise
        return self._run

    async def __aexit__(self, kind: Any, error: BaseException | None, traceback: Any) -> Any:
        span = self._span
        try:
            handled = await self._manager.__aexit__(kind, error, traceback)
        except BaseException as raised:
            if span is not None:
                failed_in(span, raised)
            raise
        if span is None:
            return handled
        if error is not None and not handled:
            failed_in(span, error)
            return handled
        leave_span(span)
        result = self._result()
        if result is not None:
            span.take_output(get(result, "output"))
        span.close(SpanStatus.OK if result is not None else SpanStatus.ABANDONED)
        return handled

    def _result(self) -> Any:
        """Of a run that came to its end; ``None`` where the program left before."""
        try:
            return self._run.result
        except Exception as error:  # noqa: BLE001
            trouble.note("reading the result of an agent", error)
            return None

    def __getattr__(self, name: str) -> Any:
        if name == "_manager":
            raise AttributeError(name)
        return getattr(self._manager, name)
