"""LangChain's callbacks as spans: what each run was given, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from tracekeeper.conventions import langchain as convention
from tracekeeper.conventions.asked import request_attributes
from tracekeeper.conventions.told import plain_text
from tracekeeper.integrations.calls import Request, tell
from tracekeeper.integrations.langchain_runs import RUNS, Run, elsewhere
from tracekeeper.integrations.runs import Entered, open_run
from tracekeeper.tracing import opening, trouble
from tracekeeper.tracing.spans import Span
from tracekeeper.types import SpanStatus

_HIDDEN = "langsmith:hidden"
"""LangGraph's mark of steps that are its own."""
_CONVERSATION = ("session_id", "thread_id", "conversation_id")
_CONTROL = frozenset({"GraphBubbleUp", "ParentCommand"})
"""Exceptions by which LangGraph's steps talk to each other."""


def _told(method: Callable[..., Any]) -> Callable[..., Any]:
    """A callback: nothing of ours reaches LangChain, which would log it at every call."""

    def safely(self: Handler, *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001
            trouble.note("a callback of LangChain", error)

    return safely


class Handler:
    """Turns LangChain's callbacks into spans. One for the process."""

    run_inline = property(lambda self: not elsewhere.get())
    raise_error = False

    def __init__(self) -> None:
        self.off = False

    # Beginnings.

    def _begin(
        self, kind: str, run_id: UUID, parent_run_id: UUID | None, request: Request, metadata: Any, tags: Any
    ) -> Run | None:
        if self.off:
            return None
        run = RUNS.begin(run_id)
        above = RUNS.get(parent_run_id)
        parent = None if above is None else above.above
        if kind == "chain" and _HIDDEN in (tags or ()):
            run.above = parent
            return None
        about = metadata or {}
        attributes = request.attributes
        conversation = next((str(about[name]) for name in _CONVERSATION if about.get(name)), None)
        if conversation is not None:
            attributes["gen_ai.conversation.id"] = conversation
        if node := about.get("langgraph_node"):
            attributes["langgraph.node"], attributes["langgraph.step"] = node, about.get("langgraph_step")
        if labels := [tag for tag in tags or () if not tag.startswith(("seq:", "graph:", "langsmith:"))]:
            attributes["langchain.tags"] = labels
        span = run.span = run.above = open_run(kind, request, parent)
        if span is None:
            run.above = parent
            return None
        if conversation is not None and span.is_record and span.settings.session_id is None:
            span.set(session_id=conversation)
        return run

    @_told
    def on_chain_start(
        self,
        serialized: Any,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: Any = None,
        metadata: Any = None,
        **more: Any,
    ) -> None:
        name = _name(serialized, more, "chain")
        kind = "agent" if "agent" in name.lower() and parent_run_id is None else "chain"
        request = Request(name, convention.plain(inputs))
        self._begin(kind, run_id, parent_run_id, request, metadata, tags)

    @_told
    def on_tool_start(
        self,
        serialized: Any,
        input_str: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: Any = None,
        metadata: Any = None,
        inputs: Any = None,
        **more: Any,
    ) -> None:
        name = _name(serialized, more, "tool")
        attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
        if call := plain_text(more.get("tool_call_id")):
            attributes["gen_ai.tool.call.id"] = call
        given = convention.plain(inputs) if inputs is not None else input_str
        self._begin("tool", run_id, parent_run_id, Request(name, given, attributes=attributes), metadata, tags)

    @_told
    def on_retriever_start(
        self,
        serialized: Any,
        query: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: Any = None,
        metadata: Any = None,
        **more: Any,
    ) -> None:
        run = self._begin(
            "retriever", run_id, parent_run_id, Request(_name(serialized, more, "retriever"), query), metadata, tags
        )
        if run is not None and run.span is not None:
            run.entered = Entered(run.span)  # LangChain makes no context for it

    @_told
    def on_chat_model_start(self, serialized: Any, messages: Any, **more: Any) -> None:
        given = [convention.message(one) for group in messages for one in group]
        self._begin_model(serialized, "chat", given, **more)

    @_told
    def on_llm_start(self, serialized: Any, prompts: Any, **more: Any) -> None:
        self._begin_model(serialized, "text_completion", prompts[0] if len(prompts) == 1 else list(prompts), **more)

    def _begin_model(
        self,
        serialized: Any,
        operation: str,
        given: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **more: Any,
    ) -> None:
        options = more.get("invocation_params") or {}
        metadata = more.get("metadata") or {}
        model = _first_text(options.get("model"), options.get("model_name"), metadata.get("ls_model_name"))
        provider = plain_text(metadata.get("ls_provider"))
        provider = convention.PROVIDERS.get(provider or "", provider)
        attributes = request_attributes(operation, provider, model, options)
        name = f"{operation} {model}" if model else _name(serialized, more, operation)
        request = Request(name, given, model, provider, attributes)
        run = self._begin("llm", run_id, parent_run_id, request, metadata, more.get("tags"))
        if run is not None and run.span is not None and not elsewhere.get():
            run.entered = Entered(run.span, calls_a_model=True)

    # Pieces.

    @_told
    def on_llm_new_token(self, token: Any, *, run_id: UUID, chunk: Any = None, **more: Any) -> None:
        run = RUNS.get(run_id)
        if run is not None:
            run.chunk(token if chunk is None else chunk)

    @_told
    def on_stream_event(self, event: Any, *, run_id: UUID, **more: Any) -> None:
        run = RUNS.get(run_id)
        if run is not None:
            run.chunk(event)

    @_told
    def on_retry(self, retry_state: Any, *, run_id: UUID, **more: Any) -> None:
        run = RUNS.get(run_id)
        if run is not None and run.span is not None:
            run.span.add_event("retry", {"attempt": getattr(retry_state, "attempt_number", None)})

    # Ends.

    @_told
    def on_chain_end(self, outputs: Any, *, run_id: UUID, inputs: Any = None, **more: Any) -> None:
        self._end(run_id, outputs, inputs)

    on_tool_end = on_retriever_end = on_chain_end

    @_told
    def on_llm_end(self, response: Any, *, run_id: UUID, **more: Any) -> None:
        run = RUNS.end(run_id)
        if run is None:
            return
        run.leave()
        span = run.span
        if span is None or not span.is_open():
            return
        if run.reader is not None:
            run.reader.finish(response)
        else:
            tell(span, convention.answer(response))
        span.close(span.status_or_ok())

    def _end(self, run_id: UUID, output: Any, inputs: Any) -> None:
        run = RUNS.end(run_id)
        if run is None:
            return
        run.leave()
        span = run.span
        if span is None or not span.is_open():
            return
        _take_input(span, inputs)
        if run.left:
            span.close(SpanStatus.ABANDONED)  # with what came
            return
        span.take_output(convention.plain(output))
        span.close(span.status_or_ok())

    @_told
    def on_chain_error(self, error: BaseException, *, run_id: UUID, inputs: Any = None, **more: Any) -> None:
        run = RUNS.end(run_id)
        if run is None:
            return
        run.leave()
        if run.span is None:
            return
        _take_input(run.span, inputs)
        if any(kind.__name__ in _CONTROL for kind in type(error).__mro__):
            run.span.set_attribute("langgraph.interrupt", type(error).__name__)
            run.span.close(run.span.status_or_ok())
        else:
            run.span.fail(error)

    on_tool_error = on_retriever_error = on_llm_error = on_chain_error


def _take_input(span: Span, inputs: Any) -> None:
    """A chain that is fed by a stream knows what it was given when it ends."""
    if inputs is not None and span.settings.capture_input and opening.takes_payload(span):
        span.set(input=convention.plain(inputs))


def _name(serialized: Any, more: Any, otherwise: str) -> str:
    given = plain_text(more.get("name"))
    if given:
        return given
    about = serialized if isinstance(serialized, dict) else {}
    ids = about.get("id")
    return plain_text(about.get("name")) or (str(ids[-1]) if isinstance(ids, list) and ids else otherwise)


def _first_text(*values: Any) -> str | None:
    return next((value for value in values if isinstance(value, str) and value), None)
