"""What a filter can ask about: the typed table of fields.

A field's *type* decides how a value that was typed is understood and which operators make sense; whoever completes,
documents or compiles filters reads this one table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Literal

from tracekeeper.types import ScoreSource, ScoreStatus, SpanKind, SpanStatus

Type = Literal["text", "word", "id", "number", "duration", "time", "json", "score"]

EQUALITY = ("=", "!=")
ORDER = ("<", "<=", ">", ">=")
CONTAINS = ("~", "!~")

OPERATORS: dict[Type, tuple[str, ...]] = {
    "text": (*EQUALITY, *CONTAINS, "in"),
    "word": (*EQUALITY, "in"),
    "id": (*EQUALITY, *CONTAINS, "in"),
    "number": (*EQUALITY, *ORDER, "in"),
    "duration": ORDER,
    "time": ORDER,
    "json": (*EQUALITY, *ORDER, *CONTAINS, "in"),
    "score": (*EQUALITY, *ORDER, *CONTAINS, "in"),
}


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the language, or a part of one that has parts.

    ``words``: all values it can have, when there is only that choice. ``keys``: whether a name in brackets must
    (``True``), may (``None``) or cannot (``False``) follow. ``many``: whether one target can have several values of it.
    """

    name: str
    type: Type
    about: str
    example: str
    words: tuple[str, ...] = ()
    keys: bool | None = False
    many: bool = False

    @property
    def operators(self) -> tuple[str, ...]:
        """What may stand between it and a value; ``is present`` and ``is missing`` may follow every field."""
        return OPERATORS[self.type]


def _words(enumeration: type[StrEnum]) -> tuple[str, ...]:
    return tuple(member.value for member in enumeration)


_FIELDS = (
    Field("app", "text", "name of the app", 'app = "rag"'),
    Field("app.version", "text", "version of the app", 'app.version = "1.2"'),
    Field("project", "text", "project it belongs to", "project = support-bot"),
    Field("name", "text", "name of the call", "name = ask"),
    Field("status", "word", "how the call ended, or `running`", "status = error", _words(SpanStatus)),
    Field("kind", "word", "kind of span; of a record: of any span in it", "kind = llm", _words(SpanKind), many=True),
    Field("latency", "duration", "how long the call took", "latency > 2s"),
    Field("started", "time", "when the call began", 'started > "2026-11-01"'),
    Field("session", "text", "id of the session (conversation)", 'session = "s-17"'),
    Field("user", "text", "id of the user", "user = jane@example.org"),
    Field("tag", "text", "a tag of the record", "tag = beta", many=True),
    Field("environment", "text", "where the app runs", "environment = prod"),
    Field("release", "text", "release of the program", "release = abc123"),
    Field("error", "text", "message of the exception that ended the call", 'error ~ "timed out"'),
    Field("error.type", "text", "class of that exception", "error.type = ValueError"),
    Field("model", "text", "model that was called; of a record: by any span in it", "model ~ gpt", many=True),
    Field("provider", "text", "who serves the model", "provider = openai", many=True),
    Field("tokens", "number", "tokens read and written", "tokens > 4000"),
    Field("tokens.input", "number", "tokens read", "tokens.input > 3000"),
    Field("tokens.output", "number", "tokens written", "tokens.output < 10"),
    Field("cost", "number", "money, in US dollars", "cost > 0.05"),
    Field("trace", "id", "trace id (hexadecimal)", "trace = 4bf92f3577b34da6a3ce929d0e0e4736"),
    Field("span", "id", "span id; of a record: of any span in it", "span = 00f067aa0ba902b7", many=True),
    Field("input", "json", "what the call was given", 'input ~ "refund"', keys=None),
    Field("output", "json", "what the call gave back", 'output ~ "sorry"', keys=None),
    Field("expected", "json", "what it should have given", 'expected = "Paris"', keys=None),
    Field("metadata", "json", "a value of the record's metadata", 'metadata["customer"] = "acme"', keys=True),
    Field("attr", "json", "a value of the span's attributes", 'attr["user.tier"] = "gold"', keys=True),
    Field("score", "score", "value of a score", "score.groundedness < 0.5", keys=True),
)

