"""A guard's metric that has ``isolation="process"``: judged in a process of its own, which is killed at the deadline.

It gets a copy of the call's own objects, so they have to be such as can be pickled. Tracing is off there: what the call
hides by a mask of its own is not hidden from the metric, and must not be written by it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable

import msgspec

from tracekeeper.concurrency.processes.outcome import ProcessCall
from tracekeeper.configuration.settings import base_settings
from tracekeeper.judging import Metric, RecordView
from tracekeeper.scoring import isolated
from tracekeeper.scoring.jobs import Job, Source, first_line
from tracekeeper.tracing import runtime
from tracekeeper.types import Score, ScoreStatus


def judge(metric: Metric, view: RecordView, timeout: float, unwanted: Callable[[], bool]) -> list[tuple[str, Score]]:
    """The scores of one metric on one subject. Waits for them; ``unwanted`` says whether the guard has decided."""
    keeper = runtime.keeper()
    job = Job(Source(keeper, bytes(16), bytes(8), target="span"), metric, None, isolated=True)
    settings = isolated.settings_for(keeper, msgspec.structs.replace(base_settings(), enabled=False))
    try:
        target = isolated.pickled(metric)
        arguments = pickle.dumps((isolated.Judged(bytes(16), bytes(8), "span", "", 0), view, settings))
    except Exception as error:  # noqa: BLE001  whatever its parts, or the call's objects, raise
        reason = f"it cannot be sent to a process of its own: {type(error).__name__}: {first_line(str(error))}"
        return job.all_names(Score(status=ScoreStatus.FAILED, reason=reason))
    outcome = isolated.pool().run(
        ProcessCall(
            target=target,
            arguments=arguments,
            timeout=min(metric.timeout, timeout),
            load_within=isolated.LOAD_WITHIN,
            memory_limit=metric.memory_limit,
            unwanted=unwanted,
        )
    )
    return isolated.as_attempt(job, outcome).scores
