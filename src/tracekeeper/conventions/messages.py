"""Messages of a chat, in whatever form they come, in one plain form.

Ours: ``{"role", "content"}`` with content as text, or as a list of parts when there is more than text in it, and where
they apply ``tool_calls`` (``{"id", "name", "arguments"}``), ``tool_call_id`` and ``name``.

Known: OpenTelemetry's parts (semantic conventions 1.37 and later), Chat Completions, OpenInference's
``{"message": …}`` with ``contents``, OpenLLMetry's flat fields, and events named ``gen_ai.user.message`` and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracekeeper.conventions.values import filled, parsed, plain, text

_MESSAGE_FIELDS = frozenset({"role", "content", "parts", "message", "contents", "tool_calls"})


def messages(value: Any, role: str = "user") -> list[dict[str, Any]] | None:
    """The messages in ``value``, structured or JSON text; ``None`` when it holds none.

    Parameters
    ----------
    value:
        A list of messages, one message, or text.
    role:
        Of a message that names none.

    Example
    -------
    >>> messages('[{"role": "user", "parts": [{"type": "text", "content": "Why?"}]}]')
    [{'role': 'user', 'content': 'Why?'}]
    """
    value = parsed(value)
    if isinstance(value, Mapping):
        held = value.get("messages")
        value = held if isinstance(held, list | tuple) else [value]
    if isinstance(value, str):
        return [{"role": role, "content": value}] if value else None
    if not isinstance(value, list | tuple):
        return None
    found = [made for each in value if (made := _message(each, role)) is not None]
    return found or None


def looks_like_messages(value: Any) -> bool:
    """Whether it is a list of messages rather than any other list."""
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(each, Mapping) and not _MESSAGE_FIELDS.isdisjoint(each) for each in value)
    )


def said(found: list[dict[str, Any]] | None) -> Any:
    """What a model answered: the text when there is one answer of nothing but text, else the messages."""
    if found is not None and len(found) == 1 and set(found[0]) == {"role", "content"}:
        return found[0]["content"]
    return found


def finish_reasons(value: Any) -> tuple[str, ...]:
    """Why each answer ended, as far as its message says so. An empty text is kept: it was cut off."""
    value = parsed(value)
    if not isinstance(value, list | tuple):
        return ()
    return tuple(
        plain(each["finish_reason"])
        for each in value
        if isinstance(each, Mapping) and isinstance(each.get("finish_reason"), str)
    )


def _message(item: Any, role: str) -> dict[str, Any] | None:
    item = parsed(item)
    if isinstance(item, str):
        return {"role": role, "content": item} if item else None
    if not isinstance(item, Mapping):
        return None
    inner = item.get("message")
    if isinstance(inner, Mapping | str):
        return _message(inner, role)
    content: list[Any] = []
    calls = _calls(item.get("tool_calls"))
    made: dict[str, Any] = {"role": text(item.get("role")) or role, "content": None}
    for part in _parts(item):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "tool_call":
            calls += _calls([part])
        elif kind in ("tool_call_response", "tool_call_result"):
            made["tool_call_id"] = text(part.get("id"))
            content.append(parsed(part.get("result", part.get("response"))))
        else:
            content.append(_part(part))
    kept = [each for each in content if filled(each)]
    made["content"] = "\n".join(kept) if all(isinstance(each, str) for each in kept) else plain(kept)
    if len(kept) == 1:
        made["content"] = plain(kept[0]) if not isinstance(kept[0], Mapping) else plain(kept)
    if calls:
        made["tool_calls"] = calls
    for field in ("tool_call_id", "name"):
        known = text(item.get(field)) or made.pop(field, None)
        if known is not None:
            made[field] = known
    if not kept and not calls and set(item).isdisjoint(_MESSAGE_FIELDS):
        return None
    return made


def _parts(item: Mapping[Any, Any]) -> list[Any]:
    for field in ("parts", "content", "contents", "text", "prompt_text", "completion_text"):
        value = item.get(field)
        if not filled(value):
            continue
        if field in ("parts", "content"):
            value = parsed(value) if isinstance(value, str) and value[:1] == "[" else value
        return list(value) if isinstance(value, list | tuple) else [value]
    return []


def _part(part: Any) -> Any:
    """Text as such; anything else as a part."""
    if not isinstance(part, Mapping):
        return plain(part)
    inner = part.get("message_content")
    if isinstance(inner, Mapping):
        part = inner
    if part.get("type") in ("text", "input_text", "output_text", None):
        for field in ("content", "text"):
            if isinstance(part.get(field), str):
                return plain(part[field])
    return plain(part)


def _calls(value: Any) -> list[dict[str, Any]]:
    value = parsed(value)
    found = []
    for each in value if isinstance(value, list | tuple) else ():
        call = each.get("tool_call", each) if isinstance(each, Mapping) else None
        if not isinstance(call, Mapping):
            continue
        function = call.get("function")
        where = function if isinstance(function, Mapping) else call
        name, arguments = text(where.get("name")), where.get("arguments", where.get("input"))
        if name is None and not filled(arguments):
            continue
        made = {"id": text(call.get("id")), "name": name, "arguments": plain(parsed(arguments))}
        found.append({key: item for key, item in made.items() if item is not None})
    return found
