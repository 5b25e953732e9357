"""What a provider's answer says, in our words, whichever way it came."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec


class Told(msgspec.Struct):
    """An answer as far as it is known: whole, or what a stream said until now."""

    output: Any = None
    """Text; with tool calls, several choices or refusals a mapping, or a list of them. ``None``: the text that came."""
    usage: Any = None
    """As reported, in the provider's own shape; ``None`` when it was not."""
    model: str | None = None
    """That answered, as the provider names it."""
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)
    """``gen_ai.response.*`` and what else has a name in OpenTelemetry's conventions."""
    finished: bool | None = None
    """Whether the provider said that this is all; ``None`` when its protocol has no word for that."""


def get(value: Any, name: str, default: Any = None) -> Any:
    """A field of what may be a mapping or an object.

    Fields of a pydantic model are read where it keeps them: asking one for an attribute that it does not have, which
    is what most answers are asked for, takes microseconds.
    """
    kind: Any = type(value)
    if kind is dict:
        return value.get(name, default)
    found: Any = getattr(value, "__dict__", _NOTHING).get(name, _MISSING)
    if found is not _MISSING:
        return found
    extra: Any = getattr(value, "__pydantic_extra__", _MISSING)
    if extra is not _MISSING:
        if extra:
            found = extra.get(name, _MISSING)
        if found is _MISSING:  # a property, perhaps
            found = getattr(value, name, default) if _declares(kind, name) else default
        return found
    found = getattr(value, name, _MISSING)
    if found is not _MISSING:
        return found
    return value.get(name, default) if isinstance(value, Mapping) else default


_MISSING = object()
_NOTHING: dict[str, Any] = {}


@lru_cache(4096)  # asked for every chunk of a stream whose chunks lack a field
def _declares(kind: type, name: str) -> bool:
    return any(name in vars(base) for base in kind.__mro__)


def plain_text(value: Any) -> str | None:
    """A text, or nothing: providers' libraries put markers where nothing was given."""
    return value if isinstance(value, str) else None


def response_attributes(
    *, id: Any = None, model: Any = None, finish_reasons: list[str] | None = None, **others: Any
) -> dict[str, Any]:
    """``gen_ai.response.*`` of what is known (OpenTelemetry semantic conventions for generative AI, 1.37 and newer)."""
    found: dict[str, Any] = {}
    if isinstance(id, str):
        found["gen_ai.response.id"] = id
    if isinstance(model, str):
        found["gen_ai.response.model"] = model
    if finish_reasons:
        found["gen_ai.response.finish_reasons"] = finish_reasons
    found.update({name: value for name, value in others.items() if value is not None})
    return found
