"""From an outcome to what is written and told: the one place that makes score frames of a running process."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING

from tracekeeper.journal.frames import ScoreFrame
from tracekeeper.scoring.jobs import Attempt, Job
from tracekeeper.tracing import capture
from tracekeeper.types import Score, ScoreStatus

if TYPE_CHECKING:
    from tracekeeper.concurrency import Outcome
    from tracekeeper.judging import Metric


def frame_of(job: Job, name: str, score: Score) -> ScoreFrame:
    """The journal's frame of one score of a job."""
    value: float | None = None
    label: str | None = None
    kind = "number"
    if score.status is ScoreStatus.SCORED and score.value is not None:
        if isinstance(score.value, bool):
            value, kind = float(score.value), "bool"
        elif isinstance(score.value, str):
            label, kind = score.value, "label"
        else:
            value = float(score.value)
    return ScoreFrame(
        target=job.source.target,
        name=name,
        status=str(score.status),
        trace_id=job.source.trace_id,
        span_id=job.source.span_id,
        session_id=job.source.session_id,
        metric_version=job.metric.version,
        source=str(job.metric.source),
        value=value,
        label=label,
        value_type=kind,
        reason=_text(score.reason),
        error=_text(score.error),
        traceback=_text(score.traceback),
        attempt=score.attempt,
        started=None if score.started_at is None else round(score.started_at * 1e9),
        settled=None if score.settled_at is None else round(score.settled_at * 1e9),
        cost=score.cost,
        metadata=None if score.metadata is None else capture.dumps(score.metadata),
        mode=str(job.metric.mode) if job.lease is None else job.lease.mode,
        local=_local(job.metric),
        evaluation=b"" if score.evaluation is None else bytes.fromhex(score.evaluation),
    )


def completed(job: Job, name: str, score: Score, attempt: int, seconds: float | None) -> Score:
    """A score with everything that the engine knows about it."""
    began = None if job.began is None else job.began / 1e9
    now = time.time()
    return score.replace(
        name=name,
        metric_version=job.metric.version,
        source=job.metric.source,
        attempt=attempt,
        started_at=began,
        # A wall clock may go back while a metric runs; a duration never does.
        settled_at=max(now, began or now) if score.status.final else None,
        seconds=seconds if began is not None else None,
        evaluation=(job.evaluation.hex() if score.evaluation is None else score.evaluation) or None,
    )


def attempt_of(job: Job, outcome: Outcome[Attempt]) -> Attempt:
    """Every outcome of the runner as scores."""
    match outcome.status:
        case "ok" if outcome.value is not None:
            return outcome.value
        case "timed_out":
            return Attempt(job.all_names(Score(status=ScoreStatus.TIMED_OUT, reason=outcome.reason)), retriable=True)
        case "cancelled":
            return Attempt(job.all_names(Score(status=ScoreStatus.CANCELLED, reason=outcome.reason)))
        case _ if outcome.error is not None:
            return job.raised(outcome.error)
        case _:
            return Attempt(job.all_names(Score(status=ScoreStatus.FAILED, reason=outcome.reason)))


@lru_cache(maxsize=1024)
def _local(metric: Metric) -> bool:
    """Looking for an import path that is not there takes a while, and this is said with every score."""
    return metric.import_path is None


def _text(text: str | None) -> str | None:
    return None if text is None else capture.text(text)
