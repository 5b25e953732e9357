"""Evaluations as traces: what the span of an attempt says, and what its score learns from it.

Each attempt of a metric runs inside an :class:`~tracekeeper.tracing.evaluation.Evaluation`. It becomes a span of kind
``evaluator`` with the judge's calls below it when something is traced inside, and at once when the metric says that it
asks a language model (``source="llm"``) or wants it (``traced=True``). Its input are the bound arguments, its output
the score; it links to the judged span, and the score names its trace. See ``docs/design/scores.md``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from tracekeeper.journal.frames import ErrorInfo
from tracekeeper.judging import CannotBind
from tracekeeper.tracing import trouble
from tracekeeper.tracing.arguments import binder
from tracekeeper.tracing.evaluation import Ending, Evaluation, Opening
from tracekeeper.types import Score, ScoreSource, ScoreStatus, SpanStatus, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tracekeeper.judging import Metric
    from tracekeeper.scoring.jobs import Attempt, Job
    from tracekeeper.tracing.spans import Span

BEGUN_AGAIN = "begun again elsewhere: another call blocked its event loop"

_ENDS = {
    ScoreStatus.SCORED: SpanStatus.OK,
    ScoreStatus.SKIPPED: SpanStatus.OK,
    ScoreStatus.CANCELLED: SpanStatus.CANCELLED,
    ScoreStatus.PENDING: SpanStatus.CANCELLED,
}


class AttemptEvaluation(Evaluation):
    """The evaluation that one attempt of a job is."""

    __slots__ = ("_call", "_describing", "_known", "_live", "earlier", "ended", "job", "number", "scores")

    def __init__(self, job: Job, number: int) -> None:
        super().__init__(job.source.keeper)
        self.job: Job | None = job
        self.number = number
        self.earlier: Mapping[int, str] = _NONE
        """Traces of the attempts before it that were begun again elsewhere, by their number."""
        self.scores: Sequence[tuple[str, Score]] = ()
        self.ended = 0
        self._call: Callable[[], Any] | None = None
        self._known: _Known | None = None
        self._live = False
        self._describing = False

    def bound(self, metric: Metric, call: Callable[[], Any], *, live: bool) -> None:
        """The metric's arguments are known, and it is about to be called."""
        self._call, self._live = call, live
        span = self.span
        if span is not None:  # a selector of it has traced something
            span.set(input=self._input())
        elif metric.traced or metric.source is ScoreSource.LLM:
            try:
                self.begin()
            except Exception as error:  # noqa: BLE001  the metric runs all the same
                trouble.note("beginning the span of an evaluation", error)

    def opening(self) -> Opening:
        """What is judged, by what, which attempt."""
        job = self.job
        known = self._known if job is None else _known_of(job)
        assert known is not None
        return _opening(*known, attempt=self.number, given=self._input())

    def came_to(self, scores: Sequence[tuple[str, Score]]) -> None:
        """The attempt came to this. What it was of goes: a thread, or a client that keeps a context, may hold on to
        the evaluation for ever."""
        self.scores = scores
        self.ended = time.time_ns()
        if self.job is not None:
            self._known = _known_of(self.job)
        self.finish()
        self.job = self._call = None

    def begun(self, span: Span) -> None:
        """The score will name this trace."""
        job = self.job
        if job is not None:
            job.evaluation = span.start.trace_id

    def ending(self) -> Ending:
        """The score is the output; what kept it from being one is the error."""
        scores = self.scores
        first = scores[0][1] if scores else Score(status=ScoreStatus.CANCELLED)
        status = _ENDS.get(first.status, SpanStatus.ERROR)
        failure = None
        if status is not SpanStatus.OK:
            kind, _, message = (first.error or f": {first.reason or ''}").partition(": ")
            failure = ErrorInfo(kind, message, first.traceback or "")
        self._say_usage()
        return Ending(status, self.ended, _output(scores), failure)

    def _input(self) -> Any:
        """The arguments by name. Of live objects what was captured of them, since only that was masked."""
        job, call = self.job, self._call
        if job is None or call is None or self._describing:
            return ...
        try:
            self._describing = True  # a selector that is asked again may trace, and so come back here
            if self._live:
                call = job.metric.bind(job.source.view(live=False))
            return binder(job.metric.function)(call.args, call.keywords) if isinstance(call, partial) else ...
        except CannotBind:  # it was not captured, so it is not kept here either
            return ...
        finally:
            self._describing = False

    def spent(self) -> Usage | None:
        """What the spans inside have reported, and the metric of itself."""
        span = self.span
        own = span.late.changes.get("usage") if span is not None and span.late is not None else None
        return total(self.usages if own is None else [*self.usages, own])

    def _say_usage(self) -> None:
        span, used = self.span, self.spent()
        if span is not None and used is not None:
            figures = {"input_tokens": used.input_tokens, "output_tokens": used.output_tokens, "cost": used.cost}
            span.set_attributes({f"evaluation.{name}": n for name, n in figures.items() if n is not None})


