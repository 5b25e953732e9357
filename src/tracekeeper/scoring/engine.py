"""The scoring engine: one per keeper and process. Every score that is handed to it becomes final in bounded time.

``submit`` may be called from a finaliser, so it takes no lock: one ``SimpleQueue.put``. The engine's thread makes jobs
of what comes, bounds their memory, and says what has been running for long; starting the next job is done by whichever
thread just finished one. Attempts are made by :mod:`~tracekeeper.scoring.attempts` on the deadline runner.

Order of saying: a score's frame is in the journal before its handle is told, so whoever waits and then reads finds it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from tracekeeper.concurrency import Outcome
from tracekeeper.concurrency.runner import Runner
from tracekeeper.concurrency.threads import start_daemon
from tracekeeper.configuration.settings import bare_context, base_settings
from tracekeeper.judging import back_off
from tracekeeper.scoring import draining
from tracekeeper.scoring.attempts import call_of
from tracekeeper.scoring.jobs import Attempt, Job, Source
from tracekeeper.scoring.overdue import EVERY, settle_overdue
from tracekeeper.scoring.settle import completed, frame_of
from tracekeeper.tracing import runtime
from tracekeeper.types import Score, ScoreStatus

if TYPE_CHECKING:
    from tracekeeper.judging import Metric
    from tracekeeper.tracing.keeper import Keeper
    from tracekeeper.tracing.state import RecordState

log = logging.getLogger("tracekeeper")

ANNOUNCE_AFTER = 0.25
"""Seconds that a metric runs before other processes are told that it does."""
LOOK_EVERY = 0.1
"""Seconds between two looks of the engine's thread at what is running."""
HELD_BYTES = 64 << 20
"""Captured text that waiting jobs keep in memory; beyond it they keep their record's key and read it back."""
AHEAD = 2
"""Jobs given to the runner, in multiples of its concurrency; the others wait here, where memory is counted."""
INLINE_CONCURRENCY = 10_000
"""Inline metrics are bounded by their callers, each of which waits for its own."""
INLINE_SLACK = 10.0
"""Seconds beyond what the metrics allow themselves after which a caller goes on whatever happens."""

_Item = tuple["RecordState", Sequence["Metric"]] | list[Job] | threading.Event


