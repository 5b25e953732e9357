"""Jobs that wait for a place on the runner, in the order in which they should get one.

A job waits in a lane of its priority, its app and, where the metric has a limit of its own, its metric. Of the lanes of
the smallest priority each gives one job in turn, so that an app with ten thousand jobs does not hold back another one's
ten, and a lane whose metric is at its limit is passed over, so that nobody waits behind it.

Invariants
----------
- The lock is held for a few steps and nothing of anybody else's is called under it. A finaliser that interrupts them
  cannot come back here: what ends in one is put into the engine's inbox.
- A place that ``take`` counted for a limited metric is given back by exactly one ``returned``.
"""

from __future__ import annotations

import threading
from bisect import insort
from collections import Counter, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tracekeeper.scoring.runners import isolated_places

if TYPE_CHECKING:
    from tracekeeper.scoring.jobs import Job

AHEAD_OF_PROCESSES = 2
"""Isolated jobs of a metric given to their runner, in multiples of the processes."""
_LimitKey = tuple[str, str]
_LaneKey = tuple[int, str, _LimitKey | None]


class _Lane:
    __slots__ = ("jobs", "key", "limited")

    def __init__(self, key: _LaneKey) -> None:
        self.key = key
        self.limited = key[2]
        self.jobs: deque[Job] = deque()


class Backlog:
    """The waiting jobs of one engine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lanes: dict[_LaneKey, _Lane] = {}
        self._rings: dict[int, deque[_Lane]] = {}  # lanes that have jobs, by priority; the first one's turn is next
        self._priorities: list[int] = []
        self._taken: Counter[_LimitKey] = Counter()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def extend(self, jobs: Iterable[Job]) -> None:
        """Let jobs wait behind those of their lane."""
        with self._lock:
            for job in jobs:
                self._lane(job).jobs.append(job)
                self._size += 1

    def put_first(self, job: Job) -> None:
        """Let a job that has been running go before those of its lane."""
        with self._lock:
            self._lane(job).jobs.appendleft(job)
            self._size += 1

    def take(self) -> Job | None:
        """The job whose turn it is; ``None`` when there is none that may begin."""
        with self._lock:
            for priority in self._priorities:
                ring = self._rings[priority]
                for _ in range(len(ring)):
                    lane = ring[0]
                    if lane.limited is not None:
                        limit = _limit(lane.jobs[0])
                        if limit is not None and self._taken[lane.limited] >= limit:
                            ring.rotate(-1)
                            continue
                        self._taken[lane.limited] += 1
                    job = lane.jobs.popleft()
                    self._size -= 1
                    if lane.jobs:
                        if len(ring) > 1:
                            ring.rotate(-1)
                    else:
                        ring.popleft()
                        del self._lanes[lane.key]
                        self._tidy(priority)
                    return job
        return None

    def returned(self, job: Job) -> None:
        """The runner has a taken job no longer."""
        if _limit(job) is None:
            return
        key = _limit_key(job)
        with self._lock:
            if self._taken[key] > 1:
                self._taken[key] -= 1
            else:
                del self._taken[key]

    def overdue(self, submitted_before: float) -> list[Job]:
        """Take out what was submitted before that monotonic time."""
        found: list[Job] = []
        with self._lock:
            for lane in list(self._lanes.values()):
                while lane.jobs and lane.jobs[0].submitted < submitted_before:
                    found.append(lane.jobs.popleft())
                    self._size -= 1
                if not lane.jobs:
                    self._rings[lane.key[0]].remove(lane)
                    del self._lanes[lane.key]
                    self._tidy(lane.key[0])
        return found

    def _lane(self, job: Job) -> _Lane:
        key = (job.priority, job.source.app, None if _limit(job) is None else _limit_key(job))
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(key)
            ring = self._rings.get(job.priority)
            if ring is None:
                ring = self._rings[job.priority] = deque()
                insort(self._priorities, job.priority)
            ring.append(lane)
        return lane

    def _tidy(self, priority: int) -> None:
        if not self._rings[priority]:
            del self._rings[priority]
            self._priorities.remove(priority)


def _limit(job: Job) -> int | None:
    """How many of its metric may be with the runner at a time; of isolated ones there are only so many processes."""
    limit = job.metric.concurrency
    if not job.isolated:
        return limit
    places = AHEAD_OF_PROCESSES * isolated_places()
    return places if limit is None else min(limit, places)


def _limit_key(job: Job) -> _LimitKey:
    return job.metric.name, job.metric.version
