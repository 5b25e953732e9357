"""Who calls what how: for each of our fields the keys to look under, in order. The first that is not empty wins.

Order of the sources in every row: OpenTelemetry's newest conventions (generation 3, from 1.37), the older ones
(generations 1 and 2) and OpenLLMetry, OpenInference, Langfuse, others (Logfire and Pydantic AI, Vercel's ``ai``,
MLflow, Genkit, Google). All of them are in development and rename things, so this is data, and everything is optional.

References: OpenTelemetry semantic conventions for generative AI 1.28 to 1.56, OpenInference's semantic conventions,
Traceloop's ``opentelemetry-semantic-conventions-ai``, Langfuse's OpenTelemetry attributes.
"""

from __future__ import annotations

from typing import NamedTuple

from tracekeeper.types import SpanKind

LLM, RETRIEVER, EMBEDDING, RERANKER = SpanKind.LLM, SpanKind.RETRIEVER, SpanKind.EMBEDDING, SpanKind.RERANKER
TOOL, AGENT, CHAIN, TASK = SpanKind.TOOL, SpanKind.AGENT, SpanKind.CHAIN, SpanKind.TASK
GUARDRAIL, EVALUATOR = SpanKind.GUARDRAIL, SpanKind.EVALUATOR

KINDS: tuple[tuple[str, dict[str, SpanKind]], ...] = (
    (
        "gen_ai.operation.name",
        {
            **dict.fromkeys(("chat", "text_completion", "generate_content", "completion", "message"), LLM),
            **dict.fromkeys(("embeddings", "embedding"), EMBEDDING),
            **dict.fromkeys(("retrieval", "search_memory"), RETRIEVER),
            **dict.fromkeys(("create_agent", "invoke_agent", "plan"), AGENT),
            "invoke_workflow": CHAIN,
            **dict.fromkeys(("execute_tool", "create_memory", "update_memory", "upsert_memory", "delete_memory"), TOOL),
            **dict.fromkeys(("create_memory_store", "delete_memory_store"), TOOL),
        },
    ),
    ("llm.request.type", {"completion": LLM, "chat": LLM, "rerank": RERANKER, "embedding": EMBEDDING}),
    ("traceloop.span.kind", {"workflow": CHAIN, "task": TASK, "agent": AGENT, "tool": TOOL}),
    ("openinference.span.kind", {**{kind.value: kind for kind in SpanKind}, "prompt": TASK}),
    (
        "langfuse.observation.type",
        {**{kind.value: kind for kind in SpanKind}, "generation": LLM, "span": TASK, "event": TASK},
    ),
    (
        "mlflow.spanType",
        {
            **{kind.value: kind for kind in SpanKind},
            "chat_model": LLM,
            "parser": TASK,
            "workflow": CHAIN,
            "memory": TASK,
        },
    ),
    (
        "genkit:metadata:subtype",
        {
            "model": LLM,
            "embedder": EMBEDDING,
            "flow": CHAIN,
            "retriever": RETRIEVER,
            "tool": TOOL,
            "reranker": RERANKER,
            "evaluator": EVALUATOR,
            "agent": AGENT,
        },
    ),
    (
        "ai.operationId",
        {
            **dict.fromkeys(("ai.generatetext.dogenerate", "ai.streamtext.dostream"), LLM),
            **dict.fromkeys(("ai.generateobject.dogenerate", "ai.streamobject.dostream"), LLM),
            **dict.fromkeys(("ai.embed", "ai.embed.doembed", "ai.embedmany", "ai.embedmany.doembed"), EMBEDDING),
            **dict.fromkeys(("ai.generatetext", "ai.streamtext", "ai.generateobject", "ai.streamobject"), CHAIN),
            "ai.toolcall": TOOL,
        },
    ),
)
"""Values are compared in lower case; an unknown one goes on to the next key."""

TOOL_NAMES = ("gen_ai.tool.name", "tool.name", "ai.toolCall.name")
"""Whoever names a tool is one, unless it says otherwise."""

NAME = (
    *("gen_ai.agent.name", "gen_ai.tool.name", "gen_ai.workflow.name"),
    *("traceloop.entity.name", "traceloop.workflow.name", "traceloop.entity.path"),
    *("agent.name", "tool.name", "graph.node.name", "graph.node.id"),
    *("langfuse.trace.name", "logfire.msg"),
)
"""Of a span without a name of its own."""

PROVIDER = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "ai.model.provider")

MODEL = (
    "langfuse.observation.model.name",  # said by the program itself
    *("gen_ai.response.model", "llm.response.model_name", "ai.response.model", "ai.model.id"),
    *(
        "gen_ai.request.model",
        "llm.request.model_name",
        "llm.model_name",
        "embedding.model_name",
        "reranker.model_name",
    ),
)
"""The model that answered, else the one that was asked for."""

PARAMETERS = ("llm.invocation_parameters", "langfuse.observation.model.parameters", "model_config")
"""JSON objects. Keys below ``gen_ai.request`` come before them, then these:"""
LOOSE_PARAMETERS = {
    "llm.frequency_penalty": "frequency_penalty",
    "llm.presence_penalty": "presence_penalty",
    "llm.top_k": "top_k",
}
NO_PARAMETERS = frozenset({"model", "type"})

