"""One attempt of a metric: read the record, bind, call, read the result.

All of it runs on the deadline runner, because all of it may run the user's code (a selector, the metric, an exception's
``__str__``, a result's ``__float__``). What comes out is an :class:`Attempt`; only a cancellation passes through.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from tracekeeper.concurrency.shapes import awaited, is_awaitable
from tracekeeper.judging import CannotBind
from tracekeeper.scoring import evaluations
from tracekeeper.scoring.jobs import Attempt, Job
from tracekeeper.types import MetricMode, Score, ScoreStatus


def call_of(job: Job) -> tuple[Callable[[], Any], bool]:
    """What the runner has to call, and whether on an event loop.

    A record that must be read back from the database is read on a thread even for an async metric: the database may
    block, and the loop is everybody's.
    """
    if job.asynchronous and job.source.at_hand:
        return partial(_attempt_on_loop, job), True
    return partial(_attempt_in_thread, job), False


def _attempt_in_thread(job: Job) -> Any:
    try:
        result = _bound(job)()
        if is_awaitable(result):
            return _finish_on_loop(job, result)
        return Attempt(job.metric.scores(result))
    except BaseException as error:  # noqa: BLE001  whatever it is, it is the outcome
        return _outcome(job, error)


async def _attempt_on_loop(job: Job) -> Attempt:
    try:
        result = _bound(job)()
        if is_awaitable(result):
            result = await awaited(result)
        return Attempt(job.metric.scores(result))
    except BaseException as error:  # noqa: BLE001  whatever it is, it is the outcome
        return _outcome(job, error)


async def _finish_on_loop(job: Job, awaitable: Any) -> Attempt:
    try:
        return Attempt(job.metric.scores(await awaited(awaitable)))
    except BaseException as error:  # noqa: BLE001  whatever it is, it is the outcome
        return _outcome(job, error)


def _bound(job: Job) -> Callable[[], Any]:
    job.began = time.time_ns()
    evaluation = evaluations.begin(job)
    live = job.inline and (job.metric.mode == MetricMode.INLINE or job.metric.needs_live)
    call = job.metric.bind(job.source.view(live=live))
    evaluation.bound(job.metric, call, live=live)
    return call


def _outcome(job: Job, error: BaseException) -> Attempt:
    if isinstance(error, CannotBind):
        return Attempt(job.all_names(Score(status=ScoreStatus.SKIPPED, reason=error.reason)))
    if any(base.__name__ == "CancelledError" for base in type(error).__mro__):
        raise error  # the runner knows whether it was its own
    return job.raised(error)
