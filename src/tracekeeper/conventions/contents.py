"""What was asked, answered, retrieved and offered: messages, values, documents and tools from wherever they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracekeeper.conventions import messages as chat
from tracekeeper.conventions import table
from tracekeeper.conventions.attributes import Attributes
from tracekeeper.conventions.values import filled, number, parsed, plain, text

if TYPE_CHECKING:
    from tracekeeper.conventions.reading import Event

_TEXTS = ("content", "page_content", "text", "document")


def read(given: Attributes, events: Sequence[Event], sources: Sequence[table.Source], *, answer: bool) -> Any:
    """The first of the sources that holds something, as a plain value.

    Parameters
    ----------
    answer:
        Whether it is an output: messages without a role are the model's, and a single text is given as text.
    """
    for source in sources:
        if not _is_there(given, events, source):
            continue
        found = _from(given, events, source, answer)
        if filled(found):
            system = (
                None if answer or source.how not in ("messages", "flat", "span events", "history") else _system(given)
            )
            return system + found if system and isinstance(found, list) else found
    if answer:
        return None
    return _embedded(given) or _system(given)


def _is_there(given: Attributes, events: Sequence[Event], source: table.Source) -> bool:
    if source.how == "flat":
        return given.may_have(source.key)
    return bool(events) if source.how == "span events" else source.key in given.all


def _from(given: Attributes, events: Sequence[Event], source: table.Source, answer: bool) -> Any:
    role = "assistant" if answer else "user"
    match source.how:
        case "messages":
            return _answer(chat.messages(given.get(source.key), role), answer)
        case "flat":
            return _answer(chat.messages(given.under(source.key), role), answer)
        case "span events":
            return _answer(_from_events(events, answer), answer)
        case "events":
            return _answer(_from_events(_as_events(given.get(source.key)), answer), answer)
        case "history":
            return _answer(_from_history(chat.messages(given.get(source.key), role), answer), answer)
        case "typed":
            return _typed(given, source.key, answer)
        case _:
            value = plain(parsed(given.get(source.key)))
            return _answer(chat.messages(value, role), answer) if chat.looks_like_messages(value) else value


def _typed(given: Attributes, key: str, answer: bool) -> Any:
    """OpenInference's value with its media type."""
    value = given.get(key)
    if text(given.get(key.rpartition(".")[0] + ".mime_type")) == "text/plain":
        return plain(value)
    value = plain(parsed(value))
    if answer and isinstance(value, Mapping) and chat.looks_like_messages(value.get("choices")):
        return _answer(chat.messages(value["choices"], "assistant"), answer)  # a whole response of Chat Completions
    if chat.looks_like_messages(value):
        return _answer(chat.messages(value, "assistant" if answer else "user"), answer)
    return value


def _answer(found: list[dict[str, Any]] | None, answer: bool) -> Any:
    return chat.said(found) if answer else found


def _system(given: Attributes) -> list[dict[str, Any]] | None:
    """Instructions that are told apart from the messages, as the first message."""
    value = parsed(given.first(table.SYSTEM))
    if isinstance(value, list | tuple) and not chat.looks_like_messages(value):
        value = {"role": "system", "parts": list(value)}
    return chat.messages(value, "system")


def _as_events(value: Any) -> list[tuple[str, Mapping[str, Any]]]:
    value = parsed(value)
    found: list[tuple[str, Mapping[str, Any]]] = []
    for each in value if isinstance(value, list | tuple) else ():
        if isinstance(each, Mapping):
            name = text(each.get("event.name")) or text(each.get("name")) or ""
            found.append((name, {key: item for key, item in each.items() if isinstance(key, str)}))
    return found


def _from_events(events: Sequence[Any], answer: bool) -> list[dict[str, Any]] | None:
    found: list[dict[str, Any]] = []
    for event in events:
        role = table.MESSAGE_EVENTS.get(event[0])
        if role is None or (role == "answer") is not answer:
            continue
        body = _body(event[1])
        # A later choice repeats the messages before it as events of its own: they are in order already.
        found += chat.messages(body, "assistant" if answer else role) or []
    return found or None


def _body(attributes: Mapping[str, Any]) -> Any:
    body = next((value for key in table.EVENT_BODIES if filled(value := parsed(attributes.get(key)))), None)
    if isinstance(body, Mapping):
        return {"role": text(attributes.get("role")), **body} if attributes.get("role") else body
    return body if body is not None else Attributes(attributes).all