_PARTS = (
    Field("score.status", "word", "status of a score", "score.groundedness.status = failed", _words(ScoreStatus), True),
    Field("score.reason", "text", "reason of a score's value or status", 'score.cites.reason ~ "no source"', keys=True),
    Field("score.source", "word", "who judged", "score.thumbs.source = human", _words(ScoreSource), True),
)

BY_NAME = {field.name: field for field in _FIELDS}
SCORE_PARTS = {field.name.removeprefix("score."): field for field in _PARTS}

# Names of other tools and near misses that spelling alone would not lead to the right one.
_OTHER_NAMES = {
    "app_name": "app",
    "app_id": "app",
    "version": "app.version",
    "app_version": "app.version",
    "session_id": "session",
    "thread": "session",
    "thread_id": "session",
    "conversation": "session",
    "user_id": "user",
    "tags": "tag",
    "label": "tag",
    "duration": "latency",
    "time": "started",
    "timestamp": "started",
    "date": "started",
    "start": "started",
    "start_time": "started",
    "started_at": "started",
    "state": "status",
    "level": "status",
    "exception": "error",
    "error_type": "error.type",
    "error_message": "error",
    "message": "error",
    "attribute": "attr",
    "attributes": "attr",
    "meta": "metadata",
    "scores": "score",
    "feedback": "score",
    "feedback_scores": "score",
    "annotations": "score",
    "env": "environment",
    "id": "trace",
    "trace_id": "trace",
    "span_id": "span",
    "type": "kind",
    "span_kind": "kind",
    "price": "cost",
    "total_tokens": "tokens",
    "input_tokens": "tokens.input",
    "output_tokens": "tokens.output",
    "prompt_tokens": "tokens.input",
    "completion_tokens": "tokens.output",
    "prompt": "input",
    "question": "input",
    "answer": "output",
    "response": "output",
    "reference": "expected",
}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What one kind of thing can be asked about.

    ``other_names``: what people call a field who know other tools. ``unknown``: how a name is written that is no field
    of the language but may be one of the user's.
    """

    by_name: Mapping[str, Field]
    other_names: Mapping[str, str]
    unknown: str

    def nearest(self, name: str) -> str | None:
        """The field that was probably meant."""
        lowered = name.lower()
        if lowered in self.by_name:
            return lowered
        known = self.other_names.get(lowered.replace(".", "_").replace("-", "_"))
        return known or nearest(lowered, tuple(self.by_name))


RECORDS = Vocabulary(BY_NAME, _OTHER_NAMES, 'if it is a score, write score.{0}; if an attribute, attr["{0}"]')
"""Records and spans."""

_ITEM_FIELDS = (
    Field("id", "text", "id of the item", "id in (fr, pe)"),
    Field("tag", "text", "a tag of the item", "tag = hard", many=True),
    Field("split", "text", "its split, where it is in one", "split = test"),
    Field("input", "json", "its fields but for what should come out", 'input.topic = "weather"', keys=None),
    Field("expected", "json", "what should come out", 'expected ~ "Paris"', keys=None),
)
ITEMS = Vocabulary(
    {field.name: field for field in _ITEM_FIELDS},
    {
        "tags": "tag",
        "label": "tag",
        "labels": "tag",
        "item_id": "id",
        "reference": "expected",
        "fields": "input",
        "inputs": "input",
    },
    "if it is a field of the items, write input.{0}",
)
"""Items of a dataset."""


def fields() -> tuple[Field, ...]:
    """Every field and part of a field, in the order in which they are documented.

    Example
    -------
    >>> [field.name for field in fields()][:3]
    ['app', 'app.version', 'project']
    """
    return (*_FIELDS, *_PARTS)


def nearest(word: str, known: tuple[str, ...]) -> str | None:
    """The known word that looks most like another one, if any does."""
    found = get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return found[0] if found else None