class Engine:
    """Runs the metrics of one keeper's records and settles their scores. Get it from ``engine_for``."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self.leaving = False
        """The process exits: what comes now is not begun any more."""
        self.reset()

    def reset(self) -> None:
        """As new: at first, and in a forked child, whose parent settles what it had."""
        self.inbox: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._looked = 0.0
        self.open: dict[int, Job] = {}
        """Every job that is not settled."""
        self.flying: dict[int, Job] = {}
        """Jobs that the runner has."""
        self.backlog: deque[Job] = deque()
        self.settled: Counter[str] = Counter()
        self.errors = 0
        """Mistakes of the engine itself that its guards caught."""
        self.held = 0
        self.quiet: list[queue.SimpleQueue[None]] = []
        """Whoever waits for nothing to be open."""
        self._counting = threading.Lock()
        self._unstarted: list[None] = [None]
        self._swept = time.monotonic()

    # -- what comes --------------------------------------------------------------------------------------------

    def submit(self, state: RecordState, metrics: Sequence[Metric]) -> None:
        """Judge a record that has ended. Lock-free: a finaliser may call this. Never raises an ``Exception``."""
        if self.leaving:
            for job in self._jobs(state, metrics, inline=False):
                draining.leave_undone(self, job)
            return
        self.inbox.put((state, metrics))
        self._ensure_thread()

    def submit_jobs(self, jobs: Sequence[Job]) -> None:
        """Run jobs that were made elsewhere (on stored records)."""
        self.inbox.put(list(jobs))
        self._ensure_thread()

    def settle_inline(self, state: RecordState, metrics: Sequence[Metric]) -> None:
        """Run metrics now and return when their scores are final. Their deadlines hold; never raises for a metric."""
        finished: queue.SimpleQueue[Job] = queue.SimpleQueue()
        jobs = self._jobs(state, metrics, inline=True, done=finished.put)
        deadline = time.monotonic() + _allowance(metrics)
        self._start_inline(jobs)
        for _ in jobs:
            try:
                finished.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:  # the runner itself failed us; the caller's call is worth more than its scores
                log.error("tracekeeper: inline metrics did not settle in time; the call returns without them")
                return

    async def asettle_inline(self, state: RecordState, metrics: Sequence[Metric]) -> None:
        """The same without blocking the running loop."""
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

        self._start_inline(self._jobs(state, metrics, inline=True, done=done))
        try:
            async with asyncio.timeout(_allowance(metrics)):
                await all_done.wait()
        except TimeoutError:
            log.error("tracekeeper: inline metrics did not settle in time; the call returns without them")

    def _jobs(self, state: RecordState, metrics: Sequence[Metric], *, inline: bool, done: Any = None) -> list[Job]:
        source = Source(self.keeper, state.trace_id, state.span_id, state=state, jobs=len(metrics))
        return [Job(source, metric, state.handle, inline=inline, done=done) for metric in metrics]

    def _start_inline(self, jobs: list[Job]) -> None:
        context, runner = bare_context(), inline_runner()
        for job in jobs:
            self.open[job.id] = job
            self._launch(job, runner, context.copy(), None)
        # The engine's thread is asleep; after that long it has to say that they run.
        runner.clock.at(runner.clock.now() + ANNOUNCE_AFTER, self._nudge)

    def _nudge(self) -> None:
        if self.open:
            self.inbox.put(threading.Event())
            self._ensure_thread()

    @property
    def started(self) -> bool:
        """Whether its thread runs."""
        return not self._unstarted

    def _ensure_thread(self) -> None:
        if not self._unstarted:
            return
        try:
            self._unstarted.pop()
        except IndexError:
            return
        try:
            start_daemon(self._run, "tracekeeper-scoring", lambda: self._unstarted.append(None))
        except RuntimeError as error:  # what waits in the inbox is taken up by the next submit, or settled at exit
            self._unstarted.append(None)
            log.warning("tracekeeper cannot start its scoring thread: %s", error)

    # -- the engine's thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        inbox = self.inbox
        while inbox is self.inbox:
            try:
                try:
                    self._take(inbox.get(timeout=ANNOUNCE_AFTER if self.open else EVERY))
                finally:
                    if time.monotonic() - self._looked >= LOOK_EVERY:
                        self._look()
            except queue.Empty:
                if not self.open and self._rest():
                    return
            except BaseException:  # every score depends on this thread: whatever happens, it goes on
                self.errors += 1
                log.exception("tracekeeper: the scoring engine met an error and goes on")

    def _rest(self) -> bool:
        """Nothing came for long: end the thread, unless something comes at this very moment."""
        self._unstarted.append(None)
        if not self.inbox.qsize():
            return True
        try:
            self._unstarted.pop()
        except IndexError:  # the submit has started another thread
            return True
        return False

    def _take(self, item: _Item) -> None:
        if isinstance(item, threading.Event):  # somebody wants to know that everything before it was taken
            item.set()
        else:
            self._accept(self.jobs_of(item))

    def jobs_of(self, item: _Item) -> list[Job]:
        """What an item of the inbox asks for."""
        match item:
            case threading.Event():
                return []
            case list():
                return item
            case (state, metrics):
                return self._jobs(state, metrics, inline=False)

    def _accept(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self.open[job.id] = job
            if job.settled:  # given up before it got here
                self.open.pop(job.id, None)
        if self.leaving:
            for job in jobs:
                draining.leave_undone(self, job)
            return
        for source in dict.fromkeys(job.source for job in jobs):
            self._bound_memory(source)
        self.backlog.extend(jobs)
        self.feed()

    def _bound_memory(self, source: Source) -> None:
        size = source.measure()
        with self._counting:
            fits = self.held + size <= HELD_BYTES
            if fits:
                self.held += size
                source.size = size
        if not fits:
            source.spill()

    def _look(self) -> None:
        """What time brings: long runs are announced, jobs that waited too long fail, the store is swept."""
        self._looked = time.monotonic()
        now = time.time_ns()
        for job in list(self.flying.values()):
            began = job.began
            if began is not None and not job.announced and now - began >= ANNOUNCE_AFTER * 1e9:
                self._announce(job)
        settle_within = base_settings().settle_within
        while self.backlog and time.monotonic() - self.backlog[0].submitted > settle_within:
            job = self.backlog.popleft()
            reason = f"could not start within {settle_within:g} s (settle_within): earlier metrics held all places"
            self._settle(job, job.all_names(Score(status=ScoreStatus.FAILED, reason=reason)), job.attempts, None)
        if time.monotonic() - self._swept >= EVERY:
            self._swept = time.monotonic()
            settle_overdue(self.keeper, scoring_runner())
        self.feed()

    def _announce(self, job: Job) -> None:
        running = Score(status=ScoreStatus.RUNNING)
        with job.lock:
            if not job.settled and not job.announced:
                job.announced = True
                self.say(job, job.all_names(running), job.attempts + 1, None)

    # -- starting and finishing (any thread) -------------------------------------------------------------------

    def feed(self) -> None:
        """Give the runner what it has room for. Takes no lock."""
        runner = scoring_runner()
        room = AHEAD * runner.concurrency
        while self.backlog and len(self.flying) < room and not self.leaving:
            try:
                job = self.backlog.popleft()
            except IndexError:  # another thread was quicker
                return
            if job.settled:
                continue
            within = max(0.0, base_settings().settle_within - (time.monotonic() - job.submitted))
            # An empty context: no span or recording of the judged call, and a finaliser's context is anybody's.
            self._launch(job, runner, contextvars.Context(), within)

    def _launch(self, job: Job, runner: Runner, context: contextvars.Context, within: float | None) -> None:
        self.flying[job.id] = job
        if job.settled:  # at exit, while it waited for its retry
            self.flying.pop(job.id, None)
            return
        job.began = None
        call, asynchronous = call_of(job)
        try:
            job.task = runner.start(
                call,
                timeout=job.metric.timeout,
                done=partial(self._finished, job, runner),
                name=f"metric {job.metric.name!r}",
                context=context,
                restartable=asynchronous,
                start_within=within,
                asynchronous=asynchronous,
            )
        except RuntimeError as error:  # no thread for the watchdog, or the interpreter is going down
            self._settle(job, job.all_names(Score(status=ScoreStatus.FAILED, reason=str(error))), job.attempts, None)

    def _finished(self, job: Job, runner: Runner, outcome: Outcome[Attempt]) -> None:
        self.flying.pop(job.id, None)
        job.task = None
        attempt = _attempt_of(job, outcome)
        for number, why in enumerate(outcome.interruptions, job.attempts + 1):
            earlier = Score(status=ScoreStatus.CANCELLED, reason=f"begun again: {why}")
            self.say(job, job.all_names(earlier), number, None, tell=False)
        job.attempts += outcome.attempts
        if attempt.retriable and job.failures < job.metric.retries and not self.leaving:
            job.failures += 1
            self._retry(job, runner, attempt, outcome.seconds)
        else:
            self._settle(job, attempt.scores, job.attempts, outcome.seconds)
        if self.backlog:
            self.feed()

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
            job.began, job.announced = None, False
            self.say(job, job.all_names(waits), job.attempts + 1, None)

        def again() -> None:
            if job.inline:
                self._launch(job, runner, contextvars.Context(), None)
            else:
                self.backlog.appendleft(job)
                self.feed()

        runner.clock.at(runner.clock.now() + pause, again)

    def _settle(self, job: Job, scores: list[tuple[str, Score]], attempt: int, seconds: float | None) -> None:
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
        source = job.source
        with self._counting:
            source.jobs -= 1
            if source.jobs == 0:
                self.held -= source.size
                source.size = 0

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
        for name, score in scores:
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

    # -- what it does ------------------------------------------------------------------------------------------

    def wait(self, timeout: float) -> bool:
        """Wait until nothing is open; false after ``timeout`` seconds."""
        return draining.wait(self, time.monotonic() + timeout)

    def status(self) -> dict[str, Any]:
        """What ``tracekeeper status`` and the pages show: what waits, what runs since when and where, what hangs."""
        runners = (scoring_runner(), inline_runner())
        running = [call.as_dict() for runner in runners for call in runner.running()]
        threads, loops = (sum(counts) for counts in zip(*(runner.abandoned() for runner in runners), strict=True))
        return {
            "waiting": len(self.open) - len(self.flying) + self.inbox.qsize(),
            "started": len(self.flying),
            "running": running,
            "abandoned_threads": threads,
            "abandoned_loops": loops,
            "ignoring_cancellation": sum(runner.ignoring_cancellation() for runner in runners),
            "late_results": sum(runner.late for runner in runners),
            "held_bytes": self.held,
            "settled": dict(self.settled),
            "errors": self.errors + sum(runner.failed_callbacks for runner in runners),
        }


def _attempt_of(job: Job, outcome: Outcome[Attempt]) -> Attempt:
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


def _allowance(metrics: Sequence[Metric]) -> float:
    return max((metric.allowance for metric in metrics), default=0.0) * 4 + INLINE_SLACK


_engines: dict[Keeper, Engine] = {}
_runners: dict[str, Runner] = {}


def engine_for(keeper: Keeper) -> Engine:
    """The engine of a keeper. Takes no lock."""
    engine = _engines.get(keeper)
    return engine if engine is not None else _engines.setdefault(keeper, Engine(keeper))


def engines() -> list[Engine]:
    """Every engine of this process."""
    return list(_engines.values())


def scoring_runner() -> Runner:
    """The runner of background metrics: one for the process, since ``scoring_concurrency`` is the process's."""
    runner = _runners.get("scoring") or _runners.setdefault("scoring", Runner(name="scoring", concurrency=1))
    runner.concurrency = base_settings().scoring_concurrency
    return runner


def inline_runner() -> Runner:
    """The runner of inline metrics, apart from the other: a caller must not wait behind a queue of background work."""
    return _runners.get("inline") or _runners.setdefault(
        "inline", Runner(name="inline", concurrency=INLINE_CONCURRENCY)
    )


def _after_fork_in_child() -> None:
    for engine in engines():
        engine.reset()


runtime.after_fork_in_child(_after_fork_in_child)
runtime.at_exit(lambda deadline: draining.leave(engines(), deadline), order=10)
runtime.at_exit(lambda deadline: draining.begin_anew(engines()), order=45)
