"""What a value says, as text: answers, questions and documents come as strings, objects, messages and lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tracekeeper.types import Score, ScoreStatus
from tracekeeper.types.text import query_terms, words

_ANSWER_KEYS = ("answer", "response", "output", "text", "content", "page_content", "message")
_QUESTION_KEYS = ("question", "query", "prompt", "input", "message", "messages", "text", "content")
_DOCUMENT_KEYS = ("content", "text", "page_content", "document", "body", "passage")

_STOP_WORD_TEXT = """
a an the and or but nor if then than so as of in on at by for with from to into onto over under up down out off about
after before between during through is are was were be been being am do does did done have has had having will would
shall should can could may might must it its this that these those there here he she they we you i me him her them us
my your his our their mine yours ours theirs who whom whose which what when where why how not no yes also just very too
s t d ll re ve m don doesn didn isn aren wasn weren won wouldn shouldn couldn can cannot
"""
STOP_WORDS = frozenset(_STOP_WORD_TEXT.split())
"""English words that say nothing about what a text is about."""


def answer_text(value: Any) -> str:
    """An output as text: of a mapping its ``answer`` (or ``response``, ``text`` …) when it has one."""
    return _text(value, _ANSWER_KEYS)


def question_text(value: Any) -> str:
    """An input as text: of several arguments the ``question`` (or ``query``, ``prompt`` …) when there is one."""
    return _text(value, _QUESTION_KEYS)


def document_texts(context: Any) -> list[str]:
    """Retrieved documents as texts: of a mapping its ``content`` (or ``text`` …)."""
    if context is None:
        return []
    documents = context if isinstance(context, list | tuple) else [context]
    return [_text(document, _DOCUMENT_KEYS) for document in documents]


def whole_text(value: Any) -> str:
    """Everything in a value as text: JSON of what is no text."""
    return _text(value, ())


def content_words(text: str) -> list[str]:
    """The words of a text without English stop words, in order."""
    return [word for word in words(text) if word not in STOP_WORDS]


def content_terms(text: str) -> list[str]:
    """What to look for of a text: words without English stop words; of Chinese and Japanese runs overlapping pairs."""
    return [term for term in query_terms(text) if term not in STOP_WORDS]


def skipped(reason: str) -> Score:
    """The outcome of a metric that has nothing to judge."""
    return Score(None, reason=reason, status=ScoreStatus.SKIPPED)


def shown(text: str, limit: int = 160) -> str:
    """A text in a reason: one line, bounded."""
    line = " ".join(text[: limit * 4].split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _text(value: Any, keys: tuple[str, ...], depth: int = 3) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, Mapping):
        for key in keys:
            inner = value.get(key)
            if inner and depth:
                return _text(inner, keys, depth - 1)
    elif isinstance(value, list | tuple) and depth:
        return "\n".join(_text(inner, keys, depth - 1) for inner in value)
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):  # a live object: its own text is the best there is
        return str(value)
