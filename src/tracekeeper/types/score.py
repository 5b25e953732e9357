"""The outcome of judging one target by one metric (or one person, or one program)."""

from __future__ import annotations

from typing import Any

import msgspec

from tracekeeper.types.statuses import ScoreSource, ScoreStatus


class Score(msgspec.Struct, frozen=True):
    """A value, or the reason why there is none.

    A metric may return one to say more than a number; reading gives them back with everything that is known.
    ``value`` is ``None`` only beside a ``status`` other than ``scored``.

    Parameters
    ----------
    value:
        A finite number, a bool or a label (text). NaN and infinity are refused: such a score is ``failed``.
    reason:
        Why, in words: the judge's explanation, or the cause of a status that is not ``scored``.
    status:
        Leave it alone when returning a score from a metric; use ``status="skipped"`` with a reason to decline.
    name, metric_version, source, author:
        Filled in by the engine.
    error, traceback:
        The exception's ``Type: message`` and its formatted traceback, when the metric raised.
    attempt:
        1 for the first try.
    started_at, settled_at:
        Unix time in seconds.
    seconds:
        Duration of the last attempt.
    cost:
        Money that judging took, in US dollars; ``None`` when unknown.
    metadata:
        Anything JSON can hold that belongs to the score.
    evaluation:
        Trace id (hex text) of the trace that the evaluation left: the judge's prompt and answer. ``None`` when nothing
        was traced inside it. ``tracekeeper show`` takes it.

    Example
    -------
    >>> Score(0.8, reason="four of five claims are supported").status
    <ScoreStatus.SCORED: 'scored'>
    """

    value: float | bool | str | None = None
    reason: str | None = None
    status: ScoreStatus = ScoreStatus.SCORED
    name: str = ""
    metric_version: str = ""
    source: ScoreSource = ScoreSource.CODE
    author: str = ""
    error: str | None = None
    traceback: str | None = None
    attempt: int = 0
    started_at: float | None = None
    settled_at: float | None = None
    seconds: float | None = None
    cost: float | None = None
    metadata: dict[str, Any] | None = None
    evaluation: str | None = None

    @property
    def final(self) -> bool:
        """Whether the score has settled."""
        return self.status.final

    def replace(self, **changes: Any) -> Score:
        """A copy with some fields changed."""
        return msgspec.structs.replace(self, **changes)
