"""What a process has claimed: renewed by a heartbeat, given back when it cannot be done, let go when it was lost.

Invariants
----------
- The heartbeat is a thread of its own: it is renewed whatever a metric, an import or a webhook does. (Code that holds
  the interpreter lock stops it like everything else; the leases lapse then, and another process takes over.)
- No attempt begins on a lease that may have lapsed. What began before and ends after is written under an attempt that
  the store knows to be lost, and refused there.
- What is given back is released by the heartbeat's thread: ``give_back`` never waits for the database.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import TYPE_CHECKING

from tracekeeper.configuration.settings import base_settings
from tracekeeper.scoring import draining
from tracekeeper.scoring.worker.beat import Beat

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracekeeper.scoring.engine import Engine
    from tracekeeper.scoring.jobs import Job
    from tracekeeper.store.store import Store

LOST = "its lease lapsed while it ran, and another process took over"
IDLE = 3600.0
"""Seconds between two turns when nothing is held; whoever claims wakes the thread."""


class Claimed:
    """The claimed scores of one metric on one target. See ``jobs.Lease``."""

    __slots__ = ("_leases", "_until", "_until_wall", "ids", "mode", "names", "owner", "since")

    def __init__(
        self, leases: Leases, owner: str, ids: frozenset[int], names: frozenset[str], mode: str, seconds: float
    ) -> None:
        self._leases = leases
        self.owner = owner
        self.ids = ids
        self.names = names
        self.mode = mode
        self.since = leases.asked
        self._until, self._until_wall = leases.asked + seconds, leases.asked_wall + seconds

    def holds(self) -> bool:
        """Whether nobody else can have taken it over."""
        # Both clocks: one may stand still while the machine sleeps, the other may be set.
        until, wall = self._leases.renewed_until
        return time.monotonic() < max(self._until, until) and time.time() < max(self._until_wall, wall)

    def give_back(self) -> None:
        """Let others claim it. Returns at once."""
        self._leases.give_back(self.owner, self.ids)


class Leases:
    """What one engine has claimed."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.held: dict[int, tuple[Job, Claimed]] = {}
        """Claimed jobs that are not settled, by their id."""
        self.by_metric: Counter[tuple[str, str]] = Counter()
        """How many of each metric (name, version)."""
        self.counts: Counter[str] = Counter()
        """``claimed``, ``lost`` and ``released``, in scores."""
        self.asked, self.asked_wall = time.monotonic(), time.time()
        self.renewed_until = (0.0, 0.0)
        """Monotonic and wall-clock time until which everything held is safe, unless its own claim says later."""
        self.leaving: str | None = None
        """Set when the process stops claiming: the name of the worker that the store is to forget."""
        self._unconfirmed: dict[int, tuple[str, float]] = {}  # settled, not known to be stored: its owner, since when
        self._back: deque[tuple[str, frozenset[int]]] = deque()
        self._due = 0.0
        self.beat = Beat("tracekeeper-heartbeat", "renewing leases", self._turn)

    def claiming(self) -> None:
        """Called right before the store is asked for claims: their leases count from here."""
        self.asked, self.asked_wall = time.monotonic(), time.time()

    def hold(self, jobs: Iterable[tuple[Job, Claimed]]) -> None:
        """Keep these alive from now on."""
        for job, claimed in jobs:
            self.held[job.id] = job, claimed
            self.by_metric[job.metric.name, job.metric.version] += 1
            self.counts["claimed"] += len(claimed.ids)
        self.beat.start()
        self.beat.wake()

    def done(self, job: Job) -> None:
        """A job is settled, or was given back. Its lease is renewed until its result is stored."""
        held = self.held.pop(job.id, None)
        if held is not None:
            self.by_metric[job.metric.name, job.metric.version] -= 1
            now = time.monotonic()
            self._unconfirmed.update((score_id, (held[1].owner, now)) for score_id in held[1].ids)

    def give_back(self, owner: str, ids: frozenset[int]) -> None:
        """Have scores released, soon."""
        self._back.append((owner, ids))
        self.beat.start()
        self.beat.wake()

    def current(self) -> bool:
        """Whether the leases were renewed when it was time. After a stop (of the process, of the machine) they were
        not, and are to be renewed before anybody looks for leases that have lapsed."""
        if self._alive() and time.monotonic() >= self._due:
            self.beat.wake()
            return False
        return True

    def settle(self, deadline: float) -> bool:
        """Wait until everything that was given back is released; false when it was not by ``deadline``."""
        if not self.beat.started and not self.leaving:
            return True
        self.beat.start()
        return self.beat.ask().wait(max(0.0, deadline - time.monotonic()))

    def _turn(self) -> float:
        if self._back or self._alive() or self.leaving:
            store = self.engine.keeper.store()
            self._release(store)
            if self.leaving:
                store.remove_worker(self.leaving)
                self.leaving = None
            if self._alive() and time.monotonic() >= self._due:
                self._renew(store)
        return max(0.0, self._due - time.monotonic()) if self._alive() else IDLE

    def _alive(self) -> bool:
        """Whether there is anything to renew."""
        return bool(self.held or self._unconfirmed)

    def _release(self, store: Store) -> None:
        while self._back:
            owner, ids = self._back[0]
            self.counts["released"] += store.release(owner, ids)
            self._back.popleft()

    def _renew(self, store: Store) -> None:
        lease = base_settings().lease
        asked, wall = time.monotonic(), time.time()
        held, unconfirmed = list(self.held.copy().values()), self._unconfirmed.copy()
        ours: set[int] = set()
        for owner in {*(claimed.owner for _, claimed in held), *(owner for owner, _ in unconfirmed.values())}:
            ours |= store.renew_claims(owner, lease=lease)
        self.renewed_until = (asked + lease, wall + lease)
        self._due = asked + lease / 3
        for job, claimed in held:
            # What was claimed while the store was being asked is not in its answer.
            if claimed.since < asked and ours.isdisjoint(claimed.ids):
                if not job.settled:
                    self.counts["lost"] += len(claimed.ids)
                draining.lose(self.engine, job, LOST)
        self._confirm(unconfirmed, ours, asked - lease)

    def _confirm(self, unconfirmed: dict[int, tuple[str, float]], ours: set[int], before: float) -> None:
        """Forget what is stored. What should be by now and is not was dropped on its way: others have to compute it."""
        for score_id, (owner, since) in unconfirmed.items():
            if score_id not in ours:
                self._unconfirmed.pop(score_id, None)
            elif since < before and self.engine.keeper.ship(timeout=1.0) is None:
                self._unconfirmed.pop(score_id, None)
                self.give_back(owner, frozenset((score_id,)))
