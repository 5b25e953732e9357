"""DSPy's predictions and its own streams of a model's answer.

Format: ``dspy.Prediction`` (``toDict``), ``dspy.lm15`` (events ``start``, ``delta``, ``end``, ``error``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracekeeper.conventions.told import Told, get, plain_text, response_attributes

PROVIDERS = {"azure": "azure.ai.openai", "bedrock": "aws.bedrock", "gemini": "gcp.gemini", "vertex_ai": "gcp.vertex_ai"}
"""Of the names before the slash, which are LiteLLM's."""


def prediction(output: Any) -> Any:
    """A prediction's fields; anything else as it is."""
    to_dict = getattr(output, "toDict", None)
    return to_dict() if callable(to_dict) else output


def texts(outputs: Any) -> Any:
    """What a model said: one text, or a list of what there is more."""
    if isinstance(outputs, list):
        said = [get(one, "text") if isinstance(one, Mapping) and set(one) == {"text"} else one for one in outputs]
        return said[0] if len(said) == 1 else said
    found = get(outputs, "text")  # of a response in DSPy's own format
    return found if isinstance(found, str) else outputs


def provider_and_model(name: Any) -> tuple[str | None, str | None]:
    """Of ``openai/gpt-4.1-mini``."""
    model = plain_text(name)
    if model is None or "/" not in model:
        return None, model
    provider, _, model = model.partition("/")
    return PROVIDERS.get(provider, provider), model


class EventsReader:
    """Reads the events of one stream (a ``tracing.responses.Reader``). DSPy itself reads it; usage comes with its
    result."""

    def __init__(self) -> None:
        self.result = Told()
        """What the call's result says beside the text."""
        self._model: str | None = None
        self._reason: str | None = None

    def read(self, event: Any) -> str | None:
        """The text in an event."""
        kind = get(event, "type")
        if kind == "delta":
            delta = get(event, "delta")
            return plain_text(get(delta, "text")) if get(delta, "type") == "text" else None
        if kind == "start":
            self._model = plain_text(get(event, "model"))
        elif kind == "end":
            self._reason = plain_text(get(event, "finish_reason")) or "stop"
        return None

    def told(self, text: str) -> Told:
        """What was said so far."""
        told = self.result
        told.model = told.model or self._model
        reasons = None if self._reason is None else [self._reason]
        told.attributes = response_attributes(model=told.model, finish_reasons=reasons)
        return told
