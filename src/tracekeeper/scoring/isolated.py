"""One attempt of a metric in a process of its own (``isolation="process"``).

Here is decided what goes there and what comes back. The record's data go as a plain view, with its spans if the metric
looks at them; binding, the call and the reading of its result happen there, by the same code as in a thread, because
all of it may be the user's. Scores come back. What is traced inside is journaled there, into the same directory, below
an evaluation like any other; its trace id is told as soon as it begins, so that the score of a judge that was killed
leads to the prompt that it was given.

A call waits for a process on a runner of its own, so that metrics in threads never wait behind it. See
``docs/design/isolation.md``.
"""

from __future__ import annotations

import contextvars
import pickle
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tracekeeper import concurrency
from tracekeeper.concurrency.shapes import is_awaitable
from tracekeeper.configuration.settings import Settings, base_settings, configure
from tracekeeper.judging import Metric, RecordView
from tracekeeper.scoring import evaluations
from tracekeeper.scoring.attempts import call_of as call_in_thread
from tracekeeper.scoring.jobs import Attempt, Job, Source, first_line
from tracekeeper.scoring.runners import isolated_places
from tracekeeper.tracing import runtime
from tracekeeper.types import Score, ScoreStatus

if TYPE_CHECKING:
    import asyncio

    from tracekeeper.concurrency import ProcessOutcome, ProcessPool
    from tracekeeper.tracing.keeper import Keeper

LOAD_WITHIN = 30.0
"""Seconds for importing the metric's module in a process that has not done so yet; not of the metric's timeout."""
SLACK = 100.0
"""Seconds beyond the metric's timeout after which the runner gives up, whatever the pool does: the sum of what it
allows for a free process, its start and the loading, and some."""
CLOSE_SECONDS = 2.0
"""Seconds that idle processes have for their own exit when the program ends; at least a part of it, see ``_close``."""

_OBJECTS = ("mask", "lm", "metadata")
"""Settings that may be anything."""

_OURS = tuple(str(Path(__file__).parents[1] / room) for room in ("scoring", "concurrency"))

_pools: dict[str, ProcessPool] = {}
_sent: tuple[Keeper, Settings, bytes] | None = None


class Judged(NamedTuple):
    """What is judged, and which attempt this is."""

    trace_id: bytes
    span_id: bytes
    target: str
    session_id: str
    attempts: int


def call_of(job: Job, begun: Callable[[], None] | None = None) -> tuple[Callable[[], Any], bool]:
    """What the runner has to call, and whether on an event loop: never, it waits for another process.

    ``begun`` is called just before the metric is.
    """
    return partial(_attempt, job, begun), False


def within(metric: Metric) -> float:
    """The runner's timeout. The pool keeps the metric's own, which counts from the moment that everything is loaded."""
    return metric.timeout + SLACK


def _attempt(job: Job, begun: Callable[[], None] | None) -> Attempt:
    metric = job.metric
    job.evaluation = b""
    try:
        view = job.source.view(live=False)
        if not metric.needs_spans:
            view = view.without_spans()
        source = job.source
        judged = Judged(source.trace_id, source.span_id, source.target, source.session_id, job.attempts)
        arguments = pickle.dumps((judged, view, settings_for(source.keeper, base_settings())))
    except BaseException as error:  # noqa: BLE001  the store cannot be read: as in a thread
        return job.raised(error)
    try:
        target = pickled(metric)
    except Exception as error:  # noqa: BLE001  whatever its parts raise
        reason = f"it cannot be sent to a process of its own: {type(error).__name__}: {first_line(str(error))}"
        return Attempt(job.all_names(Score(status=ScoreStatus.FAILED, reason=reason)))
    began = 0.0

    def begin() -> None:
        nonlocal began
        began = time.monotonic()
        job.began = time.time_ns()
        if begun is not None:
            begun()

    outcome = pool().run(
        concurrency.ProcessCall(
            target=target,
            arguments=arguments,
            timeout=metric.timeout,
            load_within=LOAD_WITHIN,
            memory_limit=metric.memory_limit,
            unwanted=lambda: job.settled,
            began=begin,
            told=lambda trace_id: setattr(job, "evaluation", trace_id),
        )
    )
    attempt = as_attempt(job, outcome)
    return Attempt(attempt.scores, attempt.retriable, time.monotonic() - began if began else 0.0)


def as_attempt(job: Job, outcome: ProcessOutcome) -> Attempt:
    """What became of a call in a process of its own, as scores."""
    metric, reason = job.metric, outcome.reason
    match outcome.status:
        case "ok":
            attempt, job.evaluation = outcome.value
            return _of_memory(metric, attempt)
        case "timed_out":
            status = ScoreStatus.TIMED_OUT
        case "cancelled":
            status = ScoreStatus.CANCELLED
        case "died":
            status = ScoreStatus.FAILED
            if metric.memory_limit is not None:
                reason = f"{reason}; its memory_limit is {_size(metric.memory_limit)}"
        case _:
            status = ScoreStatus.FAILED
    score = Score(status=status, reason=reason, error=_error(outcome), traceback=_trimmed(outcome.traceback))
    return Attempt(job.all_names(score), outcome.retriable)


def _error(outcome: ProcessOutcome) -> str | None:
    return None if outcome.error is None else f"{outcome.error}: {outcome.message}"


def _trimmed(report: str | None) -> str | None:
    """Of where a process was when it died: down to the metric, without what called it."""
    if report is None:
        return None
    kept = []
    for line in report.splitlines():
        if any(f'File "{place}' in line for place in _OURS):
            break
        kept.append(line)
    return "\n".join(kept)


