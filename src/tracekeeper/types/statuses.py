"""The states things can be in, as enumerations that are stored as text."""

from __future__ import annotations

from enum import StrEnum


class SpanKind(StrEnum):
    """What a span does. A traced function without a stated kind is a ``task``."""

    LLM = "llm"
    RETRIEVER = "retriever"
    EMBEDDING = "embedding"
    RERANKER = "reranker"
    TOOL = "tool"
    AGENT = "agent"
    CHAIN = "chain"
    GUARDRAIL = "guardrail"
    EVALUATOR = "evaluator"
    TASK = "task"


class SpanStatus(StrEnum):
    """How a span ended, or that it has not."""

    RUNNING = "running"
    OK = "ok"
    ERROR = "error"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"
    """The consumer left the stream before its end."""
    TRUNCATED = "truncated"
    """The provider cut the stream short."""
    INTERRUPTED = "interrupted"
    """The process died while the span was open."""


class ScoreStatus(StrEnum):
    """Where a score stands. Every score reaches a final status in bounded time."""

    PENDING = "pending"
    RUNNING = "running"
    SCORED = "scored"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def final(self) -> bool:
        """Whether the score will not change any more by itself."""
        return self in FINAL_SCORE_STATUSES


FINAL_SCORE_STATUSES = frozenset(
    {ScoreStatus.SCORED, ScoreStatus.FAILED, ScoreStatus.TIMED_OUT, ScoreStatus.CANCELLED, ScoreStatus.SKIPPED}
)


class ItemStatus(StrEnum):
    """Where an item of an experiment stands."""

    PENDING = "pending"
    RUNNING = "running"
    OK = "ok"
    ERROR = "error"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class ScoreSource(StrEnum):
    """Who judged."""

    CODE = "code"
    LLM = "llm"
    HUMAN = "human"


class MetricMode(StrEnum):
    """When a metric of an app runs."""

    BACKGROUND = "background"
    """After the call, on an engine thread of this process (the default)."""
    INLINE = "inline"
    """Before the call returns to its caller."""
    DEFERRED = "deferred"
    """Never in the calling process: a worker claims it."""
    OFF = "off"
    """Not at all; it is listed nowhere."""