def begin(job: Job) -> AttemptEvaluation:
    """An attempt begins here, in a context of its own: what it traces belongs to its evaluation."""
    before = job.evaluating
    number = job.attempts + 1
    if before is not None:  # its loop was blocked by another call
        number = before.number + 1
        before.came_to(job.all_names(Score(status=ScoreStatus.CANCELLED, reason=BEGUN_AGAIN)))
    made = AttemptEvaluation(job, number)
    if before is not None:
        made.earlier = {**before.earlier, before.number: "" if before.span is None else before.span.trace_id}
    job.evaluation, job.evaluating = b"", made
    made.enter()
    return made


def earlier_traces(job: Job) -> Mapping[int, str]:
    """The traces of attempts that were begun again elsewhere, by their number. To be asked for before ``ended``."""
    return _NONE if job.evaluating is None else job.evaluating.earlier


def ended(job: Job, attempt: Attempt) -> Attempt:
    """The attempt has this outcome, whoever gave it. Ends its evaluation; its scores learn what that cost."""
    evaluation = job.evaluating
    if evaluation is None:
        return attempt
    job.evaluating = None
    used = evaluation.spent() if evaluation.span is not None else None
    if used is not None and used.cost is not None and all(score.cost is None for _, score in attempt.scores):
        # Once, so that the costs of a metric's scores add up to what it cost.
        (name, first), *rest = attempt.scores
        attempt = msgspec.structs.replace(attempt, scores=[(name, first.replace(cost=used.cost)), *rest])
    evaluation.came_to(attempt.scores)
    return attempt


_Known = tuple["Metric", int | None, str, str, bytes, bytes]
"""Metric, beginning, and the key of what is judged."""
_NONE: Mapping[int, str] = MappingProxyType({})


def _known_of(job: Job) -> _Known:
    source = job.source
    return job.metric, job.began, source.target, source.session_id, source.trace_id, source.span_id


def _opening(
    metric: Metric,
    began: int | None,
    target: str,
    session_id: str,
    trace_id: bytes,
    span_id: bytes,
    *,
    attempt: int,
    given: Any,
) -> Opening:
    attributes: dict[str, Any] = {
        "score.name": metric.name,
        "score.metric_version": metric.version,
        "score.attempt": attempt,
        "judged.target": target,
    }
    judged = None
    if target == "session":
        attributes["judged.session_id"] = session_id
    else:  # also here, because links are written at the end, and its process may be killed before
        attributes["judged.trace_id"], attributes["judged.span_id"] = trace_id.hex(), span_id.hex()
        judged = (trace_id, span_id)
    return Opening(metric.name, began or time.time_ns(), attributes, given, judged)


def total(usages: Sequence[Usage]) -> Usage | None:
    """What spans reported together; ``None`` when none did. A figure that nobody reported is ``None``.

    Example
    -------
    >>> total([Usage(input_tokens=3, cost=0.5), Usage(input_tokens=4)])
    Usage(input_tokens=7, output_tokens=None, cache_read_tokens=None, cache_write_tokens=None, reasoning_tokens=None, \
cost=0.5, estimated=False)
    """
    if not usages:
        return None

    def added(name: str) -> Any:
        known = [figure for usage in usages if (figure := getattr(usage, name)) is not None]
        return sum(known) if known else None

    return Usage(
        input_tokens=added("input_tokens"), output_tokens=added("output_tokens"), cost=added("cost"), estimated=False
    )


def _output(scores: Sequence[tuple[str, Score]]) -> Any:
    if not scores:
        return ...
    said = {name: _said(score) for name, score in scores}
    return next(iter(said.values())) if len(said) == 1 else said


def _said(score: Score) -> dict[str, Any]:
    if score.status is ScoreStatus.SCORED:
        return {"value": score.value, "reason": score.reason}
    return {"status": str(score.status), "reason": score.reason}
