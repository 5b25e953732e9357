"""CrewAI: crews, flows, tasks, agents and tools. A call of a model is the span of the provider's client below it.

CrewAI's events come in threads of its own, where neither the context nor the order of the calls is known; so the calls
themselves are wrapped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracekeeper.conventions.told import Told, get, plain_text
from tracekeeper.integrations.calls import Operation, Request, asynchronous, synchronous
from tracekeeper.integrations.patching import Patches, Wrapper


def install() -> Callable[[], None]:
    """Trace the calls; returns what puts everything back."""
    patches = Patches()
    try:
        patches.wrap("crewai.crew", "Crew.kickoff", _unless_streaming(synchronous(_CREW)))
        patches.wrap_if_there("crewai.crew", "Crew.akickoff", _unless_streaming(asynchronous(_CREW)))
        for module in ("crewai.flow.runtime", "crewai.flow.flow"):
            if patches.wrap_if_there(module, "Flow.kickoff_async", _unless_streaming(_flow)):
                break
        patches.wrap_if_there("crewai.task", "Task._execute_core", synchronous(_TASK))
        patches.wrap_if_there("crewai.task", "Task._aexecute_core", asynchronous(_TASK))
        for module in ("crewai.agent.core", "crewai.agent"):
            if patches.wrap_if_there(module, "Agent.execute_task", synchronous(_AGENT)):
                patches.wrap_if_there(module, "Agent.aexecute_task", asynchronous(_AGENT))
                break
        for name in ("BaseTool", "Tool"):
            patches.wrap_if_there("crewai.tools.base_tool", f"{name}.run", synchronous(_TOOL))
            patches.wrap_if_there("crewai.tools.base_tool", f"{name}.arun", asynchronous(_TOOL))
        patches.wrap_if_there("crewai.tools.structured_tool", "CrewStructuredTool.invoke", synchronous(_TOOL))
        patches.wrap_if_there("crewai.tools.structured_tool", "CrewStructuredTool.ainvoke", asynchronous(_TOOL))
    except BaseException:
        patches.undo()
        raise
    return patches.undo


def _unless_streaming(wrapper: Wrapper) -> Wrapper:
    """A crew that streams calls itself once more, in a thread, without streaming: that call is the one.

    CrewAI's own agents are flows too, which are no user's.
    """

    def either(original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        own_flow = wrapper is _flow and type(instance).__module__.startswith("crewai.")
        if own_flow or getattr(instance, "stream", False):
            return original(*args, **kwargs)
        return wrapper(original, instance, args, kwargs)

    return either


def _crew(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    name = plain_text(getattr(instance, "name", None)) or type(instance).__name__
    return Request(name, args[0] if args else kwargs.get("inputs"))


def _task(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    name = plain_text(getattr(instance, "name", None)) or plain_text(getattr(instance, "description", None)) or "task"
    given = {
        "description": getattr(instance, "description", None),
        "expected_output": getattr(instance, "expected_output", None),
        "context": args[1] if len(args) > 1 else kwargs.get("context"),
    }
    return Request(name.strip().splitlines()[0][:80], {key: value for key, value in given.items() if value})


def _agent(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    role = (plain_text(getattr(instance, "role", None)) or "agent").strip()
    task = args[0] if args else kwargs.get("task")
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": role}
    if goal := plain_text(getattr(instance, "goal", None)):
        attributes["gen_ai.agent.description"] = goal
    return Request(role, plain_text(getattr(task, "description", None)), attributes=attributes)


def _tool(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    name = plain_text(getattr(instance, "name", None)) or type(instance).__name__
    given = kwargs or (args[0] if len(args) == 1 else list(args))
    return Request(name, given, attributes={"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name})


def _output(result: Any) -> Told:
    raw = get(result, "raw")
    return Told(output=result if raw is None else raw)


_CREW = Operation("chain", _crew, _output, contains=True)
_FLOW = Operation("chain", _crew, _output, contains=True)
_TASK = Operation("task", _task, _output, contains=True)
_AGENT = Operation("agent", _agent, _output, contains=True)
_TOOL = Operation("tool", _tool, _output, contains=True)
_flow = asynchronous(_FLOW)
