"""The integrations there are: plain data, so that ``tk.instrument()`` imports none of them before it is needed."""

from __future__ import annotations

from typing import NamedTuple


class Integration(NamedTuple):
    """One library that can be traced.

    ``room`` is a module of this package with ``install() -> undo``: it replaces what is to be traced and returns the
    function that puts it back; raising means that nothing was replaced.
    """

    name: str
    room: str
    module: str | None = None
    """Whose import it waits for; ``None``: part of Python."""
    distribution: str | None = None
    """Whose version is shown."""
    by_default: bool = True
    """Whether it belongs to what ``tk.instrument()`` without names traces."""


def _table(*rows: Integration) -> dict[str, Integration]:
    return {row.name: row for row in rows}


KNOWN: dict[str, Integration] = _table(
    Integration("openai", "openai_client", "openai", "openai"),
    Integration("anthropic", "anthropic_client", "anthropic", "anthropic"),
    Integration("litellm", "litellm_client", "litellm", "litellm"),
    Integration("ollama", "ollama_client", "ollama", "ollama"),
    Integration("google-genai", "google_client", "google.genai.models", "google-genai"),
    Integration("bedrock", "bedrock_client", "botocore.client", "boto3"),
    Integration("langchain", "langchain_callbacks", "langchain_core", "langchain-core"),
    Integration("langgraph", "langgraph_context", "langgraph._internal._runnable", "langgraph"),
    Integration("dspy", "dspy_calls", "dspy", "dspy"),
    Integration("openai-agents", "openai_agents", "agents.tracing.provider", "openai-agents"),
    Integration("mcp", "mcp_calls", "mcp.client.session", "mcp"),
    Integration("pydantic-ai", "pydantic_agents", "pydantic_ai.agent", "pydantic-ai-slim"),
    Integration("llama-index", "llama_index_runs", "llama_index.core", "llama-index-core"),
    Integration("crewai", "crewai_calls", "crewai", "crewai"),
    Integration("fastapi", "fastapi", "fastapi", "fastapi"),
    Integration("threads", "threads"),
    # By name only: whatever the program has instrumented comes in with it, and a client twice if it is here as well.
    Integration("opentelemetry", "opentelemetry_spans", None, "opentelemetry-api", by_default=False),
)
"""By name, in the order in which they are shown."""
