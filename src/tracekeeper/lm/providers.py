"""Which providers there are and how each is reached: plain data. ``provider/model`` names both."""

from __future__ import annotations

import difflib
from typing import NamedTuple

from tracekeeper.types import ConfigurationError


class Provider(NamedTuple):
    """One prefix of a model's name."""

    prefix: str
    kind: str
    """Which adapter speaks to it: openai, azure, anthropic or litellm."""
    otel: str
    """``gen_ai.provider.name``, as OpenTelemetry names it where it does."""
    api_base: str | None = None
    """``None``: the client's own default."""
    key_name: str | None = None
    """The environment variable with its key; ``None``: it needs none."""


def _table(*rows: Provider) -> dict[str, Provider]:
    return {row.prefix: row for row in rows}


KNOWN: dict[str, Provider] = _table(
    Provider("openai", "openai", "openai", None, "OPENAI_API_KEY"),
    Provider("azure", "azure", "azure.ai.openai", None, "AZURE_OPENAI_API_KEY"),
    Provider("anthropic", "anthropic", "anthropic", None, "ANTHROPIC_API_KEY"),
    Provider("ollama", "openai", "ollama", "http://localhost:11434/v1"),
    Provider("vllm", "openai", "vllm", "http://localhost:8000/v1"),
    Provider("lmstudio", "openai", "lmstudio", "http://localhost:1234/v1"),
    Provider("openrouter", "openai", "openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    Provider("groq", "openai", "groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    Provider("deepseek", "openai", "deepseek", "https://api.deepseek.com", "DEEPSEEK_API_KEY"),
    Provider("mistral", "openai", "mistral_ai", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    Provider("xai", "openai", "x_ai", "https://api.x.ai/v1", "XAI_API_KEY"),
    Provider("together", "openai", "together", "https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    Provider("fireworks", "openai", "fireworks", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    Provider(
        "gemini",
        "openai",
        "gcp.gemini",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GEMINI_API_KEY",
    ),
    Provider("litellm", "litellm", "litellm"),
)


def parse(model: str) -> tuple[Provider, str]:
    """The provider and its own name of the model.

    Raises
    ------
    ConfigurationError
        No provider is named, or one that is not known; the message names the nearest ones.

    Example
    -------
    >>> provider, name = parse("openrouter/meta-llama/llama-3.3-70b-instruct")
    >>> provider.prefix, name
    ('openrouter', 'meta-llama/llama-3.3-70b-instruct')
    """
    prefix, slash, name = model.strip().partition("/")
    provider = KNOWN.get(prefix)
    if provider is not None and name:
        return provider, name
    if provider is not None:
        raise ConfigurationError(f"model {model!r}: expected a name after the provider, such as {_example(prefix)!r}")
    if not slash:
        raise ConfigurationError(
            f"model {model!r} names no provider: expected 'provider/model', such as "
            f"'openai/{model or 'gpt-4.1-mini'}'; known: {', '.join(KNOWN)}"
        )
    near = difflib.get_close_matches(prefix, KNOWN, n=3)
    hint = f"did you mean {' or '.join(f'{one}/{name}' for one in near)}?" if near else f"known: {', '.join(KNOWN)}"
    raise ConfigurationError(
        f"model {model!r}: unknown provider {prefix!r}; {hint} (whatever speaks OpenAI's format: "
        f"tk.LM('openai/{model}', api_base=…); whatever LiteLLM knows: tk.LM('litellm/{model}'))"
    )


def _example(prefix: str) -> str:
    return {"openai": "openai/gpt-4.1-mini", "anthropic": "anthropic/claude-sonnet-4-5"}.get(
        prefix, f"{prefix}/model-name"
    )
