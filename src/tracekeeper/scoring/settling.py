"""What becomes of a job once the engine has it: begun when there is room, tried again, settled once, said to everybody.

Starting the next job is done by whichever thread just finished one. Attempts are made by
:mod:`~tracekeeper.scoring.attempts` on the deadline runner.

Order of saying: a score's frame is in the journal before its handle is told, so whoever waits and then reads finds it.
"""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from tracekeeper.concurrency import Outcome
from tracekeeper.concurrency.pauses import back_off
from tracekeeper.configuration.settings import base_settings
from tracekeeper.scoring import draining, evaluations, isolated, watching
from tracekeeper.scoring.attempts import call_of
from tracekeeper.scoring.backlog import Backlog
from tracekeeper.scoring.jobs import Attempt, Job
from tracekeeper.scoring.memory import Memory
from tracekeeper.scoring.runners import isolated_runner, scoring_runner
from tracekeeper.scoring.settle import attempt_of, completed, frame_of
from tracekeeper.types import Score, ScoreStatus

if TYPE_CHECKING:
    from tracekeeper.concurrency import Runner
    from tracekeeper.tracing.keeper import Keeper

log = logging.getLogger("tracekeeper")

AHEAD = 2
"""Jobs given to the runner, in multiples of its concurrency; the others wait here, where memory is counted."""


