"""Inline metrics: run before the call returns, within deadlines of their own, in the caller's settings.

They do not wait behind background work, so they have a runner of their own, and the engine's thread is only told of
them when one runs for long.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tracekeeper.concurrency.waits import get
from tracekeeper.configuration.settings import bare_context
from tracekeeper.scoring.runners import inline_runner

if TYPE_CHECKING:
    from tracekeeper.judging import Metric
    from tracekeeper.scoring.engine import Engine
    from tracekeeper.scoring.jobs import Job
    from tracekeeper.tracing.state import RecordState

log = logging.getLogger("tracekeeper")

SLACK = 10.0
"""Seconds beyond what the metrics allow themselves after which a caller goes on whatever happens."""
NUDGE_AFTER = 0.25
"""Seconds after which the engine's thread is woken, which has to say that they run."""
_NOT_IN_TIME = "tracekeeper: inline metrics did not settle in time; the call returns without them"


def settle(engine: Engine, state: RecordState, metrics: Sequence[Metric]) -> None:
    """Run metrics now and return when their scores are final. Their deadlines hold; never raises for a metric."""
    finished: queue.SimpleQueue[Job] = queue.SimpleQueue()
    jobs = engine.jobs_on(state, metrics, inline=True, done=finished.put)
    deadline = time.monotonic() + _allowance(metrics)
    _start(engine, jobs)
    for _ in jobs:
        try:
            get(finished, max(0.0, deadline - time.monotonic()))
        except queue.Empty:  # the runner itself failed us; the caller's call is worth more than its scores
            log.error(_NOT_IN_TIME)
            return


async def asettle(engine: Engine, state: RecordState, metrics: Sequence[Metric]) -> None:
    """The same without blocking the running loop."""
    import asyncio

    loop = asyncio.get_running_loop()
    all_done = asyncio.Event()
    left = len(metrics)

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            all_done.set()

    def done(_: Job) -> None:
        try:
            loop.call_soon_threadsafe(count)
        except RuntimeError:  # the caller's loop was closed meanwhile: nobody waits any more
            log.debug("tracekeeper: an inline metric settled after its caller's loop was closed")

    _start(engine, engine.jobs_on(state, metrics, inline=True, done=done))
    try:
        async with asyncio.timeout(_allowance(metrics)):
            await all_done.wait()
    except TimeoutError:
        log.error(_NOT_IN_TIME)


def _start(engine: Engine, jobs: list[Job]) -> None:
    context, runner = bare_context(), inline_runner()
    for job in jobs:
        engine.open[job.id] = job
        engine.launch(job, runner, context.copy(), None)
    runner.clock.at(runner.clock.now() + NUDGE_AFTER, lambda: _nudge(engine))


def _nudge(engine: Engine) -> None:
    if engine.open:
        engine.wake(threading.Event())


def _allowance(metrics: Sequence[Metric]) -> float:
    return max((metric.allowance for metric in metrics), default=0.0) * 4 + SLACK
