"""The scoring engine: one per keeper and process. Every score that is handed to it becomes final in bounded time.

``submit`` may be called from a finaliser, so it takes no lock: one ``SimpleQueue.put``. The engine's thread makes jobs
of what comes, bounds their memory, and says what has been running for long. What becomes of a job is in
:mod:`~tracekeeper.scoring.settling`.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tracekeeper.concurrency.threads import at_shutdown, start_daemon
from tracekeeper.configuration.settings import base_settings
from tracekeeper.scoring import draining, inline, snapshot, watching
from tracekeeper.scoring.jobs import Job, Source
from tracekeeper.scoring.overdue import EVERY, settle_overdue
from tracekeeper.scoring.runners import inline_runner, isolated_runner, scoring_runner
from tracekeeper.scoring.settling import Settling
from tracekeeper.scoring.worker.claimer import Claimer
from tracekeeper.tracing import runtime
from tracekeeper.types import Score, ScoreStatus

if TYPE_CHECKING:
    from tracekeeper.judging import Metric
    from tracekeeper.tracing.keeper import Keeper
    from tracekeeper.tracing.state import RecordState

__all__ = ["Engine", "engine_for", "engines", "inline_runner", "scoring_runner"]

log = logging.getLogger("tracekeeper")

ANNOUNCE_AFTER = 0.25
"""Seconds that a metric runs before other processes are told that it does."""
LOOK_EVERY = 0.1
"""Seconds between two looks of the engine's thread at what is running."""

_Item = tuple["RecordState", Sequence["Metric"]] | list[Job] | threading.Event


class Engine(Settling):
    """Runs the metrics of one keeper's records and settles their scores. Get it from ``engine_for``."""

    def reset(self) -> None:
        """As new: at first, and in a forked child, whose parent settles what it had."""
        super().reset()
        self.inbox: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._looked = 0.0
        self._unstarted: list[None] = [None]
        self._swept = time.monotonic()
        self.claimer = Claimer(self)
        """Takes up what other processes left."""

    # -- what comes --------------------------------------------------------------------------------------------

    def submit(self, state: RecordState, metrics: Sequence[Metric]) -> None:
        """Judge a record that has ended. Lock-free: a finaliser may call this. Never raises an ``Exception``."""
        if self.leaving:
            for job in self.jobs_on(state, metrics, inline=False):
                draining.leave_undone(self, job)
            return
        self.inbox.put((state, metrics))
        self._ensure_thread()
        scoring_runner().warm(asynchronous=any(one.asynchronous for one in metrics))
        watching.warm()

    def submit_jobs(self, jobs: Sequence[Job]) -> None:
        """Run jobs that were made elsewhere (on stored records)."""
        self.inbox.put(list(jobs))
        self._ensure_thread()

    def settle_inline(self, state: RecordState, metrics: Sequence[Metric]) -> None:
        """Run metrics now and return when their scores are final. Their deadlines hold; never raises for a metric."""
        inline.settle(self, state, metrics)

    async def asettle_inline(self, state: RecordState, metrics: Sequence[Metric]) -> None:
        """The same without blocking the running loop."""
        await inline.asettle(self, state, metrics)

    def jobs_on(self, state: RecordState, metrics: Sequence[Metric], *, inline: bool, done: Any = None) -> list[Job]:
        """A job for each metric on a record of this process."""
        source = Source(self.keeper, state.trace_id, state.span_id, state=state, jobs=len(metrics))
        return [Job(source, metric, state.handle, inline=inline, done=done) for metric in metrics]

    def wake(self, item: threading.Event) -> None:
        """Have the thread look around now; ``item`` is set when it has taken everything that came before."""
        self.inbox.put(item)
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
            level = logging.DEBUG if at_shutdown(error) else logging.WARNING
            log.log(level, "tracekeeper cannot start its scoring thread: %s", error)

    # -- the engine's thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        inbox = self.inbox
        while inbox is self.inbox:
            patience = ANNOUNCE_AFTER if self.open else EVERY
            try:
                try:
                    self._take(inbox.get(timeout=patience))
                finally:
                    if time.monotonic() - self._looked >= LOOK_EVERY:
                        self._look()
            except queue.Empty:
                if patience == EVERY and not self.open and self._rest():
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
                return self.jobs_on(state, metrics, inline=False)

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
            self.memory.take(source)
        self.backlog.extend(jobs)
        self.claimer.ensure()
        self.feed()

    def _look(self) -> None:
        """What time brings: long runs are announced, jobs that waited too long fail, the store is swept."""
        self._looked = time.monotonic()
        now = time.time_ns()
        for job in list(self.flying.values()):
            began = job.began
            if began is not None and not job.announced and now - began >= ANNOUNCE_AFTER * 1e9:
                self.announce(job)
        settle_within = base_settings().settle_within
        for job in self.backlog.overdue(time.monotonic() - settle_within):
            reason = f"could not start within {settle_within:g} s (settle_within): earlier metrics held all places"
            self.settle(job, job.all_names(Score(status=ScoreStatus.FAILED, reason=reason)), job.attempts, None)
        if time.monotonic() - self._swept >= EVERY:
            self._swept = time.monotonic()
            settle_overdue(self.keeper, scoring_runner())
        self.feed()
        snapshot.write(self)

    # -- what it does ------------------------------------------------------------------------------------------

    def wait(self, timeout: float) -> bool:
        """Wait until nothing is open; false after ``timeout`` seconds."""
        return draining.wait(self, time.monotonic() + timeout)

    def status(self, *, stacks_after: float = 0.0) -> dict[str, Any]:
        """What ``tracekeeper status`` and the pages show: what waits, what runs since when and where, what hangs.

        Where a call is is said once it has run for ``stacks_after`` seconds.
        """
        runners = (scoring_runner(), isolated_runner(), inline_runner())
        running = [call.as_dict() for runner in runners for call in runner.running(stacks_after=stacks_after)]
        threads, loops = (sum(counts) for counts in zip(*(runner.abandoned() for runner in runners), strict=True))
        return {
            "waiting": len(self.open) - len(self.flying) + self.inbox.qsize(),
            "started": len(self.flying),
            "running": running,
            "abandoned_threads": threads,
            "abandoned_loops": loops,
            "ignoring_cancellation": sum(runner.ignoring_cancellation() for runner in runners),
            "late_results": sum(runner.late for runner in runners),
            "held_bytes": self.memory.held,
            "settled": dict(self.settled),
            "errors": self.errors + sum(runner.failed_callbacks for runner in runners),
            "claims": self.claimer.status(),
        }


_engines: dict[Keeper, Engine] = {}


def engine_for(keeper: Keeper) -> Engine:
    """The engine of a keeper. Takes no lock."""
    engine = _engines.get(keeper)
    return engine if engine is not None else _engines.setdefault(keeper, Engine(keeper))


def engines() -> list[Engine]:
    """Every engine of this process."""
    return list(_engines.values())


def _after_fork_in_child() -> None:
    for engine in engines():
        engine.reset()


runtime.after_fork_in_child(_after_fork_in_child)
runtime.at_exit(lambda deadline: draining.leave(engines(), deadline), order=10)
runtime.at_exit(lambda deadline: draining.begin_anew(engines()), order=45)