def _of_memory(metric: Metric, attempt: Attempt) -> Attempt:
    """A ``MemoryError`` under a limit is told as what it is."""
    if metric.memory_limit is None:
        return attempt
    reason = f"it needed more memory than its memory_limit of {_size(metric.memory_limit)}"
    scores = [
        (name, score.replace(reason=reason) if (score.error or "").partition(":")[0].endswith("MemoryError") else score)
        for name, score in attempt.scores
    ]
    return Attempt(scores, attempt.retriable)


def _size(count: int) -> str:
    for unit, name in ((1 << 30, "GB"), (1 << 20, "MB")):
        if count >= unit:
            return f"{count / unit:.4g} {name}"
    return f"{count} bytes"


# -- what goes there ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def pickled(metric: Metric) -> bytes:
    """The call of a metric. The process keeps what it loads under these bytes."""
    return pickle.dumps(partial(evaluate, metric))


def settings_for(keeper: Keeper, base: Settings) -> bytes:
    """The settings as a process of its own needs them: where to write, and what can be sent there at all."""
    global _sent
    sent = _sent
    if sent is None or sent[0] is not keeper or sent[1] is not base:  # by identity: they hold what has no hash
        _sent = sent = keeper, base, as_sent(keeper, base)
    return sent[2]


def as_sent(keeper: Keeper, base: Settings, dumps: Callable[[Any], bytes] = pickle.dumps) -> bytes:
    """Settings for another process: where to write, and the objects among them that can be sent."""
    plain = {name: getattr(base, name) for name in base.__struct_fields__ if name not in _OBJECTS}
    objects: dict[str, bytes] = {}
    for name in _OBJECTS:
        try:
            objects[name] = dumps(getattr(base, name))
        except Exception:  # noqa: BLE001  a lambda as mask, a model with an open connection
            objects[name] = b""
    destination = keeper.destination
    plain["directory"], plain["project"] = keeper.directory, destination.project
    plain["store"] = None if destination.default else destination.url
    plain["sigterm"], plain["exit_timeout"] = False, min(base.exit_timeout, CLOSE_SECONDS)
    return pickle.dumps((plain, objects))


def pool() -> ProcessPool:
    """The processes in which this program's metrics run."""
    made = _pools.get(__name__)
    if made is None:  # of several threads here at once all get the same one
        made = _pools.setdefault(__name__, concurrency.ProcessPool(limit=isolated_places, preload=(__name__,)))
    return made


def _close(deadline: float) -> None:
    for each in _pools.values():
        # Some time also when scores took it all: what a process traced is then stored now, not by whoever comes next.
        each.close(min(CLOSE_SECONDS, max(CLOSE_SECONDS / 4, deadline - time.monotonic())))


# -- there -------------------------------------------------------------------------------------------------------------

_in_force: tuple[bytes, int] | None = None
_loop: asyncio.Runner | None = None


class _Sent(Source):
    """What is judged, as it was sent."""

    __slots__ = ("_view",)

    def __init__(self, keeper: Keeper, judged: Judged, view: RecordView) -> None:
        super().__init__(
            keeper, judged.trace_id, judged.span_id, target=judged.target, session_id=judged.session_id, app=view.app
        )
        self._view = view

    def view(self, *, live: bool) -> RecordView:
        """The same view each time: there is one metric that sees it."""
        return self._view


class _TellingJob(Job):
    """A job that tells its program which trace it leaves, as soon as that begins."""

    __slots__ = ("_evaluation",)

    @property
    def evaluation(self) -> bytes:
        """Trace id; empty when there is none."""
        return self._evaluation

    @evaluation.setter
    def evaluation(self, trace_id: bytes) -> None:
        self._evaluation = trace_id
        if trace_id:
            concurrency.tell(trace_id)


def evaluate(metric: Metric, judged: Judged, view: RecordView, settings: bytes) -> tuple[Attempt, bytes]:
    """Make the attempt, in the process that this is called in; its outcome, and the trace that it left."""
    global _in_force
    if _in_force != (settings, id(base_settings())):  # a module that was imported may have configured its own
        settle_in(settings)
        _in_force = settings, id(base_settings())
    job = _TellingJob(_Sent(runtime.keeper(), judged, view), metric, None, attempts=judged.attempts, isolated=False)
    attempt = contextvars.Context().run(_evaluate, job)
    return attempt, job.evaluation


def settle_in(settings: bytes) -> None:
    """Configure this process as the one that sent them."""
    plain, objects = pickle.loads(settings)
    for name, pickled in objects.items():
        try:
            plain[name] = pickle.loads(pickled)
        except Exception:  # noqa: BLE001  it could not be sent, or is the program's own (`__main__`)
            plain[name] = None
            if name == "mask":  # nothing unmasked is written
                plain["capture_input"] = plain["capture_output"] = False
    configure(**plain)


def _evaluate(job: Job) -> Attempt:
    call, _ = call_in_thread(job)
    try:
        result = call()
        attempt: Attempt = _on_the_loop(result) if is_awaitable(result) else result
    except BaseException as error:
        if type(error).__name__ != "CancelledError":
            raise
        cancelled = Score(status=ScoreStatus.CANCELLED, reason="it was cancelled from within")
        attempt = Attempt(job.all_names(cancelled))
    return evaluations.ended(job, attempt)


def _on_the_loop(awaitable: Any) -> Any:
    """Await it on the one loop of this process: clients that a metric keeps belong to the loop they were made on."""
    import asyncio

    global _loop
    if _loop is None:
        _loop = asyncio.Runner()
    return _loop.run(_finished(awaitable), context=contextvars.copy_context())


async def _finished(awaitable: Any) -> Any:
    return await awaitable


runtime.at_exit(_close, order=15)
