"""Takes up from the store what nobody computes, and hands it to the engine; one for each engine.

An app's engine takes what a crashed predecessor left (background scores of the metrics that its apps have), now and
then. A worker takes everything that it can compute, deferred scores too, and looks after the store besides: leases that
lapsed, online rules, alerts.

Claiming, those chores and the heartbeat have a thread each, so that none waits for another. Never more is claimed than
about twice what runs at a time, of a metric with a limit of its own twice that limit: the rest stays in the store, for
whoever has room.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from tracekeeper.configuration.settings import base_settings
from tracekeeper.scoring import draining
from tracekeeper.scoring.runners import scoring_runner
from tracekeeper.scoring.worker.beat import Beat
from tracekeeper.scoring.worker.chores import Chores
from tracekeeper.scoring.worker.claimed import jobs_of
from tracekeeper.scoring.worker.leases import Leases
from tracekeeper.scoring.worker.registered import Abilities, AppAbilities, Key
from tracekeeper.types import faults

if TYPE_CHECKING:
    from tracekeeper.judging import Metric
    from tracekeeper.scoring.engine import Engine
    from tracekeeper.scoring.jobs import Job
    from tracekeeper.scoring.worker.claimed import OnScore
    from tracekeeper.store.claims.claims import Claim
    from tracekeeper.store.store import Store

log = logging.getLogger("tracekeeper")

CHORES_PATIENCE = 0.5
"""Seconds that a process which leaves waits for its present chore."""
AHEAD = 2
"""What may be claimed and not settled, in multiples of what runs at a time."""


class Manner(NamedTuple):
    """How eagerly it claims."""

    kind: str
    """``app`` or ``worker``."""
    deferred: bool
    """Whether also scores that wait for a worker."""
    first_pause: float
    """Seconds after a look that found nothing, doubled each time …"""
    longest_pause: float
    """… up to this."""
    chores_every: float
    """Seconds between two rounds of chores."""


APP = Manner("app", deferred=False, first_pause=3.0, longest_pause=3.0, chores_every=3.0)
WORKER = Manner("worker", deferred=True, first_pause=0.05, longest_pause=1.0, chores_every=1.0)


class Claimer:
    """The claims of one engine.

    Parameters
    ----------
    engine:
        Computes what is claimed.
    manner:
        Of an app or of a worker.
    abilities:
        What can be computed; default: the metrics of this process's apps.
    on_score:
        Called with what was judged and the score, for every claimed score that becomes final.
    """

    def __init__(
        self,
        engine: Engine,
        manner: Manner = APP,
        abilities: Abilities | None = None,
        *,
        on_score: OnScore | None = None,
    ) -> None:
        self.engine = engine
        self.keeper = engine.keeper
        self.manner = manner
        self.abilities: Abilities = AppAbilities() if abilities is None else abilities
        self.on_score = on_score
        self.leases = Leases(engine)
        self.chores = Chores(self)
        self.closing = False
        """Nothing is claimed any more."""
        self.idle_rounds = 0
        """Looks in a row that found nothing to claim."""
        self._turn_number = 0
        self._beat: Beat | None = None

    @property
    def beats(self) -> list[Beat]:
        """Its threads."""
        return [] if self._beat is None else [self._beat, self.chores.beat, self.leases.beat]

    def ensure(self) -> None:
        """Begin, unless begun. Cheap: called with every job."""
        if self._beat is not None or self.keeper.journal is None or self.engine.leaving:
            return
        if self.closing:  # it was stopped, and tracing goes on
            on_cannot = self.chores.on_cannot
            self.closing, self.leases, self.chores = False, Leases(self.engine), Chores(self)
            self.chores.on_cannot = on_cannot
        self._beat = Beat(f"tracekeeper-claims-{self.manner.kind}", "claiming scores", self._claim)
        if self.stop not in self.keeper.before_close:
            self.keeper.before_close.append(self.stop)
        self._beat.start()
        self.chores.beat.start()

    def wake(self) -> None:
        """Look now."""
        if self._beat is not None:
            self._beat.wake()

    def claim_no_more(self) -> None:
        """Leave to others what is not claimed yet. Returns at once."""
        self.closing = True
        if self._beat is not None:
            self._beat.stop()
            self.chores.beat.stop()

    def stop(self, deadline: float) -> None:
        """Claim no more and give back what is held, at most until ``deadline`` (``time.monotonic()``)."""
        beat = self._beat
        if beat is None:
            return
        self.claim_no_more()
        for job, _ in list(self.leases.held.values()):
            draining.leave_undone(self.engine, job)
        beat.join(deadline)
        # Whatever it does it does in one transaction, and it may be in the middle of sending something: no long wait.
        self.chores.beat.join(min(deadline, time.monotonic() + CHORES_PATIENCE))
        self.leases.leaving = self.chores.registered
        if not self.leases.settle(deadline):
            log.info("tracekeeper: what was claimed could not be given back in time; its leases lapse by themselves")
        self.leases.beat.stop()
        self.leases.beat.join(deadline)
        self._beat = None

    def ready(self) -> bool:
        """Whether the store may be asked. An app asks nothing before it has stored something of its own."""
        if self.closing or self.keeper.journal is None:
            return False
        return self.manner.kind == "worker" or self.keeper.ships

    def status(self) -> dict[str, Any]:
        """What it holds, what it has claimed, lost and given back, and what is in the way."""
        beats = self.beats
        return {
            "kind": self.manner.kind,
            "held": len(self.leases.held),
            "claimed": self.leases.counts["claimed"],
            "lost": self.leases.counts["lost"],
            "released": self.leases.counts["released"],
            "failures": sum(beat.failures for beat in beats),
            "trouble": next((beat.trouble for beat in beats if beat.trouble is not None), None),
        }

    def settled(self, job: Job) -> None:
        """A claimed job is done: there is room for more."""
        self.leases.done(job)
        if not self.closing and len(self.leases.held) <= self._low():
            self.wake()

    # -- on the claiming thread --------------------------------------------------------------------------------

    def _claim(self) -> float:
        if not self.ready():
            return self.manner.longest_pause
        room = self._room()
        if room <= 0:
            return self.manner.longest_pause  # woken when there is some
        store = self.keeper.store()
        metrics = self.abilities.metrics(store)
        claims = self._ask(store, metrics, room) if metrics else []
        if not claims:
            self.idle_rounds += 1
            return min(self.manner.longest_pause, self.manner.first_pause * 2.0 ** min(self.idle_rounds - 1, 10))
        self.idle_rounds = 0
        return 0.0

    def _room(self) -> int:
        """How many scores may be claimed now; 0 when it is not worth asking."""
        places = scoring_runner().concurrency
        if self.manner.kind == "app":  # its own calls go first
            return max(0, places - len(self.engine.open))
        held = len(self.leases.held)
        return AHEAD * places - held if held <= self._low() else 0

    def _low(self) -> int:
        """With that many or fewer in hand more are claimed: not one by one, and not only when there is none left."""
        return scoring_runner().concurrency

    def _ask(self, store: Store, metrics: Mapping[Key, Metric], room: int) -> list[Claim]:
        """Claim from everything that may run, a fair part of the room for each metric that has a limit of its own."""
        owner = self.owner()
        if owner is None:
            return []
        self._turn_number += 1
        groups = self._groups(metrics)
        first = self._turn_number % len(groups) if groups else 0
        found: list[Claim] = []
        for position, (keys, budget) in enumerate([*groups[first:], *groups[:first]]):
            share = max(1, (room - len(found)) // (len(groups) - position))
            some = self._claim_of(store, owner, metrics, keys, min(share, budget))
            found.extend(some)
            if self.closing or len(found) >= room:
                break
        return found

    def _groups(self, metrics: Mapping[Key, Metric]) -> list[tuple[list[Key], int]]:
        """What is asked for at a time: all metrics without a limit together, each other one within its limit."""
        free: list[Key] = []
        limited: dict[tuple[str, str], tuple[list[Key], int]] = {}
        for key, metric in metrics.items():
            if metric.concurrency is None:
                free.append(key)
                continue
            whole = (metric.name, metric.version)
            budget = AHEAD * metric.concurrency - self.leases.by_metric[whole]
            limited.setdefault(whole, ([], budget))[0].append(key)
        groups = [(keys, budget) for keys, budget in limited.values() if budget > 0]
        return [*groups, (free, 1 << 30)] if free else groups

    def _claim_of(
        self, store: Store, owner: str, metrics: Mapping[Key, Metric], keys: Collection[Key], limit: int
    ) -> list[Claim]:
        self.leases.claiming()
        lease = base_settings().lease
        claims = store.claim(
            owner, keys, limit=limit, lease=lease, deferred=self.manner.deferred, turn=self._turn_number
        )
        if not claims:
            return []
        faults.point("claims.claimed")
        ids = frozenset(claim.score_id for claim in claims)
        if self.closing or self.keeper.journal is None:
            self.leases.give_back(owner, ids)
            return []
        try:
            jobs = jobs_of(self, store, owner, claims, metrics, lease)
        except BaseException:
            self.leases.give_back(owner, ids)
            raise
        self.leases.hold(jobs)
        self.engine.submit_jobs([job for job, _ in jobs])
        return claims

    def owner(self) -> str | None:
        """In whose name is claimed: this process's journal."""
        journal = self.keeper.journal
        return None if journal is None else journal.name