STREAMS = ("gen_ai.request.stream", "llm.is_streaming", "gen_ai.is_streaming")


class Source(NamedTuple):
    """Where an input or an output may be.

    ``how``: ``messages`` (structured or JSON), ``flat`` (messages in indexed keys below ``key``), ``value`` (anything;
    JSON text is read), ``typed`` (the same, unless ``key``'s neighbour ``mime_type`` says that it is plain text),
    ``span events`` (messages that the span noted), ``events`` (a list of such), ``history`` (messages, of which the
    last one may be the answer).
    """

    how: str
    key: str


INPUT = (
    Source("messages", "gen_ai.input.messages"),
    Source("value", "gen_ai.tool.call.arguments"),
    Source("value", "gen_ai.retrieval.query.text"),
    Source("flat", "gen_ai.prompt"),
    Source("messages", "gen_ai.prompt"),
    Source("span events", ""),
    Source("value", "traceloop.entity.input"),
    Source("flat", "llm.input_messages"),
    Source("flat", "llm.prompts"),
    Source("value", "reranker.query"),
    Source("typed", "input.value"),
    Source("value", "tool.parameters"),
    Source("value", "langfuse.observation.input"),
    Source("value", "langfuse.trace.input"),
    Source("value", "mlflow.spanInputs"),
    Source("value", "ai.prompt.messages"),
    Source("value", "ai.prompt"),
    Source("value", "ai.toolCall.args"),
    Source("value", "gcp.vertex.agent.llm_request"),
    Source("history", "pydantic_ai.all_messages"),
    Source("value", "prompt"),
    Source("events", "events"),
)

OUTPUT = (
    Source("messages", "gen_ai.output.messages"),
    Source("value", "gen_ai.tool.call.result"),
    Source("flat", "gen_ai.completion"),
    Source("messages", "gen_ai.completion"),
    Source("span events", ""),
    Source("value", "traceloop.entity.output"),
    Source("flat", "llm.output_messages"),
    Source("flat", "llm.choices"),
    Source("typed", "output.value"),
    Source("value", "langfuse.observation.output"),
    Source("value", "langfuse.trace.output"),
    Source("value", "mlflow.spanOutputs"),
    Source("value", "ai.response.text"),
    Source("value", "ai.response.object"),
    Source("value", "ai.toolCall.result"),
    Source("value", "final_result"),
    Source("value", "gcp.vertex.agent.llm_response"),
    Source("history", "pydantic_ai.all_messages"),
    Source("events", "events"),
)

SYSTEM = ("gen_ai.system_instructions", "ai.prompt.system")

TOOLS = ("gen_ai.tool.definitions", "ai.prompt.tools")
FLAT_TOOLS = (("llm.request.functions", ""), ("llm.tools", "tool.json_schema"))

FLAT_DOCUMENTS = ("retrieval.documents", "reranker.output_documents")
DOCUMENTS = ("gen_ai.retrieval.documents",)
DOCUMENT_EVENTS = ("db.search.result", "db.query.result")

USAGE: dict[str, tuple[str, ...]] = {
    "input_tokens": (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.usage.prompt_tokens",
        "llm.token_count.prompt",
        "ai.usage.inputTokens",
        "ai.usage.promptTokens",
    ),
    "output_tokens": (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.usage.completion_tokens",
        "llm.token_count.completion",
        "ai.usage.outputTokens",
        "ai.usage.completionTokens",
    ),
    "cache_read_tokens": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "llm.token_count.prompt_details.cache_read",
        "llm.token_count.prompt_details.cache_input",
        "ai.usage.cachedInputTokens",
    ),
    "cache_write_tokens": (
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "llm.token_count.prompt_details.cache_write",
    ),
    "reasoning_tokens": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
        "ai.usage.reasoningTokens",
    ),
}
"""The conventions say that cache and reasoning tokens are included in the totals: they are not added."""

TOTAL_TOKENS = ("llm.usage.total_tokens", "gen_ai.usage.total_tokens", "llm.token_count.total", "ai.usage.totalTokens")
COST = ("gen_ai.usage.cost", "llm.cost.total")
COST_PARTS = ("llm.cost.prompt", "llm.cost.completion")
USAGE_DETAILS = "langfuse.observation.usage_details"
COST_DETAILS = "langfuse.observation.cost_details"
DETAILS: dict[str, tuple[str, ...]] = {
    "input_tokens": ("input", "prompt_tokens", "input_tokens"),
    "output_tokens": ("output", "completion_tokens", "output_tokens"),
    "cache_read_tokens": ("input_cached_tokens", "cache_read_input_tokens", "input_cache_read"),
    "cache_write_tokens": ("cache_creation_input_tokens", "input_cache_creation"),
    "reasoning_tokens": ("output_reasoning_tokens", "reasoning_tokens", "output_reasoning"),
}
"""Names inside Langfuse's usage details, a JSON object."""

