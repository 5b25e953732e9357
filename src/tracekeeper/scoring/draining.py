"""How scores end when the process does.

Queued and running scores get until the deadline (``exit_timeout``); after a second somebody is told what is waited for.
What is not final then: an importable metric's score stays ``pending`` for another process, a local one's is
``cancelled``, because nobody else can compute it. What was claimed from the store is given back, at once where it has
not begun: others need not wait for its lease to lapse. A record that ends after that (a stream closed by the exit
itself) is treated the same at once. Nothing here waits for a thread to end.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tracekeeper.concurrency import waits
from tracekeeper.types import Score, ScoreStatus

if TYPE_CHECKING:
    from tracekeeper.scoring.engine import Engine
    from tracekeeper.scoring.jobs import Job
    from tracekeeper.scoring.settling import Settling

SAY_AFTER = 1.0
"""Seconds of waiting after which it is said on stderr."""
RELEASE_WITHIN = 1.0
"""Seconds beyond the deadline for giving back what was claimed; where the database does not answer, leases lapse."""
NAMES_SAID = 5


def leave(engines: Iterable[Engine], deadline: float) -> None:
    """Drain every engine until ``deadline`` (``time.monotonic()``), then settle or leave what is not final."""
    engines = list(engines)
    for engine in engines:
        engine.claimer.claim_no_more()
        for job in engine.open.copy().values():
            if job.lease is not None and (job.task is None or not job.task.begun):
                leave_undone(engine, job)
    allowed = max(0.0, deadline - time.monotonic())
    say_at = min(deadline, time.monotonic() + SAY_AFTER)
    drained = [wait(engine, say_at) for engine in engines]
    if not all(drained) and time.monotonic() < deadline:
        _say(engines, allowed)
        for engine in engines:
            wait(engine, deadline)
    for engine in engines:
        engine.leaving = True
        for job in [*_unread(engine), *engine.open.copy().values()]:
            leave_undone(engine, job)
    for engine in engines:
        engine.claimer.stop(max(deadline, time.monotonic() + RELEASE_WITHIN))


def begin_anew(engines: Iterable[Engine]) -> None:
    """After ``shutdown()`` the program may go on tracing."""
    for engine in engines:
        engine.leaving = False


def wait(engine: Engine, deadline: float) -> bool:
    """Wait until the engine has nothing open; false at the deadline."""
    while True:
        if engine.started:
            taken = threading.Event()
            engine.inbox.put(taken)
            if not waits.wait(taken.wait, max(0.0, deadline - time.monotonic())):
                return False
        waiter: queue.SimpleQueue[None] = queue.SimpleQueue()
        engine.quiet.append(waiter)
        try:
            while engine.open:
                try:
                    waits.get(waiter, max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    return False
        finally:
            engine.quiet.remove(waiter)
        if not engine.inbox.qsize():
            return True
        if not engine.started or time.monotonic() > deadline:  # nobody takes what is there: no thread could be started
            return False


def leave_undone(engine: Settling, job: Job, why: str = "process exited") -> None:
    """End a job without running it to its end."""
    with job.lock:
        if not job.claim():
            return
    engine.close(job)
    task = job.task
    if task is not None:
        task.cancel(why)
    if job.lease is not None:
        job.lease.give_back()
        engine.finish(job)
        return
    if job.metric.import_path is not None:
        needs = f"; it needs {', '.join(job.metric.requires)}" if job.metric.requires else ""
        score = Score(status=ScoreStatus.PENDING, reason=f"{why} before it ran{needs}")
        # It may have been said to be running: only a higher attempt takes that back.
        attempt = job.attempts + (2 if job.announced else 0)
    else:
        score = Score(status=ScoreStatus.CANCELLED, reason=why)
        attempt = job.attempts + (1 if job.began is not None else 0)
    try:
        engine.say(job, job.all_names(score), attempt, None)
    finally:
        engine.finish(job)


def lose(engine: Settling, job: Job, why: str) -> None:
    """End a job whose score somebody else has by now. What this attempt came to is refused there, and counted."""
    with job.lock:
        if not job.claim():
            return
    engine.close(job)
    task = job.task
    if task is not None:
        task.cancel(why)
    try:
        if job.began is not None:
            engine.say(job, job.all_names(Score(status=ScoreStatus.CANCELLED, reason=why)), job.attempts + 1, None)
    finally:
        engine.finish(job)


def _unread(engine: Engine) -> list[Job]:
    """What was submitted and not taken up (the thread could not be started, or is gone)."""
    found: list[Job] = []
    while engine.inbox.qsize():
        try:
            item = engine.inbox.get_nowait()
        except queue.Empty:
            break
        found.extend(engine.jobs_of(item))
    return found


def _say(engines: list[Engine], allowed: float) -> None:
    waiting = Counter(job.metric.name for engine in engines for job in engine.open.copy().values())
    count = sum(waiting.values())
    if not count:
        return
    names = [name if times == 1 else f"{name} x{times}" for name, times in waiting.most_common(NAMES_SAID)]
    if len(waiting) > NAMES_SAID:
        names.append("…")
    with contextlib.suppress(Exception):  # stderr may be closed, None under pythonw, or an object of the program's own
        scores = "1 score" if count == 1 else f"{count} scores"
        sys.stderr.write(f"tracekeeper: waiting up to {round(allowed, 1):g} s for {scores} ({', '.join(names)})\n")
        sys.stderr.flush()
