"""A third party's span in our words: a pure function of its attributes, its events and its name.

Total: whatever the attributes are, nothing is raised, and what does not fit is left out. Raw attributes are the
caller's to keep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from tracekeeper.conventions import contents, outcome, table, usage
from tracekeeper.conventions.attributes import Attributes
from tracekeeper.conventions.values import amount, count, flag, moment, names, number, parsed, plain, text
from tracekeeper.types import SpanKind, SpanStatus, Usage


class Event(NamedTuple):
    """Something that was noted on a span."""

    name: str
    attributes: Mapping[str, Any]
    at: int | None = None
    """Nanoseconds since the epoch."""


class Normal(msgspec.Struct, frozen=True, kw_only=True):
    """What a third party's span says, in our words. ``None`` (or empty) is: not said.

    Parameters
    ----------
    kind:
        What it does.
    name:
        Its name, or what the attributes call it when it has none.
    input, output:
        Plain values. Messages are in the form of ``messages``; an answer of nothing but text is that text.
    documents:
        What was retrieved: objects with ``content``, and ``id``, ``score``, ``metadata`` where known.
    parameters, tools, prompt:
        What the model was asked with; the tools it was offered; the prompt template it was made of.
    finish_reasons:
        Why each answer ended. An empty text: it was cut off.
    first_chunk:
        Nanoseconds since the epoch.
    chunks:
        Number of chunks that were noted.
    status:
        How it ended where the attributes tell more than the status that it was given; see ``outcome``.
    error:
        Type and message.
    """

    kind: SpanKind | None = None
    name: str | None = None
    provider: str | None = None
    model: str | None = None
    input: Any = None
    output: Any = None
    documents: list[Any] | None = None
    usage: Usage | None = None
    parameters: dict[str, Any] = {}
    tools: list[Any] | None = None
    prompt: dict[str, Any] = {}
    finish_reasons: tuple[str, ...] = ()
    response_id: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    environment: str | None = None
    release: str | None = None
    first_chunk: int | None = None
    chunks: int | None = None
    streamed: bool = False
    status: SpanStatus | None = None
    error: tuple[str, str] | None = None


def normalised(
    attributes: Mapping[str, Any] | None,
    events: Sequence[Event] = (),
    *,
    name: str = "",
    scope: str = "",
    status: str = "unset",
    started: int | None = None,
) -> Normal:
    """The fields that a span's attributes and events hold, whichever conventions they follow. Never raises.

    Parameters
    ----------
    attributes, events:
        As the third party set them.
    name, scope:
        Of the span, and of the instrumentation that made it.
    status:
        ``unset``, ``ok`` or ``error``, as it was set.
    started:
        Nanoseconds since the epoch, for times that are told as durations.

    Example
    -------
    >>> found = normalised({"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4.1"})
    >>> found.kind.value, found.model
    ('llm', 'gpt-4.1')
    """
    given = _with_details(attributes, events)
    kind = _kind(given)
    found_input = contents.read(given, events, table.INPUT, answer=False)
    found_output = contents.read(given, events, table.OUTPUT, answer=True)
    finish = _finish(given, events)
    chunk_events = [event for event in events if event.name in table.CHUNK_EVENTS]
    streamed = bool(chunk_events) or flag(given.first(table.STREAMS)) is True
    parameters = _parameters(given)
    streamed = streamed or parameters.get("stream") is True
    error = _error(given, events)
    return Normal(
        kind=kind,
        name=text(name) or text(given.first(table.NAME)),
        provider=text(given.first(table.PROVIDER)),
        model=text(given.first(table.MODEL)),
        input=found_input,
        output=found_output,
        documents=contents.documents(given, events),
        usage=usage.read(given),
        parameters=parameters,
        tools=contents.tools(given),
        prompt=_prompt(given),
        finish_reasons=tuple(each for each in finish if each),
        response_id=text(given.first(table.RESPONSE_ID)),
        session_id=text(given.first(table.SESSION)),
        user_id=text(given.first(table.USER)),
        tags=names(given.first(table.TAGS)),
        metadata=_metadata(given),
        environment=text(given.first(table.ENVIRONMENT)),
        release=text(given.first(table.RELEASE)),
        first_chunk=_first_chunk(given, chunk_events, started),
        chunks=sum(1 for event in chunk_events if event.name.endswith(".chunk")) or None,
        streamed=streamed,
        status=outcome.told(
            kind=kind, scope=scope, status=status, streamed=streamed, finish=finish, error=error and error[0]
        ),
        error=error,
    )


def beginning(attributes: Mapping[str, Any] | None) -> Normal:
    """The fields that matter when a span begins: what it is, what was asked, and whose it is. Never raises.

    Example
    -------
    >>> beginning({"openinference.span.kind": "LLM", "input.value": "Why?"}).input
    'Why?'
    """
    given = Attributes(attributes)
    return Normal(
        kind=_kind(given),
        input=contents.read(given, (), table.INPUT, answer=False),
        session_id=text(given.first(table.SESSION)),
        user_id=text(given.first(table.USER)),
        tags=names(given.first(table.TAGS)),
        environment=text(given.first(table.ENVIRONMENT)),
        release=text(given.first(table.RELEASE)),
    )


def _with_details(attributes: Mapping[str, Any] | None, events: Sequence[Event]) -> Attributes:
    details = next((event for event in events if event.name == table.DETAILS_EVENT), None) if events else None
    return Attributes(attributes if details is None else {**details.attributes, **(attributes or {})})


_KIND_KEYS = tuple(key for key, _ in table.KINDS)


def _kind(given: Attributes) -> SpanKind | None:
    for key, kinds in table.KINDS if given.has_any(_KIND_KEYS) else ():
        value = given.get(key)
        known = kinds.get(value.lower()) if isinstance(value, str) else None
        if known is not None:
            return known
    if given.first(table.TOOL_NAMES) is not None:
        return SpanKind.TOOL
    return SpanKind.LLM if given.first(table.MODEL) is not None else None


def _finish(given: Attributes, events: Sequence[Event]) -> tuple[str, ...]:
    """Why each answer ended; with empty texts, which say that one was cut off."""
    listed = given.first(table.FINISH_LISTS)
    if listed is not None:
        found = parsed(listed)
        if not isinstance(found, list | tuple):
            return names(found)
        return tuple(plain(each) for each in found if isinstance(each, str))
    for prefix, field in table.FINISH_OF_ANSWERS:
        answers = given.under(prefix)
        reasons = (
            [each.get(field) for each in answers if isinstance(each, Mapping)] if isinstance(answers, list) else []
        )
        if said := tuple(plain(each) for each in reasons if isinstance(each, str)):
            return said
    one = given.all.get(table.FINISH[0])
    single = one if one == "" else text(given.first(table.FINISH))
    if single is not None:
        return (single,)
    return contents.finish_reasons(given, events)


def _parameters(given: Attributes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if given.has_any(table.PARAMETERS):
        for key in reversed(table.PARAMETERS):
            held = parsed(given.get(key))
            if isinstance(held, Mapping):
                found.update(plain(held))
    if given.has_any(table.LOOSE_PARAMETERS):
        for key, name in table.LOOSE_PARAMETERS.items():
            if (value := given.get(key)) is not None:
                found[name] = plain(value)
    for key, value in given.below("gen_ai.request"):
        if key not in table.NO_PARAMETERS:
            found[key] = plain(value)
    return {key: value for key, value in found.items() if value is not None}


_PROMPT_KEYS = frozenset(key for keys in table.PROMPT.values() for key in keys)


def _prompt(given: Attributes) -> dict[str, Any]:
    if not given.has_any(_PROMPT_KEYS):
        return {}
    found = {name: given.first(keys) for name, keys in table.PROMPT.items()}
    return {
        name: plain(parsed(value)) if name == "variables" else plain(value)
        for name, value in found.items()
        if value is not None
    }


def _metadata(given: Attributes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in table.METADATA if given.has_any(table.METADATA) else ():
        held = parsed(given.get(key))
        if isinstance(held, Mapping):
            found.update(plain(held))
    for prefix in table.METADATA_BELOW:
        for key, value in given.below(prefix):
            if key not in table.NO_METADATA:
                found[key] = plain(parsed(value))
    return found


def _first_chunk(given: Attributes, chunk_events: Sequence[Event], started: int | None) -> int | None:
    if started is not None:
        for keys, unit in ((table.FIRST_CHUNK_SECONDS, 1e9), (table.FIRST_CHUNK_MILLISECONDS, 1e6)):
            waited = amount(given.first(keys)) if given.has_any(keys) else None
            if waited is not None and waited * unit < 1 << 62:
                return started + int(waited * unit)
    at = moment(given.first(table.FIRST_CHUNK_MOMENT))
    return at if at is not None else next((count(event.at) for event in chunk_events), None)


def _error(given: Attributes, events: Sequence[Event]) -> tuple[str, str] | None:
    """Type and message of what went wrong: ``error.type``, an exception that was recorded, or a level that says so."""
    raised = next((event for event in reversed(events) if event.name == "exception"), None)
    kind = text(given.get("error.type")) or text(given.get("exception.type"))
    if raised is not None:
        named = text(raised.attributes.get("exception.type"))
        return named or kind or "", text(raised.attributes.get("exception.message")) or ""
    bad = given.get(table.ERROR_LEVEL[0]) == table.ERROR_LEVEL[1]
    if (level := number(given.get(table.ERROR_LEVEL_NUMBER[0]))) is not None:
        bad = bad or level >= table.ERROR_LEVEL_NUMBER[1]
    if kind is None and not bad:
        return None
    return kind or "", text(given.first(table.ERROR_TEXT)) or ""
