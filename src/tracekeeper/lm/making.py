"""What a ``tk.LM`` is made of: the way to its provider, its limits, its cache; checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracekeeper.concurrency.limits import Limiter, limiter_for
from tracekeeper.concurrency.shapes import describe
from tracekeeper.lm import providers
from tracekeeper.lm.adapter import Adapter
from tracekeeper.lm.anthropic_api import AnthropicAdapter
from tracekeeper.lm.functions import FunctionAdapter
from tracekeeper.lm.litellm_api import LiteLLMAdapter
from tracekeeper.lm.openai_api import OpenAIAdapter
from tracekeeper.types import ConfigurationError


def reached(model: Any, api_base: str | None, api_key: str | None, client: dict[str, Any]) -> tuple[str, str, Adapter]:
    """Its name, the provider's name for it, and the way to it."""
    if not isinstance(model, str):
        if not callable(model):
            raise ConfigurationError(f"model={model!r}: expected a name such as 'openai/gpt-4.1-mini', or a callable")
        name = describe(model)
        return name, name, FunctionAdapter(model)
    provider, name = providers.parse(model)
    if provider.kind == "azure" and not (api_base or client.get("azure_endpoint")):
        raise ConfigurationError(f"model {model!r} needs api_base=, the address of the Azure resource")
    if provider.kind == "anthropic":
        return model, name, AnthropicAdapter(provider, name, api_base, api_key, client)
    if provider.kind == "litellm":
        return model, name, LiteLLMAdapter(provider, name, api_base, api_key, client)
    return model, name, OpenAIAdapter(provider, name, api_base, api_key, client)


def cache_of(given: bool | str, model: Any) -> str | None:
    """The namespace; ``None``: no cache."""
    if given is False:
        return None
    if given is not True and not (isinstance(given, str) and given):
        raise ConfigurationError(f"cache={given!r}: expected True, False or the name of a namespace")
    if given is True and (callable(model) or isinstance(model, FunctionAdapter)):
        raise ConfigurationError("cache=True: two functions may have one name; name its cache: cache='my-model-1'")
    return "" if given is True else given


def check_limits(limits: Mapping[str, Any]) -> None:
    for name, value in limits.items():
        kind = int if name == "max_concurrency" else int | float
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool) or not value > 0):
            raise ConfigurationError(f"{name}={value!r}: expected a number above 0")


def limiter_of(name: str, api_base: str | None, adapter: Adapter, limits: dict[str, Any]) -> Limiter | None:
    given = {name: value for name, value in limits.items() if value is not None}
    if not given and not adapter.limited:
        return None
    # What two functions are called says nothing of their being the same.
    key = f"{name} at {api_base}" if api_base else name
    limiter = limiter_for(key) if adapter.limited else Limiter(name)
    if given:
        limiter.allow(**given)
    return limiter