class Settling:
    """The jobs of one engine, from the moment they may begin until everything was said about them. Any thread."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self.leaving = False
        """The process exits: what comes now is not begun any more."""
        self.reset()

    def reset(self) -> None:
        """As new."""
        self.open: dict[int, Job] = {}
        """Every job that is not settled."""
        self.flying: dict[int, Job] = {}
        """Jobs that the runner has."""
        self.backlog = Backlog()
        self.memory = Memory()
        self.settled: Counter[str] = Counter()
        self.errors = 0
        """Mistakes of the engine itself that its guards caught."""
        self.quiet: list[queue.SimpleQueue[None]] = []
        """Whoever waits for nothing to be open."""
        self._counting = threading.Lock()

    def feed(self) -> None:
        """Give the runner what it has room for."""
        runner = scoring_runner()
        # Isolated ones have a runner and a limit of their own: others do not wait behind them.
        room = AHEAD * runner.concurrency + sum(isolated_runner().load())
        while self.backlog and len(self.flying) < room and not self.leaving:
            job = self.backlog.take()
            if job is None:  # another thread was quicker, or what waits is at the limits of its metrics
                return
            if job.settled:
                self.backlog.returned(job)
                continue
            if job.lease is not None and not job.lease.holds():
                self.backlog.returned(job)
                draining.leave_undone(self, job, "its lease was not renewed in time")
                continue
            within = max(0.0, base_settings().settle_within - (time.monotonic() - job.submitted))
            # An empty context: no span or recording of the judged call, and a finaliser's context is anybody's.
            self.launch(job, runner, contextvars.Context(), within)

    def launch(self, job: Job, runner: Runner, context: contextvars.Context, within: float | None) -> None:
        """Begin an attempt in that context, within so many seconds."""
        self.flying[job.id] = job
        if job.settled:  # at exit, while it waited for its retry
            self._landed(job)
            return
        job.began = None
        call, asynchronous = call_of(job)
        timeout = job.metric.timeout
        if job.isolated:
            # Said at once: a worker that dies meanwhile may have been taken along, and only what ran counts as that.
            begun = partial(self.announce, job) if job.lease is not None else None
            call, asynchronous = isolated.call_of(job, begun)
            runner, timeout = isolated_runner(), isolated.within(job.metric)
        try:
            job.task = runner.start(
                call,
                timeout=timeout,
                done=partial(self._finished, job, runner),
                name=f"metric {job.metric.name!r}",
                context=context,
                restartable=asynchronous,
                start_within=within,
                asynchronous=asynchronous,
            )
        except RuntimeError as error:  # no thread for the watchdog, or the interpreter is going down
            self._landed(job)
            self.settle(job, job.all_names(Score(status=ScoreStatus.FAILED, reason=str(error))), job.attempts, None)

    def announce(self, job: Job) -> None:
        """Say that it runs, once an attempt."""
        running = Score(status=ScoreStatus.RUNNING)
        with job.lock:
            if not job.settled and not job.announced:
                job.announced = True
                self.say(job, job.all_names(running), job.attempts + 1, None)

    def _finished(self, job: Job, runner: Runner, outcome: Outcome[Attempt]) -> None:
        self._landed(job)
        job.task = None
        traces = evaluations.earlier_traces(job)
        attempt = evaluations.ended(job, attempt_of(job, outcome))
        seconds = outcome.seconds if attempt.seconds is None else attempt.seconds
        for number, why in enumerate(outcome.interruptions, job.attempts + 1):
            trace = traces.get(number, "")
            earlier = Score(status=ScoreStatus.CANCELLED, reason=f"begun again: {why}", evaluation=trace)
            self.say(job, job.all_names(earlier), number, None, tell=False)
        job.attempts += outcome.attempts
        if attempt.retriable and job.failures < job.metric.retries and not self.leaving:
            job.failures += 1
            self._retry(job, runner, attempt, seconds)
        else:
            self.settle(job, attempt.scores, job.attempts, seconds)
        if self.backlog:
            self.feed()

    def _landed(self, job: Job) -> None:
        """The runner has it no longer."""
        self.flying.pop(job.id, None)
        if not job.inline:
            self.backlog.returned(job)

    def _retry(self, job: Job, runner: Runner, attempt: Attempt, seconds: float) -> None:
        pause = back_off(job.failures)
        reason = attempt.scores[0][1].reason
        waits = Score(
            status=ScoreStatus.PENDING, reason=f"retry {job.failures} of {job.metric.retries} in {pause:g} s: {reason}"
        )
        with job.lock:
            if job.settled:
                return
            self.say(job, attempt.scores, job.attempts, seconds, tell=False)
            job.began, job.announced, job.evaluation = None, False, b""
            self.say(job, job.all_names(waits), job.attempts + 1, None)

        def again() -> None:
            if job.inline:
                self.launch(job, runner, contextvars.Context(), None)
            else:
                self.backlog.put_first(job)
                self.feed()

        runner.clock.at(runner.clock.now() + pause, again)

    def settle(self, job: Job, scores: list[tuple[str, Score]], attempt: int, seconds: float | None) -> None:
        """Make a job's scores final: once, whoever comes first."""
        with job.lock:
            if not job.claim():
                return
        self.close(job)
        given = {name for name, _ in scores}
        nothing = Score(status=ScoreStatus.FAILED, reason="the metric gave no score of this name")
        scores = [*scores, *((name, nothing) for name in job.metric.names if name not in given)]
        try:
            self.say(job, scores, attempt, seconds)
        finally:
            self.finish(job)

    def close(self, job: Job) -> None:
        """A claimed job is none of the engine's any more: its memory is free."""
        self.flying.pop(job.id, None)
        self.memory.settled(job.source)

    def finish(self, job: Job) -> None:
        """Everything was said about a job."""
        self.open.pop(job.id, None)
        if job.done is not None:
            job.done(job)
        if not self.open:
            for waiter in self.quiet.copy():
                waiter.put(None)

    def say(
        self, job: Job, scores: list[tuple[str, Score]], attempt: int, seconds: float | None, *, tell: bool = True
    ) -> None:
        """Write scores to the journal, then tell the record's handle."""
        lease = job.lease
        for name, score in scores:
            if lease is not None and name not in lease.names:
                continue  # settled before, or somebody else's: only what was claimed is ours to write
            score = completed(job, name, score, attempt, seconds)
            self.keeper.write(frame_of(job, name, score))
            if score.final and tell:
                with self._counting:
                    self.settled[str(score.status)] += 1
            if tell and job.handle is not None:
                try:
                    job.handle.settle(score)
                except BaseException:  # it may reach a user's callback; the other scores are told all the same
                    self.errors += 1
                    log.exception("tracekeeper: a record could not be told of its score %s", name)
            if score.final and tell:
                watching.settled(self.keeper, job, score)
