"""What reading gives: rows as NamedTuples of plain values. Times are nanoseconds, ids hex text, payloads JSON text."""

from __future__ import annotations

from typing import NamedTuple


class JournalRow(NamedTuple):
    """A journal as the store knows it."""

    id: int
    name: str
    host: str
    pid: int
    started: int
    state: str
    cursor: bytes
    cursor_version: int
    spans_stored: int
    scores_stored: int
    damaged: int
    refused: int
    dropped: dict[str, int]
    seen_at: int


class Ledger(NamedTuple):
    """The account of one journal: what the store has of it."""

    journal: JournalRow
    running: int
    """Spans that have begun and not ended."""
    scores: dict[str, int]
    """By status."""


class Counts(NamedTuple):
    """How much the store holds, and what is open."""

    records: int
    spans: int
    running: int
    """Spans that have begun and not ended."""
    scores: dict[str, int]
    """By status."""
    oldest_open: int | None
    """When the oldest score that is still pending or running was born."""
    journals: int
    damaged: int
    """Frames of all journals that could not be read."""
    refused: int
    dropped: dict[str, int]
    """What all journals could not keep, by reason."""


class RecordRow(NamedTuple):
    """A record without its payload."""

    id: int
    trace_id: str
    span_id: str
    app: str | None
    version: str | None
    name: str
    project: str
    status: str
    started_at: int
    duration: int | None
    error_type: str | None
    session_id: str | None
    user_id: str | None
    environment: str | None
    release: str | None
    tags: str | None
    """JSON list."""
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None


class PayloadRow(NamedTuple):
    """The texts of a span. A ``…_size`` is the length in bytes of the whole when the text was cut, else 0."""

    id: int
    input: str | None
    input_size: int
    output: str | None
    output_size: int
    attributes: str | None
    events: str | None
    links: str | None
    context: str | None
    expected: str | None
    metadata: str | None
    error_message: str | None
    error_traceback: str | None


class SpanRow(NamedTuple):
    """A span without its payload."""

    id: int
    trace_id: str
    span_id: str
    parent_id: str | None
    record_span_id: str
    name: str
    kind: str
    status: str
    started_at: int
    duration: int | None
    model: str | None
    provider: str | None
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    usage: str | None
    error_type: str | None
    chunks: int | None
    first_chunk: int | None
    """Nanoseconds after the start."""
    journal_id: int | None


class ScoreRow(NamedTuple):
    """A score as it stands."""

    id: int
    target: str
    trace_id: str
    span_id: str
    session_id: str
    name: str
    metric_version: str
    source: str
    author: str
    record_id: int | None
    app_id: int | None
    status: str
    value: float | None
    label: str | None
    value_type: str
    reason: str | None
    error: str | None
    traceback: str | None
    attempt: int
    mode: str
    local: int
    created_at: int
    started_at: int | None
    settled_at: int | None
    cost: float | None
    metadata: str | None
    journal_id: int | None
    owner: str | None
    lease_until: int | None
    priority: int = 0
    lost: int = 0
    available_at: int | None = None
    rule_id: int | None = None
    evaluation: str | None = None


class AttemptRow(NamedTuple):
    """An earlier attempt of a score."""

    score_id: int
    attempt: int
    status: str
    value: float | None
    label: str | None
    reason: str | None
    error: str | None
    started_at: int | None
    settled_at: int | None
    cost: float | None
    lapsed: int = 0
    evaluation: str | None = None


class MetricCounts(NamedTuple):
    """One metric on the records of one app version. ``n`` is the sum of ``statuses``, always."""

    name: str
    n: int
    statuses: dict[str, int]
    """Every score status, also those with 0."""
    mean: float | None
    """Of the numbers (and truth values as 1 and 0) that were scored; ``None`` when there is none."""
    variance: float | None
    """Of the sample (divided by n - 1); ``None`` of fewer than two."""
    min: float | None
    max: float | None
    n_values: int
    """Scores that have a number: what the four figures above are of."""
    n_bool: int
    """Of these, truth values: if all are, an interval for a share fits."""


class LeaderboardRow(NamedTuple):
    """One app version. Latencies are nanoseconds, of the records that have ended."""

    app: str | None
    """``None``: records that belong to no app."""
    version: str | None
    records: int
    statuses: dict[str, int]
    """Records by every span status, also those with 0."""
    latency_n: int
    latency_mean: float | None
    latency_min: int | None
    latency_p50: int | None
    latency_p95: int | None
    latency_max: int | None
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    metrics: tuple[MetricCounts, ...]
    """By name."""