def _from_history(found: list[dict[str, Any]] | None, answer: bool) -> list[dict[str, Any]] | None:
    if not found:
        return None
    answered = found[-1]["role"] == "assistant"
    if answer:
        return found[-1:] if answered else None
    return found[:-1] if answered else found


def finish_reasons(given: Attributes, events: Sequence[Event]) -> tuple[str, ...]:
    """Why each answer ended, as its message or event says."""
    for source in table.OUTPUT:
        if source.how in ("messages", "history") and source.key in given.all:
            found = chat.finish_reasons(given.get(source.key))
            if found:
                return found
    told: list[str] = []
    for event in events:
        if table.MESSAGE_EVENTS.get(event[0]) == "answer":
            for held in (_body(event[1]), event[1]):
                reason = held.get("finish_reason") if isinstance(held, Mapping) else None
                if isinstance(reason, str):
                    told.append(plain(reason))
                    break
    return tuple(told)


def documents(given: Attributes, events: Sequence[Event]) -> list[Any] | None:
    """What was retrieved or ranked, in order."""
    for key in table.DOCUMENTS:
        held = parsed(given.get(key))
        if isinstance(held, Mapping):
            held = held.get("documents", [held])
        if isinstance(held, list | tuple) and (found := [one for each in held if (one := _document(each))]):
            return found
    for prefix in table.FLAT_DOCUMENTS:
        tree = given.under(prefix)
        if isinstance(tree, list) and (found := [one for each in tree if (one := _document(each))]):
            return found
    results = [event[1] for event in events if event[0] in table.DOCUMENT_EVENTS]
    return [one for each in results if (one := _result(each))] or None


def _document(item: Any) -> Any:
    item = parsed(item)
    if isinstance(item, str):
        return item
    if not isinstance(item, Mapping):
        return None
    inner = item.get("document")
    if isinstance(inner, Mapping):
        item = inner
    content = next((value for name in _TEXTS if isinstance(value := item.get(name), str)), None)
    made = {
        "content": content,
        "id": text(item.get("id")),
        "score": number(item.get("score")),
        "metadata": plain(parsed(item.get("metadata"))),
    }
    return {key: value for key, value in made.items() if filled(value)}


def _result(attributes: Mapping[str, Any]) -> Any:
    """A vector database's search result, noted as an event (OpenLLMetry)."""
    short = {key.rpartition("result.")[2]: value for key, value in attributes.items() if isinstance(key, str)}
    content = short.get("document") or short.get("entity")
    score = number(short.get("score"))
    made = {
        "content": content if isinstance(content, str) else None,
        "id": text(short.get("id")),
        "score": score if score is not None else number(short.get("distance")),
        "metadata": plain(parsed(short.get("metadata"))),
    }
    return {key: value for key, value in made.items() if filled(value)}


def tools(given: Attributes) -> list[Any] | None:
    """The tools that the model was offered, as they were described."""
    held = parsed(given.first(table.TOOLS))
    if isinstance(held, list | tuple):
        return [plain(parsed(each)) for each in held] or None
    for prefix, inner in table.FLAT_TOOLS:
        tree = given.under(prefix)
        if not isinstance(tree, list):
            continue
        found = []
        for each in tree:
            for part in inner.split(".") if inner else ():
                each = each.get(part) if isinstance(each, Mapping) else None
            described = plain(parsed(each))
            if isinstance(described, Mapping):
                described = {key: parsed(value) for key, value in described.items()}
            if filled(described):
                found.append(described)
        if found:
            return found
    return None


def _embedded(given: Attributes) -> Any:
    """The texts that were embedded."""
    tree = given.under("embedding.embeddings")
    found = []
    for each in tree if isinstance(tree, list) else ():
        inner = each.get("embedding") if isinstance(each, Mapping) else None
        if isinstance(inner, Mapping) and isinstance(inner.get("text"), str):
            found.append(inner["text"])
    return found or text(given.get("embedding.text"))


def content_of(key: str) -> str | None:
    """Whether an attribute of this name holds (a part of) an ``input`` or an ``output``, and so is masked as those are.

    Example
    -------
    >>> [content_of(key) for key in ("llm.input_messages.0.message.content", "gen_ai.completion", "llm.model_name")]
    ['input', 'output', None]
    """
    if key in table.NO_CONTENT or not (key.startswith(_CONTENT_DOTTED) or key in _CONTENT):
        return None
    return "output" if any(word in key for word in table.ANSWERS) else "input"


_CONTENT = frozenset(table.CONTENT_BELOW)
_CONTENT_DOTTED = tuple(f"{key}." for key in table.CONTENT_BELOW if key not in ("prompt", "events", "body", "message"))