FINISH_LISTS = ("gen_ai.response.finish_reasons",)
FINISH = ("gen_ai.response.finish_reason", "llm.finish_reason", "gen_ai.finishReason", "ai.response.finishReason")
FINISH_OF_ANSWERS = (("gen_ai.completion", "finish_reason"), ("llm.choices", "finish_reason"))

RESPONSE_ID = ("gen_ai.response.id", "ai.response.id")
ASSOCIATED = "traceloop.association.properties"
SESSION = (
    "gen_ai.conversation.id",
    *(f"{ASSOCIATED}.session_id", f"{ASSOCIATED}.conversation_id"),
    *("session.id", "langfuse.session.id", "ai.telemetry.metadata.sessionId"),
)
USER = (
    *(f"{ASSOCIATED}.user_id", "gen_ai.user", "llm.user"),
    *("user.id", "langfuse.user.id", "ai.telemetry.metadata.userId"),
)
TAGS = ("tag.tags", "langfuse.trace.tags", "logfire.tags")
METADATA = ("metadata", "langfuse.trace.metadata", "langfuse.observation.metadata")
"""JSON objects."""
METADATA_BELOW = (ASSOCIATED, "langfuse.trace.metadata", "langfuse.observation.metadata", "ai.telemetry.metadata")
NO_METADATA = frozenset({"session_id", "conversation_id", "user_id", "sessionId", "userId"})
"""Recognised as something better."""
ENVIRONMENT = ("langfuse.environment",)
RELEASE = ("langfuse.release",)

PROMPT: dict[str, tuple[str, ...]] = {
    "name": ("gen_ai.prompt.name", "traceloop.prompt.key", "langfuse.observation.prompt.name"),
    "version": ("traceloop.prompt.version", "llm.prompt_template.version", "langfuse.observation.prompt.version"),
    "template": ("traceloop.prompt.template", "llm.prompt_template.template"),
    "variables": ("traceloop.prompt.template_variables", "llm.prompt_template.variables"),
    "id": ("prompt.id",),
    "url": ("prompt.url",),
    "vendor": ("prompt.vendor",),
}

FIRST_CHUNK_SECONDS = ("gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token")
FIRST_CHUNK_MILLISECONDS = ("ai.response.msToFirstChunk", "ai.stream.msToFirstChunk")
FIRST_CHUNK_MOMENT = ("langfuse.observation.completion_start_time",)
CHUNK_EVENTS = ("gen_ai.content.completion.chunk", "llm.content.completion.chunk", "First Token Stream Event")

ERROR_LEVEL = ("langfuse.observation.level", "ERROR")
ERROR_LEVEL_NUMBER = ("logfire.level_num", 17)
"""Logfire's numbers are OpenTelemetry's severities: 17 and above are errors."""
ERROR_TEXT = ("langfuse.observation.status_message", "exception.message", "logfire.msg")

MESSAGE_EVENTS = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
    "gen_ai.content.prompt": "user",
    "gen_ai.choice": "answer",
    "gen_ai.content.completion": "answer",
}
"""Events that are messages (generation 2), and the role of one that names none."""
EVENT_BODIES = ("gen_ai.event.content", "body", "gen_ai.prompt", "gen_ai.completion")
DETAILS_EVENT = "gen_ai.client.inference.operation.details"
"""An event whose attributes are a span's."""

CONTENT_BELOW = (
    *("gen_ai.input", "gen_ai.output", "gen_ai.prompt", "gen_ai.completion", "gen_ai.system_instructions"),
    *("gen_ai.tool.call", "gen_ai.retrieval.query", "gen_ai.retrieval.documents", "gen_ai.event.content"),
    *("traceloop.entity.input", "traceloop.entity.output", "traceloop.prompt.template_variables"),
    *("llm.input_messages", "llm.output_messages", "llm.prompts", "llm.choices", "llm.prompt_template"),
    *("input.value", "output.value", "retrieval.documents", "reranker.query", "reranker.input_documents"),
    *("reranker.output_documents", "embedding.embeddings", "embedding.text", "tool.parameters"),
    *("langfuse.observation.input", "langfuse.observation.output", "langfuse.trace.input", "langfuse.trace.output"),
    *("mlflow.spanInputs", "mlflow.spanOutputs", "ai.prompt", "ai.response.text", "ai.response.object"),
    *("ai.toolCall.args", "ai.toolCall.result", "ai.value", "ai.embedding", "ai.response.toolCalls"),
    *("gcp.vertex.agent.llm_request", "gcp.vertex.agent.llm_response", "pydantic_ai.all_messages"),
    *("prompt", "events", "final_result", "db.query.result", "db.search.result", "body", "content", "message"),
)
"""Keys (and what lies below them) that hold what a user or a model said: masked like inputs and outputs, and left out
where those are not captured. ``prompt.id`` and its like are not below ``prompt``: see ``content.is_content``."""
ANSWERS = ("output", "Output", "completion", "choices", "response", "result", "documents")
"""Words in such a key that make it an output's."""
NO_CONTENT = frozenset({"gen_ai.prompt.name", "gen_ai.tool.call.id", "prompt.id", "prompt.url", "prompt.vendor",
                        "llm.prompt_template.version"})  # fmt: skip
