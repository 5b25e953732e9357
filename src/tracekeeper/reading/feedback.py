"""``tk.score``: what a person or a program says about a record, at any time and from any process.

It travels like everything else, as a frame of the journal, so it is on disk when the call returns. It needs no look at
the store: a score may even arrive before its record does and is joined to it then.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from tracekeeper.configuration import environment, settings
from tracekeeper.journal.frames import ScoreFrame
from tracekeeper.judging.results import one
from tracekeeper.scoring.record import Record
from tracekeeper.tracing import runtime
from tracekeeper.types import Score, ScoreError, ScoreSource, ScoreStatus

_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_SPAN_ID = re.compile(r"[0-9a-f]{16}")


def score(
    record: Record | tuple[str, str] | str | None = None,
    name: str = "",
    value: float | bool | str | Score | None = None,
    *,
    source: str = ScoreSource.HUMAN,
    reason: str | None = None,
    author: str = "",
    metadata: Mapping[str, Any] | None = None,
    session_id: str | None = None,
) -> Score:
    """Score a record or a session from outside: user feedback, a reviewer's verdict, a value computed elsewhere.

    On disk when it returns, and seen by the next read. A second one of the same name, source and author replaces the
    first, which stays visible as an earlier attempt.

    Parameters
    ----------
    record:
        A record, its key ``(trace_id, span_id)``, or that key as ``record`` tables show it, ``"trace_id:span_id"``.
    name:
        What is judged, e.g. ``thumbs``.
    value:
        A finite number, a bool, a label, or a :class:`~tracekeeper.types.Score`.
    source:
        ``human`` (default), ``code`` or ``llm``.
    reason:
        Why, in words.
    author:
        Who; several authors' scores stand side by side.
    metadata:
        Anything JSON can hold that belongs to the score.
    session_id:
        Instead of a record: the conversation that is scored.

    Raises
    ------
    ScoreError
        A value that is none (NaN, infinity, ``None``), no name, or not exactly one thing to score. Nothing is kept
        then.

    Example
    -------
    >>> import tracekeeper as tk
    >>> @tk.trace
    ... def ask(question):
    ...     return "mild"
    >>> with tk.recording() as recording:
    ...     _ = ask("weather?")
    >>> tk.score(recording.get(), "thumbs", True, reason="the user clicked").value
    True
    """
    trace_id, span_id = _key(record, session_id)
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ScoreError(f"name={name!r}: expected the name of what is judged, e.g. 'thumbs'")
    if source not in tuple(ScoreSource):
        raise ScoreError(f"source={source!r}: expected one of {', '.join(ScoreSource)}")
    judged = _judged(name, value, reason, metadata)
    now = time.time()
    judged = judged.replace(
        name=name,
        source=ScoreSource(source),
        author=author or judged.author,
        # A clock reading in place of 1, 2, 3…: whichever process speaks last wins, and nobody has to ask the store
        # first.
        attempt=int(now * 1e6),
        started_at=now,
        settled_at=now,
    )
    if isinstance(record, Record) and not record.trace:
        return judged  # tracing is disabled: the record is of nothing, and so is its score
    if settings().enabled and not environment.disabled():
        kept = runtime.keeper().write(_frame(judged, trace_id, span_id, session_id))
        if not kept:
            raise ScoreError(f"the score {name!r} could not be journaled; `tracekeeper status` says why")
        if isinstance(record, Record):
            record.note(judged)
    return judged


def _key(record: Record | tuple[str, str] | str | None, session_id: str | None) -> tuple[str, str]:
    if (record is None) == (session_id is None):
        raise ScoreError("expected exactly one thing to score: a record (or its key), or session_id=")
    if record is None:
        return "", ""
    if isinstance(record, Record):
        return record.trace_id, record.span_id
    key = tuple(record.split(":")) if isinstance(record, str) else tuple(record)
    if len(key) != 2 or not _TRACE_ID.fullmatch(str(key[0])) or not _SPAN_ID.fullmatch(str(key[1])):
        raise ScoreError(
            f"{record!r} is no key of a record: expected (trace_id, span_id), 32 and 16 hexadecimal digits, "
            "as record.trace_id and record.span_id give them"
        )
    return key[0], key[1]


def _judged(name: str, value: Any, reason: str | None, metadata: Mapping[str, Any] | None) -> Score:
    if value is None:
        raise ScoreError(f"score {name!r} needs a value: a number, a bool or a label")
    judged = one(value)
    if judged.status is not ScoreStatus.SCORED and not (isinstance(value, Score) and value.status == judged.status):
        why = (judged.reason or "").removeprefix("the metric returned ")
        raise ScoreError(f"score {name!r}: {why}")
    if metadata is not None:
        judged = one(judged.replace(metadata={**(judged.metadata or {}), **metadata}))
    return judged if reason is None else one(judged.replace(reason=reason))


def _frame(judged: Score, trace_id: str, span_id: str, session_id: str | None) -> ScoreFrame:
    value = judged.value
    kind = "bool" if isinstance(value, bool) else "label" if isinstance(value, str) else "number"
    return ScoreFrame(
        target="record" if session_id is None else "session",
        name=judged.name,
        status=str(judged.status),
        trace_id=bytes.fromhex(trace_id),
        span_id=bytes.fromhex(span_id),
        session_id=session_id or "",
        metric_version=judged.metric_version,
        source=str(judged.source),
        author=judged.author,
        value=None if value is None or isinstance(value, str) else float(value),
        label=value if isinstance(value, str) else None,
        value_type=kind,
        reason=judged.reason,
        error=judged.error,
        attempt=judged.attempt,
        started=None if judged.started_at is None else int(judged.started_at * 1e9),
        settled=None if judged.settled_at is None else int(judged.settled_at * 1e9),
        cost=judged.cost,
        metadata=None if judged.metadata is None else msgspec.json.encode(judged.metadata),
    )
