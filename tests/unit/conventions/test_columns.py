"""Each column of the mapping: what an instrumentation of that family writes, and what we make of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tracekeeper.conventions.reading import Event, normalised
from tracekeeper.types import SpanKind, SpanStatus, Usage

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather in Ireland?"}]
CALL = {"id": "c1", "name": "lookup", "arguments": {"place": "Ireland"}}


@pytest.mark.parametrize("structured", [True, False], ids=["structured", "JSON text"])
def test_opentelemetry_generation_3(structured: bool) -> None:
    def sent(value: Any) -> Any:
        return value if structured else json.dumps(value)

    found = normalised(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4.1",
            "gen_ai.response.model": "gpt-4.1-2025-04-14",
            "gen_ai.request.temperature": 0.2,
            "gen_ai.request.stop_sequences": ("END",),
            "gen_ai.request.stream": True,
            "gen_ai.system_instructions": sent([{"type": "text", "content": "Be brief."}]),
            "gen_ai.input.messages": sent(
                [{"role": "user", "parts": [{"type": "text", "content": "Weather in Ireland?"}]}]
            ),
            "gen_ai.output.messages": sent(
                [
                    {
                        "role": "assistant",
                        "parts": [{"type": "text", "content": "Let me look."}, {"type": "tool_call", **CALL}],
                        "finish_reason": "tool_call",
                    }
                ]
            ),
            "gen_ai.tool.definitions": sent([{"type": "function", "name": "lookup"}]),
            "gen_ai.usage.input_tokens": 12,
            "gen_ai.usage.output_tokens": 5.0,
            "gen_ai.usage.cache_read.input_tokens": "4",
            "gen_ai.usage.cache_creation.input_tokens": 1,
            "gen_ai.usage.reasoning.output_tokens": 2,
            "gen_ai.response.id": "r-1",
            "gen_ai.conversation.id": "s-1",
            "gen_ai.prompt.name": "weather",
            "gen_ai.response.time_to_first_chunk": 0.25,
        },
        name="chat gpt-4.1",
        started=1_000_000_000,
    )
    assert (found.kind, found.name) == (SpanKind.LLM, "chat gpt-4.1")
    assert (found.provider, found.model) == ("openai", "gpt-4.1-2025-04-14")
    assert found.parameters == {"temperature": 0.2, "stop_sequences": ["END"], "stream": True}
    assert found.input == ASKED
    assert found.output == [{"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]}]
    assert found.tools == [{"type": "function", "name": "lookup"}]
    # Cached and reasoning tokens are included in the totals by these conventions: nothing is added.
    assert found.usage == Usage(
        input_tokens=12, output_tokens=5, cache_read_tokens=4, cache_write_tokens=1, reasoning_tokens=2
    )
    assert found.finish_reasons == ("tool_call",)
    assert (found.response_id, found.session_id) == ("r-1", "s-1")
    assert found.prompt == {"name": "weather"}
    assert found.first_chunk == 1_250_000_000
    assert found.status is None


def test_opentelemetry_generation_3_tools_agents_and_retrieval() -> None:
    tool = normalised(
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "lookup",
            "gen_ai.tool.call.arguments": '{"place": "Ireland"}',
            "gen_ai.tool.call.result": '["mild"]',
        }
    )
    assert (tool.kind, tool.name) == (SpanKind.TOOL, "lookup")
    assert (tool.input, tool.output) == ({"place": "Ireland"}, ["mild"])
    retrieval = normalised(
        {
            "gen_ai.operation.name": "retrieval",
            "gen_ai.retrieval.query.text": "Ireland",
            "gen_ai.retrieval.documents": '[{"id": "d1", "score": 0.9, "content": "mild"}, {"id": "d2", "score": "1"}]',
        }
    )
    assert (retrieval.kind, retrieval.input) == (SpanKind.RETRIEVER, "Ireland")
    assert retrieval.documents == [{"content": "mild", "id": "d1", "score": 0.9}, {"id": "d2", "score": 1.0}]
    agent = normalised({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "clerk"})
    assert (agent.kind, agent.name) == (SpanKind.AGENT, "clerk")


def test_opentelemetry_generation_3_content_on_an_event() -> None:
    event = Event(
        "gen_ai.client.inference.operation.details",
        {"gen_ai.input.messages": [{"role": "user", "parts": [{"type": "text", "content": "Hello"}]}]},
    )
    assert normalised({"gen_ai.operation.name": "chat"}, [event]).input == [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize("in_event_content", [True, False])
def test_opentelemetry_generation_2_messages_as_events(in_event_content: bool) -> None:
    def event(name: str, body: dict[str, Any]) -> Event:
        return Event(name, {"gen_ai.event.content": json.dumps(body)} if in_event_content else body)

    found = normalised(
        {"gen_ai.system": "az.ai.inference", "gen_ai.operation.name": "chat", "gen_ai.request.model": "m"},
        [
            event("gen_ai.system.message", {"role": "system", "content": "Be brief."}),
            event("gen_ai.user.message", {"content": "Weather in Ireland?"}),
            event(
                "gen_ai.choice",
                {"message": {"content": "Mild."}, "finish_reason": "stop", "index": 0},
            ),
        ],
    )
    assert found.input == ASKED
    assert found.output == "Mild."
    assert found.finish_reasons == ("stop",)
    assert found.provider == "az.ai.inference"


def test_opentelemetry_generation_1_and_openllmetry() -> None:
    found = normalised(
        {
            "gen_ai.system": "OpenAI",
            "llm.request.type": "chat",
            "gen_ai.request.model": "gpt-4.1",
            "gen_ai.request.max_completion_tokens": 100,
            "llm.frequency_penalty": 0.5,
            "llm.is_streaming": True,
            "gen_ai.prompt.0.role": "system",
            "gen_ai.prompt.0.content": "Be brief.",
            "gen_ai.prompt.1.role": "user",
            "gen_ai.prompt.1.content": "Weather in Ireland?",
            "gen_ai.completion.0.role": "assistant",
            "gen_ai.completion.0.content": "Let me look.",
            "gen_ai.completion.0.finish_reason": "tool_calls",
            "gen_ai.completion.0.tool_calls.0.id": "c1",
            "gen_ai.completion.0.tool_calls.0.name": "lookup",
            "gen_ai.completion.0.tool_calls.0.arguments": '{"place": "Ireland"}',
            "llm.request.functions.0.name": "lookup",
            "llm.request.functions.0.parameters": '{"type": "object"}',
            "gen_ai.usage.prompt_tokens": "12",
            "llm.usage.total_tokens": 17.0,
            "gen_ai.usage.cache_read_input_tokens": 3,
            "gen_ai.usage.cost": 0.5,
            "traceloop.association.properties.session_id": "s-1",
            "traceloop.association.properties.user_id": "u-1",
            "traceloop.association.properties.customer": "acme",
            "traceloop.prompt.key": "weather",
            "traceloop.prompt.version": 3,
        },
        [Event("gen_ai.content.completion.chunk", {}, 50), Event("gen_ai.content.completion.chunk", {}, 70)],
        scope="opentelemetry.instrumentation.openai.v1",
        status="ok",
        started=1,
    )
    assert (found.kind, found.provider, found.model) == (SpanKind.LLM, "OpenAI", "gpt-4.1")
    assert found.parameters == {"max_completion_tokens": 100, "frequency_penalty": 0.5}
    assert found.input == ASKED
    assert found.output == [{"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]}]
    assert found.tools == [{"name": "lookup", "parameters": {"type": "object"}}]
    assert found.usage == Usage(input_tokens=12, output_tokens=5, cache_read_tokens=3, cost=0.5)
    assert found.finish_reasons == ("tool_calls",)
    assert (found.session_id, found.user_id, found.metadata) == ("s-1", "u-1", {"customer": "acme"})
    assert found.prompt == {"name": "weather", "version": 3}
    assert (found.first_chunk, found.chunks, found.status) == (50, 2, None)


def test_openllmetry_workflows_and_vector_searches() -> None:
    workflow = normalised(
        {"traceloop.span.kind": "workflow", "traceloop.entity.name": "answer", "traceloop.entity.input": '{"q": "why"}',
         "traceloop.entity.output": '"because"'}
    )  # fmt: skip
    assert (workflow.kind, workflow.name) == (SpanKind.CHAIN, "answer")
    assert (workflow.input, workflow.output) == ({"q": "why"}, "because")
    search = normalised(
        {"db.system": "chroma"},
        [
            Event("db.query.result", {"db.query.result.id": "d1", "db.query.result.distance": 0.1,
                                      "db.query.result.document": "mild"}),
        ],
    )  # fmt: skip
    assert search.documents == [{"content": "mild", "id": "d1", "score": 0.1}]


def test_openinference_models() -> None:
    found = normalised(
        {
            "openinference.span.kind": "LLM",
            "llm.provider": "openai",
            "llm.system": "openai",
            "llm.model_name": "gpt-4.1",
            "llm.invocation_parameters": '{"temperature": 0.2, "stream": true}',
            "llm.input_messages.0.message.role": "system",
            "llm.input_messages.0.message.content": "Be brief.",
            "llm.input_messages.10.message.role": "user",
            "llm.input_messages.10.message.contents.0.message_content.type": "text",
            "llm.input_messages.10.message.contents.0.message_content.text": "Weather in Ireland?",
            "llm.input_messages.10.message.contents.1.message_content.type": "image",
            "llm.input_messages.10.message.contents.1.message_content.image.image.url": "http://x/y.png",
            "llm.output_messages.0.message.role": "assistant",
            "llm.output_messages.0.message.content": "Let me look.",
            "llm.output_messages.0.message.tool_calls.0.tool_call.id": "c1",
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "lookup",
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": '{"place": "Ireland"}',
            "llm.finish_reason": "tool_calls",
            "input.value": '{"messages": []}',
            "input.mime_type": "application/json",
            "llm.tools.0.tool.json_schema": '{"type": "function"}',
            "llm.token_count.prompt": 12,
            "llm.token_count.completion": 5,
            "llm.token_count.total": 17,
            "llm.token_count.prompt_details.cache_read": 4,
            "llm.token_count.completion_details.reasoning": 2,
            "llm.cost.prompt": 0.25,
            "llm.cost.completion": 0.5,
            "session.id": "s-1",
            "user.id": "u-1",
            "tag.tags": ["a", "b"],
            "metadata": '{"customer": "acme"}',
            "llm.prompt_template.template": "Weather in {place}?",
            "llm.prompt_template.variables": '{"place": "Ireland"}',
        },
        [Event("First Token Stream Event", {}, 99)],
        name="ChatCompletion",
        scope="openinference.instrumentation.openai",
        status="ok",
    )
    assert (found.kind, found.provider, found.model) == (SpanKind.LLM, "openai", "gpt-4.1")
    assert found.parameters == {"temperature": 0.2, "stream": True}
    assert found.input == [
        ASKED[0],
        {
            "role": "user",
            "content": ["Weather in Ireland?", {"type": "image", "image": {"image": {"url": "http://x/y.png"}}}],
        },
    ]
    assert found.output == [{"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]}]
    assert found.tools == [{"type": "function"}]
    assert found.usage == Usage(input_tokens=12, output_tokens=5, cache_read_tokens=4, reasoning_tokens=2, cost=0.75)
    assert (found.session_id, found.user_id, found.tags) == ("s-1", "u-1", ("a", "b"))
    assert found.metadata == {"customer": "acme"}
    assert found.prompt == {"template": "Weather in {place}?", "variables": {"place": "Ireland"}}
    assert (found.first_chunk, found.status) == (99, None)


@pytest.mark.parametrize(("said", "expected"), [({"content": "Mild."}, "Mild."), ({"role": "assistant"}, None)])
def test_openinferences_whole_responses_are_their_answers(said: dict[str, Any], expected: str | None) -> None:
    response = json.dumps({"choices": [{"index": 0, "message": said}], "model": "m"})
    found = normalised(
        {"openinference.span.kind": "LLM", "output.value": response, "output.mime_type": "application/json"}
    )
    assert found.output == expected


def test_openinference_retrievers_rerankers_embeddings_and_tools() -> None:
    retriever = normalised(
        {
            "openinference.span.kind": "RETRIEVER",
            "input.value": "Ireland",
            "input.mime_type": "text/plain",
            "retrieval.documents.0.document.content": "mild",
            "retrieval.documents.0.document.score": 0.9,
            "retrieval.documents.0.document.metadata": '{"page": 3}',
            "retrieval.documents.1.document.content": "wet",
            "retrieval.documents.1.document.id": 7,
        }
    )
    assert (retriever.kind, retriever.input) == (SpanKind.RETRIEVER, "Ireland")
    assert retriever.documents == [
        {"content": "mild", "score": 0.9, "metadata": {"page": 3}},
        {"content": "wet", "id": "7"},
    ]
    reranker = normalised(
        {
            "openinference.span.kind": "RERANKER",
            "reranker.query": "Ireland",
            "reranker.model_name": "ranker",
            "reranker.output_documents.0.document.content": "mild",
        }
    )
    assert (reranker.kind, reranker.model, reranker.input) == (SpanKind.RERANKER, "ranker", "Ireland")
    assert reranker.documents == [{"content": "mild"}]
    embedding = normalised(
        {
            "openinference.span.kind": "EMBEDDING",
            "embedding.model_name": "small",
            "embedding.embeddings.0.embedding.text": "mild",
            "embedding.embeddings.0.embedding.vector": [0.1],
        }
    )
    assert (embedding.kind, embedding.model, embedding.input) == (SpanKind.EMBEDDING, "small", ["mild"])
    tool = normalised({"tool.name": "lookup", "tool.parameters": '{"place": "Ireland"}', "output.value": "{half"})
    assert (tool.kind, tool.name, tool.input, tool.output) == (SpanKind.TOOL, "lookup", {"place": "Ireland"}, "{half")
    assert normalised({"openinference.span.kind": "UNKNOWN"}).kind is None


def test_langfuse() -> None:
    found = normalised(
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.model.name": "gpt-4.1",
            "gen_ai.response.model": "another",
            "langfuse.observation.model.parameters": '{"temperature": 0.2}',
            "langfuse.observation.input": json.dumps(ASKED),
            "langfuse.observation.output": '{"role": "assistant", "content": "Mild."}',
            "langfuse.observation.usage_details": '{"input": 8, "output": 3, "input_cached_tokens": 4,'
            ' "output_reasoning_tokens": 2, "total": 17}',
            "langfuse.observation.cost_details": '{"input": 0.25, "output": 0.5}',
            "langfuse.session.id": "s-1",
            "user.id": "u-1",
            "langfuse.trace.tags": ["a"],
            "langfuse.trace.metadata.customer": "acme",
            "langfuse.observation.metadata.attempt": "2",
            "langfuse.environment": "prod",
            "langfuse.release": "abc",
            "langfuse.observation.prompt.name": "weather",
            "langfuse.observation.prompt.version": 3,
            "langfuse.observation.completion_start_time": '"2026-11-21T10:00:00.5Z"',
        }
    )
    assert (found.kind, found.model) == (SpanKind.LLM, "gpt-4.1")
    assert found.parameters == {"temperature": 0.2}
    assert found.input == ASKED
    assert found.output == {"role": "assistant", "content": "Mild."}
    # Their total shows that cached and reasoning tokens were told apart from the rest; ours include them.
    assert found.usage == Usage(input_tokens=12, output_tokens=5, cache_read_tokens=4, reasoning_tokens=2, cost=0.75)
    assert (found.session_id, found.user_id, found.tags) == ("s-1", "u-1", ("a",))
    assert found.metadata == {"customer": "acme", "attempt": "2"}
    assert (found.environment, found.release) == ("prod", "abc")
    assert found.prompt == {"name": "weather", "version": 3}
    assert found.first_chunk == 1_795_255_200_500_000_000
    failed = normalised({"langfuse.observation.level": "ERROR", "langfuse.observation.status_message": "no luck"})
    assert failed.error == ("", "no luck")


def test_langfuses_figures_are_left_alone_when_they_are_included_already() -> None:
    details = '{"input": 12, "output": 5, "input_cached_tokens": 4, "total": 17}'
    found = normalised({"langfuse.observation.usage_details": details}).usage
    assert found == Usage(input_tokens=12, output_tokens=5, cache_read_tokens=4)


def test_logfire_and_pydantic_ai() -> None:
    found = normalised(
        {
            "logfire.msg": "agent run",
            "logfire.tags": ["a"],
            "logfire.level_num": 17,
            "exception.type": "ValueError",
            "exception.message": "no",
            "gen_ai.agent.name": "clerk",
            "gen_ai.operation.name": "invoke_agent",
            "model_config": '{"temperature": 0}',
            "pydantic_ai.all_messages": json.dumps(
                [
                    {"role": "user", "parts": [{"type": "text", "content": "Hello"}]},
                    {"role": "assistant", "parts": [{"type": "text", "content": "Good day"}], "finish_reason": "stop"},
                ]
            ),
            "final_result": "Good day",
        }
    )
    assert (found.kind, found.name, found.tags) == (SpanKind.AGENT, "clerk", ("a",))
    assert (found.input, found.output) == ([{"role": "user", "content": "Hello"}], "Good day")
    assert found.parameters == {"temperature": 0}
    assert found.finish_reasons == ("stop",)
    assert found.error == ("ValueError", "no")
    events = normalised(
        {
            "events": json.dumps(
                [
                    {"event.name": "gen_ai.user.message", "content": "Hello", "role": "user"},
                    {"event.name": "gen_ai.choice", "index": 0, "message": {"role": "assistant", "content": "Hi"}},
                ]
            )
        }
    )
    assert (events.input, events.output) == ([{"role": "user", "content": "Hello"}], "Hi")


def test_the_other_column() -> None:
    vercel = normalised(
        {
            "ai.operationId": "ai.streamText.doStream",
            "ai.model.id": "gpt-4.1",
            "ai.model.provider": "openai.chat",
            "ai.prompt.messages": json.dumps(ASKED),
            "ai.response.text": "Mild.",
            "ai.response.finishReason": "stop",
            "ai.usage.promptTokens": 12,
            "ai.usage.completionTokens": 5,
            "ai.usage.cachedInputTokens": 4,
            "ai.response.msToFirstChunk": 250.5,
            "ai.telemetry.metadata.sessionId": "s-1",
            "ai.telemetry.metadata.userId": "u-1",
            "ai.telemetry.metadata.customer": "acme",
        },
        started=0,
    )
    assert (vercel.kind, vercel.model, vercel.provider) == (SpanKind.LLM, "gpt-4.1", "openai.chat")
    assert (vercel.input, vercel.output) == (ASKED, "Mild.")
    assert vercel.usage == Usage(input_tokens=12, output_tokens=5, cache_read_tokens=4)
    assert (vercel.finish_reasons, vercel.first_chunk) == (("stop",), 250_500_000)
    assert (vercel.session_id, vercel.user_id, vercel.metadata) == ("s-1", "u-1", {"customer": "acme"})
    tool = normalised({"ai.operationId": "ai.toolCall", "ai.toolCall.name": "lookup", "ai.toolCall.args": "{}",
                       "ai.toolCall.result": '"mild"'})  # fmt: skip
    assert (tool.kind, tool.output) == (SpanKind.TOOL, "mild")
    mlflow = normalised({"mlflow.spanType": "CHAT_MODEL", "mlflow.spanInputs": '{"q": 1}', "mlflow.spanOutputs": "2"})
    assert (mlflow.kind, mlflow.input, mlflow.output) == (SpanKind.LLM, {"q": 1}, "2")
    assert normalised({"genkit:metadata:subtype": "flow"}).kind is SpanKind.CHAIN
    google = normalised({"gcp.vertex.agent.llm_request": '{"contents": []}', "gen_ai.request.model": "g"})
    assert (google.kind, google.input) == (SpanKind.LLM, {"contents": []})


def test_the_first_that_is_not_empty_wins_from_left_to_right() -> None:
    found = normalised(
        {
            "gen_ai.provider.name": "",
            "gen_ai.system": "left",
            "llm.provider": "right",
            "gen_ai.operation.name": "unheard of",
            "openinference.span.kind": "TOOL",
            "gen_ai.usage.input_tokens": float("nan"),
            "llm.token_count.prompt": 3,
        }
    )
    assert (found.provider, found.kind, found.usage) == ("left", SpanKind.TOOL, Usage(input_tokens=3))


@pytest.mark.parametrize(
    ("scope", "status", "attributes", "events", "expected"),
    [
        ("openinference.instrumentation.openai", "ok", {}, [], None),
        ("openinference.instrumentation.openai", "unset", {}, [], SpanStatus.ABANDONED),
        (
            "openinference.instrumentation.openai",
            "ok",
            {"llm.invocation_parameters": '{"stream": true}'},
            [],
            SpanStatus.TRUNCATED,
        ),
        (
            "openinference.instrumentation.openai",
            "ok",
            {"llm.invocation_parameters": '{"stream": true}', "llm.finish_reason": "stop"},
            [],
            None,
        ),
        ("openinference.instrumentation.other", "ok", {"llm.is_streaming": True}, [], None),
        (
            "openinference.instrumentation.openai",
            "error",
            {},
            [Event("exception", {"exception.type": "asyncio.exceptions.CancelledError"})],
            SpanStatus.CANCELLED,
        ),
        ("openinference.instrumentation.openai", "error", {}, [Event("exception", {"exception.type": "X"})], None),
        ("opentelemetry.instrumentation.openai.v1", "ok", {"gen_ai.completion.0.finish_reason": "stop"}, [], None),
        (
            "opentelemetry.instrumentation.openai.v1",
            "ok",
            {"gen_ai.completion.0.finish_reason": ""},
            [],
            SpanStatus.ABANDONED,
        ),
        ("opentelemetry.instrumentation.openai.v1", "ok", {"llm.is_streaming": True}, [], SpanStatus.ABANDONED),
        ("opentelemetry.instrumentation.openai.v1", "ok", {}, [], None),
        ("somebody.else", "ok", {"gen_ai.request.stream": True}, [], None),
        ("somebody.else", "unset", {}, [], None),
        ("somebody.else", "error", {"error.type": "CancelledError"}, [], SpanStatus.CANCELLED),
    ],
)
def test_how_a_stream_ended_is_told_where_the_attributes_know_more_than_the_status(
    scope: str, status: str, attributes: dict[str, Any], events: list[Event], expected: SpanStatus | None
) -> None:
    given = {"gen_ai.operation.name": "chat", **attributes}
    assert normalised(given, events, scope=scope, status=status).status is expected


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("llm.request.model_name", "m", "model", "m"),
        ("gcp.vertex.agent.llm_response", '{"text": "mild"}', "output", {"text": "mild"}),
        (
            "ai.prompt.tools",
            ['{"type": "function", "name": "lookup"}'],
            "tools",
            [{"type": "function", "name": "lookup"}],
        ),
        ("gen_ai.finishReason", "stop", "finish_reasons", ("stop",)),
    ],
)
def test_an_attribute_of_a_single_family_is_read_alone(name: str, value: Any, field: str, expected: Any) -> None:
    assert getattr(normalised({name: value}), field) == expected
